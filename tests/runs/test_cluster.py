"""More than one machine: a Dask cluster on loopback, shards of an array job, and several accelerators, played on a CPU.

Whatever happens to workers, the store in the end is the one that a single undisturbed process leaves.
"""

import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import joblib
import nbformat
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from nbformat.v4 import new_code_cell, new_notebook

from vaelib import Experiment, Store, Study, cli, paths
from vaelib.companion import plan
from vaelib.errors import UserError
from vaelib.runs import Job, execution, schedule

COUNT = 8
PARAMETERS = f"""squares: str = {{!r}}  # a data set
count: int = {COUNT}  # of runs
epochs: int = 12  # of each
profile: str = "quick"
"""
IMPORTS = """from vaelib import MLP, Adam, Experiment, Study
from vaelib.measures import Errors
"""
STUDY = """base = Experiment(data=squares, network=MLP(32), epochs=epochs, batch_size=20, optimiser=Adam(1e-3))
study = Study({s: base.replace(seed=s) for s in range(count)}, names=["seed"], observe=[Errors(at=(3,))])
"""

# In processes of their own: the command line in a project of the test's, and shards without what the command imports.
TRAIN = """import signal, sys
from pathlib import Path
from vaelib import cli, paths
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are started without
paths.project = lambda: Path(sys.argv[1])
cli.main(["train", *sys.argv[2:]])
"""
SHARDS = """import multiprocessing, sys
from pathlib import Path
from vaelib.companion import plan

def train(k):
    file = Path(sys.argv[1], "notebooks", "01_squares.ipynb")
    plan.train([("01_squares", file, {})], shard=(k, 3), workers=1)

shards = [multiprocessing.get_context("fork").Process(target=train, args=(k,)) for k in (1, 2, 3)]
for shard in shards:
    shard.start()
for shard in shards:
    shard.join()
sys.exit([shard.exitcode for shard in shards] != [0, 0, 0])
"""


@pytest.fixture(scope="module")
def folder(squares, tmp_path_factory):
    """A project with one notebook that plans a study of a few short runs."""
    cells = {"parameters": PARAMETERS.format(squares), "imports": IMPORTS, "study": STUDY}
    tagged = [new_code_cell(source, metadata={"tags": [tag]}) for tag, source in cells.items()]
    folder = tmp_path_factory.mktemp("project") / "notebooks"
    (folder / "profiles").mkdir(parents=True)
    (folder / "profiles" / "quick.yaml").write_text("{}")
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(new_notebook(cells=tagged, metadata=kernel), folder / "01_squares.ipynb")
    return folder.parent


@pytest.fixture
def project(folder, monkeypatch):
    """It is the project of the test."""
    monkeypatch.setattr(paths, "project", lambda: folder)
    return folder


def start(script, *arguments):
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def call(*arguments, store=None):
    result = CliRunner().invoke(cli.main, arguments, env={"VAELIB_RUNS": str(store or paths.runs())})
    assert result.exit_code == 0, result.output


@pytest.fixture(scope="module")
def undisturbed(folder, tmp_path_factory):
    """The entries that one process leaves."""
    store = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "project", lambda: folder)
        call("train", "--workers", "1", store=store)
    return Store(store).entries()


def same(found, expected):
    """The same runs with the same bits, and nothing under way."""
    assert [e.key for e in found] == [e.key for e in expected]
    for one, two in zip(found, expected):
        ours, theirs = (e.history.drop(columns="seconds") for e in (one, two))
        pd.testing.assert_frame_equal(ours, theirs, check_exact=True)
        assert one.metrics == two.metrics
        assert one.observed == two.observed
        for key in one.observed:
            pd.testing.assert_frame_equal(one.observation(key), two.observation(key), check_exact=True)
        ours, theirs = one.weights(), two.weights()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert not list(found[0].file.parents[1].glob("checkpoints/*"))


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert found
    return found


@pytest.fixture
def cluster(tmp_path):
    """A scheduler, and workers of one and of two threads: real processes. The address, and the workers by threads."""
    pytest.importorskip("distributed")
    processes = []

    def dask(*arguments):
        command = [sys.executable, "-m", "dask", *arguments, "--no-dashboard"]
        log = (tmp_path / f"dask-{len(processes)}.log").open("w")
        processes.append(subprocess.Popen(command, stdout=log, stderr=log, cwd=tmp_path))
        return processes[-1]

    file = tmp_path / "scheduler.json"
    dask("scheduler", "--scheduler-file", str(file), "--host", "127.0.0.1", "--port", "0")
    address = json.loads(wait_for(lambda: file.exists() and file.read_text()))["address"]
    workers = {
        threads: dask("worker", address, "--no-nanny", "--nthreads", str(threads), "--name", str(threads))
        for threads in (1, 2)
    }
    yield address, workers
    for process in processes:
        process.kill()
        process.wait()


