"""dSprites: the official archive, and the same factor grid re-rendered.

Both hold images as packed bits, 377 MB for all of them, and unpack only what was asked for. The geometry was fitted to
genuine frames and reproduces all squares of these and nearly all ellipses and hearts to the pixel; what comes from the
renderer is called re-rendered dSprites.
"""

import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vaelib import paths
from vaelib.data.dataset import Dataset, Factors, split
from vaelib.data.downloads import Download
from vaelib.errors import DataError

GRID = {"shape": 3, "scale": 6, "orientation": 40, "x": 32, "y": 32}
"""The factors and their numbers of values, slowest first; every combination is one image."""

_Packed: TypeAlias = Callable[[NDArray[np.int64]], NDArray[np.uint8]]
"""From the numbers of N images to the images as packed bits, (N, 512)."""

SIZE = 64
COUNT = 3 * 6 * 40 * 32 * 32
SHA1 = "sha1:3e0a46a9238e425f46a6ef9e9bdfd7cedb35d50f"
ARCHIVE = "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"
URL = f"https://github.com/google-deepmind/dsprites-dataset/raw/master/{ARCHIVE}"

_SCALES = np.linspace(0.5, 1, GRID["scale"])
_ANGLES = np.linspace(0, 2 * np.pi, GRID["orientation"])  # both ends, as in the original: first and last are equal
_CENTRES = np.linspace(16, 48, GRID["x"])
_TURN = np.linspace(0, 2 * np.pi, 1024, endpoint=False)
_HEART = (
    9.5936 * np.sin(_TURN) ** 3,
    -0.6624 * (13 * np.cos(_TURN) - 5 * np.cos(2 * _TURN) - 2 * np.cos(3 * _TURN) - np.cos(4 * _TURN)) - 1.434,
)
_ELLIPSE = (12.765 * np.cos(_TURN), 7.215 * np.sin(_TURN))
_OUTLINES = (9.598 * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]), np.stack(_ELLIPSE, 1), np.stack(_HEART, 1))
"""Square, ellipse and heart at scale 1 as polygons, in pixels from the centre, y pointing down."""
_FROM = np.array([(1 << (SIZE - column)) - 1 for column in range(SIZE + 1)], dtype=np.uint64)
"""For each column, a row of pixels that is on from there to its end; the first pixel is the highest bit."""


def render(shape: int, scale: int, orientation: int) -> NDArray[np.uint8]:
    """Draw one sprite at every position.

    A pixel is on exactly when its centre lies inside the outline. Along a row that is so between an odd crossing of the
    outline and the next, so a row of 64 pixels is the exclusive or of one half-row a crossing. Crossings depend on the
    row's height above the centre alone, and are found once for all 32 horizontal positions.

    Parameters
    ----------
    shape, scale, orientation
        Indices into :data:`GRID`.

    Returns
    -------
    numpy.ndarray
        Packed bits, (32, 32, 512): x, y, and 64 rows of 8 bytes.
    """
    cos, sin = np.cos(_ANGLES[orientation]), np.sin(_ANGLES[orientation])
    outline = _SCALES[scale] * _OUTLINES[shape] @ np.array([[cos, -sin], [sin, cos]])
    (x0, y0), (x1, y1) = outline.T, np.roll(outline, -1, axis=0).T

    heights = (np.arange(SIZE)[:, None] + 0.5 - _CENTRES).ravel()  # of each pixel row, for each y
    order = np.argsort(heights)
    first = np.searchsorted(heights[order], np.minimum(y0, y1))
    crossed = np.searchsorted(heights[order], np.maximum(y0, y1)) - first
    edge = np.repeat(np.arange(len(outline)), crossed)
    rank = first[edge] + np.arange(len(edge)) - np.repeat(np.cumsum(crossed) - crossed, crossed)

    by_row = np.argsort(rank)
    edge, rank = edge[by_row], rank[by_row]
    crossings = x0[edge] + (heights[order][rank] - y0[edge]) * ((x1 - x0)[edge] / (y1 - y0)[edge])
    columns = np.ceil(crossings[:, None] + _CENTRES - 0.5).astype(np.intp)
    ranks, starts = np.unique(rank, return_index=True)

    rows = np.zeros((len(heights), len(_CENTRES)), np.uint64)
    rows[order[ranks]] = np.bitwise_xor.reduceat(_FROM[columns], starts, axis=0)
    images = rows.reshape(SIZE, GRID["y"], GRID["x"]).transpose(2, 1, 0)
    return images.astype(">u8", order="C").view(np.uint8)


