"""Data sets by name: ``load("mnist5k")``, ``load("sprites:20000")``, ``load("folder:PATH")``.

Every name is one row of a table: how it is read, what it is and, where it is published, which files it needs. Loading,
listing, fetching and verifying all go by that table.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from vaelib.data import cohorts, downloads, images, mixtures, own, sprites
from vaelib.data.dataset import Block, Dataset, Factors
from vaelib.data.downloads import offline
from vaelib.data.mixtures import mixture
from vaelib.data.studies import Cohort
from vaelib.errors import DataError, Invalid

__all__ = [
    "Block", "Cohort", "DataError", "Dataset", "Factors", "Listing", "available", "check", "cohort", "fetch",
    "fingerprint", "load", "mixture", "names", "offline", "present", "verify",
]  # fmt: skip


def _nothing(argument: str | None) -> dict[str, Any]:
    if argument is not None:
        raise ValueError("without an argument")
    return {}


@dataclass(frozen=True)
class _Entry:
    """How a data set is read, and what it is.

    ``argument`` shows what may follow the name and a colon, and ``parse`` makes keyword arguments of it for the reader,
    or says in a ValueError what is allowed. ``files`` are those whose content the name does not fix.
    """

    read: Callable[..., Dataset]
    description: str
    size: str
    download: downloads.Download | None = None
    argument: str = ""
    parse: Callable[[str | None], dict[str, Any]] = _nothing
    files: Callable[..., Sequence[Path]] | None = None


# What may follow a name and a colon, the parser of it, and the files that it leads to.
_N = ("N", sprites.count)
_SIDE = ("", images.side)
_BALLS = ("components=5,dimension=2,seed=0", mixtures.options)
_FOLD = ("clin+rna+cna/FOLD", cohorts.chosen, cohorts.files)
_FOLD_OF_TWO = ("clin+rna/FOLD", partial(cohorts.chosen, known=("clin", "rna")))
_PATH = ("PATH", own.path, own.files)

_TABLE = {
    "mnist5k": _Entry(
        images.mnist5k, "5,000 MNIST digits, 4,000/1,000, 32x32 (:28 28x28)", "installed with vaelib", None, *_SIDE
    ),
    "mnist": _Entry(images.mnist, "MNIST, 60,000/10,000, 32x32 (:28 28x28)", "12 MB to fetch", images.MNIST, *_SIDE),
    "fashion_mnist": _Entry(
        images.fashion_mnist,
        "Fashion-MNIST, 60,000/10,000, 32x32 (:28 28x28)",
        "31 MB to fetch",
        images.FASHION_MNIST,
        *_SIDE,
    ),
    "cifar10": _Entry(images.cifar10, "CIFAR-10, 50,000/10,000, 32x32 colour", "170 MB to fetch", images.CIFAR10),
    "svhn": _Entry(images.svhn, "SVHN, 73,257/26,032, 32x32 colour", "246 MB to fetch", images.SVHN),
    "celeba": _Entry(
        images.celeba, "CelebA, 162,770/19,962, 64x64 colour", "1.4 GB to fetch (pip install gdown)", images.CELEBA
    ),
    "chairs": _Entry(
        images.chairs, "Rendered chairs, 86,366 views, 64x64 grey", "354 MB in memory", images.CHAIRS_ARCHIVE
    ),
    "dsprites": _Entry(
        sprites.dsprites, "dSprites, 64x64 binary, 737,280 or N", "26 MB to fetch, 3 GB in all", sprites.DSPRITES, *_N
    ),
    "sprites": _Entry(
        sprites.sprites, "dSprites re-rendered, 64x64 binary, 737,280 or N", "rendered, 3 GB in all", None, *_N
    ),
    "mixture": _Entry(
        mixtures.samples, "10,000 samples of a mixture of Gaussian balls", "made when asked for", None, *_BALLS
    ),
    "metabric": _Entry(
        cohorts.fold, "METABRIC, a fold of 1,980 patients", "800 MB to fetch, 3 GB unpacked", cohorts.METABRIC, *_FOLD
    ),
    "simulated_cohort": _Entry(
        cohorts.fold, "a fold of 400 simulated patients in METABRIC's format", "made when asked for", None, *_FOLD
    ),
    "gse7390": _Entry(
        cohorts.fold, "a fold of 198 breast cancer patients, 76 genes", "installed with vaelib", None, *_FOLD_OF_TWO
    ),
    "folder": _Entry(own.folder, "your images, PATH/[train|test/]CLASS/*.png", "as it is", None, *_PATH),
    "npz": _Entry(own.npz, "your arrays train, test, train_labels, test_labels", "as it is", None, *_PATH),
}


class Listing(NamedTuple):
    """A line of the list of data sets; ``present`` says whether it can be loaded without a network."""

    name: str
    description: str
    present: bool
    size: str


def names() -> list[str]:
    """Every name, without the argument that may follow it."""
    return list(_TABLE)


def available() -> list[Listing]:
    """Every data set, with ``:ARGUMENT`` in the name where it takes one."""
    return [
        Listing(_form(name), entry.description, entry.download is None or entry.download.present(), entry.size)
        for name, entry in _TABLE.items()
    ]


@contextmanager
def _readable() -> Iterator[None]:
    """What the system says of a file that it cannot read goes into a sentence."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{error.filename or 'A file'} cannot be read ({error.strerror or error}).") from error


