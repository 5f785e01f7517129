import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vaelib import (
    Adam,
    Bits,
    Bound,
    Category,
    DualGeometricJS,
    Experiment,
    Gaussian,
    GeometricJS,
    Hybrid,
    Information,
    Joint,
    Learned,
    Newton,
    Point,
    Relaxation,
    SampledRate,
    Score,
)
from vaelib.data import Block, Dataset
from vaelib.errors import Invalid
from vaelib.parts import key_of

RELAXED = Relaxation()


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"network": "resnet"}, "network: 'resnet' is not allowed; it has to be one of burgess, mlp"),
        ({"likelihood": "poisson"}, "likelihood: 'poisson' is not allowed; it has to be one of bernoulli"),
        ({"latent": "cauchy"}, "latent: 'cauchy' is not allowed; it has to be one of gaussian"),
        ({"latent": ["gaussian"]}, "latent: ('gaussian',) is not allowed; it has to be one of gaussian"),
        ({"objective": "jensen"}, "objective: 'jensen' is not allowed; it has to be one of bound"),
        (
            {"objective": {"kind": "bound", "divergence": {"kind": "geometric_js", "skew": 1.1}}},
            "objective.divergence.skew.start: 1.1 is not allowed; it has to be a number from 0 to 1",
        ),
        (
            {"latent": {"kind": "gaussian", "size": 0}},
            "latent.size: 0 is not allowed; it has to be a whole",
        ),
        ({"latent": {"kind": "gaussian", "size": 2.5}}, "latent.size: 2.5 is not allowed; it has to be a whole number"),
        ({"optimiser": Adam()}, None),
        ({"optimiser": 1e-3}, "optimiser: 0.001 is not allowed; it has to be"),
        ({"epochs": True}, "epochs: True is not allowed; it has to be a whole number from 1 up"),
        ({"epochs": 10**400}, "is not allowed; it has to be a whole number from 1 up"),
        ({"epochs": 10**5000}, "epochs: a whole number of 16610 bits is not allowed"),
        ({"seed": -1}, "seed: -1 is not allowed; it has to be a whole number from 0 up"),
        ({"seed": "1"}, "seed: '1' is not allowed"),
        ({"data": 5}, "data: 5 is not allowed"),
        ({"data": "mnist6k"}, "data: 'mnist6k' is not allowed"),
        ({"data": "sprites:many"}, "data: 'sprites:many' is not allowed"),
        ({"dataset": "mnist"}, "dataset: 'mnist' is not allowed; it has to be left out: Experiment has"),
        ({"latent": Bits(4)}, "latent.relaxation: None is not allowed; it has to be given for this objective"),
        ({"latent": Bits(4, RELAXED), "objective": Score()}, "it has to be left out for this objective"),
        (
            {"latent": Bits(4, RELAXED), "objective": SampledRate()},
            "latent: 'bits' is not allowed; it has to",
        ),
        ({"latent": Point(), "objective": Score()}, "latent: 'point' is not allowed; it has to be one with noise"),
        ({"latent": Bits(4, RELAXED), "objective": Bound("mmd_moments")}, "objective.divergence: 'mmd_moments' is not"),
        ({"objective": Bound(information=Information())}, "information.about: 'category' is not allowed"),
        ({"objective": Bound(information=Information((3, 10)))}, "information.about: (3, 10) is not allowed"),
        ({"objective": Bound(information=Information((3, 3)))}, "information.about: (3, 3) is not allowed"),
    ],
)
def test_what_is_not_allowed_is_refused_in_one_sentence(fields, says):
    if says is None:
        Experiment(**fields)
        return
    with pytest.raises(Invalid) as caught:
        Experiment(**fields)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_keys_stay_as_they_are():
    """Defaults are left out: a changed default would give stored runs another meaning, and needs a new SCHEMA."""
    assert Experiment().canonical() == {}
    whole = Experiment(
        data="mnist",
        network="mlp",
        latent=Joint((Gaussian(16), Category(10, Relaxation(0.5)))),
        objective=Bound(DualGeometricJS(Learned(0.1, 1e-3)), weight=2),
        optimiser=Adam(1e-3),
        likelihood="gaussian",
    )
    assert whole.canonical() == {
        "data": "mnist",
        "network": {"kind": "mlp"},
        "latent": {
            "kind": "joint",
            "parts": [
                {"kind": "gaussian", "size": 16},
                {"kind": "category", "relaxation": {"temperature": 0.5}},
            ],
        },
        "objective": {
            "kind": "bound",
            "divergence": {"kind": "dual_geometric_js", "skew": {"kind": "learned", "start": 0.1, "rate": 0.001}},
            "weight": 2.0,
        },
        "optimiser": {"rate": 0.001},
        "likelihood": {"kind": "gaussian"},
    }
    assert whole.key == "ce164dd73b446053755d78e670dd1ad47728b9dc69ad33054b297eadb1d93ebc"


def test_one_meaning_has_one_key():
    assert Experiment(objective=Bound(weight=4)).key == Experiment(objective=Bound(weight=4.0)).key
    assert (
        Experiment(objective=Bound(capacity=0.0), optimiser=Adam(decay=0.0, weight_decay=-0.0)).key == Experiment().key
    )
    assert Experiment(objective=Bound(draws=1, corruption=None)).key == Experiment(objective="bound").key
    halves = Bound("geometric_js"), Bound(GeometricJS(0.5)), Bound(GeometricJS({"kind": "fixed", "start": 0.5}))
    assert len({Experiment(objective=half).key for half in halves}) == 1


