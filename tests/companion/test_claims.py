import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from vaelib import MLP, Adam, Experiment, Gaussian
from vaelib.companion import claims
from vaelib.companion.claims import Ledger, Record, Setting
from vaelib.errors import Invalid, UserError

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
SMALL = Setting(data="mnist5k", network="mlp", likelihood="gaussian", epochs=15)


def by_seed(*values, seeds=None):
    return pd.Series(values, pd.Index(seeds or range(len(values)), name="seed"))


def test_the_ledger_holds_the_papers_numbers():
    dual = claims.get("avae/t3/mnist/dual")
    assert (dual.value, dual.sd, dual.n, dual.band, dual.paper) == (0.36, 0.0, 5, 0.01, "avae")
    assert dual.setting == Setting(
        data="mnist",
        network="burgess",
        likelihood="gaussian",
        epochs=100,
        batch_size=64,
        learning_rate=1e-4,
        latents=10,
    )
    assert claims.get("thesis/t4/fashion_mnist/dual").value == -245
    assert claims.get("avae/t1/celeba/reverse").stated == "263 ± 2.1 (n = 5)"
    assert claims.get("fgvae/t4.3/fc/loss").stated == "1865"
    assert claims.get("mivae/acc/mnist/mi").value == 0.82
    assert claims.get("thesis/t5/rna+cna/pca/svm").stated == "70 ± 0.13"
    assert claims.get("theory/3").stated == "holds"


def test_settings_are_the_papers_and_what_they_leave_out_is_listed():
    assert {claims.get(f"avae/t{t}/{d}/js").setting.epochs for t in (1, 3) for d in ("dsprites", "celeba")} == {50}
    assert {claims.get(f"fgvae/{c}").setting.epochs for c in ("c3", "t4.3/fc/loss")} == {25}
    assert claims.get("thesis/t2/clin+rna/x/js").setting == Setting(data="metabric", network="x")
    assert set(claims.get("mivae/acc/mnist/mi").unstated) >= {"network", "epochs"}
    assert "data" in claims.get("varloss/c1").unstated
    assert claims.get("theory/3").unstated == ()
    assert claims.get("thesis/c1").setting.data == ("mnist", "fashion_mnist", "dsprites")


@pytest.mark.parametrize("name", claims.ids())
def test_every_claim_is_whole(name):
    claim = claims.get(name)
    assert claim.says
    assert claim.paper in ("thesis", "avae", "varloss", "mivae", "fgvae", "theory", "vaelib", "errata")
    assert (claim.kind == "value") == (claim.value is not None)
    assert claim.kind == "fact" or claim.where
    assert len(claim.where.partition(":")[2].split()) <= 12
    assert claim.tolerance is None or claim.because
    assert claim.kind != "statement" or claim.unit or claim.missing
    assert not claim.worth or claim.because


@pytest.mark.parametrize("name", claims.ids())
def test_every_claim_is_recorded_by_a_notebook_or_says_why_not(name):
    """A notebook's source records the id, or has it, or its table's, among those that it records."""
    claim = claims.get(name)
    notebook, _, study = (claim.needs or "01_theory_checks").partition(".")
    cells = json.loads((NOTEBOOKS / f"{notebook}.ipynb").read_text())["cells"]
    source = "\n".join("".join(cell["source"]) for cell in cells)
    own = re.escape("/".join(name.split("/")[:2]) if claim.kind == "value" else name)
    listed = re.search(rf'"{own}(?![\d.])', source) and re.search(r"ledger\.record\(\s*(claim|t\d|f?\")", source)
    recorded = re.search(rf'ledger\.record\(\s*f?"{own}(?![\d.])', source) or (listed and claim.kind != "fact")
    assert recorded or claim.missing.startswith(("not yet", "out of reach"))
    assert not study or f"{study} = " in source


