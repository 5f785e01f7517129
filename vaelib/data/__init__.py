"""Data sets by name: ``load("mnist5k")``, ``load("sprites:20000")``, ``load("folder:PATH")``.

Every name is one row of a table: how it is read, what it is and, where it is published, which files it needs. Loading,
listing, fetching and verifying all go by that table.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from vaelib.data import cohorts, images, mixtures, own, sprites
from vaelib.data.dataset import Block, Dataset, Factors
from vaelib.data.downloads import DataError, Download
from vaelib.data.mixtures import mixture
from vaelib.data.studies import Cohort

__all__ = [
    "Block",
    "Cohort",
    "DataError",
    "Dataset",
    "Factors",
    "Listing",
    "available",
    "cohort",
    "fetch",
    "load",
    "mixture",
    "names",
    "verify",
]


@dataclass(frozen=True)
class _Entry:
    """``argument`` is what may follow the name and a colon; a reader of such a name is given it as well."""

    read: Callable[..., Dataset]
    description: str
    size: str
    download: Download | None = None
    argument: str = ""


_TABLE = {
    "mnist5k": _Entry(images.mnist5k, "5,000 MNIST digits, 4,000/1,000, 32x32", "installed with vaelib"),
    "mnist": _Entry(images.mnist, "MNIST, 60,000/10,000, 32x32", "12 MB to fetch", images.MNIST),
    "fashion_mnist": _Entry(
        images.fashion_mnist, "Fashion-MNIST, 60,000/10,000, 32x32", "31 MB to fetch", images.FASHION_MNIST
    ),
    "cifar10": _Entry(images.cifar10, "CIFAR-10, 50,000/10,000, 32x32 colour", "170 MB to fetch", images.CIFAR10),
    "svhn": _Entry(images.svhn, "SVHN, 73,257/26,032, 32x32 colour", "246 MB to fetch", images.SVHN),
    "celeba": _Entry(
        images.celeba,
        "CelebA faces, 162,770/19,962, 64x64 colour by nearest neighbour",
        "1.4 GB to fetch (pip install gdown), 2.3 GB in memory",
        images.CELEBA,
    ),
    "chairs": _Entry(
        images.chairs, "Rendered chairs, 86,366 views, 64x64 grey", "354 MB in memory", images.CHAIRS_ARCHIVE
    ),
    "dsprites": _Entry(
        sprites.dsprites,
        "dSprites, 737,280 images or N of them, 64x64 binary",
        "26 MB to fetch, 3 GB in memory unless N is given",
        sprites.DSPRITES,
        argument="N",
    ),
    "sprites": _Entry(
        sprites.sprites,
        "dSprites re-rendered, 737,280 images or N of them, 64x64 binary",
        "rendered in seconds, 3 GB in memory unless N is given",
        argument="N",
    ),
    "mixture": _Entry(
        mixtures.samples,
        "10,000 samples of a mixture of Gaussian balls",
        "made when asked for",
        argument="components=5,dimension=2,seed=0",
    ),
    "metabric": _Entry(
        cohorts.fold,
        "METABRIC, 1,980 patients: one fold of its modalities",
        "about 800 MB to fetch, 3 GB unpacked",
        cohorts.METABRIC,
        argument="clin+rna+cna/FOLD",
    ),
    "simulated_cohort": _Entry(
        cohorts.fold,
        "400 simulated patients in METABRIC's format: one fold of their modalities",
        "made when asked for",
        argument="clin+rna+cna/FOLD",
    ),
    "gse7390": _Entry(
        cohorts.fold,
        "GSE7390, 198 breast cancer patients, 76 genes: one fold of its modalities",
        "installed with vaelib",
        argument="clin+rna/FOLD",
    ),
    "folder": _Entry(own.folder, "your images, PATH/[train|test/]CLASS/*.png", "as it is", argument="PATH"),
    "npz": _Entry(own.npz, "your arrays train, test, train_labels, test_labels", "as it is", argument="PATH"),
}


class Listing(NamedTuple):
    """A line of the list of data sets."""

    name: str
    description: str
    present: bool
    """Whether it can be loaded without a network."""
    size: str


def names() -> list[str]:
    """Every name, without the argument that may follow it."""
    return list(_TABLE)


def available() -> list[Listing]:
    """Every data set, with ``:ARGUMENT`` in the name where it takes one."""
    return [
        Listing(
            f"{name}:{entry.argument}" if entry.argument else name,
            entry.description,
            entry.download is None or entry.download.present(),
            entry.size,
        )
        for name, entry in _TABLE.items()
    ]


def load(name: str) -> Dataset:
    """Load a data set, fetching it first where it is not there yet.

    Its files are checked against their checksums each time. Where nobody published a split, a tenth is held out, always
    the same. The full ``sprites`` and ``dsprites`` take 3 GB; ``sprites:20000`` is a random subset, always the same.

    Parameters
    ----------
    name
        One of :func:`names`, where it takes one with an argument: ``"mnist5k"``, ``"sprites:20000"``,
        ``"mixture:components=10,dimension=2,seed=0"``, ``"folder:PATH"``, ``"npz:PATH"``.

    Returns
    -------
    Dataset
        Images as bytes (N, C, H, W), 28x28 zero-padded to 32x32; or vectors as float32 (N, F).

    Raises
    ------
    ValueError
        When there is no such name, or its argument or the values of a user's own data are not allowed.
    DataError
        When files are missing and cannot be fetched, or are corrupt or truncated.
    """
    fetch(name)
    entry, argument = _entry(name)
    return entry.read(name, argument) if entry.argument else entry.read(name)


def cohort(name: str) -> Cohort:
    """The tables of a cohort of patients: ``metabric``, ``simulated_cohort`` or ``gse7390``; raises as :func:`load`.

    :func:`load` gives one fold of it, made into numbers by what was fitted on the fold's training patients.
    """
    if _entry(name)[0].read is not cohorts.fold:
        raise ValueError(f"cohort: {name!r} is not allowed; it has to be metabric, simulated_cohort or gse7390.")
    fetch(name)
    return cohorts.cohort(name)


def fetch(name: str) -> None:
    """Download a data set unless it is there, with a progress bar, and check its files; raises as :func:`load`."""
    entry, _ = _entry(name)
    if entry.download:
        entry.download.fetch(name)


def verify(name: str) -> str:
    """Check a data set's files without a network.

    Returns
    -------
    str
        One sentence saying what was checked.

    Raises
    ------
    DataError
        When a file is missing, corrupt or truncated; the message names it.
    """
    entry, _ = _entry(name)
    if entry.download:
        entry.download.verify()
        return f"{name}: {', '.join(entry.download.files())} are as published."
    if entry.argument == "PATH":
        data = load(name)
        return f"{name}: {len(data.train)} and {len(data.test)} samples {data.shape} can be read."
    return f"{name} needs no files."


def _entry(name: str) -> tuple[_Entry, str]:
    kind, colon, argument = name.partition(":")
    if kind not in _TABLE:
        raise ValueError(f"There is no data set {name!r}; there are {', '.join(line.name for line in available())}.")
    if colon and not _TABLE[kind].argument:
        raise ValueError(f"{name!r} has an argument after the colon; {kind} takes none.")
    return _TABLE[kind], argument
