import os
import signal
import subprocess
import sys
import time

import joblib
import numpy as np
import pandas as pd
import pytest
import torch

from vaelib import runs, sweeps
from vaelib import store as store_module
from vaelib.experiments import Experiment, description, trained
from vaelib.store import Store
from vaelib.sweeps import run, sweep
from vaelib.training import NonFiniteLoss


@pytest.fixture
def some(tiny):
    def make(**changes):
        settings = {"divergence": "dual_geometric_js", "skew_update": "gradient", "network": "mlp", "epochs": 3}
        settings |= {"batch_size": 32, "learning_rate": 1e-3, "dataset": tiny, **changes}
        return [Experiment(**settings, skew=skew, seed=seed) for skew in (0.1, 0.9) for seed in (0, 1)]

    return make


def bits(results):
    return results.history.drop(columns="seconds")


def test_a_sweep_returns_tidy_tables(some, store, capsys):
    experiments = some(landscape=5)
    results = sweep(experiments, store=store, workers=1)
    assert "0 found in the store, 4 to run (4 new)" in capsys.readouterr().out
    assert results.keys == [e.key for e in experiments]
    history = results.history
    assert len(history) == 4 * 4
    assert sorted(history["epoch"].unique()) == [0, 1, 2, 3]
    assert set(history["start"]) == {0.1, 0.9}
    assert set(history["divergence"]) == {"dual_geometric_js"}
    assert history["test_divergence"].gt(0).all()
    first = history[history["epoch"] == 0]
    assert (first["skew"] == first["start"]).all()
    assert first["train_loss"].isna().all()
    assert results.final["epoch"].eq(3).all()
    assert len(results.final) == 4
    landscape = results.landscape
    assert len(landscape) == 4 * 4 * 3 * 5
    ends = landscape[(landscape["form"] == "geometric_js") & (landscape["epoch"] == 3)].groupby("key")
    rate = results.final.set_index("key")["test_rate"]
    for key, rows in ends:
        assert rows["divergence"].iloc[0] == pytest.approx(rate[key], rel=1e-4), "at skew 0 the form is KL(q|p)"
    assert results[0].metrics["active_latents"] <= 10
    assert sum(results[0].metrics["latent_rates"]) == pytest.approx(results[0].metrics["test_rate"], rel=1e-4)


def test_a_second_sweep_is_served_from_the_store(some, store, capsys, monkeypatch):
    first = sweep(some(), store=store, workers=1)
    capsys.readouterr()
    monkeypatch.setattr(runs, "train", lambda *a, **k: pytest.fail("trained again"))
    again = sweep(some(), store=store)
    assert "4 found in the store, none to run" in capsys.readouterr().out
    pd.testing.assert_frame_equal(again.history, first.history)


def test_why_a_run_is_run_again_is_said(some, store, tiny, capsys, monkeypatch):
    experiments = some(epochs=1)[:2]

    def said(**options):
        capsys.readouterr()
        sweep(experiments, store=store, workers=1, **options)
        return capsys.readouterr().out

    sweep(experiments[:1], store=store)
    assert "1 found in the store, 1 to run (1 new)" in said()
    assert "(2 forced)" in said(force=True)
    assert "(2 weights asked for)" in said(weights=True)
    assert "2 found" in said(weights=True)
    assert "2 found" in said()
    monkeypatch.setattr(store_module, "SCHEMA", store_module.SCHEMA + 1)
    monkeypatch.setattr(sweeps, "SCHEMA", store_module.SCHEMA)
    assert "(2 code schema changed)" in said()
    file = tiny.removeprefix("npz:")
    np.savez(file, **{name: values[:-8] for name, values in np.load(file).items()})
    assert "(2 data changed)" in said()


def test_neither_workers_nor_order_nor_stack_change_a_runs_bits(some, tmp_path):
    experiments = some()
    alone = sweep(experiments, store=Store(tmp_path / "a"), workers=1)
    parallel = sweep(experiments[::-1], store=Store(tmp_path / "b"), workers=2)
    single = [run(e, store=Store(tmp_path / "c")) for e in experiments]
    for e, entry in zip(experiments, single):
        for results in (alone, parallel):
            other = results[results.keys.index(e.key)]
            pd.testing.assert_frame_equal(
                other.history.drop(columns="seconds"), entry.history.drop(columns="seconds"), check_exact=True
            )


