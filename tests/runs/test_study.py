import multiprocessing
import subprocess
import sys

import joblib
import numpy as np
import pandas as pd
import pytest
import torch

from vaelib import (
    CNC,
    MLP,
    Adam,
    Bound,
    DualGeometricJS,
    Experiment,
    Gaussian,
    Learned,
    Store,
    Study,
    trained,
)
from vaelib import data as datasets
from vaelib.errors import Invalid, UserError
from vaelib.measures import (
    Categories,
    Disentanglement,
    Errors,
    Landscape,
    Reconstructions,
    Relapse,
    Samples,
    Separability,
    reconstruction_error,
)
from vaelib.runs import Job, execution, schedule, train
from vaelib.runs import store as store_module
from vaelib.training import NonFiniteLoss

NAMES = ("start", "seed")


@pytest.fixture
def some(tiny):
    def make(observe=(), **changes):
        base = Experiment(data=tiny, network=MLP(32), epochs=3, batch_size=32, optimiser=Adam(1e-3)).replace(**changes)
        objectives = {start: Bound(DualGeometricJS(Learned(start, 1e-3))) for start in (0.1, 0.9)}
        runs = {(a, s): base.replace(objective=o, seed=s) for a, o in objectives.items() for s in (0, 1)}
        return Study(runs, names=NAMES, observe=observe)

    return make


def _options(store, e):
    return execution.Options(store.folder, {e.data: datasets.fingerprint(e.data)}, "cpu")


def bits(results):
    return results.history.drop(columns="seconds")


def test_a_study_gives_tidy_tables_with_its_labels(some, store, capsys):
    study = some([Landscape(points=5)])
    results = study.run(store=store, workers=1)
    assert "0 found in the store, 4 to run (4 new)" in capsys.readouterr().out
    assert results.run_keys == [e.key for e in study.values()]
    history = results.history
    assert list(history.columns[:4]) == ["start", "seed", "key", "epoch"]
    assert len(history) == 4 * 4
    assert sorted(history["epoch"].unique()) == [0, 1, 2, 3]
    assert np.allclose(history["-elbo"], history["test_distortion"] + history["test_rate"])
    first = history[history["epoch"] == 0]
    assert np.allclose(first["skew"], first["start"])
    assert first["train_loss"].isna().all()
    assert results.final["epoch"].eq(3).all()
    assert results.final["active_latents"].le(10).all()
    assert results.final[["start", "seed"]].drop_duplicates().shape == (4, 2)
    landscape = results.observed(Landscape(points=5))
    assert len(landscape) == 4 * 4 * 3 * 5
    ends = landscape.query("form == 'geometric_js' and epoch == 3 and skew == 0").set_index(["start", "seed"])
    rate = results.final.set_index(["start", "seed"])["test_rate"]
    assert np.allclose(ends["divergence"], rate.loc[ends.index], rtol=1e-4), "at skew 0 the form is KL(q|p)"
    rates = results.latent_rates.groupby(["start", "seed"])["rate"].sum()
    assert np.allclose(rates, rate.loc[rates.index], rtol=1e-4)
    best = results.optimal_skews.set_index(["start", "seed"])["geometric_js"]
    lowest = landscape.query("form == 'geometric_js' and epoch == 3")
    lowest = lowest.loc[lowest.groupby(["start", "seed"])["divergence"].idxmin()].set_index(["start", "seed"])["skew"]
    assert (best - lowest).abs().max() <= 0.25, "of five skews the lowest is next to the best"


