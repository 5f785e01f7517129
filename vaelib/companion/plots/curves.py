"""Curves: means over seeds against epochs, noise, skews or anything else.

- :func:`means`: lines with bands, one for each method, one panel for each measure and each value of a column.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from vaelib.companion.plots import style


def means(
    table: pd.DataFrame,
    *,
    x: str,
    y: str | Sequence[str],
    by: str | None = None,
    lines: str | None = None,
    panels: str | None = None,
    band: str | None = "sd",
    marker: str | None = None,
    names: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    log: Sequence[str] = (),
    limits: Mapping[str, Sequence[float | None]] | None = None,
    size: Sequence[float] = (3.4, 2.9),
    place: str = "outside right center",
    columns: int = 1,
) -> Figure:
    """Draw means as lines, with bands over what shares `x`: seeds, say.

    Parameters
    ----------
    table
        One row a value: `x`, the measures `y`, and what tells the lines apart. Rows of ``kind`` ``reference`` are
        horizontal lines, labelled by `by`, in the panels whose measure they have, with a band where there is ``sd``.
    x
        The column of the horizontal axis.
    y
        The measures, one column of panels for each.
    by
        The column with one colour for each of its values.
    lines
        The column with one kind of line for each of its values: test and training images, say.
    panels
        The column with one row of panels for each of its values; beside each other where there is one measure.
    band
        ``sd``: one standard deviation; ``interval``: the 95 % interval of the mean; ``None``: no band.
    marker
        Of the points of a curve.
    names, labels, log, limits, size
        See :mod:`vaelib.companion.plots`.
    place, columns
        Of the legend.

    Examples
    --------
    >>> table = pd.DataFrame({"epoch": [1, 2, 1, 2], "loss": [9, 8, 9.5, 8.5], "method": "kl", "seed": [0, 0, 1, 1]})
    >>> means(table, x="epoch", y="loss", by="method").axes[0].get_ylabel()
    'loss'
    """
    measures = [y] if isinstance(y, str) else list(y)
    rows, lined = style.apart(table)
    shown = list(rows[panels].dropna().unique()) if panels else [None]
    across = len(measures) == 1
    figure, axes = style.grid(
        1 if across else len(shown),
        len(shown) if across else len(measures),
        size,
        sharex=True,
        sharey=across or "col",
    )
    drawn = _worded(rows, by, lines, labels)
    for number, value in enumerate(shown):
        for place_, measure in enumerate(measures):
            ax = axes[0, number] if across else axes[number, place_]
            part = rows if panels is None else rows[rows[panels] == value]
            part = part.assign(**{c: drawn["values"][c].loc[part.index] for c in drawn["values"]})
            sns.lineplot(
                part,
                x=x,
                y=measure,
                errorbar={"sd": "sd", "interval": style.interval, None: None}[band],
                marker=marker,
                err_kws={"alpha": 0.16, "linewidth": 0},
                ax=ax,
                **drawn["options"],
            )
            here = (
                lined
                if panels is None or panels not in lined
                else lined[lined[panels].isin([value]) | lined[panels].isna()]
            )
            style.references(ax, here, measure, by, labels)
            style.dress(ax, x, measure, names=names, log=log, limits=limits)
            if across and number:
                ax.set_ylabel("")
            if not across and number < len(shown) - 1:
                ax.set_xlabel("")
            if panels:
                ax.set_title((labels or {}).get(style.text(value), style.text(value)), loc="left")
    style.legend(figure, place=place, columns=columns)
    return figure


def _worded(
    rows: pd.DataFrame, by: str | None, lines: str | None, labels: Mapping[str, str] | None
) -> dict[str, dict[str, Any]]:
    """For seaborn: columns with words for the values of `by` and `lines`, and the options that go with them."""
    values, options = dict[str, Any](), dict[str, Any]()
    dashes = {"-": "", "--": (4, 1.5), ":": (1, 1.2), "-.": (4, 1.2, 1, 1.2)}
    if by:
        looks = style.looks(rows[by], labels)
        values["_by"] = rows[by].map({v: look.label for v, look in looks.items()})
        options |= {"hue": "_by", "palette": {look.label: look.colour for look in looks.values()}}
        options["hue_order"] = [look.label for look in looks.values()]
        if not lines:
            options |= {"style": "_by", "style_order": options["hue_order"], "markers": False}
            options["dashes"] = {look.label: dashes[look.linestyle] for look in looks.values()}
    else:
        options["color"] = "black"
    if lines:
        kinds = style.looks(rows[lines], labels)
        values["_lines"] = rows[lines].map({v: look.label for v, look in kinds.items()})
        options |= {"style": "_lines", "style_order": [k.label for k in kinds.values()]}
        options["dashes"] = {k.label: d for k, d in zip(kinds.values(), ["", (4, 1.5), (1, 1.2), (4, 1.2, 1, 1.2)])}
    return {"values": values, "options": options}
