"""Points: one dot for each seed, so that nobody has to trust a mean.

- :func:`by_method`: dots with the mean and its 95 % interval, a row for each method, a panel for each measure.
- :func:`paths`: one measure against another, with the path of means along a third: error against rate, along a weight.
"""

from collections.abc import Mapping, Sequence
from itertools import cycle, pairwise
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vaelib.companion.plots import style


def by_method(
    table: pd.DataFrame,
    *,
    y: str | Sequence[str],
    by: str = "method",
    panels: str | None = None,
    upright: bool = False,
    names: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    log: Sequence[str] = (),
    limits: Mapping[str, Sequence[float | None]] | None = None,
    size: Sequence[float] = (3.4, 2.6),
) -> Figure:
    """Draw one dot for each run, and the mean with its 95 % interval beside them, for each method.

    An interval that leaves its panel (of two runs it is thirteen times as wide as they are apart) ends in an arrow.

    Parameters
    ----------
    table
        One row a run: the measures, and what tells methods apart. Rows of ``kind`` ``reference`` are diamonds in
        the row of their method (what a paper prints of it), or lines where `by` names no method that was run.
    y
        The measures, one column of panels for each.
    by
        The column with the methods, drawn in the order in which they come first.
    panels
        The column with one row of panels for each of its values; beside each other where there is one measure.
    upright
        Whether methods lie along the horizontal axis.
    names, labels, log, limits, size
        See :mod:`vaelib.companion.plots`.

    Examples
    --------
    >>> table = pd.DataFrame({"method": ["kl", "kl", "mmd"], "error": [10.0, 11.0, 9.0], "seed": [0, 1, 0]})
    >>> len(by_method(table, y="error").axes)
    1
    """
    measures = [y] if isinstance(y, str) else list(y)
    rows, lined = style.apart(table)
    shown = list(rows[panels].dropna().unique()) if panels else [None]
    across = len(measures) == 1
    figure, axes = style.grid(1 if across else len(shown), len(shown) if across else len(measures), size)
    looks = style.looks(rows[by], labels)
    words = [look.label for look in looks.values()]
    shared: dict[str, Any] = {"order": words, "hue_order": words, "legend": False}
    shared["palette"] = {look.label: look.colour for look in looks.values()}
    for number, value in enumerate(shown):
        for place, measure in enumerate(measures):
            ax = axes[0, number] if across else axes[number, place]
            part = rows if panels is None else rows[rows[panels] == value]
            part = part.assign(_by=part[by].map({v: look.label for v, look in looks.items()}))
            xy = {"x": "_by", "y": measure} if upright else {"y": "_by", "x": measure}
            sns.pointplot(
                part,
                **xy,
                hue="_by",
                errorbar=style.interval,
                linestyle="none",
                marker="|" if not upright else "_",
                markersize=11,
                err_kws={"linewidth": 1.4},
                ax=ax,
                **shared,
            )
            # Seaborn's strips draw lots, and its swarms draw the whole figure once more for each panel.
            for word, runs in part.dropna(subset=measure).groupby("_by", sort=False):
                at = (runs["_by"], runs[measure]) if upright else (runs[measure], runs["_by"])
                ax.scatter(*at, s=16, color=shared["palette"][word], alpha=0.55, linewidth=0)
            here = (
                lined
                if panels is None or panels not in lined
                else lined[lined[panels].isin([value]) | lined[panels].isna()]
            )
            _printed(ax, here, measure, by, list(looks), labels, upright=upright)
            style.dress(
                ax,
                *((by, measure) if upright else (measure, by)),
                names={by: "", **(names or {})},
                log=log,
                limits=limits,
            )
            (ax.set_xlim if upright else ax.set_ylim)((-0.5, len(looks) - 0.5) if upright else (len(looks) - 0.5, -0.5))
            for row, which in enumerate(looks):
                if len(runs := part.loc[part[by] == which, measure].dropna()) > 1:
                    style.cut(ax, style.interval(runs), row, looks[which].colour, upright=upright)
            if not upright and (number if across else place):
                ax.set_yticklabels([])
            if upright and across and number:
                ax.set_ylabel("")
            if panels:
                ax.set_title((labels or {}).get(style.text(value), style.text(value)), loc="left")
    style.legend(figure, place="outside lower center", columns=4)
    return figure