def test_results_are_found_by_label_and_a_missing_one_raises(some, store):
    study = some()
    results = study.run(store=store, workers=1)
    assert results[0.9, 1].experiment == study[0.9, 1].canonical()
    assert results[{"seed": 1, "start": 0.9}].key == results[0.9, 1].key
    assert results.select(seed=1).run_keys == [results[0.1, 1].key, results[0.9, 1].key]
    assert len(results.select(start=[0.1, 0.9], seed=0)) == 2
    with pytest.raises(Invalid, match=r"label: \(0.5, 1\) is not allowed"):
        results[0.5, 1]
    with pytest.raises(Invalid, match="label: 'form' is not allowed"):
        results.select(form="js")
    with pytest.raises(UserError, match="observer: 'errors' did not see 4 of the runs"):
        results.observed(Errors())


def test_labels_may_be_mappings_or_single_values_and_have_to_fit():
    pairs = [({"form": "kl", "seed": s}, Experiment(seed=s)) for s in (0, 1)]
    assert Study(pairs)["kl", 1].seed == 1
    assert Study(pairs).names == ("form", "seed")
    assert Study({0: Experiment(), 1: Experiment(seed=1)}, names=["seed"])[1].seed == 1
    with pytest.raises(Invalid, match="names"):
        Study({(0, 1): Experiment()}, names=["seed"])
    with pytest.raises(Invalid, match="all different"):
        Study([pairs[0], pairs[0]])
    with pytest.raises(Invalid, match="labelled with form, seed"):
        Study([pairs[0], ({"form": "kl"}, Experiment())])


def test_a_label_does_not_hide_a_column(some, store):
    results = Study({0.1: some()[0.1, 0]}, names=["skew"]).run(store=store)
    with pytest.raises(Invalid, match="names: 'skew' is not allowed"):
        _ = results.history


def test_an_empty_study_has_empty_tables(store):
    results = Study({}, names=("seed",)).run(store=store)
    assert len(results) == len(results.history) == len(results.final) == 0
    assert "seed" in results.history
    assert results.run_keys == []


def test_a_second_run_is_served_from_the_store(some, store, capsys, monkeypatch):
    first = some().run(store=store, workers=1)
    capsys.readouterr()
    monkeypatch.setattr(execution, "do", lambda *a, **k: pytest.fail("trained again"))
    again = some().run(store=store)
    assert "4 found in the store, none to run" in capsys.readouterr().out
    pd.testing.assert_frame_equal(again.history, first.history)


def test_why_a_run_is_run_again_is_said(some, store, tiny, capsys, monkeypatch):
    study = some(epochs=1).select(start=0.1)

    def said(observe=(), **options):
        capsys.readouterr()
        Study(dict(study), names=NAMES, observe=observe).run(store=store, workers=1, **options)
        return capsys.readouterr().out

    study.select(seed=0).run(store=store)
    assert "1 found in the store, 1 to run (1 new)" in said()
    assert "(2 forced)" in said(force=True)
    assert "2 found" in said()
    assert "(2 to be observed)" in said([Errors()])
    assert "2 found" in said([Errors()])
    monkeypatch.setattr(store_module, "SCHEMA", store_module.SCHEMA + 1)
    monkeypatch.setattr(execution, "SCHEMA", store_module.SCHEMA)
    assert "(2 code schema changed)" in said()
    file = tiny.removeprefix("npz:")
    np.savez(file, **{name: values[:-8] for name, values in np.load(file).items()})
    assert "(2 data changed)" in said()


def test_what_is_observed_later_costs_no_training_where_weights_are(some, store, monkeypatch):
    before = some().run(store=store, workers=1)
    monkeypatch.setattr(execution, "_train", lambda *a, **k: pytest.fail("trained again"))
    results = some([Errors(), Samples(3)]).run(store=store, workers=1)
    pd.testing.assert_frame_equal(results.history, before.history)
    errors = results.observed(Errors()).groupby(["start", "seed"])["error"].mean()
    final = results.final.set_index(["start", "seed"])["test_reconstruction"]
    assert np.allclose(errors, final.loc[errors.index], rtol=1e-5)
    assert {t["decoded"].shape for t in results.tensors(Samples(3)).values()} == {(3, 1, 32, 32)}
    with pytest.raises(UserError, match="gives tensors, not tables"):
        results.observed(Samples(3))


