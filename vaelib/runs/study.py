"""Sweeps: lists of experiments, each trained once, and the tables of what they gave."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import joblib
import pandas as pd
import torch
from tqdm.auto import tqdm

from vaelib import data as datasets, runs
from vaelib.experiments import Experiment, description
from vaelib.store import SCHEMA, Entry, Store

_STACK = 64  # members of one vectorised step; more only lengthens the step


class Results(Sequence[Entry]):
    """The runs of a sweep, in the order of its experiments, and their tables."""

    def __init__(self, entries: Iterable[Entry]):
        self._entries = list(entries)

    def __getitem__(self, index):
        """One run."""
        return self._entries[index]

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def keys(self) -> list[str]:
        """The runs' keys."""
        return [entry.key for entry in self]

    def _tables(self, tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
        parts = []
        for entry, table in zip(self, tables):
            columns = {name: value for name, value in asdict(description(entry)).items() if name not in table}
            parts.append(table.assign(key=entry.key, **columns))
        return pd.concat(parts, ignore_index=True)

    @property
    def history(self) -> pd.DataFrame:
        """One row a run and epoch: the history's columns and the experiment's fields (start of the skew: `start`)."""
        return self._tables(
            entry.history if "skew" not in entry.history else entry.history.assign(start=entry.experiment["skew"])
            for entry in self
        )

    @property
    def final(self) -> pd.DataFrame:
        """The last epoch of each run."""
        history = self.history
        return history[history["epoch"] == history["epochs"]].reset_index(drop=True)

    @property
    def landscape(self) -> pd.DataFrame:
        """One row a run, epoch, form and skew, of the runs that recorded it."""
        return Results(e for e in self if e.landscape is not None)._tables(
            e.landscape for e in self if e.landscape is not None
        )


def sweep(
    experiments: Sequence[Experiment],
    *,
    weights: bool = False,
    force: bool = False,
    device: str | None = None,
    workers: int | None = None,
    threads: int = 1,
    checkpoint_every: int = 5,
    store: Store | None = None,
) -> Results:
    """Train what the store does not hold, and return all of it.

    On a CPU the runs go to joblib: to processes of this machine, or to the backend that the caller has set with
    ``joblib.parallel_config`` (Dask, Ray; the store's folder has to be shared then). On an accelerator, runs of one
    structure are trained as stacks. An interrupted sweep goes on from the last checkpoints.

    Parameters
    ----------
    experiments
        What to run; duplicates are run once.
    weights
        Keep the trained weights.
    force
        Run anew what the store holds.
    device
        A torch device; by default the accelerator where there is one.
    workers
        How many processes; by default as many as the cores allow.
    threads
        Threads a run. A run's last bits depend on it, so it does not depend on the number of workers.
    checkpoint_every
        Epochs between checkpoints.
    store
        By default the store in :func:`vaelib.paths.runs`.

    Raises
    ------
    NonFiniteLoss
        If a run's loss is infinite or not a number; the runs that were finished stay.
    """
    store = store or Store()
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    fingerprints = _fingerprints(experiments)
    reasons = {
        e: why
        for e in dict.fromkeys(experiments)
        if (why := _why_run(store.get(e.key), fingerprints[e.dataset], weights=weights, force=force))
    }
    _announce(len(set(experiments)) - len(reasons), list(reasons.values()))
    options = {
        "fingerprints": fingerprints,
        "weights": weights,
        "force": force,
        "device": device,
        "threads": threads,
        "checkpoint_every": checkpoint_every,
        "store": store.folder,
    }
    groups = _stacks(list(reasons), store) if device != "cpu" else [[e] for e in reasons]
    epochs = sum(e.epochs for e in reasons)
    with tqdm(total=epochs, desc="sweep", unit="epoch", disable=not reasons, leave=False, mininterval=0.5) as bar:
        if len(groups) <= 1 or device != "cpu":
            for group in groups:
                for _ in runs.train(group, **options):
                    bar.update(len(group))
        else:
            processes = joblib.Parallel(
                n_jobs=workers or min(len(groups), max(1, joblib.cpu_count() // threads)),
                prefer="processes",
                return_as="generator_unordered",
            )
            for done in processes(joblib.delayed(runs.train_all)(group, **options) for group in groups):
                bar.update(done)
    entries = [store.get(e.key) for e in experiments]
    return Results(entry for entry in entries if entry is not None)


def run(experiment: Experiment, **options: Any) -> Entry:
    """Train one experiment, or take it from the store: :func:`sweep` of one."""
    return sweep([experiment], **options)[0]


def _fingerprints(experiments: Sequence[Experiment]) -> dict[str, str | None]:
    """For a user's own files what they hold now, as a name does not tell; None for data sets of fixed content."""
    names = {e.dataset for e in experiments}
    return {n: datasets.load(n).fingerprint if n.startswith(("folder:", "npz:")) else None for n in names}


def _why_run(entry: Entry | None, fingerprint: str | None, *, weights: bool, force: bool) -> str | None:
    """Why an experiment has to be run; None if its entry serves."""
    if entry is None:
        return "new"
    if force:
        return "forced"
    if entry.provenance["schema"] != SCHEMA:
        return "code schema changed"
    if fingerprint not in (None, entry.provenance["data"]):
        return "data changed"
    return "weights asked for" if weights and not entry.has_weights else None


def _announce(found: int, reasons: list[str]) -> None:
    counts = ", ".join(f"{reasons.count(why)} {why}" for why in dict.fromkeys(reasons))
    to_run = f"{len(reasons)} to run ({counts})" if counts else "none to run"
    tqdm.write(f"runs: {found} found in the store, {to_run}")


def _stacks(experiments: list[Experiment], store: Store) -> list[list[Experiment]]:
    """Experiments that can be trained in one vectorised step each: of one structure, and equally far."""
    groups: dict[tuple[Any, ...], list[Experiment]] = {}
    for e in experiments:
        saved = runs.Checkpoint.read(store.checkpoint(e.key))
        groups.setdefault((*e.structure(), saved.epoch if saved else 0), []).append(e)
    return [group[i : i + _STACK] for group in groups.values() for i in range(0, len(group), _STACK)]