def check(name: str) -> None:
    """Refuse a name that no data set has, or an argument that is not allowed, without a look at any file.

    Raises
    ------
    Invalid
        Of the field ``data``.

    Examples
    --------
    >>> check("sprites:20000")
    >>> check("sprites:5")
    Traceback (most recent call last):
    ...
    vaelib.errors.Invalid: data: 'sprites:5' is not allowed; it has to be sprites:N with a whole number N from 10 ...
    """
    _entry(name)


@_readable()
def load(name: str) -> Dataset:
    """Load a data set, fetching it first where it is not there yet.

    Its files are checked against their checksums. Where nobody published a split, a tenth is held out, always the
    same. The full ``sprites`` and ``dsprites`` take 3 GB; ``sprites:20000`` is a random subset, always the same.

    Parameters
    ----------
    name
        One of :func:`names`, where it takes one with an argument: ``"mnist5k"``, ``"sprites:20000"``,
        ``"mixture:components=10,dimension=2,seed=0"``, ``"folder:PATH"``, ``"npz:PATH"``.

    Returns
    -------
    Dataset
        Images as bytes (N, C, H, W), 28x28 zero-padded to 32x32 (not in ``"mnist:28"``); or vectors as float32 (N, F).

    Raises
    ------
    Invalid
        As :func:`check`.
    DataError
        When files are missing and cannot be fetched, are corrupt or truncated, or hold what is not allowed.

    Examples
    --------
    >>> load("mixture:components=3").shape
    (2,)
    """
    fetch(name)
    entry, options = _entry(name)
    return entry.read(name, **options)


@_readable()
def cohort(name: str) -> Cohort:
    """The tables of a cohort of patients: ``metabric``, ``simulated_cohort`` or ``gse7390``; raises as :func:`load`.

    :func:`load` gives one fold of it, made into numbers by what was fitted on the fold's training patients.
    """
    if _entry(name)[0].read is not cohorts.fold:
        raise Invalid("data", name, "metabric, simulated_cohort or gse7390")
    fetch(name)
    return cohorts.cohort(name)


@_readable()
def fetch(name: str) -> None:
    """Download a data set unless it is there, with a progress bar, and check its files; raises as :func:`load`."""
    if download := _entry(name)[0].download:
        download.fetch(name)


def present(name: str) -> bool:
    """Whether a data set can be loaded without a network; raises as :func:`check`."""
    download = _entry(name)[0].download
    return download is None or download.present()


@_readable()
def fingerprint(name: str) -> str | None:
    """What the files of a data set hold now, where the name does not fix it: a sha256, or None where it does.

    For a user's own files and for the cohorts that are read from files; None as well where a cohort is not here yet,
    as nothing is fetched. Nothing is parsed, and a file is read once as long as it does not change. Raises as
    :func:`load`.

    Parameters
    ----------
    name
        As for :func:`load`.
    """
    entry, options = _entry(name)
    if not entry.files or not present(name):
        return None
    return downloads.fingerprint(entry.files(name, **options))


@_readable()
def verify(name: str) -> str:
    """Check a data set's files without a network: by their checksums, or where nobody published any, by reading them.

    Returns
    -------
    str
        One sentence saying what was checked.

    Raises
    ------
    Invalid
        As :func:`check`.
    DataError
        When a file is missing, corrupt or truncated; the message names it.
    """
    entry, options = _entry(name)
    if entry.download:
        entry.download.verify()
    if entry.files:
        data = entry.read(name, **options)
        return f"{name}: {len(data.train)} and {len(data.test)} samples {data.shape} can be read."
    if entry.download:
        return f"{name}: {', '.join(entry.download.files())} are as published."
    return f"{name} needs no files."


def _form(kind: str) -> str:
    return f"{kind}:{_TABLE[kind].argument}".rstrip(":")


def _entry(name: str) -> tuple[_Entry, dict[str, Any]]:
    """The row of a name, and what its argument is to the reader."""
    kind, colon, argument = name.partition(":") if isinstance(name, str) else ("", "", "")
    if kind not in _TABLE:
        raise Invalid("data", name, f"one of {', '.join(map(_form, _TABLE))}")
    try:
        return _TABLE[kind], _TABLE[kind].parse(argument if colon else None)
    except ValueError as allowed:
        raise Invalid("data", name, f"{_form(kind)} {allowed}") from None
