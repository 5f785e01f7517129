"""Doing jobs: what the store does not hold is trained and observed, in processes, in stacks, shared with others."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import joblib
import torch
from tqdm.auto import tqdm

from vaelib import data as datasets
from vaelib.measures import Observer
from vaelib.runs import execution
from vaelib.runs.checkpoint import Checkpoint
from vaelib.runs.execution import Job, Options
from vaelib.runs.experiment import Experiment
from vaelib.runs.store import Store

_STACK = 64  # members of one vectorised step; more only lengthens the step


def train(
    jobs: Sequence[Job],
    *,
    store: Store | None = None,
    weights: bool = True,
    force: bool = False,
    device: str | None = None,
    workers: int | None = None,
    threads: int = 1,
    checkpoint_every: int = 5,
) -> None:
    """Train and observe what the store does not hold.

    On a CPU the runs go to joblib: to processes of this machine, or to the backend that the caller has set with
    ``joblib.parallel_config`` (Dask, Ray; the store's folder has to be shared then). On an accelerator, runs of one
    structure are trained as stacks. What was interrupted goes on from the last checkpoints; two of these calls at once
    share the work.

    Parameters
    ----------
    jobs
        What to run; duplicates are run once.
    store
        By default the store in :func:`vaelib.paths.runs`.
    weights
        Keep the weights of what is trained now, so that what is to be observed later costs no training.
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

    Raises
    ------
    Invalid
        If data do not fit what they are to be used for; nothing is trained then.
    NonFiniteLoss
        If a run's loss is infinite or not a number; the runs that were finished stay.
    """
    store = store or Store()
    names = {job.experiment.data for job in jobs}
    options = Options(
        store=store.folder,
        fingerprints={name: datasets.fingerprint(name) for name in sorted(names)},
        device=device or ("cuda" if torch.cuda.is_available() else "cpu"),
        threads=threads,
        weights=weights,
        force=force,
        checkpoint_every=checkpoint_every,
    )
    united = _united(jobs)
    reasons = {job: why for job in united if (why := options.why(job, store.get(job.experiment.key)))}
    for name in sorted({job.experiment.data for job in reasons}):
        data = execution.dataset(name, options.fingerprints[name])
        for job in reasons:
            if job.experiment.data == name:
                job.experiment.check(data)
                for observer in job.observers:
                    observer.check(job.experiment.latent, data)
    _announce(len(united) - len(reasons), list(reasons.values()))
    groups = _stacks(list(reasons), store) if options.device != "cpu" else [[job] for job in reasons]
    total = sum(job.experiment.epochs for job in reasons)
    with tqdm(total=total, desc="runs", unit="epoch", disable=not reasons, leave=False, mininterval=0.5) as bar:
        while groups:
            busy: list[Job] = []
            for done, others in _work(groups, options, workers):
                bar.update(done)
                busy += others
            if len(busy) == sum(map(len, groups)):  # somebody else has all that is left: wait for one of them
                with store.lock(busy[0].experiment.key):
                    pass
            groups = [[job] for job in busy]
            options = replace(options, force=False)


def _united(jobs: Sequence[Job]) -> list[Job]:
    """One job an experiment, with all its observers."""
    observers: dict[Experiment, dict[Observer, None]] = {}
    for job in jobs:
        observers.setdefault(job.experiment, {}).update(dict.fromkeys(job.observers))
    return [Job(experiment, tuple(wanted)) for experiment, wanted in observers.items()]


def _work(groups: list[list[Job]], options: Options, workers: int | None) -> Iterator[tuple[int, list[Job]]]:
    """Do groups of jobs, here or in workers: epochs as they are done, and what somebody else has under way."""
    if len(groups) == 1 or options.device != "cpu":
        for group in groups:
            busy: list[Job] = []
            for done in execution.do(group, options, busy):
                yield done, []
            yield 0, busy
        return
    count = workers or min(len(groups), max(1, joblib.cpu_count() // options.threads))
    processes = joblib.Parallel(n_jobs=count, prefer="processes", return_as="generator_unordered")
    backend, _ = joblib.parallel.get_active_backend(prefer="processes")
    parent = os.getpid() if type(backend).__name__ == "LokyBackend" and count > 1 else None
    yield from processes(joblib.delayed(execution.do_all)(group, options, parent) for group in groups)


def _announce(found: int, reasons: list[str]) -> None:
    counts = ", ".join(f"{reasons.count(why)} {why}" for why in dict.fromkeys(reasons))
    to_run = f"{len(reasons)} to run ({counts})" if counts else "none to run"
    tqdm.write(f"runs: {found} found in the store, {to_run}")


def _stacks(jobs: list[Job], store: Store) -> list[list[Job]]:
    """Jobs that can be trained in one vectorised step each: of one structure, and equally far."""
    groups: dict[tuple[Any, ...], list[Job]] = {}
    for job in jobs:
        saved = Checkpoint.read(store.checkpoint(job.experiment.key))
        groups.setdefault((job.experiment.structure(), saved.epoch if saved else 0), []).append(job)
    return [group[i : i + _STACK] for group in groups.values() for i in range(0, len(group), _STACK)]
