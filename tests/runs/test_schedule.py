import os
import re
import signal
import threading
import time
from multiprocessing import resource_tracker
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from vaelib import MLP, Adam, Bound, DualGeometricJS, Experiment, Gaussian, Learned, Store
from vaelib import data as datasets
from vaelib.errors import DataError, Invalid, TimeUp, UserError
from vaelib.measures import Landscape, Samples
from vaelib.runs import Job, execution, schedule, train
from vaelib.training import NonFiniteLoss, Training

OBSERVED = Landscape(points=3), Samples(2)


@pytest.fixture
def runs(tiny):
    """Two runs of twelve epochs."""
    base = Experiment(
        data=tiny,
        network=MLP((16,)),
        latent=Gaussian(3),
        objective=Bound(DualGeometricJS(Learned())),
        optimiser=Adam(1e-3),
        epochs=12,
        batch_size=50,
    )
    return [Job(base.replace(seed=seed), OBSERVED) for seed in (0, 1)]


def same(jobs, store, other):
    """Whether two stores hold the same of some runs, to the last bit, times apart."""
    for job in jobs:
        ours, theirs = (s.get(job.experiment.key) for s in (store, other))
        pd.testing.assert_frame_equal(
            ours.history.drop(columns="seconds"), theirs.history.drop(columns="seconds"), check_exact=True
        )
        assert ours.metrics == theirs.metrics
        assert ours.observed == theirs.observed == {o.key for o in job.observers}
        for one, two in zip(ours.weights().values(), theirs.weights().values()):
            assert torch.equal(one, two)
        pd.testing.assert_frame_equal(*(e.observation(OBSERVED[0].key) for e in (ours, theirs)), check_exact=True)
        assert all(
            torch.equal(t, theirs.observation(OBSERVED[1].key)[n]) for n, t in ours.observation(OBSERVED[1].key).items()
        )
    return True


def interrupted(jobs, store, monkeypatch, epochs=7):
    """Train until so many epochs of the first run are done, which leaves a checkpoint at the fifth."""
    mark = Store.mark

    def stop(self, key, done):
        mark(self, key, done)
        if done == epochs:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Store, "mark", stop)
        with pytest.raises(KeyboardInterrupt):
            train(jobs, store=store, workers=1)
    assert execution.Checkpoint.read(store.checkpoint(jobs[0].experiment.key)).epoch == 5


# Time


def test_when_time_is_up_a_run_leaves_a_checkpoint_and_goes_on_with_the_same_bits(runs, store, tmp_path, monkeypatch):
    looks = iter(range(100))  # before each run, and after each epoch
    with monkeypatch.context() as patch:
        patch.setattr(execution, "time", SimpleNamespace(time=looks.__next__, perf_counter=time.perf_counter))
        with pytest.raises(TimeUp, match="the time was up with 2 of 2 runs still to be finished"):
            train(runs, store=store, workers=1, until=7)
    saved = execution.Checkpoint.read(store.checkpoint(runs[0].experiment.key))
    assert saved.epoch == 8
    assert store.entries() == []
    resumed = list[int]()
    resume = execution.training.Training.resume

    def resuming(self, states, epoch):
        resumed.append(epoch)
        resume(self, states, epoch)

    monkeypatch.setattr(execution.training.Training, "resume", resuming)
    train(runs, store=store, workers=1)
    assert resumed == [8]
    other = Store(tmp_path / "undisturbed")
    train(runs, store=other, workers=1)
    assert same(runs, store, other)
    assert not list(store.folder.glob("checkpoints/*"))


def test_a_run_whose_last_epoch_ends_late_is_stored(runs, store, monkeypatch):
    short, until = Job(runs[0].experiment.replace(epochs=1), OBSERVED), time.time() + 1
    run_epoch = Training.run_epoch

    def late(process):
        time.sleep(max(until - time.time(), 0) + 0.01)
        return run_epoch(process)

    monkeypatch.setattr(Training, "run_epoch", late)
    train([short], store=store, workers=1, until=until)
    assert store.get(short.experiment.key)


def test_nobody_waits_for_somebody_else_when_the_time_is_up(runs, store):
    """It waited for as long as the other one trained."""
    held, free = threading.Event(), threading.Event()

    def hold():
        with store.lock(runs[0].experiment.key):
            held.set()
            free.wait(30)

    other = threading.Thread(target=hold)
    other.start()
    held.wait(30)
    started = time.monotonic()
    try:
        with pytest.raises(TimeUp, match="the time was up with 1 of 1 runs"):
            train(runs[:1], store=store, workers=1, until=time.time() + 0.5)
        assert time.monotonic() - started < 10
    finally:
        free.set()
        other.join()


# Failures


def test_a_run_that_fails_leaves_the_others(runs, store):
    broken = Job(runs[0].experiment.replace(optimiser=Adam(1e30), seed=9))
    with pytest.raises(
        NonFiniteLoss, match=rf"^1 of 3 runs failed, such as {broken.experiment.key[:12]}: .* is (nan|inf)"
    ):
        train([broken, *runs], store=store, workers=1)
    assert {entry.key for entry in store.entries()} == {job.experiment.key for job in runs}
    assert not list(store.folder.glob("checkpoints/*"))


