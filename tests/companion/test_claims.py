import json
import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vaelib.companion import claims
from vaelib.companion.claims import VERDICTS, Claim, Ledger, verdict
from vaelib.errors import Invalid

VALUE = Claim("x/value", "a number", value=0.36, sd=0.001, data="mnist", epochs=100)
STATEMENT = Claim("x/c1", "a statement", data="mnist", epochs=100)
THEORY = Claim("x/fact", "a fact")
REPRODUCED, TREND, NOT, SMALL = VERDICTS


@pytest.mark.parametrize(
    ("claim", "measured", "dataset", "epochs", "expected"),
    [
        (VALUE, [0.37], "mnist", 100, REPRODUCED),  # within 5 %
        (VALUE, [0.36 * 1.06] * 3, "mnist", 100, TREND),
        (VALUE, [0.32, 0.44], "mnist", 100, REPRODUCED),  # within two standard deviations
        (VALUE, [0.46], "mnist", 100, NOT),  # beyond 25 %
        (VALUE, [0.36], "mnist", 99, TREND),
        (VALUE, [0.36], "mnist5k", 100, TREND),
        (VALUE, [0.36], "mnist", None, TREND),
        (VALUE, [0.9], "mnist5k", 100, SMALL),
        (STATEMENT, [0.1, 0.2, 0.15], "mnist", 100, REPRODUCED),
        (STATEMENT, [0.1, 2.0], "mnist", 100, TREND),  # the interval reaches below zero
        (STATEMENT, [0.1], "mnist", 100, TREND),  # one seed has no interval
        (STATEMENT, [-0.1, -0.2], "mnist", 100, NOT),
        (STATEMENT, [0.1, 0.2, 0.15], "mnist5k", 100, TREND),
        (STATEMENT, [-0.1, -0.2], "mnist", 5, SMALL),
        (THEORY, [1e-9, 2.0], None, None, REPRODUCED),
        (THEORY, [-1e-9, 2.0], None, None, TREND),
        (THEORY, [-1.0], None, None, NOT),
    ],
)
def test_the_rule(claim, measured, dataset, epochs, expected):
    assert verdict(claim, measured, dataset, epochs) == expected


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=8))
def test_a_smaller_scale_is_never_better_than_a_trend(measured):
    for claim in (VALUE, STATEMENT):
        assert verdict(claim, measured, "mnist5k", 100) in (TREND, SMALL)
        assert verdict(claim, measured, "mnist", 100) in (REPRODUCED, TREND, NOT)


def test_the_ledger_holds_the_papers_numbers():
    assert claims.get("avae/t3/mnist/dual") == Claim(
        "avae/t3/mnist/dual", "learned skew", value=0.36, sd=0.0, n=5, data="mnist", epochs=100
    )
    assert claims.get("thesis/t4/fashion_mnist/dual").value == -245
    assert claims.get("avae/t1/celeba/reverse").stated == "263 ± 2.1 (n = 5)"
    assert claims.get("fgvae/t4.3/fc/loss").stated == "1865"
    assert claims.get("mivae/acc/mnist/mi").value == 0.82
    assert claims.get("thesis/c1").scale == "100 epochs"
    assert claims.get("theory/3").stated == "holds"


def test_every_claim_is_whole():
    for name in claims.ids():
        claim = claims.get(name)
        assert claim.says
        assert claim.value is None or math.isfinite(claim.value)
        assert name.split("/")[0] in ("thesis", "avae", "varloss", "mivae", "fgvae", "theory", "errata")


def test_an_unknown_claim_is_refused_with_its_neighbours():
    with pytest.raises(Invalid, match="in the ledger, where the closest are avae/t3/mnist/dual"):
        claims.get("avae/t3/mnist/duall")


