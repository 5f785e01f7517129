"""Estimators of gradients: their errors where the gradient is exact, what they train, and their noise on the way.

- :func:`laboratory`: the root mean squared error of each estimator's gradient against the number of draws.
- :func:`training`: one line for each run, the lower end in detail, and what the printed loss does to itself.
- :func:`noise`: the noise of a gradient during training, and against the number of draws.
"""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vaelib.companion.plots import style


def laboratory(table: pd.DataFrame) -> Figure:
    """Draw errors of gradients against the number of draws, a column of panels a model, encoder above decoder.

    Parameters
    ----------
    table
        From :func:`vaelib.measures.gradients.laboratory`, with the columns ``model`` and ``draws``. The root mean
        squared error, in units of the exact gradient's length, is that of noise and bias together.
    """
    table = table.assign(error=np.hypot(table["noise"], table["bias"]))
    looks = style.looks(table["estimator"])
    models, groups = list(table["model"].unique()), list(table["group"].unique())
    figure, axes = style.grid(len(groups), len(models), (3.6, 2.5), sharex=True, sharey="row")
    for (row, group), (column, model) in ((r, c) for r in enumerate(groups) for c in enumerate(models)):
        ax, part = axes[row, column], table[(table["group"] == group) & (table["model"] == model)]
        for estimator, look in looks.items():
            line = part[part["estimator"] == estimator].sort_values("draws")
            ax.plot(
                line["draws"],
                line["error"],
                "o",
                linestyle=look.linestyle,
                color=look.colour,
                markersize=3.5,
                label=look.label,
            )
        names = {"draws": "draws S", "error": f"{group}'s gradient:\nrms error / length"}
        style.dress(ax, "draws", "error", names=names, log=["draws", "error"])
        ax.set_xticks(sorted(table["draws"].unique()), [str(s) for s in sorted(table["draws"].unique())])
        ax.set_xticks([], minor=True)
        ax.axhline(1, color=style.GREY, linewidth=0.8, zorder=1)
        ax.label_outer()
        ax.set_title(model if row == 0 else "", loc="left")
    style.legend(figure)
    return figure


def training(table: pd.DataFrame, *, printed: str = "variance", detail: float = 1.3) -> Figure:
    """Draw the negative bound against epochs, one line for each run.

    Parameters
    ----------
    table
        One row a run and epoch: ``estimator``, ``seed``, ``epoch``, ``bound`` (nats), ``test_rate`` and ``train_loss``.
    printed
        The estimator whose own loss is drawn, at the right.
    detail
        The middle panel ends at so many times the lowest bound.
    """
    figure, axes = style.grid(1, 3, (3.3, 2.9))
    looks, lowest = style.looks(table["estimator"]), table["bound"].min()
    palette = {estimator: look.colour for estimator, look in looks.items()}
    for ax in axes[0, :2]:
        sns.lineplot(
            table,
            x="epoch",
            y="bound",
            hue="estimator",
            palette=palette,
            units="seed",
            estimator=None,
            legend=False,
            ax=ax,
        )
    for look in looks.values():
        axes[0, 0].plot([], [], color=look.colour, label=look.label)
    words = {"bound": "-ELBO, nats per test image"}
    scaled = ["bound"] if lowest > 0 else []  # densities may be above one
    style.dress(axes[0, 0], "epoch", "bound", names=words, log=scaled)
    style.dress(
        axes[0, 1],
        "epoch",
        "bound",
        names=words,
        limits={"bound": (lowest - 0.02 * abs(lowest), lowest + (detail - 1) * abs(lowest))},
    )
    own, ax = table[table["estimator"] == printed], axes[0, 2]
    measures = {"train_loss": "its own loss, nats²", "bound": "-ELBO, nats", "test_rate": "rate, nats"}
    for (measure, label), dash in zip(measures.items(), ("-", "--", ":")):
        for number, (_, run) in enumerate(own.groupby("seed")):
            ax.plot(run["epoch"], run[measure], dash, color=palette[printed], label=None if number else label)
    style.dress(ax, "epoch", "value", names={"value": "per image"}, log=["value"])
    for ax, title in zip(axes[0], ("all", "lower end", looks[printed].label)):
        _whole(ax, table["epoch"])
        ax.set_title(title, loc="left")
    style.legend(figure, place="outside lower center", columns=4)
    return figure


def noise(table: pd.DataFrame, *, draws: int) -> Figure:
    """Draw the noise of one batch's gradient, in units of its length.

    Parameters
    ----------
    table
        From :class:`vaelib.measures.GradientNoise`: ``estimator``, ``group``, ``epoch``, ``draws`` and ``noise``.
    draws
        So many in the left panel, against epochs; the right one is after the last epoch, against the number of draws.
    """
    figure, axes = style.grid(1, 2, (3.3, 2.8), sharey=True)
    looks, last = style.looks(table["estimator"]), table["epoch"].max()
    encoder, decoder = (table[table["group"] == group] for group in ("encoder", "decoder"))
    course, cost = encoder[encoder["draws"] == draws], encoder[encoder["epoch"] == last]
    for ax, part, x in ((axes[0, 0], course, "epoch"), (axes[0, 1], cost, "draws")):
        for estimator, look in looks.items():
            mine = part[part["estimator"] == estimator].sort_values(x)
            ax.plot(mine[x], mine["noise"], "o-", color=look.colour, markersize=4, label=look.label)
        other = decoder[
            (decoder["estimator"] == next(iter(looks))) & decoder.index.isin(_same(decoder, part, x))
        ].sort_values(x)
        ax.plot(other[x], other["noise"], "s:", color=style.GREY, markersize=4, label="decoder, any of them")
        ax.axhline(1, color=style.GREY, linewidth=0.8, zorder=1)
        names = {"noise": "noise / length of the gradient", "draws": "draws S"}
        style.dress(ax, x, "noise", names=names, log=["noise"] + ["draws"] * (x == "draws"))
        ax.set_xticks(sorted(part[x].unique()), [f"{v:g}" for v in sorted(part[x].unique())])
        ax.set_xticks([], minor=True)
        ax.label_outer()
    axes[0, 0].set_title(f"S = {draws}", loc="left")
    axes[0, 1].set_title(f"after epoch {last}", loc="left")
    style.legend(figure)
    return figure


def _same(decoder: pd.DataFrame, part: pd.DataFrame, x: str) -> pd.Index:
    """The decoder's rows that belong to a panel: those with its number of draws, or of its epoch."""
    other = "draws" if x == "epoch" else "epoch"
    return decoder.index[decoder[other].isin(part[other].unique())]


def _whole(ax: Axes, epochs: "pd.Series[int]") -> None:
    """Mark whole epochs only."""
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlim(epochs.min(), epochs.max())
