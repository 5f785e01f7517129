"""Courses of single runs: one line for each run, nothing averaged.

- :func:`runs`: a line for each run, and another quantity of the same run dashed in the same colour.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from vaelib.companion.plots import style


def runs(
    table: pd.DataFrame,
    *,
    x: str,
    y: str,
    by: str,
    beside: str | None = None,
    run: str | None = None,
    rows: str | None = None,
    columns: str | Sequence[str] | None = None,
    lowest: bool = False,
    names: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    log: Sequence[str] = (),
    limits: Mapping[str, Sequence[float | None]] | None = None,
    size: Sequence[float] = (2.5, 1.9),
    word: str = "",
) -> Figure:
    """Draw a line for each run; a second quantity of it is dashed, in the same colour, so that both are seen as a pair.

    Parameters
    ----------
    table
        One row a run and step. Rows of ``kind`` ``reference`` are horizontal lines, labelled by `by`, in the panels
        whose `rows` and `columns` they have.
    x, y
        The columns of the axes.
    by
        The column that runs are coloured by: methods in their own colours, anything else in shades.
    beside
        The column that is dashed.
    run
        The column that tells runs of one colour apart, such as the seed; a colour is one run where it is left out.
    rows, columns
        The columns with one row, and one column, of panels for each of their values; several are read as one, such as
        ``clin+rna, cnc``.
    lowest
        Whether the lowest point of each line gets a dot.
    names, labels, log, limits, size
        See :mod:`vaelib.companion.plots`.
    word
        What is written before each value of `by` in the legend: ``start``, say.

    Examples
    --------
    >>> table = pd.DataFrame({"epoch": [0, 1], "skew": [0.5, 0.4], "optimal_skew": [0.1, 0.3], "start": 0.5})
    >>> figure = runs(table, x="epoch", y="skew", by="start", beside="optimal_skew")
    >>> [text.get_text() for text in figure.legends[0].get_texts()]
    ['0.5', 'skew', 'optimal_skew']
    """
    several = [columns] if isinstance(columns, str) else list(columns or [])
    if several:
        table = table.assign(_panel=table[several].astype(str).agg(", ".join, axis=1))
    drawn, lined = style.apart(table)
    numbers = pd.to_numeric(drawn[by], errors="coerce")
    ordered = drawn if numbers.isna().any() else drawn.loc[numbers.sort_values(kind="stable").index]
    looks = style.looks(ordered[by], labels)
    palette = {value: look.colour for value, look in looks.items()}
    dashes: dict[str, Any] = {y: "-"} | ({beside: (0, (3, 1.5))} if beside else {})
    down = list(drawn[rows].unique()) if rows else [None]
    across = list(drawn["_panel"].unique()) if several else [None]
    figure, axes = style.grid(len(down), len(across), size, sharex=True, sharey=True)
    for (row, low), (column, high) in ((r, c) for r in enumerate(down) for c in enumerate(across)):
        ax, part, here = axes[row, column], drawn, lined
        for name, value in ((rows, low), ("_panel", high)):
            if name and value is not None:
                part, here = part[part[name] == value], here[here[name] == value]
        for measure, dash in dashes.items():
            sns.lineplot(
                part,
                x=x,
                y=measure,
                hue=by,
                palette=palette,
                linestyle=dash,
                linewidth=1.4,
                legend=False,
                ax=ax,
                **({"units": run, "estimator": None} if run else {"errorbar": None}),
            )
        if lowest:
            for value, line in part.groupby(by):
                ax.plot(*line.loc[line[y].idxmin(), [x, y]], "o", color=palette[value], markersize=3)
        style.references(ax, here, y, by, labels, dashes=[":"])  # full and dashed lines are the runs
        style.dress(ax, x, y, names=names, log=log, limits=limits)
        ax.label_outer()
        heads = [look.label for look in style.looks([high, low], labels).values()]
        if column == 0 and low is not None:
            ax.set_ylabel(f"{heads[-1]}\n{ax.get_ylabel()}")
        if row == 0 and high is not None:
            ax.set_title(heads[0], loc="left")
    handles = [Line2D([], [], color=look.colour, label=f"{word} {look.label}".strip()) for look in looks.values()]
    for measure, dash in dashes.items() if beside else ():
        named = (names or {}).get(measure, measure)
        handles.append(Line2D([], [], color=style.GREY, linestyle=dash, label=named))
    style.legend(figure, first=handles)
    return figure