def test_an_observation_is_the_same_during_training_and_afterwards(some, tmp_path):
    observers = [Reconstructions(images=(0, 5), drawn=True), Samples(3)]
    during = some(observers).run(store=Store(tmp_path / "a"), workers=1)
    some().run(store=Store(tmp_path / "b"), workers=1)
    later = some(observers).run(store=Store(tmp_path / "b"), workers=1)
    for observer in observers:
        for label, tensors in during.tensors(observer).items():
            for name, tensor in tensors.items():
                assert torch.equal(tensor, later.tensors(observer)[label][name]), (observer.kind, name)


def test_without_weights_what_is_observed_is_kept_and_more_is_trained_for(some, store, capsys):
    first = some([Errors()]).run(store=store, workers=1, weights=False)
    assert not any(entry.has_weights for entry in first.values())
    with pytest.raises(UserError, match="was stored without its weights"):
        trained(first[0.1, 0])
    some([Errors()]).run(store=store)
    assert "none to run" in capsys.readouterr().out
    again = some([Samples(2)]).run(store=store, workers=1)
    assert "4 to run (4 to be observed)" in capsys.readouterr().out
    pd.testing.assert_frame_equal(bits(again), bits(first))
    pd.testing.assert_frame_equal(again.observed(Errors()), first.observed(Errors()))


def test_a_study_can_be_observed_otherwise(some):
    study = some([Errors()]).observing(Samples(2))
    assert dict(study) == dict(some())
    assert study.observe == (Samples(2),)


def test_observers_at_stated_epochs(some, store):
    results = some([Errors(at=(1, 3)), Landscape(points=3, at="end")]).select(start=0.1, seed=0).run(store=store)
    assert sorted(results.observed(Errors(at=(1, 3)))["epoch"].unique()) == [1, 3]
    assert "epoch" not in results.observed(Landscape(points=3, at="end"))


def test_neither_workers_nor_order_change_a_runs_bits(some, tmp_path):
    study = some()
    alone = study.run(store=Store(tmp_path / "a"), workers=1)
    turned = Study(dict(list(study.items())[::-1]), names=NAMES).run(store=Store(tmp_path / "b"), workers=2)
    for label, e in study.items():
        single = Study({"one": e}).run(store=Store(tmp_path / "c"))["one"].history
        for results in (alone, turned):
            other = results[label].history
            pd.testing.assert_frame_equal(
                other.drop(columns="seconds"), single.drop(columns="seconds"), check_exact=True
            )


def cohort(network, seed=0, **changes):
    fields = {"network": network, "likelihood": "balanced", "latent": Gaussian(4), "epochs": 2}
    return Experiment(data="simulated_cohort:clin+rna/0", optimiser=Adam(1e-3), seed=seed, **fields | changes)


def test_dropout_depends_on_the_runs_seed_alone(tmp_path):
    """It was drawn from the global generator, seeded by the first member of a stack, and shared by threads."""
    study = Study({s: cohort("cnc", s) for s in (0, 1, 2)}, names=["seed"])
    alone = study.run(store=Store(tmp_path / "a"), workers=1)
    with joblib.parallel_config("threading"):
        threaded = study.run(store=Store(tmp_path / "b"), workers=3)
    pd.testing.assert_frame_equal(bits(threaded), bits(alone), check_exact=True)
    stacked = Store(tmp_path / "c")
    (group,) = schedule._stacks([Job(e) for e in study.values()], stacked)
    options = _options(stacked, cohort("cnc"))
    execution.do(group, options)
    found = study.run(store=stacked)
    assert found[0].provenance["stack"] == 3
    numbers = ["train_loss", "test_loss", "test_reconstruction"]
    pd.testing.assert_frame_equal(found.history[numbers], alone.history[numbers], rtol=1e-3)


