"""Intervals: values whose ends were computed beforehand, paired differences, say.

- :func:`forest`: a row for each value of a column, with a dot and a bar, and a line where there is no difference.
"""

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure

from vaelib.companion.plots import style


def forest(
    table: pd.DataFrame,
    *,
    value: str = "difference",
    low: str = "low",
    high: str = "high",
    by: str = "method",
    panels: str | None = None,
    neutral: float = 0.0,
    names: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    size: Sequence[float] = (3.2, 2.4),
) -> Figure:
    """Draw values with their intervals, one row each.

    Parameters
    ----------
    table
        One row a value.
    value, low, high
        Its columns: the value, and the ends of its interval.
    by
        The column that says what each is, from the top in the order in which they come first.
    panels
        The column with one panel for each of its values, beside each other.
    neutral
        Where a line is drawn: no difference.
    names
        Words for columns.
    labels
        Words for rows and for panels; methods have theirs.
    size
        Width and height of one panel, in inches.

    Examples
    --------
    >>> table = pd.DataFrame({"method": ["kl", "mmd"], "difference": [1, -2], "low": [0, -3], "high": [2, -1]})
    >>> forest(table, labels={"mmd": "MMD"}).axes[0].get_yticklabels()[1].get_text()
    'MMD'
    """
    shown = list(table[panels].dropna().unique()) if panels else [None]
    looks = style.looks(table[by], labels)
    figure, axes = style.grid(1, len(shown), size, sharey=True)
    for ax, one in zip(axes[0], shown):
        part = (table if one is None else table[table[panels] == one]).set_index(by)
        ax.axvline(neutral, color=style.GREY, linewidth=1, linestyle="--", zorder=1)
        for row, (which, look) in enumerate(looks.items()):
            if which in part.index:
                at = part.loc[which]
                ax.plot([at[low], at[high]], [row, row], color=look.colour, linewidth=1.6)
                ax.plot(at[value], row, "o", color=look.colour, markersize=5)
        style.dress(ax, value, by, names={by: "", **(names or {})})
        if panels:
            ax.set_title((labels or {}).get(style.text(one), style.text(one)), loc="left")
    axes[0, 0].set_yticks(range(len(looks)), [look.label for look in looks.values()])
    axes[0, 0].invert_yaxis()
    return figure
