"""Published files: fetched whole or not at all, and checked against their checksums before they are read.

What is downloaded or unpacked goes to a temporary folder first and is moved into place only once it has passed its
checks, so that an interrupted download leaves nothing that could be mistaken for data.
"""

import hashlib
import os
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vaelib import paths

Check = str | Callable[[Path], str | None]
"""A checksum, ``"md5:..."``; where nobody published one, a function from the file to what is wrong with it, or None."""


class DataError(RuntimeError):
    """A data set is not there, could not be fetched, or is not what was published."""


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
                f"{paths.data()}/{problem}: delete the file where it is there, and fetch the data set again."
            )

    def fetch(self, name: str) -> None:
        """Get the files unless they are there, then check them.

        Raises
        ------
        DataError
            When they cannot be had, saying where to put them by hand, or are not what was published.
        """
        if self.present():
            return self.verify()
        root, files = paths.data(), self.files()
        try:
            root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=root, prefix=".fetching-") as folder:
                self.get(Path(folder))
                if problem := _problem(files, Path(folder)):
                    raise DataError(problem)
                for file in files:
                    (root / file).parent.mkdir(parents=True, exist_ok=True)
                    os.replace(Path(folder) / file, root / file)
        except (OSError, RuntimeError, ValueError) as error:  # what urllib, torchvision and pooch raise
            reason = " ".join(str(error).split()).rstrip(".")
            raise DataError(
                f"{name} could not be fetched ({reason}): put {', '.join(files)} under {root} by hand, "
                "or use mnist5k, which needs no network."
            ) from error


def resumed(url: str, file: Path) -> Path:
    """Download a large file, going on where an earlier attempt broke off, with a progress bar; returns the file."""
    import requests
    from tqdm.auto import tqdm

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
            part.open("ab" if have else "wb") as stream,
            tqdm(total=total, initial=have, unit="B", unit_scale=True) as bar,
        ):
            for block in answer.iter_content(1 << 16):
                bar.update(stream.write(block))
    if total and part.stat().st_size < total:
        raise OSError(f"{part.stat().st_size:,} of {total:,} bytes of {url} came; fetch again to go on")
    return part.replace(file)


def distilled(file: Path, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Arrays that take minutes to make from published files: made once, kept in ``file``, written whole."""
    if not file.exists():
        arrays = make()
        with tempfile.TemporaryDirectory(dir=file.parent, prefix=".making-") as folder:
            np.savez(Path(folder) / "arrays.npz", **arrays)
            os.replace(Path(folder) / "arrays.npz", file)
    return read_npz(file)


def read_npz(file: Path) -> dict[str, np.ndarray]:
    """Every array of a npz file, whose own checksums are verified on the way.

    Raises
    ------
    DataError
        When the file is missing, corrupt or truncated, or holds Python objects, which are never unpickled.
    """
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, EOFError, ValueError, AttributeError, zipfile.BadZipFile) as error:
        raise DataError(f"{file} cannot be read as a npz file of arrays ({error}): replace or delete it.") from error


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
        with file.open("rb") as stream:
            found = hashlib.file_digest(stream, algorithm).hexdigest()
        if found != expected:
            size = f"{file.stat().st_size:,} bytes"
            return f"{name} is corrupt or truncated ({size} with {algorithm} {found}; published was {expected})"
    return None