def _printed(
    ax: Axes, rows: pd.DataFrame, y: str, by: str, order: list[Any], labels: Mapping[str, str] | None, *, upright: bool
) -> None:
    """What papers print: a diamond in the row of a method, and a line for what is none."""
    if y not in rows:
        return
    named, dashes = False, cycle(("--", ":", "-."))
    for _, row in rows.dropna(subset=[y]).iterrows():
        if row[by] in order:
            at = (order.index(row[by]), row[y]) if upright else (row[y], order.index(row[by]))
            ax.plot(
                *at,
                "D",
                color="white",
                markeredgecolor="black",
                markersize=5,
                zorder=4,
                label=None if named else "paper",
            )
            named = True
        else:
            line = ax.axhline if upright else ax.axvline
            line(
                row[y],
                color=style.GREY,
                linestyle=next(dashes),
                linewidth=1.1,
                label=(labels or {}).get(str(row[by]), str(row[by])),
                zorder=1,
            )


def paths(
    table: pd.DataFrame,
    *,
    x: str,
    y: str | Sequence[str],
    along: str | None = None,
    by: str = "method",
    lines: str | None = None,
    panels: str | None = None,
    marked: Sequence[str] = (),
    names: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    log: Sequence[str] = (),
    limits: Mapping[str, Sequence[float | None]] | None = None,
    size: Sequence[float] = (4.4, 3.4),
) -> Figure:
    """Draw one measure against another: a dot for each run, and the means, joined in the order of a third.

    Parameters
    ----------
    table
        One row a run. Rows of ``kind`` ``reference`` are horizontal lines.
    x, y
        The measures; one panel for each `y`.
    along
        The column along which means are joined, a weight, say; missing for a method that has but one mean. Without it
        there are dots only.
    by
        The column with one colour for each of its values.
    lines
        The column with one kind of line for each of its values.
    panels
        The column with one panel for each of its values, beside each other.
    marked
        The values of `by` whose means have their value of `along` written beside them.
    names, labels, log, limits, size
        See :mod:`vaelib.companion.plots`.

    Examples
    --------
    >>> table = pd.DataFrame({"method": "kl", "beta": [1.0, 2.0], "rate": [20.0, 15.0], "error": [10.0, 12.0]})
    >>> paths(table, x="rate", y="error", along="beta", marked=["kl"]).axes[0].texts[0].get_text()
    '1'
    """
    measures = [y] if isinstance(y, str) else list(y)
    rows, lined = style.apart(table)
    shown = list(rows[panels].dropna().unique()) if panels else [None]
    cells = [(value, measure) for value in shown for measure in measures]
    figure, axes = style.grid(1, len(cells), size)
    looks = style.looks(rows[by], labels)
    kinds = list(rows[lines].dropna().unique()) if lines else [None]
    for ax, (value, measure) in zip(axes[0], cells):
        part = rows if panels is None else rows[rows[panels] == value]
        for method, look in looks.items():
            for kind, dash in zip(kinds, (look.linestyle, "--", ":")):
                mine = part[(part[by] == method) & (part[lines] == kind if lines else True)].dropna(subset=[x, measure])
                if len(mine):
                    named = look.label if kind == kinds[0] else None
                    _path(ax, mine, x, measure, along, look, dash, named, marked=method in marked and bool(named))
        for kind, dash in zip(kinds if lines else (), ("-", "--", ":")):
            ax.plot([], [], dash, color="0.4", label=(labels or {}).get(style.text(kind), style.text(kind)))
        style.references(ax, lined, measure, by, labels)
        ax.margins(0.1 if marked else 0.05)  # what is written beside the last points
        style.dress(ax, x, measure, names=names, log=log, limits=limits)
        if panels:
            ax.set_title((labels or {}).get(style.text(value), style.text(value)), loc="left")
    style.legend(figure)
    return figure


def _path(
    ax: Axes,
    rows: pd.DataFrame,
    x: str,
    y: str,
    along: str | None,
    look: style.Look,
    dash: str,
    named: str | None,
    *,
    marked: bool,
) -> None:
    """The dots of one method, and the path of their means."""
    dots: dict[str, Any] = {} if along else {"label": named}
    dots |= {"markersize": 4, "alpha": 0.35} if along else {}
    ax.plot(rows[x], rows[y], "o", color=look.colour, markeredgewidth=0, **dots)
    if along is None:
        return
    mean = rows.groupby(along, dropna=False)[[x, y]].mean()
    ax.plot(mean[x], mean[y], marker="o" if named else None, linestyle=dash, color=look.colour, label=named)
    if marked:
        _mark(ax, mean[x].tolist(), mean[y].tolist(), [style.text(v) for v in mean.index], look.colour)


def _mark(ax: Axes, xs: list[float], ys: list[float], words: list[str], colour: Any) -> None:
    """Write words beside points, on the outer side of the path."""
    rising = sum(b > a for a, b in pairwise(ys)) * 2 > len(ys) - 1
    offset = (5, -10) if rising != (len(xs) > 1 and xs[-1] < xs[0]) else (5, 5)
    for x, y, word in zip(xs, ys, words):
        ax.annotate(word, (x, y), xytext=offset, textcoords="offset points", color=colour, fontsize=8)
