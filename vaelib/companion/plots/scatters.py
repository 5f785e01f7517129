"""Scatters: one number against another, a dot a case, with the trend of the means.

- :func:`trends`: a panel for each thing that is varied, each with its own horizontal axis.
"""

from collections.abc import Mapping, Sequence

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from vaelib.companion.plots import style


def trends(
    table: pd.DataFrame,
    *,
    x: str,
    y: str,
    panels: str,
    colour: str,
    names: Mapping[str, str] | None = None,
    size: Sequence[float] = (3.6, 2.9),
) -> Figure:
    """Draw a dot a case, and the mean with its 95 % interval at each value of `x`.

    Parameters
    ----------
    table
        One row a case.
    x, y
        The columns of the axes.
    panels
        The column that says what is varied: one panel, with its own axis, for each of its values.
    colour
        The method whose colour is taken.
    names, size
        See :mod:`vaelib.companion.plots`; the words for values of `panels` are those of the axes.

    Examples
    --------
    >>> table = pd.DataFrame({"size": [1, 2, 1, 2], "skew": [0.4, 0.5, 0.3, 0.5], "of": "balls"})
    >>> trends(table, x="size", y="skew", panels="of", colour="kl").axes[0].get_xlabel()
    'balls'
    """
    shown = list(table[panels].unique())
    figure, axes = style.grid(1, len(shown), size, sharey=True)
    for ax, value in zip(axes[0], shown):
        part = table[table[panels] == value]
        ax.plot(part[x], part[y], "o", color=style.GREY, markersize=3.5, alpha=0.6, markeredgewidth=0, label="one case")
        sns.lineplot(
            part,
            x=x,
            y=y,
            color=style.LOOKS[colour].colour,
            errorbar=style.interval,
            err_style="bars",
            label="mean, 95 % interval",
            ax=ax,
        )
        style.dress(ax, x, y, names={**(names or {}), x: (names or {}).get(str(value), str(value))})
    style.legend(figure)
    return figure