def test_an_unknown_claim_is_refused_with_its_neighbours():
    with pytest.raises(Invalid, match="in the ledger, where the closest are avae/t3/mnist/dual"):
        claims.get("avae/t3/mnist/duall")


def test_the_setting_of_an_experiment():
    experiment = Experiment(
        data="mnist5k", network=MLP((512, 256), batch_norm=True), latent=Gaussian(4), optimiser=Adam(1e-3), epochs=3
    )
    assert Setting.of(experiment, data="mnist") == Setting(
        data="mnist",
        network="mlp 512-256 batch_norm",
        likelihood="bernoulli",
        epochs=3,
        batch_size=64,
        learning_rate=1e-3,
        latents=4,
    )


def test_records_merge_and_stay(tmp_path):
    ledger = Ledger(tmp_path)
    assert ledger.table().empty
    ledger.record("avae/t3/mnist/js", [0.12, 0.13], setting=SMALL, runs=["b", "a", "a"])
    ledger.record("thesis/c1", [0.01], setting=SMALL, note="how")
    ledger.record("avae/t3/mnist/js", [0.2], setting=SMALL)
    ledger.record("avae/t3/mnist/js", [0.3], setting=SMALL, variant="another reading")
    ledger.record("avae/t3/mnist/js", [0.4], setting=SMALL.model_copy(update={"likelihood": "bernoulli"}))
    skews = [r for r in Ledger(tmp_path).records() if r.claim == "avae/t3/mnist/js"]
    assert sorted(r.measured[""] for r in skews) == [(0.2,), (0.3,), (0.4,)]
    assert [r.note for r in ledger.records() if r.claim == "thesis/c1"] == ["how"]
    assert [Record(**entry) for entry in json.loads((tmp_path / "claims.json").read_text())] == ledger.records()
    assert [p.name for p in tmp_path.iterdir() if not p.name.startswith(".")] == ["claims.json"]


def test_rows_of_one_unit_are_averaged_and_no_samples(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.record("avae/t3/mnist/js", by_seed(0.1, 0.2, 0.4, 0.4, seeds=[0, 0, 1, 1]), setting=SMALL)
    parts = pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]}, index=pd.Index([3, 4], name="fold"))
    ledger.record("thesis/c6", parts)
    skew, share = ledger.records()
    assert skew.measured == {"": pytest.approx((0.15, 0.4))}
    assert (skew.unit, share.unit) == ("seed", "fold")
    assert share.measured == {"a": (1.0, 2.0), "b": (3.0, 4.0)}


def test_a_file_of_an_older_version_is_one_sentence(tmp_path):
    (tmp_path / "claims.json").write_text('{"thesis/c1": {}}')
    with pytest.raises(UserError, match="older vaelib; remove it"):
        Ledger(tmp_path).record("thesis/c1", [1.0])


RECORDS = """
import multiprocessing, sys
from vaelib.companion import claims

def record(number, start):
    ledger, own = claims.Ledger(sys.argv[1]), claims.ids()[number::3][:20]
    start.wait()
    for claim in own:
        ledger.record(claim, [1.0])

fork = multiprocessing.get_context("fork")
start = fork.Barrier(3)
processes = [fork.Process(target=record, args=(number, start)) for number in range(3)]
for process in processes:
    process.start()
for process in processes:
    process.join()
sys.exit([process.exitcode for process in processes] != [0, 0, 0])
"""


def test_processes_that_record_at_a_time_keep_every_record(tmp_path):
    subprocess.run([sys.executable, "-c", RECORDS, tmp_path], check=True)
    assert sorted(r.claim for r in Ledger(tmp_path).records()) == sorted(claims.ids()[:60])


@pytest.mark.parametrize("measured", [[], [float("nan")], [1.0, float("inf")]])
def test_what_is_not_a_measurement_is_refused(tmp_path, measured):
    ledger = Ledger(tmp_path)
    with pytest.raises(Invalid, match="one or more finite numbers"):
        ledger.record("thesis/c1", measured)
    with pytest.raises(Invalid, match="one or more finite numbers"):
        ledger.record("thesis/c1", [1.0], checks={"rate": math.inf})
    with pytest.raises(Invalid, match="it has to be in the ledger"):
        ledger.record("thesis/c99", [1.0])
    assert not ledger.file.exists()


