"""The life of a run: from an experiment, or from its checkpoint, to an entry of the run store."""

import os
import platform
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache, lru_cache
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from vaelib import __version__, measures, training
from vaelib import data as datasets
from vaelib.divergences import latent_kls
from vaelib.errors import DataError
from vaelib.measures import Observation, Observed, Observer
from vaelib.objectives import Trainee
from vaelib.provenance import commit
from vaelib.runs.checkpoint import Checkpoint
from vaelib.runs.experiment import Experiment
from vaelib.runs.store import SCHEMA, Busy, Entry, Store

_ACTIVE = 0.01  # nats, averaged over images, above which a latent is called active


@dataclass(frozen=True)
class Job:
    """An experiment, and what has to be observed of it."""

    experiment: Experiment
    observers: tuple[Observer, ...] = ()


@dataclass(frozen=True)
class Options:
    """How jobs are done: all that changes no number of a run, but for the threads' last bits.

    Attributes
    ----------
    store
        The folder of the run store.
    fingerprints
        Of the files of data whose name does not fix what they hold; None for others, and where they are not here.
    device, threads
        A torch device, and how many threads a run computes with.
    weights
        Whether the weights of what is trained are kept.
    force
        Whether runs that are stored are made anew.
    checkpoint_every
        Epochs between checkpoints.
    until
        When to stop, as :func:`time.time` counts: runs under way leave a checkpoint at the end of their epoch.
    """

    store: Path
    fingerprints: dict[str, str | None]
    device: str
    threads: int = 1
    weights: bool = True
    force: bool = False
    checkpoint_every: int = 5
    until: float = float("inf")

    def why(self, job: Job, entry: Entry | None) -> str | None:
        """Why a job has to be done with the entry that there is; None if the entry serves."""
        if entry is None:
            return "new"
        if self.force:
            return "forced"
        if entry.provenance["schema"] != SCHEMA:
            return "code schema changed"
        if self.fingerprints[job.experiment.data] not in (None, entry.provenance.get("files")):
            return "data changed"
        return "to be observed" if missing(job, entry) else None


@dataclass
class Rest:
    """What is left of jobs that were to be done.

    Attributes
    ----------
    busy
        Jobs that somebody else has under way.
    late
        Jobs that the time did not suffice for.
    failed
        Jobs whose loss became infinite or not a number, and where.
    """

    busy: list[Job] = field(default_factory=list)
    late: list[Job] = field(default_factory=list)
    failed: dict[Job, training.NonFiniteLoss] = field(default_factory=dict)

    def add(self, other: "Rest") -> None:
        """Take over what is left of others."""
        self.busy += other.busy
        self.late += other.late
        self.failed |= other.failed


def do(jobs: Sequence[Job], options: Options, parent: int | None = None) -> tuple[Sequence[Job], Rest]:
    """Do jobs of one structure, and store them; what somebody else has finished by now is left.

    Parameters
    ----------
    jobs, options
        What, and how.
    parent
        The process without which this one, a worker, has no reason to go on.

    Returns
    -------
    tuple
        The jobs, and what is left of them.
    """
    if parent is not None:
        serve(parent)
    store, rest = Store(options.store), Rest()
    mine, failure = list[_Run](), None
    with ExitStack() as stack:
        stack.enter_context(training.threads(options.threads))
        stack.enter_context(torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False))
        for job in jobs:
            if time.time() > options.until:
                rest.late.append(job)
                continue
            try:
                stack.enter_context(store.lock(job.experiment.key, wait=0))
            except Busy:
                rest.busy.append(job)
                continue
            entry = store.get(job.experiment.key)
            why = options.why(job, entry)
            if why == "to be observed" and entry is not None and observable(job, entry):
                _observe_stored(job, entry, store, options)
            elif why is not None:
                mine.append(_Run(job, None if options.force else entry, options))
        try:
            if mine and not _train(mine, store, options):
                rest.late += [run.job for run in mine]
        except training.NonFiniteLoss as error:
            failure = error
            for run in mine:
                store.mark(run.experiment.key, None)
    if failure and len(mine) == 1:
        rest.failed[mine[0].job] = failure
    elif failure:  # one would take the others of its stack with it
        for run in mine:
            rest.add(do([run.job], options)[1])
    return jobs, rest


