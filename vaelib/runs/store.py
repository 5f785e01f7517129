"""The run store: a folder with one file a run, named by the hash of what was run.

An entry is one bundle (:mod:`vaelib.runs.bundle`): there whole or not at all, and only text and safetensors, so that
nothing in it can execute. Checkpoints of runs under way, and locks, lie beside the entries.
"""

import gzip
import math
import shutil
import tarfile
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout
from torch import Tensor

from vaelib import files, paths
from vaelib.errors import UserError
from vaelib.measures.base import Observation
from vaelib.parts import key_of
from vaelib.runs import bundle
from vaelib.runs.bundle import Damaged

SCHEMA = 3
"""Raised by one when code changes so that the same experiment gives other numbers: older entries are run anew."""

_BUNDLE = f"{'[0-9a-f]' * 64}.zip"
_WEIGHTS = "weights.safetensors"


class Busy(Exception):
    """A run whose lock somebody holds."""


@dataclass(frozen=True, eq=False)
class Entry:
    """One finished run.

    Parameters
    ----------
    file
        Its bundle.
    has_weights
        Whether the trained weights were kept.
    observed
        The keys of the observers whose observations are here.
    experiment
        What was run, as plain values.
    provenance
        When, where and with what it was run: at least ``schema``, ``created`` (a time in UTC) and the ``seconds`` of
        its training, without what observers took.
    metrics
        What was measured after the last epoch.
    history
        One row an epoch. Every column but ``seconds`` is determined by the experiment.
    """

    file: Path
    has_weights: bool
    observed: set[str]
    experiment: dict[str, Any]
    provenance: dict[str, Any]
    metrics: dict[str, Any]
    history: pd.DataFrame

    @classmethod
    def read(cls, file: Path, *, whole: bool = False) -> "Entry":
        """The entry in a file; every checksum is verified.

        Parameters
        ----------
        file
            The bundle.
        whole
            Whether observations and weights are decoded as well, as has to be done with what comes from elsewhere.

        Raises
        ------
        Damaged
            If the bundle is damaged, or does not hold a run of this name.
        """
        members = bundle.read(file)
        more = {name for name in members if name == _WEIGHTS or "/" in name}
        with bundle.checking(file):
            values = bundle.unpack({name: members[name] for name in members if whole or name not in more})
            fields = {name: values[name] for name in values if name not in ("weights", "observations")}
            observed = {Path(name).stem for name in more - {_WEIGHTS}}
            entry = cls(file, _WEIGHTS in more, observed, **fields)
            entry._check()
        return entry

    def _check(self) -> None:
        if not isinstance(self.experiment, dict) or key_of(self.experiment) != self.key:
            raise ValueError("its experiment has another key")
        schema, created, seconds = (self.provenance.get(name) for name in ("schema", "created", "seconds"))
        if type(schema) is not int or not isinstance(created, str) or not isinstance(seconds, int | float):
            raise ValueError("its provenance does not say with what schema, when and how long it was run")
        if not isinstance(self.metrics, dict):
            raise ValueError("its metrics are not named")

    @property
    def key(self) -> str:
        """The hash of the experiment."""
        return self.file.stem

    def _load(self, name: str) -> dict[str, Any]:
        return bundle.unpack(bundle.read(self.file, lambda member: Path(member).stem == name))

    def weights(self) -> dict[str, Tensor]:
        """The trained weights by name.

        Raises
        ------
        UserError
            If they were not kept, or the file is damaged by now.
        """
        weights: dict[str, Tensor] | None = self._load("weights").get("weights")
        if weights is None:
            raise UserError(f"run {self.key[:12]} was stored without its weights")
        return weights

    def observation(self, key: str) -> Observation | None:
        """What the observer with this key saw, if it is here."""
        return self._load(key)["observations"].get(key)


