"""A user's own data: folders of images by class, and npz files of arrays."""

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vaelib.data.dataset import Dataset
from vaelib.data.downloads import read_npz, reason
from vaelib.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
"""Nothing else is decoded, whatever a file is called: some decoders of Pillow start other programs."""

_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
_ARRAYS = {"train": "x_train", "test": "x_test", "train_labels": "y_train", "test_labels": "y_test"}


def path(argument: str | None) -> dict[str, Path]:
    """The path after the colon, which nothing is looked up of yet."""
    if not argument or "\0" in argument:
        raise ValueError("with a path after the colon")
    return {"path": Path(os.path.abspath(os.path.expanduser(argument)))}


def files(name: str, path: Path) -> list[Path]:
    """What is read: the file itself, or the images of the folder."""
    return [path] if name.startswith("npz:") else [file for part in _parts(path).values() for file in part]


def npz(name: str, path: Path) -> Dataset:
    """A file's arrays ``train``, ``test``, ``train_labels``, ``test_labels``, or ``x_train``, ``y_train`` and so on."""
    _expect(path, "a file", path.is_file())
    arrays = read_npz(path)
    for both in _ARRAYS.items():
        if arrays.keys() >= set(both):
            raise DataError(f"{path} holds both {' and '.join(both)}; one of the two is allowed.")
    found: dict[str, Any] = {k: arrays[n] for k, other in _ARRAYS.items() for n in (k, other) if n in arrays}
    if "train" not in found:
        raise DataError(f"{path} holds the arrays {sorted(arrays)}; one of them has to be train or x_train.")
    return Dataset.from_arrays(**found, name=name, source=f"the file {path}")


def folder(name: str, path: Path) -> Dataset:
    """Images in one folder a class, below ``train`` and ``test`` where there are such; grey unless any has colour."""
    parts = _parts(path)
    named = [[file.relative_to(root).parts[0] for file in found] for root, found in parts.items()]
    train, test = sorted(set(named[0])), sorted(set(named[-1]))
    if train != test:
        raise DataError(f"{path} has the classes {test} in test and {train} in train; they have to be the same.")
    images = _stack({file: read_image(file, file) for found in parts.values() for file in found})
    labels, count = np.unique(np.concatenate(named), return_inverse=True)[1], len(named[0])
    arrays: dict[str, Any] = {"train": images[:count], "train_labels": labels[:count]}
    if len(parts) > 1:
        arrays |= {"test": images[count:], "test_labels": labels[count:]}
    return Dataset.from_arrays(**arrays, name=name, source=f"the images in {path}")


def _grey_or_colour(image: "Image") -> "Image":
    from PIL import Image

    if image.mode.startswith("I;16"):
        return Image.fromarray(np.round(np.asarray(image) / 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(f"its pixels are of Pillow's mode {image.mode}; they have to be of 8 or 16 bits")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def read_image(
    file: Path | IO[bytes], named: Path | str, prepare: Callable[["Image"], "Image"] = _grey_or_colour
) -> NDArray[np.uint8]:
    """One image, after ``prepare``, as (H, W) where it is grey, or (H, W, 3); 16 bits are scaled to 8.

    Raises
    ------
    DataError
        When it is in none of :data:`FORMATS`, cannot be decoded, or has more pixels than Pillow takes for honest,
        with the file called ``named``.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=FORMATS) as image:
                return np.asarray(prepare(image))
    except Exception as error:  # a damaged file makes its decoder raise anything
        formats = ", ".join(FORMATS)
        raise DataError(f"{named} is not an image that can be read as {formats} ({reason(error)}).") from error


def _expect(path: Path, kind: str, right: bool) -> None:
    if not right:
        raise DataError(f"{path} {f'is not {kind}' if path.exists() else 'does not exist'}; it has to be {kind}.")


def _parts(path: Path) -> dict[Path, list[Path]]:
    """The images below a folder of classes; where it has them, below each of its ``train`` and ``test``."""
    _expect(path, "a folder", path.is_dir())
    split = [path / "train", path / "test"]
    roots = split if all(part.is_dir() for part in split) else [path]
    parts = {root: sorted(f for f in root.glob("*/**/*") if f.suffix.lower() in _SUFFIXES) for root in roots}
    for root, found in parts.items():
        if not found:
            raise DataError(f"{root} holds no images in folders by class, {root}/CLASS/*.png or the like.")
    return parts


def _stack(images: dict[Path, NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Images of one size as one array, (N, H, W) or (N, H, W, 3)."""
    sizes = {image.shape[:2]: file for file, image in reversed(images.items())}
    if len(sizes) > 1:
        found = " and ".join(f"{file} has {size} pixels" for size, file in sizes.items())
        raise DataError(f"{found}; all images of a data set have to have one size.")
    grey = all(image.ndim == 2 for image in images.values())
    return np.stack([np.stack([i] * 3, -1) if i.ndim == 2 and not grey else i for i in images.values()])