@contextmanager
def spawning() -> Iterator[None]:
    """Within it processes are started that do not hear Ctrl-C: it is for this one, which hears it afterwards."""
    if not hasattr(signal, "pthread_sigmask"):  # there are no such signals on Windows
        yield
        return
    resource_tracker.ensure_running()  # before, as it lets Ctrl-C through where it has to be started
    before, heard = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}), list[int]()
    # Another thread may hear it meanwhile, and Python would interrupt this one all the same.
    here = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, lambda number, _: heard.append(number)) if here else None
    try:
        yield
    finally:
        if handler is not None:
            signal.signal(signal.SIGINT, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for number in heard[:1]:
            signal.raise_signal(number)


@cache
def serve(parent: int) -> None:
    """Make this process a worker: it ends with its parent, which alone is interrupted, and then ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process when its parent is gone: a worker that nobody waits for would train on."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def missing(job: Job, entry: Entry) -> list[Observer]:
    """The observers of a job that did not see its stored run."""
    return [o for o in job.observers if o.key not in entry.observed]


def observable(job: Job, entry: Entry) -> bool:
    """Whether what is missing of a stored run can be seen from its weights."""
    return entry.has_weights and all(o.at in ("end", (job.experiment.epochs,)) for o in missing(job, entry))


def _observe_stored(job: Job, entry: Entry, store: Store, options: Options) -> None:
    run = _Run(job, entry, options)
    trainee = trained(entry, options.device)
    for observer in missing(job, entry):
        run.observe(observer, trainee, job.experiment.epochs)
    store.add(entry, run.seen)


def trained(entry: Entry, device: str | None = None) -> Trainee:
    """The trained model and objective of a stored run, ready to be evaluated, on the accelerator where there is one.

    Raises
    ------
    UserError
        If the run was stored without its weights.
    """
    weights = entry.weights()
    blocks = tuple(datasets.Block(*block) for block in entry.provenance.get("blocks", []))
    trainee = Experiment(**entry.experiment).build(tuple(entry.provenance["shape"]), blocks)
    trainee.load_state_dict(weights)
    return trainee.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()


@lru_cache(maxsize=2)
def dataset(name: str, fingerprint: str | None) -> datasets.Dataset:
    """A loaded data set, kept for the next run of the same process.

    Raises
    ------
    DataError
        If it cannot be loaded, or its files are not, or no longer, those that are meant.
    """
    data = datasets.load(name)
    if datasets.fingerprint(name) != fingerprint:
        raise DataError(f"{name} is not here what it was when the runs were planned; start them again.")
    return data


class _Run:
    """One run under way: its data, and what it has to show so far."""

    def __init__(self, job: Job, entry: Entry | None, options: Options):
        self.job, self.experiment, self.device = job, job.experiment, options.device
        self.data = dataset(self.experiment.data, options.fingerprints[self.experiment.data])
        self.test = self.data.test.to(options.device)
        self.inputs, self.history = self._inputs(), list[dict[str, float]]()
        self.seen: dict[str, Observation] = {}
        # What was observed of the same run before stays with it.
        stays = entry if entry is not None and options.why(job, entry) == "to be observed" else None
        self.kept = {key: stays.observation(key) for key in stays.observed} if stays else {}
        self.observers = [o for o in job.observers if o.key not in self.kept]
        self.seconds = 0.0

    def _inputs(self) -> torch.Tensor:
        """Test samples as the encoder gets them: the same noise at every epoch."""
        sd = self.experiment.objective.corruption
        if sd is None:
            return self.test
        return measures.noisy(self.test, sd, training.generator(self.device, self.experiment.seed, "test input"))

    def build(self) -> Trainee:
        """The untrained trainee."""
        return self.experiment.build(self.data.shape, self.data.blocks)

    def resume(self, saved: Checkpoint) -> None:
        """Take over what a checkpoint has to show."""
        self.history, self.seen, self.seconds = saved.history, saved.observations, saved.seconds

    def checkpoint(self, epoch: int, state: training.State) -> Checkpoint:
        """What is to be written down after an epoch."""
        return Checkpoint(self.data.fingerprint, epoch, self.history, self.seen, self.seconds, state)

    def measure(self, process: training.Training, k: int, row: dict[str, float]) -> None:
        """Add an epoch of member `k` to the history: what training saw, and what the test set shows."""
        e, epoch = self.experiment, process.epoch
        trainee = process.evaluated(k, (measures.BATCH, e.batch_size))
        noise = training.generator(self.device, e.seed, "test")
        encoded = measures.encode(trainee.vae, self.inputs)
        clean = encoded if self.inputs is self.test else None
        tested = measures.mean_terms(trainee, self.test, noise, e.batch_size, clean)
        q, p = trainee.vae.latent.posterior(encoded), trainee.vae.prior
        tested["reconstruction"] = measures.decoding_error(trainee.vae, q.mean, self.test).double().mean().item()
        reported = {name: float(value) for name, value in trainee.objective.report().items()}
        seen = {n if n == "seconds" or n in reported else f"train_{n}": v for n, v in row.items()}
        entry = {"epoch": epoch, **reported, **seen, **{f"test_{name}": value for name, value in tested.items()}}
        entry |= trainee.objective.measured(q, p)
        if (category := measures.category(q)) is not None:
            entry |= {f"category_{name}": value for name, value in measures.category_table(category).items()}
        self.history.append(entry)

    def look(self, process: training.Training, k: int) -> None:
        """Take the observations of member `k` that are due."""
        for observer in self.observers:
            if observer.due(process.epoch, self.experiment.epochs):
                self.observe(observer, process.member(k), process.epoch)

    def observe(self, observer: Observer, trainee: Trainee, epoch: int) -> None:
        """Take an observation; tables of several epochs are put together."""
        seed, data = self.experiment.seed, self.data
        site = self.experiment.site(data.shape, data.blocks)
        noise = training.generator(self.device, seed, "observer", observer.key)
        found = observer.observe(Observed(trainee, data, self.inputs, site, seed, noise))
        if isinstance(found, pd.DataFrame) and observer.at != "end":
            earlier = self.seen.get(observer.key)
            found = pd.concat([earlier, found.assign(epoch=epoch)], ignore_index=True)
        self.seen[observer.key] = found

    def finish(self, trainee: Trainee, store: Store, options: Options, **how: Any) -> None:
        """Store the run: the last row of the history, and what is measured once, at the end."""
        history = pd.DataFrame(self.history)
        q, p = measures.posterior(trainee.vae, self.inputs), trainee.vae.prior
        rates = latent_kls(q, p)
        metrics = {
            **history.drop(columns="seconds", errors="ignore").iloc[-1].to_dict(),
            "latent_rates": [float(r) for r in rates],
            "active_latents": int((rates > _ACTIVE).sum()),
            "optimal_skews": measures.optimal_skews(q, p),
        }
        weights = {name: t.cpu().contiguous() for name, t in trainee.state_dict().items()} if options.weights else None
        store.write(
            self.experiment.canonical(),
            history=history,
            metrics=metrics,
            provenance=self._provenance(options) | how,
            observations={**self.kept, **self.seen},
            weights=weights,
        )

    def _provenance(self, options: Options) -> dict[str, Any]:
        cuda = options.device.startswith("cuda")
        name = torch.cuda.get_device_name(options.device) if cuda else platform.machine()
        return {
            "vaelib": __version__,
            "commit": commit(),
            "torch": torch.__version__,
            "python": platform.python_version(),
            "device": f"{options.device} ({name})",
            "threads": options.threads,
            "seconds": self.seconds,
            "data": self.data.fingerprint,
            "images": len(self.data.train),
            "files": options.fingerprints[self.experiment.data],
            "shape": list(self.data.shape),
            "blocks": [list(block) for block in self.data.blocks],
        }


def _train(group: list[_Run], store: Store, options: Options) -> bool:
    """Train runs of one structure to the end, and store them; false if the time was up before, and they wait."""
    first = group[0].experiment
    process = training.Training(
        [run.build() for run in group],
        [run.experiment.seed for run in group],
        group[0].data.train,
        batch_size=first.batch_size,
        epochs=first.epochs,
        optimiser=first.optimiser,
        device=options.device,
        compiled=training.pays(first.epochs * len(group[0].data.train), first.precision, options.device),
    )
    saved = [None if options.force else Checkpoint.read(store.checkpoint(run.experiment.key)) for run in group]
    found = [checkpoint for checkpoint in saved if checkpoint is not None]
    if len(found) == len(group) and len({c.epoch for c in found}) == 1 and all(map(_serves, group, found)):
        process.resume([c.state for c in found], found[0].epoch)
        for run, checkpoint in zip(group, found):
            run.resume(checkpoint)
    else:
        for k, run in enumerate(group):
            run.measure(process, k, {})
            run.look(process, k)
    while process.epoch < first.epochs:
        started = time.perf_counter()
        for k, row in enumerate(process.run_epoch()):
            group[k].measure(process, k, row)
        seconds = (time.perf_counter() - started) / len(group)
        for k, run in enumerate(group):
            run.seconds += seconds
            run.look(process, k)
        late = time.time() > options.until and process.epoch < first.epochs
        due = process.epoch % options.checkpoint_every == 0 and process.epoch < first.epochs
        for k, run in enumerate(group):
            store.mark(run.experiment.key, process.epoch)
            if due or late:
                run.checkpoint(process.epoch, process.state(k)).write(store.checkpoint(run.experiment.key))
        if late:
            return False
    for k, run in enumerate(group):
        run.finish(process.member(k), store, options, stack=len(group), compiled=process.compiled)
    return True


def _serves(run: _Run, saved: Checkpoint) -> bool:
    """Whether a run can go on from a checkpoint: of the same data, and with what had to be observed by its epoch."""
    last = run.experiment.epochs
    due = [o for o in run.observers if any(o.due(epoch, last) for epoch in range(saved.epoch + 1))]
    return saved.data == run.data.fingerprint and all(o.key in saved.observations for o in due)
