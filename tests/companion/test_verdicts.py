import json
import math
from importlib import resources

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from vaelib.companion import claims
from vaelib.companion.statements import Claim, Record, Setting
from vaelib.companion.verdicts import PRECONDITIONS, Spread, judge

COMPANION = resources.files("vaelib.companion")
CASES = json.loads(COMPANION.joinpath("verdicts.json").read_text(encoding="utf-8"))
SETTING = Setting(data="mnist", network="burgess", likelihood="gaussian", epochs=100)
VALUE = Claim(id="x/value", kind="value", says="a number", value=0.36, tolerance=0.01, neutral=0.5, setting=SETTING)
STATEMENT = Claim(id="x/c1", kind="statement", says="a statement", worth=0.1, setting=SETTING)

finite = st.floats(-2, 2)
values = st.lists(finite, min_size=2, max_size=6)


def finding(claim, *parts, **others):
    measured = {str(number): tuple(part) for number, part in enumerate(parts)}
    return judge(claim, Record(claim=claim.id, measured=measured, setting=SETTING, **others))


def test_images_without_their_frame_are_the_same_data():
    record = Record(
        claim="x/value", measured={"0": (0.36, 0.361)}, setting=SETTING.model_copy(update={"data": ("mnist:28",)})
    )
    assert judge(VALUE, record).scale == "paper"


def noisier(sample, factor):
    """The same mean, and deviations from it that are so many times larger."""
    array = np.asarray(sample)
    return (array.mean() + factor * (array - array.mean())).tolist()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"])
def test_the_vectors_that_any_implementation_has_to_give(case):
    found = judge(Claim(**case["claim"]), Record(**case["record"])).model_dump(mode="json", exclude_defaults=True)
    expected = case["verdict"]
    assert found.pop("shift", None) == pytest.approx(expected.pop("shift", None))
    assert found == expected


def test_the_schema_is_current_and_names_every_field_of_the_vectors():
    committed = json.loads(COMPANION.joinpath("claims.schema.json").read_text(encoding="utf-8"))
    assert committed == claims.schema()
    for name, model in (("claim", "Claim"), ("record", "Record"), ("verdict", "Verdict")):
        assert all(set(case[name]) <= set(committed["$defs"][model]["properties"]) for case in CASES)


@given(values, values, finite, st.lists(st.floats(1, 50), min_size=1, max_size=4))
def test_noise_never_moves_a_finding_towards_agreement(one, other, value, factors):
    """Along noisier and noisier records: agrees, then same direction, then undecided; or disagrees, then undecided."""
    rank = {"agrees": 2, "same direction": 1, "undecided": 0}
    claims_of = (VALUE.model_copy(update={"value": value}), [one]), (STATEMENT, [one, other])
    for claim, parts in claims_of:
        before = finding(claim, *parts).finding
        for factor in np.cumprod(factors):
            after = finding(claim, *(noisier(part, factor) for part in parts)).finding
            assert after == before or rank.get(after, 9) < rank.get(before, 1), (before, after)
            before = after


@given(values, finite)
def test_the_shift_is_what_flips_the_finding(sample, value):
    claim = VALUE.model_copy(update={"value": value, "tolerance": 0.3})
    verdict = finding(claim, sample)
    assume(verdict.shift is not None and abs(verdict.shift) > 1e-9 and claim.band + verdict.shift > 1e-6)
    step = math.copysign(1e-7, verdict.shift)
    moved = claim.model_copy(update={"tolerance": claim.band + verdict.shift + step})
    short = claim.model_copy(update={"tolerance": claim.band + verdict.shift - 3 * step})
    assert finding(moved, sample).finding != verdict.finding
    assume(abs(verdict.shift) > 1e-6)
    assert finding(short, sample).finding == verdict.finding


@given(values, values)
def test_the_shift_of_a_statement_is_what_flips_the_finding(one, other):
    verdict = finding(STATEMENT, one, other)
    assume(verdict.shift is not None and abs(verdict.shift) > 1e-9)
    shift = verdict.shift + math.copysign(1e-7, verdict.shift)
    eased = finding(STATEMENT, [v + shift for v in one], [v + shift for v in other])
    assert eased.finding != verdict.finding


@given(values)
def test_so_many_units_decide(sample):
    verdict = finding(VALUE, sample)
    assume(verdict.units is not None)
    spread = Spread.of(sample)
    decided = spread.with_units(verdict.units)
    off = abs(spread.mean - VALUE.value)
    assert not (off + decided.reach <= VALUE.band or off > VALUE.band + decided.reach) or verdict.units > len(sample)
    assert verdict.finding == "undecided"


def test_an_interval_is_students():
    assert Spread.of([1.0, 2.0, 3.0]).reach == pytest.approx(4.3027 / math.sqrt(3), rel=1e-4)
    assert Spread.of([1.0]).reach == math.inf


@pytest.mark.parametrize("name", PRECONDITIONS)
def test_each_precondition_can_fail_and_be_met(name):
    assert "undecided" in finding(VALUE, [0.36, 0.36], checks={name: 1e9 if name != "effective" else 1.0}).finding
    assert finding(VALUE, [0.36, 0.36], checks={name: 0.0 if name != "effective" else 1e9}).finding == "agrees"


def test_fewer_epochs_and_other_parts_are_named():
    claim = VALUE.model_copy(update={"setting": SETTING.model_copy(update={"learning_rate": 1e-4, "latents": 10})})
    ours = Setting(data="mnist5k", network="mlp", likelihood="bernoulli", epochs=15, learning_rate=1e-3, latents=16)
    verdict = judge(claim, Record(claim="x/value", measured={"": (1.0,)}, setting=ours))
    assert verdict.scaled == (
        "stand-in: the embedded 5,000 digits, 15 of 100 epochs, mlp for burgess, bernoulli for gaussian, "
        "rate 0.001 for 0.0001, latents 16 for 10"
    )
