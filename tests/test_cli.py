import json
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import nbformat
import pandas as pd
import psutil
import pytest
import yaml
from click.testing import CliRunner
from filelock import Timeout
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from vaelib import paths
from vaelib.cli import main
from vaelib.companion import notebooks, report
from vaelib.errors import Invalid, UserError

PARAMETERS = """name: str = "a"  # a word
count: int = 3  # a number
rate: float = 0.1  # another
values: list = [1, 2]  # a list
flag: bool = False  # yes or no
profile: str = "quick"  # where results go"""
FIGURE = """from vaelib import paths
from vaelib.companion.claims import Ledger
Ledger(paths.figures() / profile / "01_good").record("theory/5", [rate])
print(name, count, rate, values, flag)"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with two notebooks that pass and one that fails."""
    (tmp_path / "notebooks" / "profiles").mkdir(parents=True)

    def write(stem, *cells):
        tagged = new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        nbformat.write(
            new_notebook(cells=[new_markdown_cell("# Test"), tagged, *map(new_code_cell, cells)], metadata=kernel),
            tmp_path / "notebooks" / f"{stem}.ipynb",
        )

    write("01_good", FIGURE)
    write("02_bad", "x = 1", "raise ArithmeticError('it does not add up')", "y = 2")
    (tmp_path / "notebooks" / "profiles" / "quick.yaml").write_text("01_good: {}\n")
    (tmp_path / "notebooks" / "profiles" / "twice.yaml").write_text("01_good: [{count: 1}, {count: 2}]\n")
    (tmp_path / "notebooks" / "profiles" / "small.yaml").write_text("01_good: {count: 1, rate: 1e-3}\n")
    (tmp_path / "notebooks" / "profiles" / "octal.yaml").write_text("01_good: {count: 010}\n")
    (tmp_path / "notebooks" / "profiles" / "broken.yaml").write_text("01_good: {count: 1\n")
    monkeypatch.setattr(paths, "project", lambda: tmp_path)
    return tmp_path


def call(*arguments):
    return CliRunner().invoke(main, arguments)


def test_a_failing_notebook_is_named_and_the_others_go_on(project):
    result = call("figures")
    assert result.exit_code == 1
    assert "02_bad" in result.output
    assert "FAILED in cell 4: ArithmeticError: it does not add up" in result.output
    assert "1 of 2 notebooks failed" in result.output
    assert "\x1b" not in result.output
    assert (paths.figures() / "quick" / "REPORT.md").exists()
    partial = nbformat.read(paths.figures() / "quick" / "executed" / "02_bad.ipynb", as_version=4)
    counts = [c.execution_count for c in partial.cells if c.cell_type == "code" and c.source in ("x = 1", "y = 2")]
    assert counts == [3, None]


def test_parameters_arrive_with_their_types(project):
    result = call(
        "figures",
        "--only",
        "01",
        "--profile",
        "small",
        "-p",
        "name",
        "5",
        "-p",
        "values",
        "[4, 5]",
        "-p",
        "flag",
        "true",
    )
    assert result.exit_code == 0, result.output
    assert not (paths.figures() / "small").exists(), "what is not the profile's own is a trial"
    done = nbformat.read(paths.figures() / "trial" / "small" / "executed" / "01_good.ipynb", as_version=4)
    (text,) = [o.text for c in done.cells if c.cell_type == "code" for o in c.outputs]
    assert text == "5 1 0.001 [4, 5] True\n"


def test_a_parameter_that_some_notebooks_do_not_know_is_skipped_there(project):
    file = project / "notebooks" / "02_bad.ipynb"
    bad = nbformat.read(file, as_version=4)
    bad.cells[1].source = 'profile: str = "trial"  # where results go'
    nbformat.write(bad, file)
    result = call("figures", "-p", "count", "5")
    assert "count is not a parameter of 02_bad" in result.output
    done = nbformat.read(paths.figures() / "trial" / "quick" / "executed" / "01_good.ipynb", as_version=4)
    assert [o.text.split()[1] for c in done.cells if c.cell_type == "code" for o in c.outputs] == ["5"]


def test_a_second_run_writes_nothing_and_a_changed_finding_is_named(project):
    assert call("figures", "--only", "01").exit_code == 0
    files = [
        f for f in paths.figures().glob("quick/**/*") if f.suffix in (".json", ".md") and "executed" not in f.parts
    ]
    before = {file: file.stat().st_mtime_ns for file in files}
    assert len(before) == 3  # claims, the report of their paper, and all reports
    again = call("figures", "--only", "01")
    assert {file: file.stat().st_mtime_ns for file in files} == before
    assert "(was" not in again.output
    notebook = project / "notebooks" / "01_good.ipynb"
    notebook.write_text(notebook.read_text().replace("[rate]", "[rate, -rate]"))
    changed = call("figures", "--only", "01")
    assert "verdicts: " in changed.output
    assert "theory/5, 01_good: refuted (was holds in all trials)" in changed.output


