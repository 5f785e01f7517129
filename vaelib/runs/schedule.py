"""Doing jobs: what the store does not hold is trained and observed, in processes, in stacks, shared with others."""

import math
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import torch
from filelock import FileLock, Timeout
from tqdm import tqdm

from vaelib import data as datasets
from vaelib import files
from vaelib.errors import DataError, Invalid, TimeUp, UserError
from vaelib.measures import Observer
from vaelib.runs import execution
from vaelib.runs.checkpoint import Checkpoint
from vaelib.runs.execution import Job, Options, Rest
from vaelib.runs.experiment import Experiment
from vaelib.runs.pace import Pace
from vaelib.runs.progress import Progress
from vaelib.runs.store import Busy, Store
from vaelib.training import NonFiniteLoss

_STACK = 64  # members of one vectorised step; more only lengthens the step
_LEAST = 1.0  # seconds that a job is thought to take, whatever there is to do
_GO_ON = "what was finished is stored, and the same command goes on from there"


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
    until: float = float("inf"),
    about: Callable[[Job], str] = lambda job: "",
) -> None:
    """Train and observe what the store does not hold, in the order of the jobs.

    On a CPU each run is a task, on accelerators a stack of runs of one structure is, one at a time on each. Tasks go to
    processes of this machine, or to where the caller sends them with ``joblib.parallel_config`` (Dask, Ray; the store's
    folder has to be shared then). What was interrupted goes on from the last checkpoints; two of these calls at once
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
        A torch device; by default all accelerators of this machine where there are any, otherwise the CPU, which it is
        on a Dask cluster as well; with ``"cuda"`` each of its workers takes its first accelerator.
    workers
        How many processes; by default as many as the cores allow, or the accelerators.
    threads
        Threads a run. A run's last bits depend on it, so it does not depend on the number of workers.
    checkpoint_every
        Epochs between checkpoints.
    until
        When to stop, as :func:`time.time` counts: runs under way end their epoch and leave a checkpoint.
    about
        What a job belongs to, for the progress.

    Raises
    ------
    Invalid
        If data do not fit what they are to be used for, or the device is not there; nothing is trained then.
    NonFiniteLoss
        If a run's loss is infinite or not a number; all others are finished and stored before.
    DataError
        If data cannot be fetched; all runs on other data are finished and stored before.
    TimeUp
        If the time did not suffice.
    """
    store = store or Store()
    devices = [_there(device)] if device else _devices()
    found = united(jobs)
    options = Options(
        store=store.folder,
        fingerprints=_fingerprints(jobs),
        device=devices[0],
        threads=threads,
        weights=weights,
        force=force,
        checkpoint_every=checkpoint_every,
        until=until,
    )
    reasons = _reasons(found, options)
    unfetched = dict[str, DataError]()
    if absent := {job.experiment.data for job in reasons if not datasets.present(job.experiment.data)}:
        for name in sorted(absent):
            try:
                datasets.fetch(name)
            except DataError as error:
                unfetched[name] = error
        options = replace(options, fingerprints=_fingerprints(jobs))
        reasons = _reasons(found, options)
    waiting = [reasons.pop(job) for job in [*reasons] if job.experiment.data in unfetched]
    _announce(len(found) - len(reasons) - len(waiting), list(reasons.values()), len(waiting))
    if reasons:
        _trained(reasons, options, devices, workers, about)
    if unfetched:
        raise DataError(f"{len(waiting)} of {len(found)} runs have no data; {next(iter(unfetched.values()))}")


