"""Landscapes: anything against the skew, a curve for each epoch of training.

- :func:`by_epoch`: curves from light to dark as training goes on, one row of panels for each form of the divergence.
"""

from collections.abc import Mapping, Sequence

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from vaelib.companion.plots import style


def by_epoch(
    table: pd.DataFrame,
    *,
    x: str,
    y: str | Sequence[str],
    form: str,
    epochs: Sequence[int] = (),
    minima: bool = False,
    less: Mapping[str, float] | None = None,
    names: Mapping[str, str] | None = None,
    limits: Mapping[str, Sequence[float | None]] | None = None,
    size: Sequence[float] = (3.0, 2.5),
) -> Figure:
    """Draw measures against the skew at several epochs, means over seeds.

    Parameters
    ----------
    table
        One row a skew, epoch, seed and form. Rows of ``kind`` ``learned`` are stars in the colour of their form: models
        that learned their skew; rows of ``kind`` ``newton`` are dotted vertical lines: the minimiser of the divergence.
    x
        The column of the skew.
    y
        The measures; one column of panels for each, or with one measure panels beside each other.
    form
        The column with the form of the divergence.
    epochs
        Those to be drawn, where not all.
    minima
        Whether a dot marks the minimum of each curve.
    less
        By measure, a constant that is taken off it.
    names, limits, size
        See :mod:`vaelib.companion.plots`.

    Examples
    --------
    >>> rows = [("geometric_js", skew, 1, 0, (skew - 0.3) ** 2) for skew in (0.0, 0.5, 1.0)]
    >>> table = pd.DataFrame(rows, columns=["form", "skew", "epoch", "seed", "divergence"])
    >>> by_epoch(table, x="skew", y="divergence", form="form", minima=True).axes[0].get_ylabel()
    'divergence'
    """
    measures = [y] if isinstance(y, str) else list(y)
    table = table.reset_index(drop=True)
    table = table.assign(**{measure: table[measure] - constant for measure, constant in (less or {}).items()})
    kinds = table["kind"].fillna("") if "kind" in table else pd.Series("", index=table.index)
    curves = table[kinds == ""]
    curves = curves[curves["epoch"].isin(epochs)] if epochs else curves
    forms, colours = list(curves[form].unique()), style.shades(sorted(curves["epoch"].unique()))
    named = {epoch: f"epoch {epoch:g}" for epoch in colours}
    across = len(measures) == 1
    shape = (1, len(forms)) if across else (len(forms), len(measures))
    figure, axes = style.grid(*shape, size, sharex=True, sharey=across or "col")
    for row, one in enumerate(forms):
        mine, marked = curves[curves[form] == one], table[(kinds != "") & (table[form] == one)]
        for column, measure in enumerate(measures):
            ax = axes[0, row] if across else axes[row, column]
            sns.lineplot(
                mine.assign(_epoch=mine["epoch"].map(named)),
                x=x,
                y=measure,
                hue="_epoch",
                hue_order=list(named.values()),
                palette={named[epoch]: colour for epoch, colour in colours.items()},
                errorbar=None,
                linewidth=1.2,
                ax=ax,
            )
            for epoch, part in mine.groupby("epoch") if minima else ():
                mean = part.groupby(x)[measure].mean()
                ax.plot(mean.idxmin(), mean.min(), "o", color=colours[epoch], markersize=4)
            for kind, part in marked.groupby(kinds):
                place, look = part[x].mean(), style.LOOKS[one]
                if kind == "newton":
                    ax.axvline(place, color=look.colour, linestyle=":", linewidth=1.2)
                elif measure in part:
                    ax.plot(place, part[measure].mean(), "*", color=look.colour, markersize=12, markeredgecolor="white")
            style.dress(ax, x, measure, names=names, limits=limits)
            if across and row:
                ax.set_ylabel("")
            if not across and row < len(forms) - 1:
                ax.set_xlabel("")
            if across or not column:
                ax.set_title(style.LOOKS[one].label if one in style.LOOKS else style.text(one), loc="left")
    style.legend(figure)
    return figure
