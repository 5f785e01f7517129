"""Parts: one spelling for one meaning, keys that stay, structures, and one sentence for whatever is not allowed."""

import json
import math
import os
import pickle
import subprocess
import sys
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
import torch

from vaelib import divergences as dv
from vaelib import measures as ms
from vaelib import models as md
from vaelib import objectives as ob
from vaelib.errors import Invalid
from vaelib.parts import Family, Part, allowed
from vaelib.runs import Experiment
from vaelib.training import Adam

RELAXED = md.Relaxation(0.5, 0.1, True)

FULL = [
    md.Burgess(16, 64, "silu"),
    md.MLP((30, 20), "tanh", True),
    md.NormalisedConvolutions((8, 4)),
    md.CNC(128, 0.5),
    md.XVAE(512, 0.1),
    md.Gaussian(3),
    md.Point(4),
    md.Category(5, RELAXED),
    md.Bits(6, RELAXED),
    md.Joint((md.Gaussian(2), md.Category(3, RELAXED), md.Joint((md.Bits(2),)))),
    md.BernoulliLikelihood(),
    md.GaussianLikelihood(False),
    md.BalancedLikelihood(),
    md.ScaledGaussianLikelihood(0.1),
    md.SharedGaussianLikelihood(False, 0.1),
    dv.ReverseKL(),
    dv.ForwardKL(),
    dv.ResistorAverage(),
    dv.SelfWeightedKL(),
    dv.SplitKL(),
    dv.GeometricJS(0.3),
    dv.DualGeometricJS(dv.Learned(0.2, 0.01)),
    dv.ExtendedGeometricJS(dv.Newton(0.7)),
    dv.MMD("inverse_multiquadratic"),
    dv.MomentsMMD(),
    dv.FreeBits(0.1),
    dv.Fixed(0.1),
    dv.Learned(0.9, 1e-3),
    dv.Newton(0.1, "both"),
    ob.Bound(
        dv.GeometricJS(0.1),
        2.0,
        3.0,
        ob.Information((0, 1), 0.5, "aggregate"),
        0.5,
        regularisers=(ob.TotalCorrelation(2.0),),
        draws=2,
        corruption=0.5,
    ),
    ob.Geco(
        80.0,
        dv.ForwardKL(),
        1e-3,
        information=ob.Information((0,)),
        regularisers=(ob.Adversary(),),
        draws=2,
        corruption=0.5,
    ),
    ob.TotalCorrelation(2.0),
    ob.LearnedTotalCorrelation(weight=2.0, units=8, rate=1e-3),
    ob.Covariance("means", 10.0, weight=2.0),
    ob.Adversary(weight=2.0, units=(8, 4), rate=1e-3),
    ob.SampledRate(draws=2, corruption=0.5),
    ob.Score(draws=2, corruption=0.5),
    ob.LeaveOneOut(draws=3, corruption=0.5),
    ob.VarianceLoss(0.5, draws=3, corruption=0.5),
    ob.Hybrid(0.5, draws=3, corruption=0.5),
    ms.Landscape(11, at=(1, 2)),
    ms.Skews("geometric_js", "both", "train", 5, at="every"),
    ms.Evidence(5, (1, 10), "prior", at="every"),
    ms.Errors("train", at=(3,)),
    ms.Reconstructions((1, 2), 0.5, True, at="every"),
    ms.Denoising((1.0, 2.5), True, at="every"),
    ms.Samples(3, at="every"),
    ms.Latents(at="every"),
    ms.Surgery("train", 10, at="every"),
    ms.Means("train", (0, 1), True, at="every"),
    ms.Categories(at="every"),
    ms.Manifold(3, 2.0, at="every"),
    ms.Traversal(1, 2.0, 3, 4, 1, 2, at="every"),
    ms.CategoryTraversal((1,), at="every"),
    ms.InformationBound(ob.Information((0,)), 5, True, at="every"),
    ms.Separability(3, at="every"),
    ms.Recognised(3, at="every"),
    ms.Legibility(3, at="every"),
    ms.AnnealedEvidence(3, 4, 2, 1, "posterior", at="every"),
    ms.RateBounds("test", 5, at="every"),
    ms.RateParts("test", 5, 2, at="every"),
    ms.Disentanglement("train", 50, at=(0, 1)),
    ms.CategoryClasses(3, at="every"),
    ms.Relapse(at="every"),
    ms.GradientNoise((ob.Score(), ob.Hybrid(draws=3)), 8, 5, at="every"),
    ms.LossNoise((ob.Score(), ob.Hybrid(draws=3)), 8, 5, at="every"),
    ms.PixelDistortion(at="every"),
    ms.PrincipalVariances(3, at="every"),
    RELAXED,
    ob.Information((3, 7), 0.1, "aggregate"),
    Adam(1e-3, 1e-4, 1e-5),
    Experiment("mnist", md.MLP(30), md.Gaussian(3), "gaussian", ob.Bound("mmd"), Adam(1e-3), 3, 32, 7, "bf16"),
]
"""A member of every kind, whose fields are all other than by default; and the parts that have no kind."""

