"""Images: in rows with names, and in grids. They are in the table, as text.

- :func:`encode` and :func:`decode`: an image as text, base64 of a lossless PNG, for the column ``image`` of a table.
- :func:`table`: the table of rows of images, to be drawn by :func:`rows`.
- :func:`rows`: rows of images with their names at the left, in one panel or several; :func:`squares`: all images of
  each panel in a grid.
"""

import base64
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from typing import Any

import numpy as np
import pandas as pd
import PIL.Image
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from vaelib.companion.plots import style
from vaelib.models.vae import pixels


def encode(images: Tensor) -> list[str]:
    """Images as text.

    Parameters
    ----------
    images
        ``(n, channels, height, width)``, with one or three channels: bytes, or in [0, 1] and then rounded to bytes.

    Examples
    --------
    >>> import torch
    >>> decode(encode(torch.full((1, 1, 2, 2), 255, dtype=torch.uint8))[0]).tolist()
    [[255, 255], [255, 255]]
    """
    whole = (pixels(images.detach().cpu()).clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    return [_text(image[..., 0] if image.shape[-1] == 1 else image) for image in whole]


def _text(image: NDArray[np.uint8]) -> str:
    PIL.Image.fromarray(image).save(buffer := BytesIO(), format="png", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def decode(text: str) -> NDArray[np.uint8]:
    """The image that a text holds: bytes ``(height, width)``, or ``(height, width, 3)``."""
    with PIL.Image.open(BytesIO(base64.b64decode(text))) as image:
        return np.asarray(image)


def table(rows: Mapping[str, Tensor], **labels: Any) -> pd.DataFrame:
    """The table of rows of images: one row an image, with the columns ``row`` and ``place``, and any labels.

    Parameters
    ----------
    rows
        Images by the name of their row, as :func:`encode` takes them.
    labels
        More columns with one value each, such as that of a panel.
    """
    parts = [
        pd.DataFrame({**labels, "row": name, "place": range(len(images)), "image": encode(images)})
        for name, images in rows.items()
    ]
    return pd.concat(parts, ignore_index=True)


def rows(
    table: pd.DataFrame,
    *,
    panels: str | None = None,
    labels: Mapping[str, str] | None = None,
    pixel: float = 1 / 75,
    across: int = 1,
) -> Figure:
    """Draw rows of images, each with its name at the left.

    Parameters
    ----------
    table
        From :func:`table`; where there are several, from :func:`pandas.concat`.
    panels
        The column with one block of rows for each of its values.
    labels
        Words for rows (methods have theirs) and for panels.
    pixel
        Inches of one pixel of an image.
    across
        How many panels are beside each other.
    """
    shown = list(table[panels].dropna().unique()) if panels else [None]
    parts = [table if value is None else table[table[panels] == value] for value in shown]
    blocks = [_block(part["image"].tolist(), part["place"].nunique()) for part in parts]
    named = [style.looks(part["row"], labels) for part in parts]
    margin = 0.085 * max(len(look.label) for looks in named for look in looks.values())
    down = -(-len(shown) // across)
    width = max(block.shape[1] for block in blocks) * pixel + margin
    height = max(block.shape[0] for block in blocks) * pixel + (0.3 if panels else 0.05)
    figure, axes = style.grid(down, min(across, len(shown)), (width, height))
    for ax in axes.flat[len(shown) :]:
        ax.set_visible(False)
    for ax, value, block, looks in zip(axes.flat, shown, blocks, named):
        _draw(ax, block)
        step = block.shape[0] / len(looks)
        for number, look in enumerate(looks.values()):
            ax.text(-0.02 * block.shape[1], (number + 0.5) * step, look.label, ha="right", va="center", fontsize=9)
        if panels:
            ax.set_title((labels or {}).get(style.text(value), style.text(value)), loc="left")
    return figure


def squares(
    table: pd.DataFrame,
    *,
    panels: str | None = None,
    labels: Mapping[str, str] | None = None,
    columns: int = 10,
    pixel: float = 1 / 75,
    across: int = 3,
) -> Figure:
    """Draw all images of each panel in a grid, in the order of the table.

    Parameters
    ----------
    table
        One row an image, in a column ``image``.
    panels
        The column with one grid for each of its values, which is its title.
    labels
        Words for panels; methods have theirs.
    columns
        Of each grid.
    pixel
        Inches of one pixel of an image.
    across
        How many grids are beside each other.
    """
    shown = list(table[panels].dropna().unique()) if panels else [None]
    blocks = [
        _block((table if value is None else table[table[panels] == value])["image"].tolist(), columns)
        for value in shown
    ]
    down, beside = -(-len(shown) // across), min(across, len(shown))
    width, height = max(b.shape[1] for b in blocks) * pixel, max(b.shape[0] for b in blocks) * pixel
    figure, axes = style.grid(down, beside, (width + 0.1, height + (0.3 if panels else 0.05)))
    titles = style.looks(shown, labels) if panels else {}
    for ax in axes.flat[len(shown) :]:
        ax.set_visible(False)
    for ax, value, block in zip(axes.flat, shown, blocks):
        _draw(ax, block)
        if panels:
            ax.set_title(titles[value].label)
    return figure


def _block(images: Sequence[str], columns: int) -> NDArray[np.uint8]:
    """Images beside and below each other, one white pixel apart; an empty place is white."""
    found = [_framed(decode(image)) for image in images]
    empty = np.full_like(found[0], 255)
    lines: Iterable[list[NDArray[np.uint8]]] = (found[k : k + columns] for k in range(0, len(found), columns))
    block = np.vstack([np.hstack([*line, *[empty] * (columns - len(line))]) for line in lines])
    return block[:-1, :-1]


def _framed(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An image with one more white pixel at the right and below."""
    edges = [(0, 1), (0, 1), *[(0, 0)] * (image.ndim - 2)]
    return np.pad(image, edges, constant_values=255)


def _draw(ax: Axes, block: NDArray[np.uint8]) -> None:
    ax.imshow(block, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    ax.set_axis_off()