def test_a_run_that_fails_leaves_the_others_of_its_stack(runs, store, tmp_path):
    """On an accelerator, and here on the CPU under another name, they share a step."""
    objective = runs[0].experiment.objective
    broken = Job(runs[0].experiment.replace(objective=objective.replace(weight=3e38), seed=9), OBSERVED)
    assert len(schedule._stacks([broken, *runs], store)) == 1
    with pytest.raises(
        NonFiniteLoss, match=rf"^1 of 3 runs failed, such as {broken.experiment.key[:12]}: .* \(seed 9\)"
    ):
        train([broken, *runs], store=store, device="cpu:0")
    assert {entry.key for entry in store.entries()} == {job.experiment.key for job in runs}
    assert not list(store.folder.glob("checkpoints/*"))
    other = Store(tmp_path / "alone")
    train(runs, store=other, workers=1)
    assert same(runs, store, other), "trained alone then"


def test_runs_without_data_leave_the_others(runs, store, monkeypatch, capsys):
    """They kept a whole campaign from starting."""

    fetch = datasets.fetch

    def without(name):
        if name == "mnist":
            raise DataError("mnist could not be fetched")
        fetch(name)

    monkeypatch.setattr(datasets, "fetch", without)
    lacking = Job(runs[0].experiment.replace(data="mnist"))
    with pytest.raises(DataError, match=r"^1 of 3 runs have no data; mnist could not be fetched"):
        train([lacking, *runs], store=store, workers=1)
    assert {entry.key for entry in store.entries()} == {job.experiment.key for job in runs}
    assert "runs: 0 found in the store, 2 to run (2 new), 1 without data" in "".join(capsys.readouterr())
    with pytest.raises(DataError, match=r"^1 of 1 runs have no data"):
        train([lacking], store=store, workers=1)


def test_a_failure_can_be_mended_on_the_command_line():
    assert issubclass(NonFiniteLoss, UserError)


def test_a_device_that_is_not_there_is_refused(runs, store):
    for device in ("gpu", "cuda:77"):
        with pytest.raises(Invalid, match=f"device: '{device}' is not allowed; it has to be one that torch finds here"):
            train(runs, store=store, device=device)


# Data that change


def test_a_checkpoint_of_other_data_is_not_gone_on_from(runs, store, tiny, tmp_path, monkeypatch):
    """A run went on with them, half on these data and half on those."""
    interrupted(runs[:1], store, monkeypatch)
    file = tiny.removeprefix("npz:")
    arrays = dict(np.load(file))
    np.savez(file, train=arrays["train"][::-1], test=arrays["test"])
    train(runs[:1], store=store, workers=1)
    other = Store(tmp_path / "undisturbed")
    train(runs[:1], store=other, workers=1)
    assert same(runs[:1], store, other)


def test_data_are_those_that_the_runs_were_planned_with(tiny):
    planned = datasets.fingerprint(tiny)
    assert execution.dataset(tiny, planned).shape == (1, 32, 32)
    file = tiny.removeprefix("npz:")
    np.savez(file, train=np.zeros((50, 32, 32), np.uint8), test=np.zeros((50, 32, 32), np.uint8))
    execution.dataset.cache_clear()
    with pytest.raises(DataError, match=re.escape(f"{tiny} is not here what it was when the runs were planned")):
        execution.dataset(tiny, planned)


# Workers


def test_a_worker_watches_its_parent_once(store, monkeypatch):
    """It started a thread for each run."""
    monkeypatch.setattr(execution.signal, "signal", lambda *_: None)
    execution.serve.cache_clear()
    options = execution.Options(store.folder, {}, "cpu")
    before = threading.active_count()
    for _ in range(5):
        execution.do([], options, execution.os.getppid())
    assert threading.active_count() == before + 1


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="there are no such signals on Windows")
def test_workers_do_not_hear_ctrl_c_from_their_first_moment(monkeypatch):
    """The first process of a parent brought Python's resource tracker along, which let Ctrl-C through: tracebacks."""
    tracker = resource_tracker._resource_tracker
    monkeypatch.setattr(tracker, "_pid", None)
    monkeypatch.setattr(tracker, "_fd", None)
    with execution.spawning():
        resource_tracker.ensure_running()  # as starting a process does
        assert signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    os.close(tracker._fd)
    os.waitpid(tracker._pid, 0)


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="there are no such signals on Windows")
def test_ctrl_c_waits_until_a_process_is_started_though_another_thread_hears_it():
    """It struck between the fork of a kernel's process and its orders: a traceback of the process."""
    ends, reached = threading.Event(), []
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it in the background
    other = threading.Thread(target=ends.wait)
    other.start()

    def start():
        with execution.spawning():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.05)
            reached.append("the end")

    with pytest.raises(KeyboardInterrupt):
        start()
    signal.signal(signal.SIGINT, before)
    assert reached == ["the end"]
    ends.set()
    other.join()


def test_what_is_only_to_be_observed_is_not_thought_to_be_trained(runs, store, monkeypatch):
    """Its time was that of training it, so that the time left was hours too long."""
    train([Job(job.experiment, ()) for job in runs], store=store, device="cpu", workers=1)
    thought, progress = [], schedule.Progress
    monkeypatch.setattr(schedule, "_LEAST", 1e-9)
    monkeypatch.setattr(schedule, "Progress", lambda *given: thought.append(given[1]) or progress(*given))
    train([Job(job.experiment, (Samples(2),)) for job in runs], store=store, device="cpu", workers=1)
    assert [*thought[0].values()] == [1e-9, 1e-9]