FAMILIES = [md.Network, md.Latent, md.Likelihood, dv.Divergence, dv.Skew, ob.Objective, ob.Regulariser, ms.Observer]


def name_of(part):
    return getattr(part, "kind", "") or (part if isinstance(part, type) else type(part)).__name__


def family_of(part):
    return next((family for family in FAMILIES if isinstance(part, family)), None)


def least(cls):
    """The fields without which a part cannot be."""
    needed = {dv.Fixed: {"start": 0.5}, md.Joint: {"parts": (md.Gaussian(2),)}, ob.Geco: {"tolerance": 100.0}}
    return needed.get(cls, {})


def test_no_kind_and_no_field_is_forgotten_here():
    kinds = {cls for family in FAMILIES for cls in family.kinds.values() if cls.__module__.startswith("vaelib.")}
    assert {type(part) for part in FULL if isinstance(part, Family)} == kinds
    for part in FULL:
        plain = type(part)(**least(type(part)))
        for field, value in part.fields():
            assert value != getattr(plain, field), f"{name_of(part)}.{field} is as by default"


@pytest.mark.parametrize("part", FULL, ids=name_of)
def test_plain_values_and_back_again(part):
    """Through JSON, as the store keeps them; nothing is lost, and nothing is added."""
    plain = json.loads(json.dumps(part.canonical()))
    assert plain.keys() - {"kind"} == set(type(part).model_fields), "all of it is other than by default"
    again = family_of(part).parse(plain) if family_of(part) else type(part)(**plain)
    assert again == part
    assert (hash(again), again.key, again.canonical()) == (hash(part), part.key, part.canonical())
    assert again.structure() == part.structure()


@pytest.mark.parametrize("part", FULL, ids=name_of)
def test_what_is_as_by_default_is_left_out(part):
    cls = type(part)
    default = cls(**least(cls))
    expected = {} if not part.kind else {"kind": part.kind}
    assert {name: v for name, v in default.canonical().items() if name not in least(cls)} == expected
    spelt_out = cls(**dict(default.fields()))
    assert (spelt_out, spelt_out.key) == (default, default.key)
    for field, value in part.fields():
        if field not in least(cls) and not (cls is ob.Information and field == "weight"):
            only = cls(**{**least(cls), field: value})
            assert only.canonical().keys() == {*expected, *least(cls), field}


@pytest.mark.parametrize("part", FULL, ids=name_of)
def test_a_part_goes_to_another_process_as_it_is(part):
    assert pickle.loads(pickle.dumps(part)) == part
    with pytest.raises(Exception, match="frozen"):
        part.anything_new = 1
    for field in type(part).model_fields:
        with pytest.raises(Exception, match="frozen"):
            setattr(part, field, getattr(part, field))


