"""A user's own data: folders of images by class, and npz files of arrays."""

from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vaelib.data.dataset import Dataset
from vaelib.data.downloads import DataError, read_npz

if TYPE_CHECKING:
    from PIL.Image import Image

_IMAGES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
_NAMES = {
    "train": ("train", "x_train"),
    "test": ("test", "x_test"),
    "train_labels": ("train_labels", "y_train"),
    "test_labels": ("test_labels", "y_test"),
}


def _grey_or_colour(image: "Image") -> "Image":
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def npz(name: str, argument: str) -> Dataset:
    """A file's arrays ``train``, ``test``, ``train_labels``, ``test_labels``, or ``x_train``, ``y_train`` and so on."""
    file = _path(name, argument)
    arrays = read_npz(file)
    found = {field: arrays[key] for field, keys in _NAMES.items() for key in keys if key in arrays}
    if "train" not in found:
        raise DataError(f"{file} holds the arrays {sorted(arrays)}; one of them has to be train or x_train.")
    return Dataset.from_arrays(**found, name=name, source=f"the file {file}")


def folder(name: str, argument: str) -> Dataset:
    """Images in one folder a class, below ``train`` and ``test`` where there are such; grey unless any has colour."""
    root = _path(name, argument)
    source = f"the images in {root}"
    if not ((root / "train").is_dir() and (root / "test").is_dir()):
        images, labels, _ = _classes(root)
        return Dataset.from_arrays(_stack(images), train_labels=labels, name=name, source=source)
    train, train_labels, classes = _classes(root / "train")
    test, test_labels, others = _classes(root / "test")
    if classes != others:
        raise DataError(f"{root} has the classes {others} in test and {classes} in train; they have to be the same.")
    images = _stack(train | test)
    return Dataset.from_arrays(
        images[: len(train)],
        images[len(train) :],
        train_labels=train_labels,
        test_labels=test_labels,
        name=name,
        source=source,
    )


def read_image(
    file: Path | IO[bytes], named: Path | str, prepare: Callable[["Image"], "Image"] = _grey_or_colour
) -> NDArray[np.uint8]:
    """One image, after ``prepare``, as (H, W) where it is grey, or (H, W, 3).

    Raises
    ------
    DataError
        When it cannot be decoded, with the file called ``named``.
    """
    from PIL import Image

    try:
        with Image.open(file) as image:
            return np.asarray(prepare(image))
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{named} is not an image that can be read ({error}): replace or delete it.") from error


def _path(name: str, argument: str) -> Path:
    path = Path(argument).expanduser().resolve()
    if not argument or not path.exists():
        raise DataError(f"{name} names {path}, which does not exist; write a path after the colon.")
    return path


def _classes(root: Path) -> tuple[dict[Path, NDArray[np.uint8]], NDArray[np.int64], list[str]]:
    """Every image below a folder of classes, the class of each, and the names of the classes."""
    folders = sorted(folder for folder in root.iterdir() if folder.is_dir())
    files = [sorted(file for file in folder.rglob("*") if file.suffix.lower() in _IMAGES) for folder in folders]
    if not any(files):
        raise DataError(f"{root} holds no images in folders by class, {root}/CLASS/*.png or the like.")
    images = {file: read_image(file, file) for of_class in files for file in of_class}
    return images, np.repeat(np.arange(len(files)), [len(f) for f in files]), [folder.name for folder in folders]


def _stack(images: dict[Path, NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Images of one size as one array, (N, H, W) or (N, H, W, 3)."""
    first, *rest = images
    for file in rest:
        if images[file].shape[:2] != images[first].shape[:2]:
            raise DataError(
                f"{file} has {images[file].shape[:2]} pixels and {first} {images[first].shape[:2]}; "
                "all images of a data set have to have one size."
            )
    if all(image.ndim == 2 for image in images.values()):
        return np.stack(list(images.values()))
    return np.stack([image if image.ndim == 3 else np.repeat(image[..., None], 3, 2) for image in images.values()])