def test_a_stack_is_close_to_runs_alone(some, tmp_path):
    """What an accelerator does, on a CPU: groups of one structure are trained in one vectorised step."""
    study = some([Errors()])
    alone = study.run(store=Store(tmp_path / "a"), workers=1)
    store = Store(tmp_path / "b")
    for group in schedule._stacks([Job(e, study.observe) for e in study.values()], store):
        assert len(group) == 4
        execution.do(group, _options(store, study[0.1, 0]))
    stacked = study.run(store=store)
    assert stacked[0.1, 0].provenance["stack"] == 4
    numbers = bits(alone).select_dtypes("number").columns
    pd.testing.assert_frame_equal(stacked.history[numbers], alone.history[numbers], rtol=1e-3, atol=1e-5)
    assert np.allclose(stacked.observed(Errors())["error"], alone.observed(Errors())["error"], rtol=1e-2)


def test_stacks_hold_what_can_share_a_step(some, store):
    same, other = [[Job(e) for e in some(network=n).values()] for n in ("mlp", "burgess")]
    groups = schedule._stacks([same[0], other[0], same[1], other[1]], store)
    assert groups == [[same[0], same[1]], [other[0], other[1]]]
    many = [Job(Experiment(seed=seed)) for seed in range(100)]
    assert [len(g) for g in schedule._stacks(many, store)] == [64, 36]


def test_jobs_of_one_experiment_are_united(tiny, store, capsys):
    e = Experiment(data=tiny, network="mlp", epochs=1)
    train([Job(e, (Errors(),)), Job(e), Job(e, (Samples(2), Errors()))], store=store)
    assert "1 to run" in capsys.readouterr().out
    assert store.get(e.key).observed == {Errors().key, Samples(2).key}


def test_trained_weights_come_back(some, store, tiny):
    study = some()
    entry = study.run(store=store, workers=1)[0.1, 0]
    trainee = trained(entry)
    assert Experiment(**entry.experiment) == study[0.1, 0]
    assert not trainee.training
    assert float(trainee.objective.report()["skew"]) == pytest.approx(entry.metrics["skew"])
    error = reconstruction_error(trainee.vae, datasets.load(tiny).test).mean().item()
    assert error == pytest.approx(entry.metrics["test_reconstruction"], rel=1e-5)


@pytest.mark.parametrize("network", ["cnc", "x"])
def test_a_run_on_a_fold_comes_back_as_it_was_trained(store, network):
    e = cohort(network)
    entry = Study({"one": e}).run(store=store)["one"]
    test = datasets.load(e.data).test
    assert entry.history["train_loss"].diff().iloc[-1] < 0
    error = reconstruction_error(trained(entry).vae, test).mean().item()
    assert error == pytest.approx(entry.metrics["test_reconstruction"], rel=1e-5)


def test_a_loss_that_is_not_finite_leaves_nothing(some, store):
    with pytest.raises(NonFiniteLoss, match=r"is (nan|inf) in epoch"):
        some(optimiser=Adam(1e30)).select(start=0.1, seed=0).run(store=store)
    assert store.entries() == []
    assert not list(store.folder.glob("checkpoints/*"))


def test_data_that_do_not_fit_are_refused_before_any_training(store, tmp_path, monkeypatch):
    file = tmp_path / "vectors.npz"
    np.savez(file, train=np.random.default_rng(0).normal(size=(64, 5)), test=np.zeros((8, 5)))
    monkeypatch.setattr(execution, "do", lambda *a, **k: pytest.fail("trained"))
    good = Experiment(data=f"npz:{file}", network="mlp", likelihood={"kind": "gaussian", "sigmoid": False}, epochs=1)
    with pytest.raises(Invalid, match="likelihood: 'bernoulli' is not allowed"):
        Study({0: good, 1: good.replace(likelihood="bernoulli")}).run(store=store)
    with pytest.raises(Invalid, match="network: 'cnc' is not allowed"):
        Study({0: Experiment(network=CNC(), epochs=1)}).run(store=store)