class Store:
    """A folder of runs.

    Parameters
    ----------
    folder
        By default :func:`vaelib.paths.runs`.

    Examples
    --------
    >>> Store("runs").find("3fa2").history  # doctest: +SKIP
    """

    def __init__(self, folder: Path | str | None = None):
        self.folder = Path(folder) if folder else paths.runs()

    @property
    def _under_way(self) -> Path:
        return self.folder / "checkpoints"

    def _file(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.zip"

    def get(self, key: str) -> Entry | None:
        """The run with this key, verified whole; a damaged one is warned about, and counts as not there."""
        if not self._file(key).exists():
            return None
        try:
            return Entry.read(self._file(key))
        except Damaged as error:
            warnings.warn(f"run {error}; it counts as not there, and will be made anew", stacklevel=2)
            return None

    def entries(self, prefix: str = "") -> list[Entry]:
        """All sound runs whose keys start with `prefix`, in the order of their keys; damaged ones are warned about."""
        keys = sorted(file.stem for file in self.folder.glob(f"[0-9a-f][0-9a-f]/{_BUNDLE}"))
        return [entry for key in keys if key.startswith(prefix) and (entry := self.get(key))]

    def summaries(self) -> Iterator[dict[str, Any]]:
        """``experiment`` and ``provenance`` of all runs that can be read, not verified: to estimate with."""
        for file in self.folder.glob(f"[0-9a-f][0-9a-f]/{_BUNDLE}"):
            with suppress(Damaged):
                yield bundle.peek(file, ("experiment", "provenance"))

    def find(self, prefix: str) -> Entry:
        """The one run whose key starts with `prefix`.

        Raises
        ------
        UserError
            If there is none, or more than one.
        """
        found = self.entries(prefix)
        if len(found) != 1:
            raise UserError(f"run: {prefix!r} fits {len(found)} of the runs in {self.folder}, and has to fit one")
        return found[0]

    def table(self) -> pd.DataFrame:
        """One row a run, oldest first: its key, how it was made, what it holds, and its experiment.

        The experiment's parts are flattened: ``objective.divergence.kind``.
        """
        entries = sorted(self.entries(), key=lambda entry: entry.provenance["created"])
        rows = [
            {
                "key": entry.key[:12],
                **{name: entry.provenance[name] for name in ("created", "seconds", "schema")},
                "weights": entry.has_weights,
                "observations": len(entry.observed),
            }
            for entry in entries
        ]
        experiments = pd.json_normalize([entry.experiment for entry in entries])
        return pd.concat([pd.DataFrame(rows).round({"seconds": 1}), experiments], axis=1)

    def write(
        self,
        experiment: dict[str, Any],
        *,
        history: pd.DataFrame,
        metrics: dict[str, Any],
        provenance: dict[str, Any],
        observations: Mapping[str, Observation] | None = None,
        weights: dict[str, Tensor] | None = None,
    ) -> Entry:
        """Write a finished run, in the place of an older one, and drop its checkpoint.

        Parameters
        ----------
        experiment
            What was run, as plain values; their hash is the key.
        history
            One row an epoch.
        metrics
            What was measured after the last epoch.
        provenance
            Where and with what it was run, and the ``seconds`` that it took; the schema and the time are added.
        observations
            What observers saw, by their keys.
        weights
            The trained weights by name, to keep them.
        """
        stamp = {"schema": SCHEMA, "created": datetime.now(UTC).isoformat(timespec="seconds")}
        texts = {"experiment": experiment, "metrics": metrics, "provenance": stamp | provenance}
        members = bundle.pack(**texts, history=history, weights=weights, observations=observations or {})
        key = key_of(experiment)
        with self.lock(key):
            bundle.write(self._file(key), members)
            self.checkpoint(key).unlink(missing_ok=True)
            self.mark(key, None)
            # Nobody else writes this run now: a draft of its checkpoint was left by one that was killed.
            for left in self._under_way.glob(f"{files.DRAFT}{key}.zip.*"):
                shutil.rmtree(left)
            return Entry.read(self._file(key))

    def add(self, entry: Entry, observations: Mapping[str, Observation]) -> Entry:
        """Add observations to a run, in the place of those of the same observers; all else is kept byte for byte."""
        file = self._file(entry.key)
        with self.lock(entry.key):
            bundle.write(file, _joined(bundle.pack(observations=observations), bundle.read(file)))
            return Entry.read(file)

    @contextmanager
    def lock(self, key: str, *, wait: float = math.inf) -> Iterator[None]:
        """Hold the lock of a run; the system frees it when the process dies.

        A thread that holds it may wait for it again, and has it at once; processes, and other threads, wait.

        Parameters
        ----------
        key
            Whose lock.
        wait
            Seconds to wait for somebody who holds it.

        Raises
        ------
        Busy
            If somebody holds it for longer; where `wait` is 0, this thread too may be the one.
        """
        file = self.folder / "locks" / f"{key}.lock"
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(file, is_singleton=True)
        try:
            if lock.is_locked and not wait:
                raise Timeout(str(file))
            held = lock.acquire(timeout=-1 if math.isinf(wait) else wait)
        except Timeout:
            raise Busy(f"run {key[:12]} is under way elsewhere") from None
        with held:
            yield

    def checkpoint(self, key: str) -> Path:
        """Where the checkpoint of a run under way lies."""
        return self._under_way / f"{key}.zip"

    def mark(self, key: str, epochs: int | None) -> None:
        """Write down how many epochs of a run under way are done, for whoever waits; None: it is under way no more."""
        file = self._under_way / f"{key}.epochs"
        if epochs is None:
            file.unlink(missing_ok=True)
        else:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(str(epochs))

    def under_way(self) -> dict[str, int]:
        """Epochs that are done of runs that are not finished, by key, whoever trains them."""
        found = {}
        for file in self._under_way.glob("*.epochs"):
            with suppress(OSError, ValueError):  # finished, or being written, at this moment
                found[file.stem] = int(file.read_text())
        return found

    def export(self, archive: Path | str, keys: list[str] | None = None, *, weights: bool = True) -> int:
        """Write runs to one ``.tar.gz`` archive; the same runs give the same bytes.

        Parameters
        ----------
        archive
            The file to write; it appears when it is complete.
        keys
            Keys or their beginnings; all runs by default.
        weights
            Whether trained weights go with the runs.

        Returns
        -------
        int
            How many runs were written.

        Raises
        ------
        UserError
            If a beginning does not fit exactly one run.
        """
        entries = self.entries() if keys is None else [self.find(key) for key in keys]
        chosen = sorted({entry.file for entry in entries})
        with (
            files.replacing(Path(archive)) as draft,
            draft.open("wb") as raw,
            gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w") as tar,
        ):
            for file in chosen:
                members = bundle.read(file)
                content = bundle.zipped({name: members[name] for name in members if weights or name != _WEIGHTS})
                info = tarfile.TarInfo(file.name)
                info.size = len(content)
                tar.addfile(info, BytesIO(content))
        return len(chosen)

    def import_(self, archive: Path | str) -> tuple[int, int, int]:
        """Take the runs of an archive into this store.

        Of a run that is here, observations and weights that are lacking are taken, and nothing is replaced; only a run
        of a newer schema takes the place of an older one. Waits for runs of the same keys that are under way.

        Returns
        -------
        tuple of int
            How many runs were added, how many were improved, and how many were here already.

        Raises
        ------
        UserError
            If the archive is damaged, holds anything but sound runs, or runs of a newer schema than this version's;
            nothing is taken from it then.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        prefix = f"{files.DRAFT}import."
        with self.lock("import"), tempfile.TemporaryDirectory(prefix=prefix, dir=self.folder) as folder:
            _unpack(Path(archive), Path(folder))
            taken = [self._take(draft) for draft in sorted(Path(folder).glob("*.zip"))]
        return taken.count("added"), taken.count("improved"), taken.count("here")

    def _take(self, draft: Path) -> str:
        """Take a run that was verified; whether it was added, improved, or here."""
        members, schema = bundle.read(draft), Entry.read(draft).provenance["schema"]
        with self.lock(draft.stem):
            if (entry := self.get(draft.stem)) is not None:
                mine, older = bundle.read(entry.file), schema < entry.provenance["schema"]
                if schema == entry.provenance["schema"]:
                    members = _joined(mine, members)
                if older or members == mine:
                    return "here"
            bundle.write(self._file(draft.stem), members)
        return "improved" if entry else "added"

    def prune(self) -> int:
        """Remove runs of an older schema, checkpoints, and what killed processes left; nothing that somebody holds.

        Damaged runs stay where they are.

        Returns
        -------
        int
            How many runs, checkpoints and drafts were removed.
        """
        removed = 0
        for pattern in ("[0-9a-f][0-9a-f]/*", "checkpoints/*", f"{files.DRAFT}*"):
            for path in sorted(self.folder.glob(pattern)):
                owner = path.name.removeprefix(files.DRAFT).split(".")[0]
                with suppress(Busy, FileNotFoundError), self.lock(owner, wait=0):  # its owner may have ended by now
                    entry = None if path.parent.name == "checkpoints" else self.get(path.stem)
                    if path.is_dir():  # a draft, or a run of the first schema
                        shutil.rmtree(path)
                    elif path.parent.name == "checkpoints" or (entry and entry.provenance["schema"] < SCHEMA):
                        path.unlink()
                    else:
                        continue
                    removed += 1
        for file in self.folder.glob("locks/*.lock"):
            with suppress(Busy), self.lock(file.stem, wait=0):
                file.unlink()  # whoever waits for it notices, and makes a new one
        return removed


def _joined(first: Mapping[str, bytes], second: Mapping[str, bytes]) -> dict[str, bytes]:
    """Members of a bundle, and those of another that it lacks under any ending."""
    there = {Path(name).stem for name in first}
    return {**first, **{name: second[name] for name in second if Path(name).stem not in there}}


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack an export of runs into a folder, and verify all of it to its end."""
    plain = folder / "archive.tar"
    with bundle.checking(archive):
        most = bundle.room(archive.stat().st_size)
        with gzip.open(archive) as packed, plain.open("wb") as unpacked:
            while (content := packed.read(2**20)) and unpacked.tell() < most:
                unpacked.write(content)
        if content:
            raise ValueError("it would unpack to absurdly much")
        with plain.open("rb") as opened, tarfile.open(fileobj=opened, mode="r:") as tar:
            for member in tar:
                if not member.isfile() or member.issparse() or not fnmatchcase(member.name, _BUNDLE):
                    raise ValueError(f"it holds {member.name!r}, which is not the bundle of a run")
                tar.extract(member, folder, filter="data")
                if Entry.read(folder / member.name, whole=True).provenance["schema"] > SCHEMA:
                    raise ValueError(f"its run {member.name[:12]} was made by a newer version of vaelib")
            opened.seek(tar.offset)
            if opened.read().strip(b"\0"):
                raise ValueError("it goes on after its end")
