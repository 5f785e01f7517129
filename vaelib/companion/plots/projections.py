"""Projections: codes of samples in the plane, with a marker and a colour for each class.

- :func:`classes`: a scatter plot a panel, with one legend; :func:`class_names`: what a data set's classes are called.
"""

from collections.abc import Mapping, Sequence

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from vaelib.companion.plots import style
from vaelib.companion.statements import counterpart

_NAMES = {
    "fashion_mnist": "T-shirt trousers pullover dress coat sandal shirt trainer bag boot",
    "cifar10": "aeroplane car bird cat deer dog frog horse ship lorry",
}
_MARKERS = ["o", "s", "^", "v", "D", "P", "X", "<", ">", "*"]


def class_names(dataset: str) -> dict[str, str]:
    """The names of a data set's classes by their numbers as text; none where numbers are names, as digits are.

    Examples
    --------
    >>> class_names("fashion_mnist:28")["3"]
    'dress'
    """
    return {str(number): name for number, name in enumerate(_NAMES.get(counterpart(dataset), "").split())}


def classes(
    table: pd.DataFrame,
    *,
    x: str = "x",
    y: str = "y",
    by: str = "label",
    panels: str | None = None,
    free: bool = True,
    names: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    size: Sequence[float] = (3.1, 3.1),
    area: float = 9.0,
) -> Figure:
    """Draw points with a marker and a colour for each class, so that up to ten can be told apart without colour vision.

    Parameters
    ----------
    table
        One row a sample.
    x, y
        Its place.
    by
        Its class.
    panels
        The column with one panel for each of its values, beside each other.
    free
        Whether axes have no scale, as those of t-SNE.
    names
        Words for columns.
    labels
        Words for classes and for panels.
    size
        Width and height of one panel, in inches.
    area
        Of a marker, in square points.

    Examples
    --------
    >>> table = pd.DataFrame({"x": [0.0, 1.0], "y": [1.0, 0.0], "label": [3, 8]})
    >>> [text.get_text() for text in classes(table, labels={"3": "dress"}).legends[0].get_texts()]
    ['dress', '8']
    """
    words = labels or {}
    shown = list(table[panels].dropna().unique()) if panels else [None]
    figure, axes = style.grid(1, len(shown), size)
    named = {value: words.get(style.text(value), style.text(value)) for value in sorted(table[by].unique())}
    look = {
        "hue_order": list(named.values()),
        "style_order": list(named.values()),
        "palette": sns.color_palette("colorblind", 10)[: len(named)] if len(named) <= 10 else "husl",
        "markers": [_MARKERS[k % len(_MARKERS)] for k in range(len(named))],
    }
    for ax, one in zip(axes[0], shown):
        part = table if one is None else table[table[panels] == one]
        part = part.assign(_class=part[by].map(named))
        sns.scatterplot(
            part, x=x, y=y, hue="_class", style="_class", s=area, linewidth=0, alpha=0.85, ax=ax, legend="full", **look
        )
        style.dress(ax, x, y, names={x: "", y: "", **(names or {})})
        if free:
            ax.set(xticks=[], yticks=[])
            ax.grid(visible=False)
        if panels:
            ax.set_title(words.get(style.text(one), style.text(one)), loc="left")
    style.legend(figure)
    for legend in figure.legends:
        for handle in legend.legend_handles:
            if isinstance(handle, Line2D):
                handle.set_markersize(6)
    return figure
