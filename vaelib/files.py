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


def write_text(file: Path, text: str) -> None:
    """Write a text, whole or not at all, in UTF-8; a file that holds it already is left alone."""
    if not (file.exists() and file.read_bytes() == text.encode()):
        with replacing(file) as draft:
            draft.write_bytes(text.encode())


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