def test_interrupted_and_with_a_worker_killed_a_cluster_leaves_the_same_bits(cluster, project, undisturbed):
    from distributed import Client

    address, workers = cluster
    with Client(address) as client:
        client.wait_for_workers(2)
        client.run(importlib.import_module, "vaelib.runs")  # so that both begin at once
        threads = client.nthreads()

        first = start(TRAIN, project, "--scheduler", address)
        wait_for(lambda: Store().under_way())
        first.send_signal(signal.SIGINT)
        said, _ = first.communicate(timeout=60)
        assert first.returncode == 130
        assert said.splitlines() == [
            "cluster: 2 workers now, and more may come",
            f"runs: 0 found in the store, {COUNT} to run ({COUNT} new)",
            "stopped: what was finished is stored; the same command goes on from there",
        ]
        # What was begun is done, as no thread can be stopped; what waited was taken back.
        wait_for(lambda: not Store().under_way())
        assert not any(client.processing().values())
        assert 1 <= len(Store().entries()) < COUNT

        def kill():
            wait_for(lambda: max(Store().under_way().values(), default=0) > 6)
            busy = [threads[worker] for worker, tasks in client.processing().items() if tasks]
            workers[min(busy)].kill()

        with ThreadPoolExecutor(1) as other:
            killed = other.submit(kill)
            call("train", "--scheduler", address)
            killed.result()
    same(Store().entries(), undisturbed)


@pytest.fixture
def dask():
    """A client, set for joblib, of a cluster in this process, which gets its one worker of one thread by and by."""
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 0, "threads_per_worker": 1, "processes": False, "dashboard_address": ":0"}
    with distributed.Client(**options) as client, joblib.parallel_config("dask"):
        client.cluster.scale(1)
        yield client


def _noting(jobs, options, parent=None):
    """In the place of :func:`execution.do`: write down what was to be done, by what thread."""
    call = [j.experiment.seed for j in jobs], options.device, threading.current_thread().name
    with (options.store / "calls").open("a") as file:
        print(json.dumps(call), file=file)
    return jobs, execution.Rest()


def calls(store):
    return [json.loads(line) for line in (store.folder / "calls").read_text().splitlines()]


def jobs(data, count, **changes):
    return [Job(Experiment(data=data, network="mlp", epochs=1, seed=seed, **changes)) for seed in range(count)]


@pytest.fixture
def noting(store, monkeypatch):
    store.folder.mkdir()
    monkeypatch.setattr(execution, "do", _noting)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    return store


def test_a_cluster_of_one_worker_does_the_work_in_order_on_its_cpu(dask, noting, tiny):
    """joblib does it here when there is but one worker; and the accelerators here are not those of a cluster."""
    schedule.train(jobs(tiny, 30), store=noting)
    seeds, devices, threads = zip(*calls(noting))
    assert [*seeds] == [[k] for k in range(30)]
    assert set(devices) == {"cpu"}
    assert "MainThread" not in threads


def test_stacks_are_the_tasks_of_a_cluster_with_accelerators(dask, noting, tiny):
    schedule.train([*jobs(tiny, 3), *jobs(tiny, 2, batch_size=32)], store=noting, device="cuda")
    assert [(seeds, device) for seeds, device, _ in calls(noting)] == [([0, 1, 2], "cuda"), ([0, 1], "cuda")]


def test_a_study_runs_on_the_cluster_that_the_user_sets(dask, tiny, tmp_path):
    study = Study({job.experiment.seed: job.experiment for job in jobs(tiny, 2)}, names=["seed"])
    there = study.run(store=Store(tmp_path / "there"))
    with joblib.parallel_config("loky"):
        here = study.run(store=Store(tmp_path / "here"), workers=1)
    same(list(there.values()), list(here.values()))


