import dataclasses
import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vaelib.estimators import ESTIMATORS
from vaelib.experiments import Experiment
from vaelib.store import key_of


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("divergence", "jensen", "one of kl, forward_kl"),
        ("network", "resnet", "one of burgess, mlp"),
        ("likelihood", "poisson", "one of bernoulli, gaussian"),
        ("latent", "cauchy", "one of gaussian"),
        ("latents", 0, "a whole number at least 1"),
        ("latents", 2.5, "a whole number at least 1"),
        ("epochs", True, "a whole number at least 1"),
        ("weight", -1.0, "a number at least 0"),
        ("weight", float("nan"), "a number at least 0"),
        ("learning_rate", "1e-3", "a number at least 0"),
        ("skew", 0.5, "left out with the divergence 'kl'"),
        ("skew_update", "gradient", "left out with the divergence 'kl'"),
        ("skew_learning_rate", 1e-3, "left out unless skew_update is 'gradient'"),
        ("landscape", 1, "a whole number at least 2"),
    ],
)
def test_a_bad_field_is_refused_in_one_sentence(field, value, says):
    with pytest.raises(ValueError, match=says) as caught:
        Experiment(**{field: value})
    assert str(caught.value).startswith(f"{field}: {value!r} is not allowed; ")
    assert "\n" not in str(caught.value)


def test_a_skew_outside_the_unit_interval_is_refused():
    with pytest.raises(ValueError, match=r"skew: 1.1 is not allowed; it has to be a number from 0 to 1"):
        Experiment(divergence="geometric_js", skew=1.1)


def test_a_divergence_with_a_skew_starts_fixed_at_one_half():
    plain = Experiment(divergence="geometric_js")
    assert (plain.skew, plain.skew_update, plain.skew_learning_rate) == (0.5, "fixed", None)
    assert Experiment(divergence="geometric_js", skew_update="gradient", learning_rate=0.01).skew_learning_rate == 0.01
    assert Experiment().skew is None


def test_keys_stay_as_they_are():
    """A new field has to be None by default; otherwise every stored run would lose its key."""
    assert Experiment().canonical() == {
        "dataset": "mnist5k",
        "network": "burgess",
        "latent": "gaussian",
        "latents": 10,
        "likelihood": "bernoulli",
        "divergence": "kl",
        "weight": 1.0,
        "epochs": 10,
        "batch_size": 64,
        "learning_rate": 0.0001,
        "seed": 0,
    }
    assert Experiment().key == "391c047643e171e3a19e86358406e3057842eec5ce4f87d643b5b38ac1eb2bd4"


def test_equal_numbers_give_equal_keys():
    assert Experiment(weight=4).key == Experiment(weight=4.0).key


@given(st.integers(0, 2**31), st.floats(0, 1), st.sampled_from(["geometric_js", "dual_geometric_js"]))
def test_the_key_is_that_of_the_stored_text(seed, skew, divergence):
    experiment = Experiment(divergence=divergence, skew=skew, seed=seed)
    text = json.loads(json.dumps(experiment.canonical()))
    assert Experiment(**text) == experiment
    assert key_of(text) == experiment.key


def test_every_field_changes_the_key():
    fields = {"latent": "joint", "information": "category"}
    base = Experiment(divergence="geometric_js", skew_update="gradient", **fields)
    other = {
        "dataset": "mnist", "network": "mlp", "latents": 3, "likelihood": "gaussian", "divergence": "dual_geometric_js",
        "weight": 2.0, "capacity": 3.0, "corruption": 1.0, "skew": 0.1, "skew_update": "newton", "epochs": 11,
        "batch_size": 32, "learning_rate": 1.0, "skew_learning_rate": 1.0, "decay": 0.1, "landscape": 5, "seed": 1,
        "categories": 5, "temperature": 0.5, "final_temperature": 0.1, "straight_through": True, "information": "1,2",
        "information_weight": 3.0, "information_entropy": "aggregate", "draws": 2, "weight_decay": 0.1,
    }  # fmt: skip
    bound = {"latent", "estimator", "proposal"}  # others have to change with them: see below
    assert set(other) == {f.name for f in dataclasses.fields(Experiment)} - bound
    keys = {base.key}
    for name, value in other.items():
        free = {"skew_learning_rate": None} if name == "skew_update" else {}
        keys.add(dataclasses.replace(base, **{name: value}, **free).key)
    assert len(keys) == len(other) + 1