def test_records_merge_and_stay(tmp_path):
    ledger = Ledger(tmp_path)
    assert ledger.table().empty
    ledger.record("avae/t3/mnist/js", [0.12, 0.13], dataset="mnist", epochs=100, runs=["b", "a", "a"])
    ledger.record("thesis/c1", [0.01], dataset="mnist5k", epochs=3, note="how")
    ledger.record("avae/t3/mnist/js", [0.2], dataset="mnist", epochs=100)
    again = Ledger(tmp_path)
    assert set(again.records()) == {"avae/t3/mnist/js", "thesis/c1"}
    assert again.records()["avae/t3/mnist/js"]["mnist"]["measured"] == [0.2]
    assert again.records()["thesis/c1"]["mnist5k"]["note"] == "how"
    again.record("thesis/c1", [0.02], dataset="mnist", epochs=100)
    assert list(again.table().loc["thesis/c1", "scale"]) == ["mnist, 100 epochs", "mnist5k, 3 epochs"]
    assert json.loads((tmp_path / "claims.json").read_text()) == again.records()
    assert [p.name for p in tmp_path.iterdir() if not p.name.startswith(".")] == ["claims.json"]


RECORDS = """
import sys
from vaelib.companion import claims
ledger, own = claims.Ledger(sys.argv[1]), claims.ids()[int(sys.argv[2]) :: 3][:20]
print("ready", flush=True)
sys.stdin.readline()
for claim in own:
    ledger.record(claim, [1.0])
"""


def test_processes_that_record_at_a_time_keep_every_record(tmp_path):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", RECORDS, tmp_path, str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(3)
    ]
    assert [process.stdout.readline() for process in processes] == ["ready\n"] * 3
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate()
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert sorted(Ledger(tmp_path).records()) == sorted(claims.ids()[:60])


@pytest.mark.parametrize("measured", [[], [float("nan")], [1.0, float("inf")]])
def test_what_is_not_a_measurement_is_refused(tmp_path, measured):
    ledger = Ledger(tmp_path)
    with pytest.raises(Invalid, match="one or more finite numbers"):
        ledger.record("thesis/c1", measured)
    with pytest.raises(Invalid, match="it has to be in the ledger"):
        ledger.record("thesis/c99", [1.0])
    assert not ledger.file.exists()


def test_the_table(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.record("avae/t3/mnist/dual", [0.37123, 0.3691], dataset="mnist", epochs=12)
    ledger.record("thesis/c1", [0.01, 0.02], dataset="mnist", epochs=100)
    table = ledger.table(["avae/t3/mnist/dual", "thesis/c1", "thesis/c2"])
    assert table.loc["avae/t3/mnist/dual", "measured"] == "0.37 ± 0.002 (n = 2)"
    assert table.loc["avae/t3/mnist/dual", "scale"] == "mnist, 12 epochs"
    assert table.loc["thesis/c1", "measured"].startswith("margin 0.015 ±")
    assert table.loc["thesis/c2", "verdict"] == SMALL
    assert list(ledger.table().index) == ["avae/t3/mnist/dual", "thesis/c1"]
    assert claims.paper_table(["thesis/c1"]).loc["thesis/c1", "paper"] == "holds"


@pytest.mark.parametrize(
    ("dataset", "likelihood", "papers", "recorded"),
    [
        ("mnist", "gaussian", "mnist", "mnist"),
        ("mnist5k", "gaussian", "mnist", "mnist5k"),
        ("mnist5k", "bernoulli", "mnist", "mnist5k, bernoulli"),
        ("fashion_mnist", "bernoulli", "fashion_mnist", "fashion_mnist"),
        ("fashion_mnist", "gaussian", "fashion_mnist", "fashion_mnist, gaussian"),
        ("sprites:2000", "bernoulli", "dsprites", "sprites:2000"),
    ],
)
def test_what_a_measurement_is_compared_with_and_recorded_as(dataset, likelihood, papers, recorded):
    assert claims.counterpart(dataset) == papers
    assert claims.recorded_as(dataset, likelihood) == recorded


def test_a_mean_and_its_spread_in_a_table():
    assert claims.mean_sd([1.0, 2.0, 3.0], 1) == "2.0 ± 1.0"
    assert claims.mean_sd([1.25], 2) == "1.25"
