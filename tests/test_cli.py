import nbformat
import pytest
from click.testing import CliRunner
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from vaelib import batch, paths
from vaelib.cli import main
from vaelib.store import Store

PARAMETERS = """name: str = "a"  # a word
count: int = 3  # a number
rate: float = 0.1  # another
values: list = [1, 2]  # a list
flag: bool = False  # yes or no
profile: str = "quick"  # where results go"""
FIGURE = """from vaelib import figures
from vaelib.claims import Ledger
Ledger(figures.folder("01_good", profile)).record("thesis/c1", [rate])
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
    monkeypatch.setattr(paths, "project", lambda: tmp_path)
    return tmp_path


def call(*arguments):
    return CliRunner().invoke(main, arguments)


def test_a_failing_notebook_is_named_and_the_others_go_on(project):
    result = call("figures")
    assert result.exit_code == 1
    assert "02_bad" in result.output
    assert "FAILED in cell 3: ArithmeticError: it does not add up" in result.output
    assert "1 of 2 notebooks failed" in result.output
    assert "\x1b" not in result.output
    assert (paths.figures() / "quick" / "REPORT.html").exists()
    partial = nbformat.read(project / "build" / "quick" / "02_bad.ipynb", as_version=4)
    counts = [c.execution_count for c in partial.cells if c.cell_type == "code" and c.source in ("x = 1", "y = 2")]
    assert counts == [2, None]


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
    done = nbformat.read(project / "build" / "small" / "01_good.ipynb", as_version=4)
    (text,) = [o.text for c in done.cells if c.cell_type == "code" for o in c.outputs]
    assert text == "5 1 0.001 [4, 5] True\n"


def test_a_profile_can_run_a_notebook_again_with_other_parameters(project):
    assert call("figures", "--only", "01", "--profile", "twice", "--jobs", "2").exit_code == 0
    texts = []
    for stem in ("01_good", "01_good-2"):
        done = nbformat.read(project / "build" / "twice" / f"{stem}.ipynb", as_version=4)
        texts += [o.text.split()[1] for c in done.cells if c.cell_type == "code" for o in c.outputs]
    assert texts == ["1", "2"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("-p", "cuont", "3"), "parameter: 'cuont' is unknown to 01_good; did you mean count"),
        (("-p", "count", "many"), "parameter: count = 'many' is not allowed in 01_good; it has to be of type int"),
        (("-p", "count", "true"), "it has to be of type int"),
        (("-p", "rate", "fast"), "it has to be of type float"),
        (("-p", "values", "4"), "it has to be of type list"),
        (("--only", "07"), "only: no notebook begins with '07'; there are 01_good, 02_bad"),
        (("--profile", "papers"), "profile: 'papers' is not allowed; in "),
        (("--refresh", "-p", "count", "4"), "refresh: notebooks are kept with their default parameters"),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(project, arguments, says):
    result = call("figures", *arguments)
    assert result.exit_code == 1
    assert says in result.output
    assert not (project / "build").exists()


def test_defaults_are_not_injected(project):
    good = project / "notebooks" / "01_good.ipynb"
    assert batch.checked(good, {"count": 3, "rate": "0.1", "profile": "quick"}) == {}
    assert batch.checked(good, {"count": 4, "rate": "1e-3"}) == {"count": 4, "rate": 0.001}


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


def test_data_commands():
    listed = call("data", "list")
    assert listed.exit_code == 0
    assert "here  mnist5k" in listed.output
    assert call("data", "verify", "mnist5k").exit_code == 0
    refused = call("data", "verify", "mnistt")
    assert refused.exit_code == 1
    assert "mnistt" in refused.output
    assert "Traceback" not in refused.output


def test_runs_commands(tmp_path):
    import pandas as pd

    entry = Store().write(
        {"seed": 1}, history=pd.DataFrame({"epoch": [1]}), metrics={"m": 2}, provenance={"seconds": 1.0, "data": "d"}
    )
    assert entry.key[:12] in call("runs", "list").output
    assert '"m": 2' in call("runs", "show", entry.key[:8]).output
    archive = str(tmp_path / "a.tar.gz")
    assert "1 runs in" in call("runs", "export", archive).output
    assert "0 runs added, 1 were here already" in call("runs", "import", archive).output
    missing = call("runs", "show", "zzz")
    assert missing.exit_code == 1
    assert "fits 0 of the runs" in missing.output
    assert "0 runs, checkpoints" in call("runs", "prune").output


def test_report_without_results_is_one_sentence():
    result = call("report", "--profile", "paper")
    assert result.exit_code == 1
    assert "profile: 'paper' has no results" in result.output