def test_latent_estimator_and_proposal_change_the_key():
    variants = [
        {},
        *({"latent": latent} for latent in ("point", "bernoulli", "categorical", "categoricals", "joint")),
        {"draws": 4},
        *({"draws": 4, "estimator": name} for name in ESTIMATORS),
        *({"draws": 4, "estimator": "hybrid", "proposal": r} for r in (0.0, 0.5)),
    ]
    assert len({Experiment(**fields).key for fields in variants}) == len(variants)
    assert Experiment(estimator="pathwise", draws=1).key == Experiment().key


def test_the_start_of_a_vae_does_not_depend_on_what_is_asked_of_its_code():
    plain, informed = (
        Experiment(latent="joint", network="mlp", information=what).build((1, 32, 32)) for what in (None, "category")
    )
    for (name, a), b in zip(plain.vae.named_parameters(), informed.vae.parameters()):
        assert torch.equal(a, b), name


@pytest.mark.parametrize(
    ("fields", "places"),
    [
        ({"latent": "joint", "information": "category"}, [10, 11, 12]),
        ({"latent": "categorical", "latents": 3, "categories": None, "information": "category"}, [0, 1, 2]),
        ({"information": "7,3", "categories": None}, [7, 3]),
        ({"latent": "joint", "information": "9"}, [9]),
    ],
)
def test_what_information_is_about(fields, places):
    trainee = Experiment(**{"categories": 3, "network": "mlp", **fields}).build((1, 32, 32))
    assert trainee.objective.information.places == places


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"information": "category"}, "information: 'category' is not allowed"),
        ({"information": "3,10"}, "information: '3,10' is not allowed"),
        ({"information": "3,3"}, "information: '3,3' is not allowed"),
        ({"information": "3;4"}, "information: '3;4' is not allowed"),
        ({"information_weight": 1.0}, "information_weight: 1.0 is not allowed; it has to be left out unless"),
        ({"temperature": 1.0}, "temperature: 1.0 is not allowed; it has to be left out with the latent 'gaussian'"),
        ({"categories": 4}, "categories: 4 is not allowed; it has to be given with categoricals or joint only"),
        ({"latent": "joint", "categories": 1}, "categories: 1 is not allowed"),
        ({"latent": "joint", "temperature": 0.0}, "temperature: 0.0 is not allowed"),
        ({"estimator": "reinforce"}, "estimator: 'reinforce' is not allowed; it has to be pathwise or one of"),
        ({"estimator": "hybrid"}, "draws: None is not allowed; it has to be 2 or more with the estimator 'hybrid'"),
        ({"estimator": "score", "weight": 4.0}, "weight: 4.0 is not allowed; it has to be 1.0 with the estimator"),
        ({"estimator": "score", "divergence": "mmd"}, "divergence: 'mmd' is not allowed"),
        ({"estimator": "score", "proposal": 0.5}, "proposal: 0.5 is not allowed; it has to be left out unless"),
        ({"estimator": "pathwise_sampled", "latent": "bernoulli"}, "latent: 'bernoulli' is not allowed"),
        ({"estimator": "score", "latent": "point"}, "estimator: 'score' is not allowed; it has to be 'pathwise' with"),
        ({"estimator": "score", "latent": "bernoulli", "temperature": 1.0}, "where nothing is relaxed"),
    ],
)
def test_what_does_not_fit_together_is_refused(fields, sentence):
    with pytest.raises(ValueError) as error:
        Experiment(**fields)
    assert sentence in str(error.value)


def test_a_start_depends_on_the_seed_alone():
    torch.manual_seed(1)
    first = Experiment(seed=3).build((1, 32, 32))
    expected = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), expected), "building draws from the global generator"
    torch.manual_seed(2)
    second = Experiment(seed=3, divergence="dual_geometric_js").build((1, 32, 32))
    for (name, a), b in zip(first.vae.named_parameters(), second.vae.parameters()):
        assert torch.equal(a, b), name
    third = Experiment(seed=4).build((1, 32, 32))
    assert not torch.equal(first.vae.encoder[0].weight, third.vae.encoder[0].weight)