def _trained(
    reasons: dict[Job, str],
    options: Options,
    devices: list[str],
    workers: int | None,
    about: Callable[[Job], str],
) -> None:
    """Do jobs whose data are here; raises as :func:`train`."""
    store, until, threads = Store(options.store), options.until, options.threads
    seconds = _checked(reasons, options)
    groups = [[job] for job in reasons] if devices == ["cpu"] else _stacks(list(reasons), store)
    count = workers or (joblib.cpu_count() // threads or 1 if devices == ["cpu"] else len(devices))
    rest = Rest()
    with Progress(store, seconds, count, about) as progress:
        while groups:
            left = Rest()
            for done, more in _work(groups, options, devices, min(count, len(groups))):
                left.add(more)
                progress.finished([job for job in done if job not in {*more.busy, *more.late}])
            rest.late += left.late
            rest.failed |= left.failed
            if len(left.busy) == sum(map(len, groups)):  # somebody else has all that is left: wait for one of them
                with suppress(Busy), store.lock(left.busy[0].experiment.key, wait=max(until - time.time(), 0)):
                    pass
            groups = [[job] for job in left.busy]
            options = replace(options, force=False)
    if rest.failed:
        job, failure = next(iter(rest.failed.items()))
        which = f"{len(rest.failed)} of {len(reasons)} runs failed, such as {job.experiment.key[:12]}"
        raise NonFiniteLoss(f"{which}: {failure}")
    if rest.late:
        raise TimeUp(f"the time was up with {len(rest.late)} of {len(reasons)} runs still to be finished")


def united(jobs: Sequence[Job]) -> list[Job]:
    """One job an experiment, with all its observers."""
    observers: dict[Experiment, dict[Observer, None]] = {}
    for job in jobs:
        observers.setdefault(job.experiment, {}).update(dict.fromkeys(job.observers))
    return [Job(experiment, tuple(wanted)) for experiment, wanted in observers.items()]


def lacking(jobs: Sequence[Job], store: Store | None = None) -> int:
    """How many runs the store does not hold as they are wanted."""
    found, store = united(jobs), store or Store()
    return len(_reasons(found, Options(store.folder, _fingerprints(found), "cpu")))


class Cost(NamedTuple):
    """What a run costs: whether the store holds it, and otherwise images in all epochs, and seconds of a worker."""

    found: bool
    images: float = 0.0
    seconds: float = 0.0


def estimated(jobs: Sequence[Job], store: Store) -> dict[Experiment, Cost]:
    """What runs would cost on this machine; missing numbers where data are not here, as nothing is fetched.

    Parameters
    ----------
    jobs
        The runs.
    store
        What may hold some of them; its runs' times say how long others take. What nothing is known of is tried for a
        second.
    """
    options = Options(store.folder, _fingerprints(jobs), _devices()[0])
    reasons, pace = _reasons(jobs, options), Pace(store, options.device)
    costs = {}
    for job in sorted(jobs, key=lambda job: job.experiment.data):
        e = job.experiment
        if job not in reasons:
            costs[e] = Cost(True)
        elif not datasets.present(e.data):
            costs[e] = Cost(False, math.nan, math.nan)
        else:
            data = execution.dataset(e.data, options.fingerprints[e.data])
            train, observers = _left(job, reasons[job], store)
            seconds = pace.seconds(e, data, observers, train=train, calibrate=True)
            costs[e] = Cost(False, len(data.train) * e.epochs * train, seconds)
    return costs


def _devices() -> list[str]:
    """Where runs are trained unless it is said: on all accelerators, or the CPU; on a cluster, that may have none."""
    if _dask() is not None:
        return ["cpu"]
    return [f"cuda:{k}" for k in range(torch.cuda.device_count())] or ["cpu"]


def _there(device: str) -> str:
    """A torch device, if this machine has it; a cluster has its own."""
    try:
        if _dask() is None:
            torch.empty(0, device=device)
    except (AssertionError, RuntimeError) as error:
        raise Invalid("device", device, "one that torch finds here: cpu, or perhaps cuda, cuda:1, ...") from error
    return device


def _fingerprints(jobs: Sequence[Job]) -> dict[str, str | None]:
    return {name: datasets.fingerprint(name) for name in sorted({job.experiment.data for job in jobs})}


def _reasons(jobs: Sequence[Job], options: Options) -> dict[Job, str]:
    """The jobs that have to be done, and why."""
    store = Store(options.store)
    return {job: why for job in jobs if (why := options.why(job, store.get(job.experiment.key)))}


def _left(job: Job, why: str, store: Store) -> tuple[bool, list[Observer]]:
    """What of a job has to be done: whether it is to be trained, and what is to be observed."""
    there = store.get(job.experiment.key) if why == "to be observed" else None
    if there is None:
        return True, list(job.observers)
    return not execution.observable(job, there), execution.missing(job, there)


def _checked(reasons: dict[Job, str], options: Options) -> dict[Job, float]:
    """How many seconds each of these jobs may take, in their order; their data are refused where they do not fit."""
    store, seconds = Store(options.store), dict.fromkeys(reasons, 0.0)
    pace = Pace(store, options.device)
    for name in sorted({job.experiment.data for job in reasons}):
        data = execution.dataset(name, options.fingerprints[name])
        for job in (job for job in reasons if job.experiment.data == name):
            job.experiment.check(data)
            for observer in job.observers:
                observer.check(job.experiment.latent, data)
            train, observers = _left(job, reasons[job], store)
            seconds[job] = max(pace.seconds(job.experiment, data, observers, train=train), _LEAST)
    return seconds


def _work(
    groups: list[list[Job]], options: Options, devices: list[str], workers: int
) -> Iterator[tuple[Sequence[Job], Rest]]:
    """Do groups of jobs, here or in workers; what is left of each as it is done."""
    if (client := _dask()) is not None:
        yield from _on_dask(client, groups, options)
        return
    backend, _ = joblib.parallel.get_active_backend(prefer="processes")
    parent = os.getpid() if type(backend).__name__ == "LokyBackend" and workers > 1 else None
    processes = joblib.Parallel(n_jobs=workers, batch_size=1, prefer="processes", return_as="generator_unordered")
    try:
        with execution.spawning():
            results = processes(joblib.delayed(_do)(group, options, tuple(devices), parent) for group in groups)
        yield from results
    except BrokenExecutor as error:
        said = "a worker was killed, perhaps because the memory did not suffice (fewer --workers need less)"
        raise UserError(f"{said}; {_GO_ON}") from error


def _do(group: list[Job], options: Options, devices: tuple[str, ...], parent: int | None) -> tuple[Sequence[Job], Rest]:
    """Do a group, in a worker always on the same device: it keeps memory on all that it was ever at."""
    if parent is not None and len(devices) > 1:
        number, _ = _place(options.store, parent)
        options = replace(options, device=devices[number % len(devices)])
    return execution.do(group, options, parent)


@cache
def _place(store: Path, parent: int) -> tuple[int, FileLock]:
    """The number of this worker among its parent's, the first that was free, and the lock that keeps it to its end."""
    number = 0
    while True:
        lock = files.lock(store / "locks" / f"{platform.node()}-{parent}-{number}", timeout=0)
        with suppress(Timeout):
            lock.acquire()
            return number, lock
        number += 1


def _dask() -> Any:
    """The client of the Dask cluster that the caller has set, if there is one."""
    backend, _ = joblib.parallel.get_active_backend(prefer="processes")
    return backend.client if type(backend).__name__ == "DaskDistributedBackend" else None


def _on_dask(client: Any, groups: list[list[Job]], options: Options) -> Iterator[tuple[Sequence[Job], Rest]]:
    """Do groups of jobs on a Dask cluster, whose workers may come and go.

    joblib's own way to it counts the workers once, at the start, and with one of them works here in its place.
    """
    from distributed import CancelledError, KilledWorker, as_completed

    futures = client.map(execution.do, groups, options=options, pure=False)
    try:
        for future in as_completed(futures):  # type: ignore[no-untyped-call]
            yield future.result()
    except CancelledError as error:
        raise UserError(f"the scheduler of the Dask cluster is gone, or dropped the runs; {_GO_ON}") from error
    except KilledWorker as error:
        raise UserError(f"a run ended one Dask worker after the other, as their logs may explain; {_GO_ON}") from error
    finally:
        client.cancel(futures)


def _announce(found: int, reasons: list[str], waiting: int) -> None:
    counts = ", ".join(f"{reasons.count(why)} {why}" for why in dict.fromkeys(reasons))
    to_run = f"{len(reasons)} to run ({counts})" if counts else "none to run"
    without = f", {waiting} without data" if waiting else ""
    tqdm.write(f"runs: {found} found in the store, {to_run}{without}")


def _stacks(jobs: list[Job], store: Store) -> list[list[Job]]:
    """Jobs that can be trained in one vectorised step each: of one structure, and equally far."""
    groups: dict[tuple[Any, ...], list[Job]] = {}
    for job in jobs:
        saved = Checkpoint.read(store.checkpoint(job.experiment.key))
        groups.setdefault((job.experiment.structure(), saved.epoch if saved else 0), []).append(job)
    return [group[i : i + _STACK] for group in groups.values() for i in range(0, len(group), _STACK)]