def test_an_observer_that_a_run_cannot_have_is_refused_before_any_training(some, store, monkeypatch):
    monkeypatch.setattr(execution, "do", lambda *a, **k: pytest.fail("trained"))
    for observer, says in (
        (Separability(), "observe: 'separability' is not allowed; it has to be one that does without classes"),
        (Relapse(), "without labels and months"),
        (Disentanglement(), "without factors"),
        (Categories(), "without labels and category"),
        (Reconstructions(images=(0, 40)), "of images below 40, and not of image 40"),
    ):
        with pytest.raises(Invalid, match=says):
            some([observer]).select(start=0.1, seed=0).run(store=store)


def test_a_damaged_entry_and_a_damaged_checkpoint_are_named_and_made_anew(some, store):
    study = some().select(start=0.1, seed=0)
    first = study.run(store=store)
    (entry,) = first.values()
    content = bytearray(entry.file.read_bytes())
    content[len(content) // 2] ^= 1
    entry.file.write_bytes(content)
    checkpoint = store.checkpoint(entry.key)
    checkpoint.parent.mkdir(exist_ok=True)
    checkpoint.write_bytes(bytes(content))
    with pytest.warns(UserWarning, match=entry.key[:12]):
        again = study.run(store=store)
    pd.testing.assert_frame_equal(bits(again), bits(first), check_exact=True)
    assert not checkpoint.exists()


def test_the_draft_of_a_killed_checkpoint_goes_when_the_run_is_stored(some, store):
    """10 MB each lay there for ever."""
    study = some().select(start=0.1, seed=0)
    (key,) = [e.key for e in study.values()]
    draft = store.folder / "checkpoints" / f".draft-{key}.zip.killed"
    draft.mkdir(parents=True)
    (draft / f"{key}.zip").write_bytes(b"half")
    study.run(store=store)
    assert not list(store.folder.glob("checkpoints/*"))


SCRIPT = """
import sys
from vaelib import *
from vaelib.measures import Landscape

def study(data):
    base = Experiment(data=data, network=MLP(32), objective=Bound(GeometricJS(Learned())), epochs=12, batch_size=40)
    return Study({s: base.replace(seed=s) for s in range(3)}, names=["seed"], observe=[Landscape(points=3)])

if __name__ == "__main__":
    study(sys.argv[1]).run(store=Store(sys.argv[2]), workers=1, checkpoint_every=2)
"""


def test_two_at_once_share_the_work(tiny, tmp_path):
    script = tmp_path / "study.py"
    script.write_text(SCRIPT)
    both = [subprocess.Popen([sys.executable, script, tiny, tmp_path / "a"]) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    names = {"__name__": "script"}
    exec(SCRIPT, names)
    shared = names["study"](tiny).stored(Store(tmp_path / "a"))
    alone = names["study"](tiny).run(store=Store(tmp_path / "b"), workers=1)
    pd.testing.assert_frame_equal(bits(shared), bits(alone), check_exact=True)
    seen = Landscape(points=3)
    pd.testing.assert_frame_equal(shared.observed(seen), alone.observed(seen), check_exact=True)
    assert len(Store(tmp_path / "a").entries()) == 3


def _hold(folder, key, held, free):
    with Store(folder).lock(key):
        held.set()
        free.wait(30)


def test_what_somebody_else_has_under_way_is_waited_for(some, store):
    study = some().select(start=0.1, seed=0)
    (key,) = [e.key for e in study.values()]
    context = multiprocessing.get_context("spawn")
    held, free = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(store.folder, key, held, free))
    other.start()
    assert held.wait(60)
    _, rest = execution.do([Job(study[0.1, 0])], _options(store, study[0.1, 0]))
    assert rest.busy == [Job(study[0.1, 0])]
    free.set()
    assert len(study.run(store=store)) == 1
    other.join()
