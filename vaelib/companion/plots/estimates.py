"""Estimates of log p(x): against the number of importance samples, with a better estimate of the same images beside.

- :func:`against_draws`: curves that rise with the number of samples, and stars at their right end.
"""

from collections.abc import Mapping, Sequence

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from vaelib.companion.plots import style


def against_draws(
    table: pd.DataFrame,
    *,
    x: str,
    y: str,
    by: str,
    panels: str,
    star: str = "better estimate",
    names: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    size: Sequence[float] = (3.3, 3.0),
) -> Figure:
    """Draw means over runs against a number of samples, with bands of one sd, each panel on its own scale.

    Parameters
    ----------
    table
        One row a run and number of samples. Rows of ``kind`` ``reference`` are stars, at the right end of the panel.
    x, y
        The number of samples, and the estimate.
    by
        The column with the methods.
    panels
        The column with one panel for each of its values, beside each other.
    star
        What the stars are.
    names, labels, size
        See :mod:`vaelib.companion.plots`.

    Examples
    --------
    >>> table = pd.DataFrame({"draws": [1, 10], "log_p": [-9.0, -8.0], "method": "kl", "likelihood": "bernoulli"})
    >>> figure = against_draws(table, x="draws", y="log_p", by="method", panels="likelihood")
    >>> figure.axes[0].get_title(loc="left")
    'bernoulli'
    """
    rows, stars = style.apart(table)
    looks, words = style.looks(rows[by], labels), labels or {}
    shown = list(rows[panels].unique())
    figure, axes = style.grid(1, len(shown), size)
    for number, (ax, value) in enumerate(zip(axes[0], shown)):
        part, best = rows[rows[panels] == value], stars[stars[panels] == value] if len(stars) else stars
        for method, look in looks.items():
            mine = part[part[by] == method]
            sns.lineplot(
                mine,
                x=x,
                y=y,
                errorbar="sd",
                marker="o",
                color=look.colour,
                err_kws={"alpha": 0.16, "linewidth": 0},
                ax=ax,
            )
            ax.plot([], [], color=look.colour, label=look.label)
            if len(best):
                end = best[best[by] == method]
                place = [2.2 * part[x].max()] * len(end)
                ax.scatter(
                    place, end[y], s=75, marker="*", color=look.colour, edgecolor="white", linewidth=0.6, zorder=3
                )
        if len(best):
            ax.plot([], [], "*", color=style.GREY, markersize=9, markeredgewidth=0, label=star)
        style.dress(ax, x, y, names=names, log=[x])
        ax.set_title(words.get(style.text(value), style.text(value)), loc="left")
        if number:
            ax.set_ylabel("")
    style.legend(figure)
    return figure
