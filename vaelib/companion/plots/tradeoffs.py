"""Trade-offs: two measures against each other, a family along its weight as a line, and everything else as points.

- :func:`frontier`: error against rate, say: what lies below the line is better at equal rate.
"""

from collections.abc import Mapping, Sequence
from itertools import cycle

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from vaelib.companion.plots import style

_MARKERS = "s^vDPX<>hpd"


def frontier(
    table: pd.DataFrame,
    *,
    x: str,
    y: str,
    along: str,
    family: Sequence[str],
    by: str = "method",
    word: str = "{}",
    named: str = "family",
    above: bool = False,
    names: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    log: Sequence[str] = (),
    limits: Mapping[str, Sequence[float | None]] | None = None,
    size: Sequence[float] = (4.6, 3.7),
) -> Figure:
    """Draw means over runs with bars of one standard deviation; a family is joined in the order of its weight.

    Parameters
    ----------
    table
        One row a run.
    x, y
        The two measures.
    along
        The weight in the family.
    family
        The values of `by` that belong to it.
    by
        The column with the methods; each has its colour, and a marker of its own.
    word
        What is written beside a member of the family; ``{}`` stands for its weight.
    named
        What the family is called.
    above
        Whether a weight is written above its point, where methods lie below the line.
    names, labels, log, limits, size
        See :mod:`vaelib.companion.plots`.

    Examples
    --------
    >>> table = pd.DataFrame({"method": ["kl", "half", "mmd"], "beta": [1, 0.5, 500], "rate": [9, 12, 20]})
    >>> figure = frontier(table, x="rate", y="beta", along="beta", family=["kl", "half"], word="β = {}")
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['β = 0.5', 'β = 1']
    """
    figure, axes = style.grid(1, 1, size)
    ax, inside = axes[0, 0], table[by].isin(family)
    groups = table[inside].groupby(along)[[x, y]]
    mean, sd = groups.mean(), groups.std().fillna(0)
    line = {"color": "black", "marker": "o", "markersize": 4, "elinewidth": 1}
    ax.errorbar(mean[x], mean[y], xerr=sd[x], yerr=sd[y], label=named, **line)
    for weight, point in mean.iterrows():  # where a point is out of the picture, so is its weight
        ax.annotate(
            word.replace("{}", style.text(weight)),
            (point[x], point[y]),
            xytext=(6, 5) if above else (-5, -9),
            textcoords="offset points",
            ha="left" if above else "right",
            fontsize=8,
            zorder=4,  # above all points
            path_effects=[withStroke(linewidth=2, foreground="white")],
        )
    markers = cycle(_MARKERS)
    for method, look in style.looks(table.loc[~inside, by], labels).items():
        runs = table[table[by] == method][[x, y]]
        middle, spread = runs.mean(), runs.std().fillna(0)
        learned = str(method).startswith("learned")
        ax.errorbar(
            middle[x],
            middle[y],
            xerr=spread[x],
            yerr=spread[y],
            color=look.colour,
            marker="*" if learned else next(markers),
            markersize=12 if learned else 7,
            markeredgecolor="white",
            linestyle="",
            label=look.label,
            zorder=3,
        )
    style.dress(ax, x, y, names=names, log=log, limits=limits)
    style.legend(figure)
    return figure
