"""Bundles: one zip file of text and safetensors, written whole, read with every checksum; nothing in it can execute."""

import hashlib
import json
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors.torch import load, save
from torch import Tensor

from vaelib import files
from vaelib.errors import UserError
from vaelib.measures.base import Observation

_MANIFEST = "manifest.json"
_OBSERVED = "observations/"
_ALLOWED = r"[a-z]+\.json|history\.csv|(weights|state)\.safetensors|observations/[0-9a-f]{64}\.(csv|safetensors)"


class Damaged(UserError):
    """A file that is not what was written; the sentence names it and what is wrong."""


@contextmanager
def checking(file: Path) -> Iterator[None]:
    """While a file is read: whatever its bytes make a library raise becomes one sentence that names the file.

    Raises
    ------
    Damaged
        If the block raises anything but :class:`MemoryError`, which says nothing about the file.
    """
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise Damaged(f"{file.name} cannot be read: {reason}") from error


def room(packed: int) -> int:
    """How many bytes may come out of so many packed ones: runs never need more, and no more is unpacked."""
    return 2**26 + 20 * packed


def zipped(members: Mapping[str, bytes]) -> bytes:
    """A bundle as bytes; the same members give the same."""
    manifest = json.dumps({name: _sum(content) for name, content in members.items()}, indent=1, sort_keys=True)
    with zipfile.ZipFile(buffer := BytesIO(), "w") as archive:
        for name, content in sorted({**members, _MANIFEST: manifest.encode()}.items()):
            packing = zipfile.ZIP_STORED if name.endswith(".safetensors") else zipfile.ZIP_DEFLATED
            archive.writestr(zipfile.ZipInfo(name), content, packing)
    return buffer.getvalue()


def write(file: Path, members: Mapping[str, bytes]) -> None:
    """Write a bundle, whole or not at all.

    Parameters
    ----------
    file
        What to write; its folder is made.
    members
        Contents by name. Allowed are ``[a-z]+.json``, ``history.csv``, ``weights.safetensors``, ``state.safetensors``
        and ``observations/<64 hexadecimal digits>`` that end in ``.csv`` or ``.safetensors``.

    Raises
    ------
    Damaged
        If what was written cannot be read again: a name is not allowed, say. The old file stays then.
    """
    with files.replacing(file) as draft:
        draft.write_bytes(zipped(members))
        read(draft)


def read(file: Path, wanted: Callable[[str], bool] = lambda name: True) -> dict[str, bytes]:
    """The members of a bundle, or those whose names are wanted, each compared with its checksum.

    Raises
    ------
    Damaged
        If the file is missing, is not a zip file, or holds anything but what its manifest says. No more than the sizes
        that it declares is ever unpacked, and nothing if they are absurd.
    """
    with checking(file), zipfile.ZipFile(file) as archive:
        names = Counter(archive.namelist())
        if strange := [name for name, times in names.items() if times > 1 or not re.fullmatch(_ALLOWED, name)]:
            raise ValueError(f"it holds {strange[0]!r}, which is not allowed, or twice")
        if sum(info.file_size for info in archive.infolist()) > room(file.stat().st_size):
            raise ValueError("it would unpack to absurdly much")
        sums = json.loads(_unpacked(archive, _MANIFEST))
        members = {name: _unpacked(archive, name) for name in names if name != _MANIFEST and wanted(name)}
        for name in sorted({*sums, *names} - {_MANIFEST}):
            if name not in names or name not in sums or (name in members and _sum(members[name]) != sums[name]):
                raise ValueError(f"its member {name!r} is missing, or not what the manifest says")
    return members


def peek(file: Path, names: Sequence[str]) -> dict[str, Any]:
    """Some of the JSON members of a bundle by their names, without a look at the others or at the manifest.

    Raises
    ------
    Damaged
        If they cannot be read.
    """
    with checking(file), zipfile.ZipFile(file) as archive:
        return {name: json.loads(_unpacked(archive, f"{name}.json")) for name in names}


def _sum(content: bytes) -> dict[str, str | int]:
    return {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}


def _unpacked(archive: zipfile.ZipFile, name: str) -> bytes:
    """A member to its end, but not a byte more than it declares: not every method can be bounded."""
    if (info := archive.getinfo(name)).compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"its member {name!r} is packed in a way that is not allowed")
    with archive.open(info) as opened:
        return opened.read(info.file_size + 1)


def pack(*, observations: Mapping[str, Observation], **values: Any) -> dict[str, bytes]:
    """Values as members of a bundle: tables as CSV, tensors by name as safetensors, all else as JSON.

    Parameters
    ----------
    observations
        Observations by the keys of their observers.
    values
        Values by their names; those that are None are left out.
    """
    named = values | {_OBSERVED + key: seen for key, seen in observations.items()}
    return dict(_packed(name, value) for name, value in named.items() if value is not None)


def _packed(name: str, value: Any) -> tuple[str, bytes]:
    if isinstance(value, pd.DataFrame):
        return f"{name}.csv", _from_table(value)
    if isinstance(value, Mapping) and any(isinstance(v, Tensor) for v in value.values()):
        return f"{name}.safetensors", bytes(save({n: v.detach().cpu().contiguous().clone() for n, v in value.items()}))
    return f"{name}.json", f"{json.dumps(value, indent=1)}\n".encode()


def unpack(members: Mapping[str, bytes]) -> dict[str, Any]:
    """The values that were packed, by their names; ``observations`` are always among them."""
    named = {n.partition(".")[0]: _READERS[n.partition(".")[2]](content) for n, content in members.items()}
    observations = {name.removeprefix(_OBSERVED): named.pop(name) for name in [*named] if name.startswith(_OBSERVED)}
    return {**named, "observations": observations}


def _from_table(table: pd.DataFrame) -> bytes:
    """A table, without its index, as CSV under a line with the type of each column.

    Floats keep all their bits and columns their types. Empty text stays empty; the text ``nan`` is taken for missing.
    """
    types = json.dumps({str(name): str(kind) for name, kind in table.dtypes.items()})
    rows = table.to_csv(index=False, na_rep="nan", lineterminator="\n")
    return f"# {types}\n{rows}".encode()


def _to_table(content: bytes) -> pd.DataFrame:
    head, _, rows = content.partition(b"\n")
    if not (types := json.loads(head.removeprefix(b"#"))):
        return pd.DataFrame()
    return pd.read_csv(BytesIO(rows), dtype=types, keep_default_na=False, na_values=["nan"])


def _to_tensors(content: bytes) -> dict[str, Tensor]:
    """Tensors in the order of their names: safetensors keeps none."""
    return dict(sorted(load(content).items()))


_READERS: dict[str, Callable[[bytes], Any]] = {"json": json.loads, "csv": _to_table, "safetensors": _to_tensors}