ONE_MEANING = [
    [
        ob.Bound(),
        ob.Bound("kl"),
        ob.Bound({"kind": "kl"}),
        ob.Bound(dv.ReverseKL(), 1, 0),
        ob.Bound(weight=np.float32(1)),
    ],
    [ob.Bound(capacity=0.0), ob.Bound(capacity=-0.0), ob.Bound(capacity=0), ob.Bound(capacity=np.int64(0))],
    [ob.Bound(corruption=0.0), ob.Bound(corruption=-0.0), ob.Bound(corruption=0)],
    [ms.Denoising([0, 2]), ms.Denoising((-0.0, 2.0)), ms.Denoising((np.float64(0), np.int8(2)))],
    [md.MLP(), md.MLP(400), md.MLP((400,)), md.MLP([400]), md.MLP(np.int64(400)), md.MLP([np.int64(400)])],
    [
        dv.GeometricJS(),
        dv.GeometricJS(0.5),
        dv.GeometricJS(dv.Fixed(0.5)),
        dv.GeometricJS({"kind": "fixed", "start": 0.5}),
    ],
    [
        dv.GeometricJS(0),
        dv.GeometricJS(-0.0),
        dv.GeometricJS(dv.Fixed(0)),
        dv.GeometricJS({"kind": "fixed", "start": -0.0}),
    ],
    [dv.GeometricJS("learned"), dv.GeometricJS(dv.Learned()), dv.GeometricJS(dv.Learned(0.5, 1e-4))],
    [md.Category(relaxation=md.Relaxation()), md.Category(relaxation={}), md.Category(10, {"temperature": 1})],
    [md.Relaxation(0.5), md.Relaxation(0.5, 0.5), md.Relaxation(0.5, None), md.Relaxation(0.5, 0.5, False)],
    [md.Joint(("gaussian",)), md.Joint(["gaussian"]), md.Joint([{"kind": "gaussian", "size": 10}])],
    [ob.Information((0, 1)), ob.Information([0, 1]), ob.Information((np.int64(0), 1), 1)],
    [ms.Landscape(), ms.Landscape(at="every"), ms.Landscape(51)],
    [ms.Errors(at=[1, 2]), ms.Errors(at=(1, 2))],
    [
        Experiment(),
        Experiment("mnist5k", "burgess", "gaussian", "bernoulli", "bound", {}, 10, 64, 0),
        Experiment(latent={"kind": "gaussian", "size": 10}, optimiser={"rate": 1e-4}, seed=np.int64(0)),
    ],
]


@pytest.mark.parametrize("spellings", ONE_MEANING, ids=lambda spellings: str(spellings[0])[:40])
def test_one_meaning_has_one_spelling(spellings):
    texts = {json.dumps(part.canonical(), sort_keys=True) for part in spellings}
    assert len(texts) == len({part.key for part in spellings}) == len(set(spellings)) == 1
    assert len({str(part.structure()) for part in spellings}) == 1


def test_what_differs_has_another_key():
    parts = [*FULL, *(type(part)(**least(type(part))) for part in FULL)]
    for family in FAMILIES:
        members = {part for part in parts if family_of(part) is family}
        assert len({part.key for part in members}) == len(members)
    assert ms.Landscape(at="end") != ms.Landscape()
    assert md.Category(10).key != md.Bits(10).key


def test_keys_are_the_same_in_another_process():
    """In one that hashes text otherwise, from the plain values alone."""
    script = (
        "import json, sys\n"
        "from vaelib import divergences, measures, models, objectives\n"
        "from vaelib.runs import Experiment\n"
        "families = [models.Network, models.Latent, models.Likelihood, divergences.Divergence, divergences.Skew,\n"
        "            objectives.Objective, objectives.Regulariser, measures.Observer]\n"
        "for number, plain in json.load(sys.stdin):\n"
        "    part = Experiment(**plain) if number is None else families[number].parse(plain)\n"
        "    print(part.key)\n"
    )
    parts = [part for part in FULL if family_of(part) or isinstance(part, Experiment)]
    numbers = [FAMILIES.index(family_of(part)) if family_of(part) else None for part in parts]
    given = json.dumps([(number, part.canonical()) for number, part in zip(numbers, parts)])
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=given,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONHASHSEED": "12345"},
        check=True,
    )
    assert done.stdout.split() == [part.key for part in parts]


def test_structures_are_equal_just_where_tensors_differ():
    for part in FULL:
        cls = type(part)
        plain = cls(**least(cls))
        for field, value in part.fields():
            before = getattr(plain, field)
            other = part.replace(**{field: before})
            same = other.structure() == part.structure()
            if field in cls.tensors:
                assert same == ((value is None) == (before is None)), f"{name_of(part)}.{field}"
            elif isinstance(value, Part) and isinstance(before, Part):
                assert same == (value.structure() == before.structure()), f"{name_of(part)}.{field}"
            else:
                assert not same, f"{name_of(part)}.{field}"