@pytest.mark.parametrize("name", ["KilledWorker", "CancelledError"])
def test_what_ends_a_cluster_is_one_sentence(dask, store, tiny, monkeypatch, name):
    def ended(jobs, options, parent=None):
        import distributed

        raise getattr(distributed, name)("do", SimpleNamespace(address="tcp://host:1"), 3)

    monkeypatch.setattr(execution, "do", ended)
    says = {"KilledWorker": "a run ended one Dask worker after the other", "CancelledError": "the scheduler .* is gone"}
    with pytest.raises(UserError, match=f"{says[name]}.*; what was finished is stored, and the same command goes on"):
        schedule.train(jobs(tiny, 2), store=store)


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def test_a_scheduler_that_does_not_answer_is_one_sentence(project, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr(cli, "_PATIENCE", 1)
    for address, says in (
        (f"tcp://127.0.0.1:{free_port()}", "scheduler: no Dask scheduler answers at tcp://127.0.0.1:"),
        ("nonsense", "scheduler: 'nonsense' is not allowed; it has to be the address of a Dask scheduler, such as"),
    ):
        result = CliRunner().invoke(cli.main, ["train", "--scheduler", address])
        assert result.exit_code == 1
        assert result.output.startswith(f"Error: {says}")
        assert result.output.count("\n") == 1
    monkeypatch.setitem(sys.modules, "distributed", None)
    result = CliRunner().invoke(cli.main, ["train", "--scheduler", "tcp://127.0.0.1:1"])
    assert result.output == "Error: scheduler: Dask is not installed here; pip install 'vaelib[cluster]' does it\n"


def test_shards_leave_what_one_process_does(project, undisturbed, tmp_path):
    shards = start(SHARDS, project)
    said, _ = shards.communicate(timeout=120)
    assert shards.returncode == 0, said
    same(Store().entries(), undisturbed)

    for k in "123":  # machines that share nothing, with fewer runs to do
        call("train", "-p", "count", "3", "--shard", f"{k}/3", "--workers", "1", store=tmp_path / k)
        call("runs", "export", str(tmp_path / f"{k}.tar.gz"), store=tmp_path / k)
        call("runs", "import", str(tmp_path / f"{k}.tar.gz"), store=tmp_path / "all")
    assert sum(len(Store(tmp_path / k).entries()) for k in "123") == 3, "no run was trained twice"
    same(Store(tmp_path / "all").entries(), [e for e in undisturbed if e.experiment.get("seed", 0) < 3])


def test_runs_of_one_structure_are_one_stack_whatever_notebook_plans_them(project, noting):
    """Trained on another name of the CPU, which makes stacks as an accelerator does."""
    file = project / "notebooks" / "01_squares.ipynb"
    work = [("a", file, {"count": 2}), ("b", file, {"count": 5, "epochs": 3}), ("c", file, {"count": 4})]
    plan.train(work, store=noting, device="cpu:0")
    assert [seeds for seeds, *_ in calls(noting)] == [[0, 1, 2, 3], [0, 1, 2, 3, 4]]


def test_each_worker_of_several_accelerators_stays_at_one(store, tiny, monkeypatch):
    folder = store.folder

    def place(parent):
        time.sleep(0.1)
        return os.getpid(), schedule._place(folder, parent)[0]

    places = joblib.Parallel(n_jobs=2)(joblib.delayed(place)(os.getpid()) for _ in range(8))
    numbers = dict(places)
    assert len({*places}) == len(numbers), "a worker keeps its number"
    assert sorted(numbers.values()) == [*range(len(numbers))]

    # Two names of the CPU play two accelerators.
    monkeypatch.setattr(schedule, "_devices", lambda: ["cpu", "cpu:0"])
    stacks = [*jobs(tiny, 2), *jobs(tiny, 2, batch_size=32)]
    schedule.train(stacks, store=store)
    made = [store.get(job.experiment.key).provenance for job in stacks]
    assert [p["stack"] for p in made] == [2, 2, 2, 2]
    assert {p["device"].split()[0] for p in made} <= {"cpu", "cpu:0"}

    assert store.prune() == 0
    monkeypatch.setattr(execution, "do", lambda jobs, options, parent: options.device)
    for number, device in enumerate(("cuda:0", "cuda:1", "cuda:2", "cuda:0")):
        monkeypatch.setattr(schedule, "_place", lambda store, parent, number=number: (number, None))
        options = execution.Options(store.folder, {}, "cuda:0")
        assert schedule._do([], options, ("cuda:0", "cuda:1", "cuda:2"), os.getpid()) == device