def rendered(indices: NDArray[np.int64]) -> NDArray[np.uint8]:
    """These images of the grid as packed bits, (N, 512); all of them, 377 MB, take seconds, and a few no time."""
    packed = np.empty((len(indices), SIZE * SIZE // 8), np.uint8)
    drawings, places = np.divmod(indices, GRID["x"] * GRID["y"])
    for drawing in np.unique(drawings):
        shape, scale, orientation = np.unravel_index(drawing, (GRID["shape"], GRID["scale"], GRID["orientation"]))
        wanted = drawings == drawing
        packed[wanted] = render(int(shape), int(scale), int(orientation)).reshape(-1, packed.shape[1])[places[wanted]]
    return packed


def count(argument: str | None) -> dict[str, int]:
    """How many images are asked for: all where there is no argument."""
    if argument is not None and not (re.fullmatch("[0-9]{2,6}", argument) and 10 <= int(argument) <= COUNT):
        raise ValueError(f"with a whole number N from 10 to {COUNT:,}")
    return {"count": COUNT if argument is None else int(argument)}


def sprites(name: str, count: int) -> Dataset:
    """Re-rendered dSprites: all images, or a subset."""
    return _select(name, rendered, count, "dSprites (Matthey et al., 2017), re-rendered from its factors")


def dsprites(name: str, count: int) -> Dataset:
    """The official archive: all images, or a subset."""
    packed = _read(paths.data() / ARCHIVE).__getitem__
    return _select(name, packed, count, "dSprites (Matthey et al., 2017), the official archive")


def _get(folder: Path) -> None:
    import pooch

    pooch.retrieve(URL, known_hash=SHA1, fname=ARCHIVE, path=folder, progressbar=True)


DSPRITES = Download(files=lambda: {ARCHIVE: SHA1}, get=_get)


def _read(file: Path) -> NDArray[np.uint8]:
    """The archive's images as packed bits, (N, 512), a few at a time: unpacked they would take 3 GB."""
    try:
        with zipfile.ZipFile(file) as archive, archive.open("imgs.npy") as stream:
            np.lib.format.read_magic(stream)
            shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
            if shape != (COUNT, SIZE, SIZE) or dtype != np.uint8:
                raise ValueError(f"its images are {shape} of {dtype}, not {(COUNT, SIZE, SIZE)} of uint8")
            packed = np.empty((COUNT, SIZE * SIZE // 8), np.uint8)
            for start in range(0, COUNT, 4096):
                block = packed[start : start + 4096]
                images = np.frombuffer(stream.read(len(block) * SIZE * SIZE), np.uint8)
                block[:] = np.packbits(images.reshape(len(block), -1), axis=1)
    except (KeyError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"{file} is not the dSprites archive ({error}): delete it and fetch dsprites again.") from error
    return packed


def _select(name: str, packed: _Packed, count: int, source: str) -> Dataset:
    """A random subset, always the same for one count, split like everything that has no published split."""
    chosen = np.random.default_rng(0).permutation(COUNT)[:count]
    images, (train, test) = packed(chosen), (part.numpy() for part in split(count))
    factors = Factors(_factors(chosen[train]), _factors(chosen[test]), nominal=("shape",))
    return Dataset(name, _unpack(images[train]), _unpack(images[test]), factors=factors, source=source)


def _unpack(packed: NDArray[np.uint8]) -> Tensor:
    pixels = np.unpackbits(packed, axis=1).reshape(-1, 1, SIZE, SIZE)
    pixels *= 255
    return torch.from_numpy(pixels)


def _factors(indices: NDArray[np.int64]) -> dict[str, Tensor]:
    return {k: torch.from_numpy(v) for k, v in zip(GRID, np.unravel_index(indices, tuple(GRID.values())))}
