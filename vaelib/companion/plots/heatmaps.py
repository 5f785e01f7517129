"""Heat maps: one number for each pair of values of two columns.

- :func:`counts`: a panel for each value of a third column, all in one scale of colours.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from vaelib.companion.plots import style


def counts(
    table: pd.DataFrame,
    *,
    x: str,
    y: str,
    value: str,
    panels: str | None = None,
    rising: bool = False,
    log: bool = False,
    written: str = "",
    ticks: Sequence[int | bool] = (True, True),
    names: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    palette: str = "viridis",
    size: Sequence[float] = (2.9, 2.6),
) -> Figure:
    """Draw a number for each pair of values of two columns, as colour.

    Parameters
    ----------
    table
        One row a cell: `x`, `y`, and what is drawn, `value`; a cell that has no row is left white. Of rows with the
        same cell (seeds, say) the mean is drawn.
    x, y
        The columns along the axes: numbers in ascending order, text as it comes first.
    value
        The column with the numbers.
    panels
        The column with one panel for each of its values, beside each other.
    rising
        Whether `y` goes up, as an axis does, in the place of down, as a table does.
    log
        Whether the scale of colours is logarithmic, over three decades below the largest value.
    written
        How the number is written into each cell, ``.2f`` say; by default it is not.
    ticks
        Of `x` and `y`: whether they are labelled, or every how many values are.
    names
        Words for columns, with units; that of `value` is beside the scale of colours.
    labels
        Words for panels and for values of `x` and `y`.
    palette
        Of the colours.
    size
        Width and height of one panel, in inches.

    Examples
    --------
    >>> table = pd.DataFrame({"category": [0, 1, 0, 1], "digit": [3, 3, 8, 8], "images": [9, 1, 2, 8]})
    >>> [text.get_text() for text in counts(table, x="category", y="digit", value="images").axes[0].get_yticklabels()]
    ['3', '8']
    """
    words = names or {}
    shown = list(table[panels].dropna().unique()) if panels else [None]
    low, high = table[value].min(), table[value].max()
    scale: dict[str, Any] = {"norm": LogNorm(high / 1000, high)} if log else {"vmin": low, "vmax": high}

    def word(v: Any) -> str:
        return (labels or {}).get(style.text(v), style.text(v))

    figure, axes = style.grid(1, len(shown), size, sharey=True)
    for number, (ax, one) in enumerate(zip(axes[0], shown)):
        part = table if one is None else table[table[panels] == one]
        cells = part.pivot_table(index=y, columns=x, values=value).reindex(
            index=_order(table[y]), columns=_order(part[x])
        )
        cells = cells.rename(index=word, columns=word)
        last = number == len(shown) - 1
        sns.heatmap(
            cells,
            ax=ax,
            cmap=palette,
            annot=bool(written),
            fmt=written or ".2g",
            **scale,
            cbar=last,
            cbar_kws={"label": words.get(value, value)} if last else None,
            xticklabels=ticks[0],
            yticklabels=ticks[1],
        )
        ax.grid(visible=False)
        ax.set_ylim((0, len(cells)) if rising else (len(cells), 0))
        ax.set(xlabel=words.get(x, x), ylabel="" if number else words.get(y, y))
        ax.tick_params(length=0, labelrotation=0)
        if panels:
            ax.set_title(word(one), loc="left")
    return figure


def _order(values: "pd.Series[Any]") -> list[Any]:
    """Numbers in ascending order, anything else as it comes first."""
    unique = list(values.dropna().unique())
    return sorted(unique) if pd.api.types.is_numeric_dtype(values) else unique