@given(st.integers(0, 2**31), st.floats(0, 1), st.sampled_from([GeometricJS, DualGeometricJS]))
def test_the_key_is_that_of_the_stored_text(seed, skew, form):
    experiment = Experiment(objective=Bound(form(skew)), seed=seed)
    text = json.loads(json.dumps(experiment.canonical()))
    assert Experiment(**text) == experiment
    assert key_of(text) == experiment.key


def test_what_differs_has_another_key():
    variants = [
        Experiment(),
        *(Experiment(**{name: value}) for name, value in (("data", "mnist"), ("network", "mlp"), ("epochs", 11))),
        *(Experiment(**{name: value}) for name, value in (("batch_size", 32), ("seed", 1), ("likelihood", "gaussian"))),
        *(Experiment(latent=latent) for latent in (Gaussian(3), Point(10), Bits(10, RELAXED), Category(10, RELAXED))),
        *(Experiment(latent=Bits(10, r)) for r in (Relaxation(0.5), Relaxation(0.5, 0.1), Relaxation(0.5, 0.1, True))),
        *(Experiment(optimiser=o) for o in (Adam(1e-3), Adam(decay=0.1), Adam(weight_decay=0.1))),
        *(
            Experiment(objective=o)
            for o in (Bound(weight=2.0), Bound(capacity=3.0), Bound(corruption=1.0), Bound(draws=2))
        ),
        *(Experiment(objective=Bound(GeometricJS(s))) for s in (0.1, Learned(0.1), Learned(0.1, 1.0), Newton(0.1))),
        *(Experiment(objective=o) for o in (Score(draws=4), Hybrid(draws=4), Hybrid(draws=4, proposal=0.5))),
        *(
            Experiment(objective=Bound(information=Information((1, 2), w, e)))
            for w, e in ((1.0, "prior"), (3.0, "prior"))
        ),
        Experiment(objective=Bound(information=Information((1, 2), 1.0, "aggregate"))),
    ]
    assert len({e.key for e in variants}) == len(variants)


def test_what_is_a_tensor_alone_differs_within_a_stack():
    base = Experiment(objective=Bound(GeometricJS(Learned(0.1)), weight=2.0))
    same = base.replace(seed=3, objective=Bound(GeometricJS(Learned(0.9)), weight=0.5))
    assert same.structure() == base.structure()
    others = [
        base.replace(epochs=11),
        base.replace(latent=Gaussian(3)),
        base.replace(objective=Bound(GeometricJS(0.1), weight=2.0)),
        base.replace(objective=Bound(GeometricJS(Learned(0.1)), weight=2.0, corruption=1.0)),
        base.replace(objective=Bound(GeometricJS(Learned(0.1, 0.5)), weight=2.0)),
    ]
    assert len({base.structure(), *(e.structure() for e in others)}) == len(others) + 1


BLOCKS = (Block("a", 5, "gaussian"),)


def _data(train, **fields):
    return Dataset("made", train, train[:2], **fields)


@pytest.mark.parametrize(
    ("experiment", "data", "says"),
    [
        (Experiment(), _data(torch.rand(64, 1, 28, 28)), "network: 'burgess' is not allowed"),
        (Experiment(network="cnc"), _data(torch.rand(64, 1, 32, 32)), "network: 'cnc' is not allowed"),
        (Experiment(network="mlp"), _data(torch.randn(64, 5)), "likelihood: 'bernoulli' is not allowed"),
        (Experiment(network="mlp", likelihood="balanced"), _data(torch.rand(64, 5)), "likelihood: 'balanced' is not"),
        (Experiment(network="cnc"), _data(torch.rand(65, 5)), "batch_size: 1 is not allowed"),
        (
            Experiment(network="mlp", likelihood="balanced"),
            _data(torch.rand(64, 5), blocks=(Block("a", 5, "gaussian"),)),
            None,
        ),
    ],
)
def test_data_that_do_not_fit_are_refused(experiment, data, says):
    if says is None:
        experiment.check(data)
        return
    with pytest.raises(Invalid) as caught:
        experiment.check(data)
    assert says in str(caught.value)


def test_a_start_depends_on_the_seed_alone():
    torch.manual_seed(1)
    first = Experiment(seed=3).build((1, 32, 32))
    expected = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), expected), "building draws from the global generator"
    torch.manual_seed(2)
    second = Experiment(seed=3, objective=Bound("dual_geometric_js")).build((1, 32, 32))
    for (name, a), b in zip(first.vae.named_parameters(), second.vae.parameters()):
        assert torch.equal(a, b), name
    third = Experiment(seed=4).build((1, 32, 32))
    assert not torch.equal(first.vae.encoder[0].weight, third.vae.encoder[0].weight)


def test_the_start_of_a_vae_does_not_depend_on_what_is_asked_of_its_code():
    latent = Joint((Gaussian(4), Category(3, RELAXED)))
    plain, informed = (
        Experiment(latent=latent, network="mlp", objective=Bound(information=what)).build((1, 32, 32))
        for what in (None, Information())
    )
    for (name, a), b in zip(plain.vae.named_parameters(), informed.vae.parameters()):
        assert torch.equal(a, b), name


@pytest.mark.parametrize(
    ("latent", "about", "places"),
    [
        (Joint((Gaussian(10), Category(3, RELAXED))), "category", [10, 11, 12]),
        (Category(3, RELAXED), "category", [0, 1, 2]),
        (Gaussian(10), (7, 3), [7, 3]),
        (Joint((Category(3, RELAXED), Gaussian(10))), (4,), [4]),
    ],
)
def test_what_information_is_about(latent, about, places):
    e = Experiment(latent=latent, network="mlp", objective=Bound(information=Information(about)))
    assert e.build((1, 32, 32)).objective.information.places == places
