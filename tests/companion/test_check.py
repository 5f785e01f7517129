import json

import pytest
from click.testing import CliRunner

from vaelib.cli import main
from vaelib.companion import check, claims, figures, notebooks, statements
from vaelib.companion.claims import Ledger, Setting
from vaelib.errors import Invalid

JS = "avae/t3/mnist/js"  # printed: 0.118 ± 0.001, tolerance 0.01
CONVERGED = {"newton_distance": 0.001, "late_movement": 0.001}


def record(profile, values, *, claim=JS, checks=CONVERGED, **setting):
    folder = figures.folder("02_alpha_convergence", profile)
    Ledger(folder).record(
        claim, values, setting=statements.get(claim).setting.model_copy(update=setting), checks=checks
    )
    return folder


def asked(*arguments):
    result = CliRunner().invoke(main, ["check", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result.exit_code, result.output


@pytest.fixture(autouse=True)
def _free(monkeypatch):
    """What it would take is another test's."""
    monkeypatch.setattr(check, "needed", lambda chosen: {})


@pytest.mark.parametrize(
    ("values", "code", "finding"),
    [
        ([0.117, 0.118, 0.119], check.AGREES, "agrees"),
        ([0.142, 0.143, 0.144], check.DISAGREES, "disagrees"),
        ([0.1, 0.13, 0.17], check.UNDECIDED, "undecided"),
    ],
)
def test_a_claim_ends_with_what_was_found(values, code, finding):
    folder = record("paper", values)
    (folder / "a.png").write_bytes(b"")
    (folder / "a.json").write_text(json.dumps({"claims": [JS], "runs": []}))
    (folder / "b.png").write_bytes(b"")
    (folder / "b.json").write_text(json.dumps({"claims": ["thesis/c1"], "runs": []}))
    got, text = asked(JS)
    assert got == code
    assert "paper: 0.118 ± 0.001 (n = 5) (table 3" in text
    assert f"  {finding}; paper\n" in text
    assert f"figure: {folder / 'a.png'}" in text
    assert "b.png" not in text


def test_the_scale_nearest_to_the_papers_decides():
    record("quick", [0.142, 0.143, 0.144], data=("mnist5k",), network="mlp", epochs=15)
    assert asked(JS)[0] == check.DISAGREES
    record("paper", [0.117, 0.118, 0.119])
    code, text = asked(JS)
    assert code == check.AGREES
    assert text.index("agrees; paper") < text.index("disagrees; stand-in")


def test_trials_are_nobodys_answer():
    for place in ("trial", "trial/paper"):  # by hand, and by `vaelib figures -p`
        record(place, [0.117, 0.118, 0.119])
    assert asked(JS)[0] == check.UNDECIDED


def test_what_is_not_measured_is_undecided_or_cannot_be():
    missing = next(i for i in statements.ids() if statements.get(i).missing)
    code, text = asked(missing)
    assert code == check.CANNOT
    assert "not measured: " in text
    assert asked(JS)[0] == check.UNDECIDED


def test_of_several_claims_a_disagreement_counts_first():
    record("paper", [0.117, 0.118, 0.119])
    assert asked("avae/t3/mnist/*")[0] == check.UNDECIDED  # the dual is not measured
    record("paper", [0.142, 0.143, 0.144], claim="avae/t3/mnist/dual")
    code, text = asked("avae/t3/mnist/*")
    assert code == check.DISAGREES
    assert JS in text
    assert asked("*", "--paper", "avae")[0] == check.DISAGREES


def test_ones_own_numbers_are_judged_by_the_same_rule():
    assert asked(JS, "--measured", "0.121", "0.119", "0.124")[0] == check.AGREES
    code, text = asked(JS, "--measured", "0.3", "0.31", "0.29")
    assert code == check.DISAGREES
    assert "which is for you to say: newton distance, late movement" in text
    assert asked("thesis/c7", "--measured", "-0.1", "-0.2", "-0.15")[0] == check.DISAGREES
    code, text = asked(JS, "--measured", "0.121", "0.119", "0.124", "--json")
    assert json.loads(text)["finding"] == "agrees"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["avae/t3/mnist/j"], "claim: 'avae/t3/mnist/j' is not allowed"),
        (["--paper", "nature"], "paper: 'nature' is not allowed; it has to be one of avae, errata"),
        ([JS, "--measured"], "give one claim, and after --measured one number or more"),
        (["theory/1", "--measured", "0.1"], "a single margin"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(arguments, sentence):
    code, text = asked(*arguments)
    assert code == 4
    assert sentence in text
    assert len(text.strip().splitlines()) == 1


def test_machines_get_claims_records_and_verdicts():
    record("paper", [0.117, 0.118, 0.119])
    code, text = asked(JS, "--json")
    (one,) = json.loads(text)
    assert code == one["code"] == check.AGREES
    assert one["claim"]["value"] == 0.118
    (found,) = one["found"]
    assert found["record"]["measured"] == {"": [0.117, 0.118, 0.119]}
    assert (found["verdict"]["finding"], found["verdict"]["scale"]) == ("agrees", "paper")


def test_claims_are_found_by_their_words():
    found = CliRunner().invoke(main, ["claims", "skew", "mnist", "avae/t3"]).output
    assert "avae/t3/mnist/js" in found
    assert "0.118 ± 0.001" in found
    assert "avae/t1" not in found
    assert not CliRunner().invoke(main, ["claims", "no such words"]).output


def test_a_claim_needs_the_runs_of_its_study_on_its_data(monkeypatch):
    monkeypatch.undo()
    claim = claims.get(JS).model_copy(update={"setting": Setting(data=("mnist",))})
    work = notebooks.work("quick", ["02"])
    base = work[0].parameters | {"dataset": "mnist5k", "epochs": 1}
    monkeypatch.setattr(notebooks, "work", lambda profile, only: [work[0]._replace(parameters=base)])
    jobs = check.needed([claim])
    assert jobs
    assert {job.experiment.data for job in jobs} == {"mnist5k"}
    assert all(job.experiment.epochs == 1 for job in jobs)
    assert not any(cost.found for cost in jobs.values())
    assert not check.needed([claim.model_copy(update={"setting": Setting(data=("fashion_mnist",))})])
    assert not check.needed([claims.get("theory/1")])


def test_a_notebook_is_planned_once_for_all_claims(monkeypatch):
    monkeypatch.undo()
    planned, collect = [], check.plan.collect
    work = notebooks.work("quick", ["02"])
    monkeypatch.setattr(notebooks, "work", lambda profile, only: work)
    monkeypatch.setattr(check.plan, "collect", lambda work: planned.append(work) or collect(work))
    dual = claims.get(JS).model_copy(update={"id": "avae/t3/mnist/dual"})
    assert check.needed([claims.get(JS), dual]).keys() == check.needed([claims.get(JS)]).keys() != set()
    assert len(planned) == 2  # one for each question


def test_what_was_run_is_in_the_reports_even_if_another_notebook_failed(monkeypatch, tmp_path):
    trained, asked_for = [], []

    def run_all(work, folder, jobs):
        asked_for.extend(work)
        record("paper", [0.117, 0.118, 0.119])
        yield notebooks.Outcome(tmp_path / "02_alpha_convergence.ipynb", {}, 1.0)
        yield notebooks.Outcome(tmp_path / "03_landscapes.ipynb", {}, 1.0, "cell 4: ArithmeticError")

    monkeypatch.setattr(check, "train", trained.append)
    monkeypatch.setattr(notebooks, "run_all", run_all)
    code, text = asked(JS, "thesis/c4", "--run")
    assert code == 4
    assert "03_landscapes failed in cell 4: ArithmeticError" in text
    assert {one.notebook.stem for one in asked_for} == {"02_alpha_convergence", "03_landscapes"}
    assert "avae/t3/mnist/js" in (tmp_path / "figures" / "paper" / "avae.md").read_text()


def test_what_needs_no_training_runs_nothing(monkeypatch):
    def run_all(work, folder, jobs):
        assert not work
        return iter(())

    monkeypatch.setattr(check, "train", lambda jobs: None)
    monkeypatch.setattr(notebooks, "run_all", run_all)
    assert asked("theory/1", "--run")[0] == check.CANNOT


@pytest.mark.parametrize(
    ("name", "paper"),
    [
        ("metabric:clin+rna/0", "metabric"),
        ("metabric", "metabric"),
        ("mnist:28", "mnist"),
        ("mnist5k:28", "mnist"),
        ("sprites:5000", "dsprites"),
        ("gse7390:clin+rna/1", "metabric"),
    ],
)
def test_parts_of_data_are_of_the_papers_data(name, paper):
    assert check._stands_for(name) == paper


def test_no_claim_is_called_by_a_pattern_that_fits_none():
    with pytest.raises(Invalid, match="closest"):
        check.matching(["avae/t9/*"])
