"""What all kinds of figures share: colours and labels of methods, panels, axes, legends, intervals.

- :func:`looks` gives each value of a column its label, colour and line style; :func:`shades` colours for an order.
- :func:`grid` makes panels, :func:`dress` names and scales the axes of one, :func:`legend` puts one legend beside all.
- :func:`references` draws the rows that are horizontal lines; :func:`interval` is the 95 % interval of a mean.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import AutoLocator, LogLocator, NullFormatter

from vaelib.companion.figures import LOOKS, Look
from vaelib.companion.verdicts import Spread

GREY = "0.45"
"""What is no method: references, papers' values, bounds."""


def text(value: Any) -> str:
    """A value of a table as it is written in a legend: numbers without zeros that say nothing.

    Examples
    --------
    >>> text(0.50), text("kl")
    ('0.5', 'kl')
    """
    return f"{value:g}" if isinstance(value, int | float | np.number) and not isinstance(value, bool) else str(value)


def shades(values: Sequence[Any], *, palette: str = "viridis_r") -> dict[Any, Any]:
    """Colours for ordered values, from light to dark."""
    return dict(zip(values, sns.color_palette(palette, max(len(values), 1))))


def looks(
    values: Iterable[Any], labels: Mapping[str, str] | None = None, *, palette: str = "viridis_r"
) -> dict[Any, Look]:
    """How each value of a column is drawn: a method always in its own colour, anything else in ordered shades.

    Parameters
    ----------
    values
        With repetitions; those that are missing are left out.
    labels
        Words for values, in the place of their own.
    palette
        Of what is no method.

    Returns
    -------
    dict
        By value, in the order in which they come first.

    Examples
    --------
    >>> looks(["kl", "kl", "mmd"], {"kl": "β-VAE"})["kl"].label
    'β-VAE'
    """
    unique = list(dict.fromkeys(v for v in values if not pd.isna(v)))
    others = shades([v for v in unique if v not in LOOKS], palette=palette)
    named = labels or {}
    return {
        value: Look(
            named.get(text(value), LOOKS[value].label if value in LOOKS else text(value)),
            LOOKS[value].colour if value in LOOKS else others[value],
            LOOKS[value].linestyle if value in LOOKS else "-",
        )
        for value in unique
    }


def interval(values: Any) -> tuple[float, float]:
    """The ends of the 95 % interval of a mean; of one value, the value: ``errorbar=interval`` for seaborn."""
    spread = Spread.of([float(v) for v in values])
    reach = spread.reach if spread.n > 1 else 0.0
    return spread.mean - reach, spread.mean + reach


def grid(rows: int, columns: int, size: Sequence[float], **options: Any) -> tuple[Figure, Any]:
    """Panels of one size: the figure, and its axes as an array of ``rows`` by ``columns``."""
    return plt.subplots(rows, columns, figsize=(columns * size[0], rows * size[1]), squeeze=False, **options)


def dress(
    ax: Axes,
    x: str,
    y: str,
    *,
    names: Mapping[str, str] | None = None,
    log: Sequence[str] = (),
    limits: Mapping[str, Sequence[float | None]] | None = None,
) -> None:
    """Name the axes of a panel, and scale them.

    Parameters
    ----------
    ax
        The panel, drawn already.
    x, y
        The columns on its axes.
    names
        Words for columns; a column without any is called by its name.
    log
        The columns whose axes are logarithmic; they are labelled in plain numbers.
    limits
        By column, the ends of its axis; ``None`` leaves an end as it is.
    """
    words, ends = names or {}, limits or {}
    ax.set(xlabel=words.get(x, x.replace("_", " ")), ylabel=words.get(y, y.replace("_", " ")))
    for column, scale, limit in ((x, ax.set_xscale, ax.set_xlim), (y, ax.set_yscale, ax.set_ylim)):
        if column in log:
            scale("log")
        if column in ends:
            limit(*ends[column])
    for column, axis in ((x, ax.xaxis), (y, ax.yaxis)):
        if column in log:
            plain_log(axis)
        elif isinstance(locator := axis.get_major_locator(), AutoLocator):
            locator.set_params(nbins=6, steps=[1, 2, 5, 10])  # numbers do not run into each other


def plain_log(axis: Axis) -> None:
    """Label a drawn logarithmic axis in plain numbers: at powers of ten, and below three decades at 2 and 5 as well."""
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1000 * low else (1,)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def apart(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows that were measured, and those whose ``kind`` is ``reference``."""
    table = table.reset_index(drop=True)  # of tables put together rows had the same names
    if "kind" not in table:
        return table, table.iloc[:0]
    reference = table["kind"] == "reference"
    return table[~reference], table[reference]


def references(ax: Axes, rows: pd.DataFrame, y: str, by: str | None, labels: Mapping[str, str] | None = None) -> None:
    """Draw rows as horizontal lines, each in the colour of its method, or grey, with a band where there is an ``sd``.

    Parameters
    ----------
    ax
        Where to draw.
    rows
        From :func:`apart`; those without a value of `y` are left out.
    y
        The column with their places.
    by
        The column that says what each is: a method, or any text. It is the label where the row has no ``label``.
    labels
        Words for values of `by`.
    """
    styles = ["--", ":", "-.", (0, (6, 2))]
    for number, (_, row) in enumerate(rows.dropna(subset=[y]).iterrows() if y in rows else ()):
        value = row[by] if by else "reference"
        colour = LOOKS[value].colour if value in LOOKS else GREY
        named = row.get("label")
        if pd.isna(named):
            named = (labels or {}).get(text(value), f"{LOOKS[value].label}, paper" if value in LOOKS else text(value))
        ax.axhline(row[y], color=colour, linewidth=1.1, linestyle=styles[number % len(styles)], label=named, zorder=1)
        if row.get("sd", 0) > 0:
            ax.axhspan(row[y] - row["sd"], row[y] + row["sd"], color=colour, alpha=0.15, linewidth=0, zorder=0)


def legend(figure: Figure, *, place: Any = "outside right center", columns: int = 1, title: str | None = None) -> None:
    """Put what the panels name into one legend beside them, each name once, and none into the panels."""
    found: dict[str, Any] = {}
    for ax in figure.axes:
        for handle, label in zip(*ax.get_legend_handles_labels()):
            found.setdefault(label, handle)
        if old := ax.get_legend():
            old.remove()
    if len(found) > 1:
        figure.legend(list(found.values()), list(found), loc=place, ncols=columns, title=title)