def test_a_tensor_deep_inside_leaves_the_structure_as_it_is():
    def deep(skew, weight, temperature, seed):
        latent = md.Joint((md.Gaussian(2), md.Category(3, md.Relaxation(temperature, 0.1))))
        objective = ob.Bound(dv.GeometricJS(skew), weight, information=ob.Information(weight=weight))
        return Experiment(latent=latent, objective=objective, seed=seed)

    first, second = deep(0.1, 1.0, 1.0, 0), deep(0.9, 2.0, 0.5, 5)
    assert first != second
    assert first.structure() == second.structure()
    assert deep(dv.Newton(0.1), 1.0, 1.0, 0).structure() != first.structure()
    assert deep(dv.Learned(0.1, 1e-3), 1.0, 1.0, 0).structure() != deep(dv.Learned(0.1, 1e-4), 1.0, 1.0, 0).structure()


VALUES = [
    None,
    True,
    False,
    "x",
    "",
    "a\nb",
    "end",
    "mlp",
    "mnist5k",
    0,
    1,
    -1,
    -0.0,
    0.5,
    1.5,
    -1e-300,
    1e300,
    math.inf,
    -math.inf,
    math.nan,
    2**31 + 1,
    10**400,
    -(10**400),
    10**5000,
    [],
    (),
    {},
    set(),
    [None],
    [[1]],
    [1, "x"],
    [math.nan],
    [-1],
    [True],
    [10**400],
    ["gaussian", "x"],
    [{}],
    {"kind": "x"},
    {"kind": None},
    {"kind": ["mlp"]},
    {"kind": {}},
    {"kind": "mlp", "bogus": 1},
    {"kind": "gaussian", "size": {"kind": "gaussian"}},
    {"kind": "joint", "parts": [{"kind": "joint", "parts": [{"kind": "gaussian", "size": -1}]}]},
    {"kind": "bound", "divergence": {"kind": "geometric_js", "skew": {"kind": "learned", "start": math.nan}}},
    {"kind": "bound", "divergence": {"kind": "geometric_js", "skew": {"kind": "learned", "rate": 10**400}}},
    {"kind": "joint"},
    {"kind": "fixed"},
    {"bogus": 1},
    {1: 2},
    {"kind": "gaussian", 1: 2},
    {"temperature": 0},
    {"temperature": 1, "final": "x"},
    {"about": "nothing"},
    {"self": 1},
    {"kind": "gaussian", "self": 1},
    {"kind": "gaussian", "cls": 1},
    b"mlp",
    1j,
    Decimal("0.5"),
    object(),
    len,
    md.MLP,
    md.Gaussian(2),
    md.MLP(3),
    RELAXED,
    Experiment(),
    np.zeros(2),
    np.zeros((2, 2)),
    np.array(0.5),
    np.float64("nan"),
    np.bool_(True),
    np.datetime64("2020-01-01"),
    np.str_("mlp"),
    torch.zeros(2, 2),
    torch.tensor(0.5),
    pd.DataFrame({"a": [1, 2]}),
]
"""Whatever might be handed over; for each field a few of them are right."""


def one_sentence(error, field):
    """What is said: field, value and what is allowed, in one line."""
    text = str(error)
    assert "\n" not in text
    assert error.field.split(".")[0] == field.split(".")[0]
    assert text.startswith(f"{error.field}: ")
    assert " is not allowed; it has to be " in text
    assert len(text) < 600
    assert error.allowed
    return text


FIELDS = [(type(part), field) for part in FULL for field in type(part).model_fields]


def attempted(make, *values, **fields):
    """What comes of it, or how it is refused; nothing else may happen."""
    try:
        return make(*values, **fields), None
    except Invalid as error:
        return None, error