def test_a_stack_is_close_to_runs_alone(some, tmp_path):
    """What an accelerator does, on a CPU: groups of one structure are trained in one vectorised step."""
    experiments = some()
    alone = bits(sweep(experiments, store=Store(tmp_path / "a"), workers=1))
    stacked_store = Store(tmp_path / "b")
    for group in sweeps._stacks(experiments, stacked_store):
        assert len(group) == 4
        list(
            runs.train(
                group, fingerprints={e.dataset: None for e in group}, weights=False, force=False, device="cpu",
                threads=1, checkpoint_every=5, store=stacked_store.folder,
            )
        )  # fmt: skip
    stacked = bits(sweep(experiments, store=stacked_store))
    assert stacked_store.get(experiments[0].key).provenance["stack"] == 4
    numbers = alone.select_dtypes("number").columns
    pd.testing.assert_frame_equal(stacked[numbers], alone[numbers], rtol=1e-3, atol=1e-5)


def test_a_sweep_runs_on_the_backend_that_the_user_sets(some, tmp_path):
    distributed = pytest.importorskip("distributed")
    experiments = some()[:2]
    expected = bits(sweep(experiments, store=Store(tmp_path / "a"), workers=1))
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster),
        joblib.parallel_config("dask"),
    ):
        found = bits(sweep(experiments, store=Store(tmp_path / "b")))
    pd.testing.assert_frame_equal(found, expected, check_exact=True)


def test_stacks_hold_what_can_share_a_step(some, store):
    same = some()
    other = some(network="burgess")
    groups = sweeps._stacks([same[0], other[0], same[1], other[1]], store)
    assert groups == [[same[0], same[1]], [other[0], other[1]]]
    many = [Experiment(seed=seed) for seed in range(100)]
    assert [len(g) for g in sweeps._stacks(many, store)] == [64, 36]


def test_trained_weights_come_back(some, store):
    e = some()[0]
    entry = run(e, store=store, weights=True)
    trainee = trained(entry)
    assert description(entry) == e
    assert not trainee.training
    assert trainee.objective.skew().item() == pytest.approx(entry.metrics["skew"])
    bare = run(some()[1], store=store)
    with pytest.raises(ValueError, match="was stored without; sweep it with weights=True"):
        trained(bare)


def test_a_loss_that_is_not_finite_leaves_nothing(some, store):
    e = some(learning_rate=1e30)[0]
    with pytest.raises(NonFiniteLoss, match=r"is (nan|inf) in epoch"):
        run(e, store=store)
    assert store.entries() == []
    assert [p.name for p in store.folder.glob("**/*") if p.is_file()] == []


def test_a_damaged_checkpoint_is_not_gone_on_from(some, store):
    e = some()[0]
    checkpoint = store.checkpoint(e.key)
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"\x08\x00\x00\x00")
    entry = run(e, store=store)
    assert entry.history["epoch"].tolist() == [0, 1, 2, 3]
    assert not checkpoint.exists()


SCRIPT = """
import sys
from vaelib.experiments import Experiment
from vaelib.store import Store
from vaelib.sweeps import sweep
if __name__ == "__main__":
    fields = dict(network="burgess", divergence="geometric_js", skew_update="gradient", epochs=12, batch_size=20)
    experiments = [Experiment(dataset=sys.argv[1], landscape=3, seed=s, **fields) for s in range(2)]
    sweep(experiments, store=Store(sys.argv[2]), workers=2, checkpoint_every=2, weights=True)
"""


def test_a_killed_sweep_goes_on_with_the_same_bits(tiny, tmp_path):
    script = tmp_path / "sweep.py"
    script.write_text(SCRIPT)

    def start(folder):
        return subprocess.Popen(
            [sys.executable, script, tiny, tmp_path / folder], start_new_session=True, stderr=subprocess.PIPE, text=True
        )

    undisturbed = start("a")
    undisturbed.communicate()
    assert undisturbed.returncode == 0

    killed = start("b")
    deadline = time.monotonic() + 60
    while not list((tmp_path / "b").glob("checkpoints/*.safetensors")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    store = Store(tmp_path / "b")
    checkpoints = list(store.folder.glob("checkpoints/*.safetensors"))
    assert checkpoints, "nothing to go on from"
    assert all(runs.Checkpoint.read(file).epoch < 12 for file in checkpoints)
    for entry in store.entries():
        assert len(entry.history) == 13, "a broken entry"

    assert start("b").wait() == 0
    whole = Store(tmp_path / "a").entries()
    again = store.entries()
    assert [e.key for e in again] == [e.key for e in whole]
    assert len(whole) == 2
    for a, b in zip(whole, again):
        pd.testing.assert_frame_equal(
            a.history.drop(columns="seconds"), b.history.drop(columns="seconds"), check_exact=True
        )
        pd.testing.assert_frame_equal(a.landscape, b.landscape, check_exact=True)
        assert a.metrics == b.metrics
        ours, theirs = a.weights(), b.weights()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert not list(store.folder.glob("checkpoints/*.safetensors"))
