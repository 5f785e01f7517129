"""The run store: a folder with one entry a run, named by the hash of what was run.

An entry is written whole or not at all, and holds only text and safetensors: nothing in it can execute. Checkpoints
of runs under way lie beside the entries and go when the entry comes.
"""

import hashlib
import json
import os
import re
import shutil
import tarfile
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors.torch import load_file, save_file
from torch import Tensor

from vaelib import paths

SCHEMA = 1
"""Raised by one when code changes so that the same experiment gives other numbers: older entries are run anew."""


def key_of(experiment: dict[str, Any]) -> str:
    """The name of an experiment: sha256 of its canonical JSON, in hexadecimal."""
    text = json.dumps(experiment, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Entry:
    """One finished run."""

    folder: Path

    @property
    def key(self) -> str:
        """The hash of the experiment."""
        return self.folder.name

    @cached_property
    def experiment(self) -> dict[str, Any]:
        """What was run, as plain values."""
        return json.loads((self.folder / "experiment.json").read_text())

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """When, where and with what it was run."""
        return json.loads((self.folder / "provenance.json").read_text())

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """What was measured after the last epoch."""
        return json.loads((self.folder / "metrics.json").read_text())

    @cached_property
    def history(self) -> pd.DataFrame:
        """One row an epoch. Every column but ``seconds`` is determined by the experiment."""
        return pd.read_csv(self.folder / "history.csv")

    @cached_property
    def landscape(self) -> pd.DataFrame | None:
        """Divergence against skew at each epoch, where the experiment asked for it."""
        file = self.folder / "landscape.csv"
        return pd.read_csv(file) if file.exists() else None

    @property
    def has_weights(self) -> bool:
        """Whether the trained weights were kept."""
        return (self.folder / "weights.safetensors").exists()

    def weights(self) -> dict[str, Tensor]:
        """The trained weights by name."""
        return load_file(self.folder / "weights.safetensors")


class Store:
    """A folder of runs.

    Parameters
    ----------
    folder
        By default :func:`vaelib.paths.runs`.
    """

    def __init__(self, folder: Path | str | None = None):
        self.folder = Path(folder) if folder else paths.runs()

    def _place(self, key: str) -> Path:
        return self.folder / key[:2] / key

    def entries(self) -> list[Entry]:
        """All runs, in the order of their keys."""
        return [Entry(file.parent) for file in sorted(self.folder.glob("[0-9a-f][0-9a-f]/*/provenance.json"))]

    def get(self, key: str) -> Entry | None:
        """The run with this key, if it is there."""
        place = self._place(key)
        return Entry(place) if (place / "provenance.json").exists() else None

    def find(self, prefix: str) -> Entry:
        """The one run whose key starts with `prefix`.

        Raises
        ------
        KeyError
            If there is none, or more than one.
        """
        found = [entry for entry in self.entries() if entry.key.startswith(prefix)]
        if len(found) != 1:
            raise KeyError(f"run: {prefix!r} fits {len(found)} of the runs in {self.folder}, and has to fit one")
        return found[0]

    def table(self) -> pd.DataFrame:
        """One row a run: its key, when it was made and how long it took, and its experiment."""
        rows = [
            {
                "key": entry.key[:12],
                "created": entry.provenance["created"],
                "seconds": round(entry.provenance["seconds"], 1),
                "schema": entry.provenance["schema"],
                "weights": entry.has_weights,
                **entry.experiment,
            }
            for entry in self.entries()
        ]
        return pd.DataFrame(rows).sort_values("created", ignore_index=True) if rows else pd.DataFrame()

    def write(
        self,
        experiment: dict[str, Any],
        *,
        history: pd.DataFrame,
        metrics: dict[str, Any],
        provenance: dict[str, Any],
        landscape: pd.DataFrame | None = None,
        weights: dict[str, Tensor] | None = None,
    ) -> Entry:
        """Write a finished run whole, in the place of an older one, and drop its checkpoint."""
        key = key_of(experiment)
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="tmp-", dir=self.folder) as name:
            draft = Path(name) / key
            draft.mkdir()
            history.to_csv(draft / "history.csv", index=False)
            if landscape is not None:
                landscape.to_csv(draft / "landscape.csv", index=False)
            if weights is not None:
                save_file(weights, draft / "weights.safetensors")
            stamp = {"schema": SCHEMA, "created": datetime.now(UTC).isoformat(timespec="seconds")}
            for file, content in (
                ("experiment", experiment),
                ("metrics", metrics),
                ("provenance", stamp | provenance),
            ):
                (draft / f"{file}.json").write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
            self._move_in(draft)
        self.checkpoint(key).unlink(missing_ok=True)
        return Entry(self._place(key))

    def _move_in(self, draft: Path) -> None:
        """Put a complete draft in its place by renaming; what was there goes with the draft's folder."""
        place = self._place(draft.name)
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.exists():
            os.replace(place, draft.parent / "replaced")
        os.replace(draft, place)

    def checkpoint(self, key: str) -> Path:
        """Where the checkpoint of a run under way lies."""
        return self.folder / "checkpoints" / f"{key}.safetensors"

    def export(self, archive: Path | str, keys: list[str] | None = None) -> int:
        """Write runs to one ``.tar.gz`` archive.

        Parameters
        ----------
        archive
            The file to write; it appears when it is complete.
        keys
            Keys or their beginnings; all runs by default.

        Returns
        -------
        int
            How many runs were written.
        """
        entries = self.entries() if keys is None else [self.find(key) for key in keys]
        archive = Path(archive)
        with tempfile.TemporaryDirectory(prefix="tmp-", dir=archive.resolve().parent) as name:
            draft = Path(name) / "archive"
            with tarfile.open(draft, "w:gz") as tar:
                for entry in entries:
                    tar.add(entry.folder, arcname=entry.key)
            os.replace(draft, archive)
        return len(entries)

    def import_(self, archive: Path | str) -> tuple[int, int]:
        """Take the runs of an archive into this store.

        Returns
        -------
        tuple of int
            How many runs were added, and how many were here already.

        Raises
        ------
        ValueError
            If the archive is damaged, holds anything but runs, or a run whose key is not its experiment's; nothing is
            taken from it then.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="tmp-", dir=self.folder) as name:
            try:
                with tarfile.open(archive, "r:gz") as tar:
                    for member in tar.getmembers():
                        if not re.fullmatch(r"[0-9a-f]{64}(/[a-z]+\.(json|csv|safetensors))?", member.name):
                            raise ValueError(f"archive: {archive} holds {member.name!r}, which is not part of a run")
                    tar.extractall(name, filter="data")
            except (tarfile.TarError, EOFError, OSError) as error:
                raise ValueError(f"archive: {archive} cannot be read as an export of runs ({error})") from error
            drafts = [Path(name) / folder for folder in sorted(os.listdir(name))]
            for draft in drafts:
                if {"experiment.json", "history.csv", "provenance.json"} - set(os.listdir(draft)):
                    raise ValueError(f"archive: {archive} holds an incomplete run {draft.name}")
                if key_of(Entry(draft).experiment) != draft.name:
                    raise ValueError(f"archive: {archive} holds a run {draft.name} whose experiment has another key")
            new = [draft for draft in drafts if self.get(draft.name) is None]
            for draft in new:
                self._move_in(draft)
        return len(new), len(drafts) - len(new)

    def prune(self) -> int:
        """Remove runs of an older schema, checkpoints, and what killed runs left; call it when nothing is running.

        Returns
        -------
        int
            How many runs, checkpoints and leftovers were removed.
        """
        stale = [entry.folder for entry in self.entries() if entry.provenance["schema"] != SCHEMA]
        stale += [*self.folder.glob("tmp-*"), *self.folder.glob("checkpoints/*")]
        for path in stale:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        return len(stale)