@pytest.mark.parametrize(("cls", "field"), FIELDS, ids=lambda v: v if isinstance(v, str) else v.__name__)
def test_every_value_is_taken_as_written_or_refused_in_one_sentence(cls, field):
    refused = 0
    for value in VALUES:
        part, error = attempted(cls, **{**least(cls), field: value})
        if part is None:
            refused += 1
            # What an experiment's parts say about each other names the other one as well.
            together = cls is Experiment and error.field.startswith(("latent", "objective", "information"))
            one_sentence(error, error.field if together else field)
            continue
        stored = getattr(part, field)
        kind = cls.model_fields[field].annotation
        if kind in (int, float, bool, str):
            assert type(stored) is kind, f"{value!r} became {stored!r}"
            assert isinstance(value, bool | np.bool_) == (kind is bool), f"{value!r} became {stored!r}"
        assert not (isinstance(stored, float) and not math.isfinite(stored))
        # What is taken can be kept, and found again.
        text = json.dumps(part.canonical(), allow_nan=False)
        again = family_of(part).parse(json.loads(text)) if family_of(part) else cls(**json.loads(text))
        assert (again, hash(again), again.key) == (part, hash(part), part.key)
    assert refused > len(VALUES) / 2


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_what_is_no_member_of_a_family_is_refused_in_one_sentence(family):
    for value in VALUES:
        member, error = attempted(family.parse, value)
        assert isinstance(member, family) or " is not allowed; it has to be " in str(error)
        assert "\n" not in str(error)
    with pytest.raises(Invalid) as caught:
        family.parse("nothing")
    for name in family.kinds:
        assert name in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: md.Gaussian(3, 4), r"^Gaussian: \(3, 4\) is not allowed; it has to be given at most 1 values: size$"),
        (lambda: md.Gaussian(3, size=4), "^size: 4 is not allowed; it has to be given once"),
        (lambda: md.Gaussian(width=3), "^width: 3 is not allowed; it has to be left out: Gaussian has size$"),
        (
            lambda: dv.MomentsMMD(weight=3),
            "^weight: 3 is not allowed; it has to be left out: MomentsMMD has no fields$",
        ),
        (lambda: dv.MomentsMMD(3), "^MomentsMMD: "),
        (lambda: md.Joint(), "^parts: 'nothing' is not allowed; it has to be a list"),
        (lambda: dv.Fixed(), "^start: 'nothing' is not allowed; it has to be a number from 0 to 1$"),
        (lambda: md.Gaussian().replace(size=0), "^size: 0 is not allowed; it has to be a whole number from 1 up$"),
        (lambda: md.Gaussian().replace(bogus=0), "^bogus: 0 is not allowed"),
        (
            lambda: Experiment(objective={"kind": "bound", "divergence": {"kind": "geometric_js", "skew": 1.1}}),
            r"^objective\.divergence\.skew\.start: 1.1 is not allowed; it has to be a number from 0 to 1$",
        ),
        (lambda: md.Category(relaxation={"temperature": 0}), r"^relaxation(\.temperature)?: .* it has to be "),
        (
            lambda: md.MLP(activation="sine"),
            "^activation: 'sine' is not allowed; it has to be one of relu, tanh, elu, silu$",
        ),
    ],
)
def test_the_sentence_names_field_value_and_what_is_allowed(wrong, says):
    with pytest.raises(Invalid, match=says) as caught:
        wrong()
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("cls", "field", "words"),
    [
        (md.Gaussian, "size", "a whole number from 1 up"),
        (md.Category, "size", "a whole number from 2 up"),
        (md.CNC, "dropout", "a number from 0 to 0.99"),
        (md.MLP, "units", "a list, each a whole number from 1 up"),
        (md.MLP, "batch_norm", "true or false"),
        (ob.Bound, "weight", "a number from 0 up"),
        (ob.Bound, "warmup", "a number above 0 to 1 or left out"),
        (ob.Hybrid, "proposal", "a number from 0 to 1 or left out"),
        (ms.Manifold, "reach", "a number above 0 or left out"),
        (Experiment, "data", "text"),
    ],
)
def test_what_a_field_may_hold_is_said_in_words(cls, field, words):
    assert allowed(cls, field) == words


@pytest.mark.parametrize("part", FULL, ids=name_of)
def test_what_every_field_may_hold_can_be_said(part):
    for field in type(part).model_fields:
        text = allowed(type(part), field)
        assert text
        assert "\n" not in text
        assert "typing" not in text
        assert "<" not in text


def test_the_whole_description_names_defaults_too_and_means_the_same():
    part = Experiment(objective=ob.Bound("geometric_js"))
    whole = part.canonical(whole=True)
    assert whole["objective"]["divergence"]["skew"] == {"kind": "fixed", "start": 0.5}
    assert whole["data"] == "mnist5k"
    assert Experiment(**whole).key == part.key
