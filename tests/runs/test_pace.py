import pytest

from vaelib import MLP, Adam, Bound, Experiment, GeometricJS, Study, data
from vaelib.measures import AnnealedEvidence, Errors
from vaelib.runs.execution import Job
from vaelib.runs.pace import Pace
from vaelib.runs.schedule import estimated

NOTHING_KNOWN = 5_000
E = Experiment(network=MLP((8,)), epochs=4, optimiser=Adam(1e-3))


@pytest.fixture
def images(tiny):
    return data.load(tiny)


@pytest.fixture
def took(store):
    """Write down that a run of 1,000 images an epoch was trained at so many a second."""
    import pandas as pd

    def write(e, pace, *, shape=(1, 32, 32), device="cpu (x86_64)", created="2026-01-01", **more):
        provenance = {
            "created": created,
            "seconds": 1000 * e.epochs / pace,
            "images": 1000,
            "shape": list(shape),
            "device": device,
            **more,
        }
        store.write(e.canonical(), history=pd.DataFrame({"epoch": [0]}), metrics={}, provenance=provenance)

    return write


def paces(store, images, e=E, device="cpu", **options):
    return len(images.train) * e.epochs / Pace(store, device).seconds(e, images, **options)


def test_where_nothing_is_known_it_is_guessed_or_tried(store, images, monkeypatch):
    assert paces(store, images) == pytest.approx(NOTHING_KNOWN)
    tried = list[Experiment]()
    monkeypatch.setattr(Pace, "_tried", lambda self, e, data: tried.append(e) or 700.0)
    pace = Pace(store, "cpu")
    assert pace.seconds(E, images, calibrate=True) == pytest.approx(800 / 700)
    assert pace.seconds(E.replace(seed=1), images, calibrate=True) == pytest.approx(800 / 700)
    assert pace.seconds(E.replace(objective=Bound(GeometricJS())), images, calibrate=True) == pytest.approx(800 / 700)
    assert tried == [E], "once for a network"


def test_what_is_tried_is_a_pace(store, images):
    assert 10 < paces(store, images, calibrate=True) < 1e7


def test_runs_of_the_same_structure_say_it_best_then_those_of_the_same_network(store, images, took):
    took(E.replace(objective=Bound(GeometricJS()), seed=7), 300)
    assert paces(store, images) == pytest.approx(300), "the same network"
    took(E.replace(seed=8, epochs=9), 400)
    assert paces(store, images) == pytest.approx(400), "the same but for seed and epochs"
    assert paces(store, images, E.replace(data="mnist5k", epochs=1)) == pytest.approx(400), "or for the data"
    assert paces(store, images, E.replace(optimiser=Adam(1e-2))) == pytest.approx(350), "the median of the network's"


@pytest.mark.parametrize(
    "other",
    [
        {"e": E.replace(network=MLP((16,)))},
        {"e": E.replace(batch_size=32)},
        {"shape": (1, 28, 28)},
        {"device": "cuda:0 (H100)"},
        {"images": None},
        {"seconds": 0},
    ],
    ids=str,
)
def test_runs_of_another_kind_say_nothing(store, images, took, other):
    took(**{"e": E, "pace": 300} | other)
    assert paces(store, images) == pytest.approx(NOTHING_KNOWN)


def test_any_accelerator_of_the_kind_says_it(store, images, took):
    took(E, 90_000, device="cuda:1 (H100)")
    assert paces(store, images, device="cuda:0") == pytest.approx(90_000)


def test_the_latest_count(store, images, took):
    for day, pace in enumerate([100, 100, 100, 100, 100, 500, 600, 700, 800, 900]):
        took(E.replace(seed=day), pace, created=f"2026-01-{day + 1:02}")
    assert paces(store, images) == pytest.approx(700)


def test_a_damaged_run_does_no_harm(store, images, took):
    took(E, 300)
    took(E.replace(seed=1), 500, created="2026-01-02")
    for file in store.folder.glob("??/*.zip"):
        if file.stem == E.key:
            file.write_bytes(file.read_bytes()[:100])
    assert paces(store, images) == pytest.approx(500)


def test_what_is_observed_at_the_end_takes_time_as_well(store, images, took):
    took(E, 400)
    pace, epochs = Pace(store, "cpu"), len(images.train) * E.epochs
    annealed = AnnealedEvidence(images=10, chains=28, steps=5, leapfrog=2)
    assert annealed.cost() == 10 * (28 + 8 + 2 * 32) * 5 * 2 // 2
    assert pace.seconds(E, images, [annealed, Errors()]) == pytest.approx((epochs + annealed.cost()) / 400)
    assert pace.seconds(E, images, [annealed], train=False) == pytest.approx(annealed.cost() / 400)


def test_the_hours_of_a_plan_count_what_is_observed_of_runs_that_are_stored(store, tiny, images):
    e = E.replace(data=tiny, network=MLP(8), epochs=1)
    annealed = AnnealedEvidence(images=1000, chains=1000, steps=30)
    Study({"a": e}, observe=[Errors()]).run(store=store, device="cpu", weights=True)
    (cost,) = estimated([Job(e, (Errors(),))], store).values()
    assert cost.found
    (cost,) = estimated([Job(e, (Errors(), annealed))], store).values()
    assert not cost.found
    assert cost.images == 0, "its weights are there"
    (known,) = {entry["provenance"]["seconds"] for entry in store.summaries()}
    assert cost.seconds == pytest.approx(annealed.cost() / (len(images.train) / known))
