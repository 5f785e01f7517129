"""Functions of one variable, drawn on a grid: theory, where nothing was trained.

- :func:`lines`: a line for each function, with marked points and reference lines, in one panel or several.
- :func:`agreement`: two numbers for each case against each other, and the diagonal on which they agree.
"""

from collections.abc import Mapping, Sequence
from itertools import cycle

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from vaelib.companion.plots import style


def lines(
    table: pd.DataFrame,
    *,
    x: str,
    y: str | Sequence[str],
    by: str,
    each: str | None = None,
    panels: str | None = None,
    marker: str | None = None,
    names: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    log: Sequence[str] = (),
    limits: Mapping[str, Sequence[float | None]] | None = None,
    size: Sequence[float] = (3.3, 2.9),
    palette: str = "viridis_r",
) -> Figure:
    """Draw functions as lines.

    Parameters
    ----------
    table
        One row a point of a function: `x`, the values `y`, and what tells functions apart. Rows of ``kind`` ``mark``
        are dots on them, such as minima; rows of ``kind`` ``reference`` are horizontal lines, labelled by `by`; rows
        of ``kind`` ``at`` are vertical lines at their `x`, with their ``label``.
    x, y
        The columns of the axes; one column of panels for each `y`.
    by
        The column with one colour for each of its values: methods have theirs, what else is ordered has shades.
    each
        The column that tells apart many functions of one colour, such as random pairs; they are drawn thin.
    panels
        The column with one panel for each of its values: rows of panels where there are several `y`.
    marker
        Of the points of a line.
    names, labels, log, limits, size
        See :mod:`vaelib.companion.plots`.
    palette
        Of what is no method.

    Examples
    --------
    >>> table = pd.DataFrame({"skew": [0.0, 1.0], "value": [1.0, 2.0], "form": "kl"})
    >>> lines(table, x="skew", y="value", by="form", names={"skew": "skew α"}).axes[0].get_xlabel()
    'skew α'
    """
    measures = [y] if isinstance(y, str) else list(y)
    rows, lined = style.apart(table)
    kinds = rows["kind"] if "kind" in rows else pd.Series("", index=rows.index)
    curves, marks, places = rows[~kinds.isin(["mark", "at"])], rows[kinds == "mark"], rows[kinds == "at"]
    looks, words = style.looks(curves[by], labels, palette=palette), labels or {}
    shown = list(curves[panels].dropna().unique()) if panels else [None]
    down, across = (1, len(shown)) if len(measures) == 1 else (len(shown), len(measures))
    figure, axes = style.grid(down, across, size)
    for number, (value, measure) in enumerate((v, m) for v in shown for m in measures):
        ax = axes.flat[number]
        here, dots, level, at = (t if value is None else t[t[panels] == value] for t in (curves, marks, lined, places))
        for name, look in looks.items():
            mine, points = here[here[by] == name], dots[dots[by] == name]
            if mine.empty:
                continue
            thin = {"units": each, "linewidth": 0.7, "alpha": 0.25} if each else {"linewidth": 1.6}
            sns.lineplot(
                mine,
                x=x,
                y=measure,
                color=look.colour,
                linestyle=look.linestyle,
                marker=marker,
                estimator=None,
                ax=ax,
                **thin,
            )
            ax.scatter(points[x], points[measure], s=28, color=look.colour, edgecolor="white", zorder=3)
            ax.plot([], [], color=look.colour, linestyle=look.linestyle, label=look.label)
        style.references(ax, level, measure, by, labels)
        for _, place in at.iterrows():
            named = {} if pd.isna(place.get("label")) else {"label": place["label"]}
            ax.axvline(place[x], color=style.GREY, linewidth=0.9, linestyle=":", zorder=1, **named)
        style.dress(ax, x, measure, names=names, log=log, limits=limits)
        if panels and number % across == 0 if len(measures) > 1 else panels:
            ax.set_title(words.get(style.text(value), style.text(value)), loc="left")
        if len(measures) == 1 and number:
            ax.set_ylabel("")
        if number < len(axes.flat) - across:
            ax.set_xlabel("")
    if by != panels:
        style.legend(figure)
    return figure


def agreement(
    table: pd.DataFrame,
    *,
    x: str,
    y: str,
    by: str | None = None,
    names: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    limits: Sequence[float] = (0, 1),
    size: Sequence[float] = (3.6, 3.4),
) -> Figure:
    """Draw two numbers of each case against each other; on the diagonal they agree.

    Parameters
    ----------
    table
        One row a case.
    x, y
        The two columns.
    by
        The column with one colour for each of its values, where there are few cases.
    names, labels, size
        See :mod:`vaelib.companion.plots`.
    limits
        Of both axes.
    """
    figure, axes = style.grid(1, 1, size)
    ax = axes[0, 0]
    ax.plot(limits, limits, color=style.GREY, linewidth=0.9)
    if by is None:
        sns.scatterplot(table, x=x, y=y, s=9, alpha=0.5, color="black", linewidth=0, ax=ax)
    for marker, (value, look) in zip(cycle("os^Dv"), style.looks(table[by], labels).items() if by else ()):
        cases = table[table[by] == value]
        ax.plot(cases[x], cases[y], marker, color=look.colour, markersize=5, alpha=0.8, label=look.label)
    style.dress(ax, x, y, names=names, limits={x: limits, y: limits})
    ax.set_box_aspect(1)
    style.legend(figure, place="outside lower center", columns=2)
    return figure
