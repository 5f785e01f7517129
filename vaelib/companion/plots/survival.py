"""Survival: what happened to groups of patients, and where their codes lie.

- :func:`patients`: Kaplan-Meier curves with the numbers at risk and a log-rank test; codes by subtype and by outcome.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vaelib.companion.plots import style
from vaelib.measures.survival import log_rank


def patients(
    table: pd.DataFrame, *, group: Mapping[str, str], event: str = "relapse", size: Sequence[float] = (3.4, 3.8)
) -> Figure:
    """Draw groups' shares without the event against time, with the numbers at risk, and the plane of all codes.

    Parameters
    ----------
    table
        One row a patient: ``above`` (the group), ``relapse`` (whether the event was seen), ``months`` until then or
        until the patient was last seen, ``subtype``, and the code's components ``first`` and ``second``.
    group
        Words for the two groups, by ``True`` and ``False``.
    event
        What it is called.
    size
        Of one panel.

    Examples
    --------
    >>> table = pd.DataFrame({"above": [True, True, False, False], "relapse": [True, False, True, True]})
    >>> table = table.assign(months=[5, 9, 2, 4], subtype="A", first=range(4), second=0)
    >>> figure = patients(table, group={"True": "high", "False": "low"})
    """
    figure, axes = plt.subplot_mosaic(
        [["curves", "subtype", "outcome"], ["risk", "subtype", "outcome"]],
        figsize=(3 * size[0], size[1]),
        height_ratios=(6, 1),
    )
    _curves(axes["curves"], axes["risk"], table, group, event)
    subtypes = sorted(table["subtype"].unique())
    shades = sns.color_palette("viridis", len(subtypes))
    palette = dict(zip(subtypes, [*shades[::2], *shades[1::2]]))  # neighbours differ
    _plane(axes["subtype"], table, table["subtype"], palette)
    outcome = table["relapse"].map({True: event, False: f"no {event}"})
    _plane(axes["outcome"], table, outcome, {f"no {event}": "0.65", event: "0.1"})
    return figure


def _plane(ax: Axes, table: pd.DataFrame, hue: "pd.Series[str]", palette: Mapping[str, Any]) -> None:
    """The codes' first two components, with a colour and a marker for each value."""
    order = list(palette)
    sns.scatterplot(
        table,
        x="first",
        y="second",
        hue=hue,
        style=hue,
        palette=dict(palette),
        hue_order=order,
        style_order=order,
        s=18,
        linewidth=0,
        alpha=0.85,
        ax=ax,
    )
    style.dress(ax, "first", "second", names={"first": "first component of the codes", "second": "second component"})
    ax.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, -0.16),
        ncols=min(len(order), 4),
        fontsize=8,
        handletextpad=0.1,
        columnspacing=0.8,
    )


def _curves(ax: Axes, below: Axes, table: pd.DataFrame, group: Mapping[str, str], event: str) -> None:
    """Kaplan-Meier curves with log-log 95 % bands, and under them how many are still at risk."""
    from sksurv.nonparametric import kaplan_meier_estimator

    last = float(table["months"].max())
    ticks = np.arange(0, last, next(step for step in (12, 24, 48, 60, 120, 240) if last / step <= 7))
    for row, ((value, word), colour) in enumerate(zip(group.items(), ("#440154", "#35b779"))):
        part = table[table["above"].astype(str) == value]
        time, alive, band = kaplan_meier_estimator(part["relapse"], part["months"], conf_type="log-log")
        ax.step([0, *time], [1, *alive], where="post", color=colour, linestyle=("-", "--")[row], label=word)
        ax.fill_between(time, band[0], band[1], step="post", color=colour, alpha=0.15, linewidth=0)
        for tick in ticks:
            below.text(
                tick, -row, f"{(part['months'] >= tick).sum()}", ha="center", va="center", fontsize=8, color=colour
            )
    test = log_rank(table["relapse"], table["months"], table["above"])
    ax.set(ylabel=f"share without {event}", ylim=(0, 1.02), xlim=(0, last), xticks=ticks, xticklabels=[])
    ax.set_title(f"log-rank test: p = {test.p:.2g}", loc="left")
    ax.legend(loc="lower left", fontsize=8)
    below.set(xlim=(0, last), ylim=(-1.6, 0.6), xticks=ticks, xlabel="months", yticks=[])
    below.set_ylabel("at risk", rotation=0, ha="right", va="center", labelpad=14, fontsize=8)
    below.grid(visible=False)
