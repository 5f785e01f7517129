"""Files: published ones are fetched whole or not at all, and checked against their checksums before they are read.

What is downloaded or unpacked goes to a temporary folder first and is moved into place only once it has passed its
checks, so that an interrupted download leaves nothing that could be mistaken for data.
"""

import hashlib
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from vaelib import paths
from vaelib.errors import DataError
from vaelib.files import lock, replacing

Check = str | Callable[[Path], str | None]
"""A checksum, ``"md5:..."``; where nobody published one, a function from the file to what is wrong with it, or None."""

LIMIT = 16 * 2**30
"""So many bytes the arrays of a file may take, unpacked: a few kilobytes can claim to hold more than any memory."""


@dataclass(frozen=True)
class Download:
    """The files of a data set and how to get them.

    Attributes
    ----------
    files
        Returns each file, relative to :func:`vaelib.paths.data`, and how to check it.
    get
        Puts the files under the folder it is given.
    """

    files: Callable[[], Mapping[str, Check]]
    get: Callable[[Path], None]

    def present(self) -> bool:
        """Whether every file is there, right or wrong."""
        return all((paths.data() / file).is_file() for file in self.files())

    def verify(self) -> None:
        """Check every file; raises :class:`DataError` naming the first that is missing or wrong."""
        if problem := _problem(self.files(), paths.data()):
            raise DataError(
                f"{paths.data()}/{problem}: delete the file where there is one, and fetch the data set again."
            )

    def fetch(self, name: str) -> None:
        """Get the files unless they are there, then check them; of several processes that want them, one gets them.

        Raises
        ------
        DataError
            When they cannot be had, saying where to put them by hand, or are not what was published; when they are not
            here within :func:`offline`.
        """
        if self.present():
            return self.verify()
        if _offline.get():
            raise DataError(f"{name} is not here, and is fetched by vaelib data fetch {name}.")
        root, files = paths.data(), self.files()
        try:
            with lock(root / name.partition(":")[0]), tempfile.TemporaryDirectory(dir=root, prefix=".fetching-") as new:
                if self.present():  # another process was faster
                    return self.verify()
                self.get(Path(new))
                if problem := _problem(files, Path(new)):
                    raise DataError(problem)
                for file in files:
                    (root / file).parent.mkdir(parents=True, exist_ok=True)
                    os.replace(Path(new) / file, root / file)
        except (OSError, RuntimeError, ValueError) as error:  # what urllib, torchvision and pooch raise
            how = f"put {', '.join(files)} under {root} by hand, or use mnist5k, which needs no network"
            raise DataError(f"{name} could not be fetched ({reason(error)}): {how}.") from error


_offline = ContextVar("offline", default=False)


@contextmanager
def offline() -> Iterator[None]:
    """Within it nothing is fetched: data that are not here are refused."""
    before = _offline.set(True)
    try:
        yield
    finally:
        _offline.reset(before)


def resumed(url: str, file: Path) -> Path:
    """Download a large file, going on where an earlier attempt broke off, with a progress bar; returns the file."""
    import requests
    from tqdm import tqdm

    part = file.with_name(file.name + ".part")
    have = part.stat().st_size if part.exists() else 0
    with requests.get(url, headers={"Range": f"bytes={have}-"} if have else {}, stream=True, timeout=60) as answer:
        if have and answer.status_code == requests.codes.requested_range_not_satisfiable:
            part.unlink()  # it is not the beginning of what is published now
            raise OSError(f"{part.name} is longer than the file at {url} and was removed; fetch again")
        answer.raise_for_status()
        have = have if answer.status_code == requests.codes.partial_content else 0
        total = have + int(answer.headers.get("Content-Length", 0))
        with (
            part.open("ab" if have else "wb") as out,
            tqdm(total=total, initial=have, unit="B", unit_scale=True) as bar,
        ):
            for block in answer.iter_content(1 << 16):
                bar.update(out.write(block))
    if total and part.stat().st_size < total:
        raise OSError(f"{part.stat().st_size:,} of {total:,} bytes of {url} came; fetch again to go on")
    return part.replace(file)


def distilled(file: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Arrays that take minutes to make from published files: made once, kept in ``file``, written whole."""
    if not file.exists():
        arrays = make()
        with replacing(file) as draft:
            np.savez(draft, **arrays)
    return read_npz(file)


def read_npz(file: Path) -> dict[str, Any]:
    """Every array of a npz file, whose own checksums are verified on the way.

    Raises
    ------
    DataError
        When the file is missing, corrupt, truncated, encrypted or of another kind, when its arrays would take more
        than :data:`LIMIT`, or when it holds Python objects, which are never unpickled.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            if (size := sum(member.file_size for member in archive.infolist())) > LIMIT:
                raise ValueError(f"its arrays take {size:,} bytes; allowed are {LIMIT:,}")
        with np.load(file, allow_pickle=False) as arrays:
            return dict(arrays)
    except Exception as error:  # a damaged file makes its readers raise anything
        raise DataError(f"{file} cannot be read as a npz file ({reason(error)}): replace or delete it.") from error


def reason(error: Exception) -> str:
    """What an error of a library says, to go in brackets into a sentence."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def fingerprint(files: Sequence[Path]) -> str:
    """sha256 of what files hold now, and of their names below the folder that they share."""
    root = os.path.commonpath([file.parent for file in files])
    held = [(file.relative_to(root).as_posix(), _checksum(file, "sha256")) for file in files]
    return hashlib.sha256(repr(held).encode()).hexdigest()


def _checksum(file: Path, algorithm: str) -> str:
    """Taken once of every state of a file, which its size and its time tell apart."""
    state = file.stat()
    return _checksum_of_state(file, algorithm, state.st_size, state.st_mtime_ns)


@cache
def _checksum_of_state(file: Path, algorithm: str, size: int, changed: int) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest()


def _problem(files: Mapping[str, Check], root: Path) -> str | None:
    """What is wrong with the first file that is not as published, or None."""
    for name, check in files.items():
        file = root / name
        if not file.is_file():
            return f"{name} is missing"
        if callable(check):
            if wrong := check(file):
                return f"{name} {wrong}"
            continue
        algorithm, expected = check.split(":")
        if (found := _checksum(file, algorithm)) != expected:
            state = f"{file.stat().st_size:,} bytes with {algorithm} {found}; published was {expected}"
            return f"{name} is corrupt or truncated ({state})"
    return None
