"""Scans of a parameter: what fixed values of it give, and where runs that learn it end.

- :func:`fixed_and_learned`: curves over the fixed values, and a star for each run that learns.
"""

from collections.abc import Mapping, Sequence

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from vaelib.companion.plots import style

_ENOUGH = 4  # fixed values that a line may join: through fewer it would be a guess


def fixed_and_learned(
    table: pd.DataFrame,
    *,
    x: str,
    y: str | Sequence[str],
    by: str,
    update: str,
    learned: str,
    panels: str | None = None,
    names: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    limits: Mapping[str, Sequence[float | None]] | None = None,
    size: Sequence[float] = (3.3, 3.0),
) -> Figure:
    """Draw measures against a parameter: dots where it is fixed, joined in their means, and stars where it is learned.

    Parameters
    ----------
    table
        One row a run. Rows of ``kind`` ``reference`` are horizontal lines.
    x
        The parameter: where it was held, or where it ended.
    y
        The measures, one column of panels for each.
    by
        The column with one colour for each of its values.
    update
        The column that says how the parameter is set.
    learned
        Its value where it is learned.
    panels
        The column with one row of panels for each of its values.
    names, labels, limits, size
        See :mod:`vaelib.companion.plots`.

    Examples
    --------
    >>> table = pd.DataFrame({"form": "kl", "skew": [0, 0.5, 0.4], "how": ["fixed", "fixed", "learned"]})
    >>> figure = fixed_and_learned(table, x="skew", y="skew", by="form", update="how", learned="learned")
    >>> [text.get_text() for text in figure.legends[0].get_texts()]
    ['KL(q‖p)', 'fixed', 'learned, one run']
    """
    measures = [y] if isinstance(y, str) else list(y)
    rows, lined = style.apart(table)
    looks, words = style.looks(rows[by], labels), labels or {}
    shown = list(rows[panels].dropna().unique()) if panels else [None]
    figure, axes = style.grid(len(shown), len(measures), size, sharex=True)
    for (number, value), (column, measure) in ((v, m) for v in enumerate(shown) for m in enumerate(measures)):
        ax = axes[number, column]
        part, here = (t if panels is None else t[t[panels] == value] for t in (rows, lined))
        for look_of, look in looks.items():
            mine = part[part[by] == look_of]
            fixed, free = mine[mine[update] != learned], mine[mine[update] == learned]
            if fixed[x].nunique() >= _ENOUGH:
                sns.lineplot(fixed, x=x, y=measure, color=look.colour, errorbar=None, linewidth=1.2, ax=ax)
            ax.scatter(fixed[x], fixed[measure], s=18, color=look.colour, linewidth=0, zorder=2)
            ax.scatter(free[x], free[measure], s=95, marker="*", color=look.colour, edgecolor="white", zorder=3)
        style.references(ax, here, measure, by, labels)
        style.dress(ax, x, measure, names=names, limits=limits)
        if number < len(shown) - 1:
            ax.set_xlabel("")
        if panels and column == 0:
            ax.set_title(words.get(style.text(value), style.text(value)), loc="left")
    for look in looks.values():
        axes[0, 0].plot([], [], color=look.colour, label=look.label)
    for mark, how, area in (("o", "fixed", 4.5), ("*", "learned, one run", 9)):
        if ((rows[update] == learned) == (mark == "*")).any():
            axes[0, 0].plot([], [], mark, color=style.GREY, markersize=area, markeredgewidth=0, label=how)
    style.legend(figure)
    return figure