@pytest.mark.parametrize("when", ["kernels start", "a cell runs"])
def test_ctrl_c_ends_notebooks_and_their_kernels_with_one_sentence(project, when):
    (project / "notebooks" / "03_long.ipynb").write_text(
        (project / "notebooks" / "01_good.ipynb")
        .read_text()
        .replace("from vaelib import paths", "import time; open('reached', 'x'); time.sleep(600)", 1)
    )
    script = f"""import signal
from pathlib import Path
from vaelib import cli, paths
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for what runs in the background
paths.project = lambda: Path({str(project)!r})
cli.main(["figures", "--only", "03"])
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines = iter(process.stdout.readline, "")
    assert any("running 1 notebooks" in line for line in lines)
    if when == "a cell runs":
        deadline = time.monotonic() + 60
        while not (project / "notebooks" / "reached").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
    assert (project / "notebooks" / "reached").exists() == (when == "a cell runs")
    started = psutil.Process(process.pid).children(recursive=True)
    assert len(started) >= (4 if when == "a cell runs" else 1), "what kernels are forked from, and then two more"
    os.killpg(process.pid, signal.SIGINT)
    said = process.stdout.read()
    assert process.wait(30) == 130
    assert said == "stopped: what was finished is stored; the same command goes on from there\n"
    _, left = psutil.wait_procs(started, timeout=20)
    assert not left


def test_the_notebook_that_took_longest_is_the_first(project, tmp_path):
    folder = tmp_path / "copies"
    folder.mkdir()
    for stem, seconds in (("a", 1.0), ("b", 3.0), ("c", None)):
        metadata = {"papermill": {"duration": seconds}}
        (folder / f"{stem}.ipynb").write_text(json.dumps({"metadata": metadata}))
    work = [notebooks.Work(stem, project / "notebooks" / "01_good.ipynb", {}) for stem in "abcd"]
    done = [outcome.output.stem for outcome in notebooks.run_all(work, folder, 1)]
    assert done == ["c", "d", "b", "a"], "those that nothing is known of come before"


def test_a_notebook_whose_process_is_killed_is_named_and_the_others_go_on(project):
    file = project / "notebooks" / "02_bad.ipynb"
    kill = "import multiprocessing as mp, os, time; os.kill(mp.parent_process().pid, 9); time.sleep(600)"
    file.write_text(file.read_text().replace("x = 1", kill))
    result = call("figures")
    assert result.exit_code == 1
    assert [line.split()[0] for line in result.output.splitlines() if line.endswith(" s  done")] == ["01_good"]
    assert "FAILED in its process was killed" in result.output


def test_a_profile_can_run_a_notebook_again_with_other_parameters(project):
    assert call("figures", "--only", "01", "--profile", "twice", "--jobs", "2").exit_code == 0
    texts = []
    for stem in ("01_good", "01_good-2"):
        done = nbformat.read(paths.figures() / "twice" / "executed" / f"{stem}.ipynb", as_version=4)
        texts += [o.text.split()[1] for c in done.cells if c.cell_type == "code" for o in c.outputs]
    assert texts == ["1", "2"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ("-p", "cuont", "3"),
            "parameter: 'cuont' is not allowed; it has to be one that a notebook declares, such as count",
        ),
        (("-p", "count", "many"), "01_good.count: 'many' is not allowed; it has to be of type int"),
        (("-p", "count", "true"), "it has to be of type int"),
        (("-p", "rate", "fast"), "it has to be of type float"),
        (("-p", "values", "4"), "it has to be of type list"),
        (("--only", "07"), "only: '07' is not allowed; it has to be the beginning of 01_good, 02_bad"),
        (("--only", ""), "only: '' is not allowed"),
        (("-p", "count", "010"), "01_good.count: '010' is not allowed; it has to be of type int, like 3"),
        (("-p", "count", "1:30"), "it has to be of type int"),
        (("-p", "count", "0x10"), "it has to be of type int"),
        (("-p", "count", "1e3"), "it has to be of type int"),
        (("-p", "rate", "1:30"), "01_good.rate: '1:30' is not allowed; it has to be of type float"),
        (("-p", "rate", "010"), "it has to be of type float"),
        (("-p", "rate", "nan"), "it has to be of type float"),
        (("-p", "values", "[010, 2]"), "01_good.values: '[010, 2]' is not allowed; it has to be of type list"),
        (("-p", "values", "[1:30]"), "it has to be of type list, like [1, 2]"),
        (("-p", "values", "[1, 2"), "it has to be of type list"),
        (("--profile", "octal"), "01_good.count: '010' is not allowed"),
        (("--profile", "broken"), "broken.yaml"),
        (
            ("--profile", "papers"),
            "profile: 'papers' is not allowed; it has to be one of broken, octal, quick, small, twice",
        ),
        (("--refresh", "-p", "count", "4"), "refresh: notebooks are kept with their default parameters"),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(project, arguments, says):
    result = call("figures", *arguments)
    assert result.exit_code == 1
    assert says in result.output
    assert "Traceback" not in result.output
    assert not paths.figures().exists()


def test_defaults_are_not_injected(project):
    good = project / "notebooks" / "01_good.ipynb"
    assert notebooks.checked(good, {"count": 3, "rate": "0.1", "profile": "quick"}) == {}
    assert notebooks.checked(good, {"count": 4, "rate": "1e-3"}) == {"count": 4, "rate": 0.001}


def test_refresh_keeps_a_clean_executed_notebook(project):
    (project / "notebooks" / "02_bad.ipynb").unlink()
    assert call("figures", "--refresh").exit_code == 0
    kept = nbformat.read(project / "notebooks" / "01_good.ipynb", as_version=4)
    nbformat.validate(kept)
    assert "papermill" not in kept.metadata
    code = [c for c in kept.cells if c.cell_type == "code"]
    assert [c.execution_count for c in code] == [1, 2]
    assert code[0].metadata == {"tags": ["parameters"]}
    assert code[1].outputs[0].text == "a 3 0.1 [1, 2] False\n"


def test_executed_copies_go_where_figures_go(project, monkeypatch):
    assert notebooks.copies("quick") == paths.figures() / "quick" / "executed"
    monkeypatch.delenv("VAELIB_FIGURES")
    assert notebooks.copies("quick") == project / "build" / "quick"


@pytest.mark.parametrize(
    ("text", "value"), [("-3", -3), ("0", 0), ("1e-3", 0.001), ("1E5", 1e5), (".5", 0.5), ("[1, 2.50]", [1, 2.5])]
)
def test_numbers_are_decimal(text, value):
    assert repr(notebooks._read(text)) == repr(value)


def test_jobs_are_counted_from_one(project):
    assert call("figures", "--jobs", "0").exit_code == 2


@pytest.mark.parametrize("error", [ValueError("the shapes differ"), KeyError("skew"), TypeError("no")])
def test_a_defect_is_not_taken_for_a_mistake_of_the_user(monkeypatch, error):
    def fail(profile):
        raise error

    monkeypatch.setattr(report, "write", fail)
    assert call("report").exception is error


@pytest.mark.parametrize(
    "error", [UserError("a\nb"), PermissionError(13, "a b"), yaml.YAMLError("a b"), Timeout("a b")]
)
def test_what_a_user_can_mend_is_one_sentence(monkeypatch, error):
    def fail(profile):
        raise error

    monkeypatch.setattr(report, "write", fail)
    result = call("report")
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert "a b" in result.output
    assert result.output.count("\n") == 1


def test_data_commands():
    listed = call("data", "list")
    assert listed.exit_code == 0
    assert "here  mnist5k" in listed.output
    assert call("data", "verify", "mnist5k").exit_code == 0
    refused = call("data", "verify", "mnistt")
    assert refused.exit_code == 1
    assert "mnistt" in refused.output
    assert "Traceback" not in refused.output


def test_runs_commands(tmp_path, monkeypatch):
    entry = SimpleNamespace(
        experiment={"seed": 1}, provenance={"data": "d"}, metrics={"m": 2}, history=pd.DataFrame({"epoch": [1]})
    )

    class Store:
        folder = tmp_path

        def table(self):
            return pd.DataFrame({"key": ["0123"], "empty": [None]})

        def find(self, prefix):
            if prefix != "0":
                raise Invalid("run", prefix, "the beginning of one key")
            return entry

        def export(self, archive, keys=None, *, weights=True):
            return len(keys or "123") + 10 * weights

        def import_(self, archive):
            return 1, 2, 3

        def prune(self):
            return 4

    monkeypatch.setattr("vaelib.runs.store.Store", Store)
    assert "0123" in call("runs", "list").output
    assert '"m": 2' in call("runs", "show", "0").output
    missing = call("runs", "show", "zzz")
    assert missing.exit_code == 1
    assert missing.output == "Error: run: 'zzz' is not allowed; it has to be the beginning of one key\n"
    archive = str(tmp_path / "a.tar.gz")
    assert "13 runs in" in call("runs", "export", archive).output
    assert "2 runs in" in call("runs", "export", "--no-weights", archive, "0", "1").output
    assert "1 runs added, 2 improved, 3 were here already" in call("runs", "import", archive).output
    assert "4 runs, checkpoints" in call("runs", "prune").output


def test_report_without_results_is_one_sentence():
    result = call("report", "--profile", "paper")
    assert result.exit_code == 1
    assert "profile: 'paper' has no results" in result.output