def test_the_table(tmp_path):
    ledger = Ledger(tmp_path)
    checks = {"newton_distance": 0.001, "late_movement": 0.03}
    ledger.record("avae/t3/mnist/dual", by_seed(0.37123, 0.3691), setting=SMALL, checks=checks)
    ledger.record("avae/t3/mnist/dual", [0.37], setting=SMALL.model_copy(update={"data": ("mnist",)}))
    ledger.record("thesis/c2", pd.DataFrame({"x": [0.29, 0.3], "y": [0.01, 0.02]}), setting=SMALL)
    table = ledger.table(["avae/t3/mnist/dual", "thesis/c2", "thesis/c8"])
    full, small = table.loc["avae/t3/mnist/dual"].iloc
    assert full["measured"] == "0.37 (1 seed)"
    assert full["scale"] == "reduced: 15 of 100 epochs, mlp for burgess"
    assert small["measured"] == "0.37 [0.36, 0.38] (2 seeds)"
    assert small["on"] == "mnist5k, mlp, gaussian, 15 epochs"
    assert small["finding"] == "undecided: a skew moved by 0.03 over the last tenth of the epochs"
    assert table.loc["thesis/c2", "measured"] == "y: margin 0.015 [-0.049, 0.079] (2 seeds)"
    assert table.loc["thesis/c8", "finding"] == "not measured"
    assert table.loc["thesis/c8", "scale"].startswith("not yet")
    assert list(ledger.table().index) == ["avae/t3/mnist/dual", "avae/t3/mnist/dual", "thesis/c2"]


def test_stand_ins_come_last_and_apart(tmp_path):
    ledger = Ledger(tmp_path)
    for data in ("mnist5k", "mnist"):
        ledger.record("thesis/c5", by_seed(0.1, 0.1), setting=Setting(data=data))
    ledger.record("theory/3", [1.0])
    assert list(ledger.table(data="mnist5k")["on"]) == ["mnist5k"]
    assert list(ledger.table()["on"]) == ["—", "mnist", "mnist5k"]
    assert list(ledger.table(["thesis/c5", "theory/3"])["on"]) == ["mnist", "—", "mnist5k"]
    assert {scale: len(found) for scale, found in claims.apart(ledger.records()).items()} == {
        "reduced": 1,
        "stand-in": 1,
        "theory": 1,
    }
    assert claims.summary(ledger.records()) == "reduced: 1 agrees; stand-in: 1 agrees; theory: 1 proved."


def test_what_papers_state_is_shown_with_its_place():
    row = claims.paper_table(["avae/t3/mnist/js"]).loc["avae/t3/mnist/js"]
    assert row["paper"] == "0.118 ± 0.001 (n = 5)"
    assert row["where"].startswith("table 3")
    assert row["paper's setting"] == "mnist, burgess, gaussian, 100 epochs, batches of 64, rate 0.0001, 10 latents"
    assert (
        claims.paper_table(["varloss/c1"]).loc["varloss/c1", "paper's setting"].startswith("not stated: data, network")
    )


@pytest.mark.parametrize(
    ("dataset", "papers"),
    [("mnist5k", "mnist"), ("mnist", "mnist"), ("sprites:2000", "dsprites"), ("gse7390", "metabric")],
)
def test_what_a_data_set_stands_for(dataset, papers):
    assert claims.counterpart(dataset) == papers


def test_a_mean_and_its_spread_in_a_table():
    assert claims.mean_sd([1.0, 2.0, 3.0], 1) == "2.0 ± 1.0"
    assert claims.mean_sd([1.25], 2) == "1.25"
