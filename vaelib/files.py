"""Files that are written whole or not at all, and locks: written once, for everybody."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

DRAFT = ".draft-"
"""How folders of drafts begin. The name of the file follows; only a killed process leaves one behind."""


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A draft to write to; it takes the file's place when the block ends well, and goes when it does not.

    At any time there is the old file or the new one. Folders on the way are made.

    Parameters
    ----------
    file
        What is to be written.

    Yields
    ------
    Path
        A path of the same name, in a folder of its own beside it.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{DRAFT}{file.name}.", dir=file.parent) as folder:
        draft = Path(folder) / file.name
        yield draft
        os.replace(draft, file)


def holds(file: Path, content: bytes) -> bool:
    """Whether a file is there and holds this."""
    return file.exists() and file.read_bytes() == content


def write_bytes(file: Path, content: bytes) -> None:
    """Write a file, whole or not at all; one that holds this already is left alone."""
    if not holds(file, content):
        with replacing(file) as draft:
            draft.write_bytes(content)


def write_text(file: Path, text: str) -> None:
    """Write a text in UTF-8, as :func:`write_bytes`."""
    write_bytes(file, text.encode())


def lock(file: Path, *, timeout: float = -1) -> FileLock:
    """The lock that guards a file: a context manager, freed by the system when its process dies.

    Parameters
    ----------
    file
        What is guarded; the lock lies beside it, hidden.
    timeout
        Seconds to wait; forever by default. Entering raises :class:`filelock.Timeout` after that.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(file.parent / f".{file.name}.lock", timeout=timeout)
