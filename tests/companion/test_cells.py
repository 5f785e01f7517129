"""A claim and a figure lead to the cell they come from."""

import json
from pathlib import Path

import nbformat
import pytest

from vaelib import paths
from vaelib.companion import cells, report

ROOT = Path(__file__).parents[2]


def committed(profile):
    return sorted((ROOT / "figures" / profile).glob("*/claims.json"))


@pytest.mark.parametrize("file", [*committed("quick"), *committed("paper")], ids=lambda f: "/".join(f.parts[-3:-1]))
def test_whatever_is_recorded_has_a_cell_that_records_and_a_heading_above_it(file):
    notebook = nbformat.read(ROOT / "notebooks" / f"{file.parent.name}.ipynb", as_version=4)
    sources = {cell.id: cell.source for cell in notebook.cells}
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    for record in json.loads(file.read_text(encoding="utf-8")):
        cell = cells.recording(file.parent.name, record["claim"])
        assert cell is not None, record["claim"]
        assert "ledger.record(" in sources[cell.id]
        assert f"# {cell.heading}\n" in f"{text}\n"


@pytest.mark.parametrize("file", committed("quick"), ids=lambda f: f.parent.name)
def test_a_figures_cell_is_the_one_that_shows_it(file):
    """What a cell of the committed notebook shows under its pictures is the truth here."""
    notebook = nbformat.read(ROOT / "notebooks" / f"{file.parent.name}.ipynb", as_version=4)
    shown = {
        cell.id: "".join(str(output.get("data", {}).get("text/markdown", "")) for output in cell.outputs)
        for cell in notebook.cells
        if cell.cell_type == "code"
    }
    notes = {Path(figure["path"]).stem: figure["note"]["caption"].rstrip(".") for figure in report.shown(file.parent)}
    seen = {name: caption for name, caption in notes.items() if caption in "".join(shown.values())}
    assert seen  # a notebook that a profile runs more than once shows the figures of one run
    for name, caption in seen.items():
        assert caption in shown[cells.showing(file.parent.name, name, caption).id], name


@pytest.mark.parametrize(
    ("notebook", "claim", "cell"),
    [
        ("01_theory_checks", "theory/3", "cell-15"),
        ("02_alpha_convergence", "avae/t3/mnist/js", "record-skews"),
        ("02_alpha_convergence", "avae/c5", "record-errors"),
        ("04_reconstruction", "avae/t1/mnist/dual", "record-errors"),  # by way of a table of another cell
        ("04_reconstruction", "thesis/t4/mnist/mmd", "record-log-p"),
        ("05_metabric", "thesis/t2/clin+cna/cnc/js", "scale"),
        ("05_metabric", "thesis/t3/clin+cna/mmd", "t3"),
        ("05_metabric", "thesis/t5/clin+cna/cnc/dual/rf", "t5"),
        ("06_mutual_information", "mivae/acc/mnist/mi", "cell-07"),
    ],
)
def test_a_claim_is_found_whatever_way_it_is_named(notebook, claim, cell):
    found = cells.recording(notebook, claim)
    assert (found and found.id) == cell


def test_what_cannot_be_told_has_no_cell(tmp_path, monkeypatch):
    (tmp_path / "notebooks").mkdir()
    monkeypatch.setattr(paths, "project", lambda: tmp_path)
    assert cells.recording("no_such_notebook", "avae/c1") is None
    markdown = nbformat.v4.new_markdown_cell("# One\n\ntext\n\n## Two of them")
    loop = (
        'for claim in claims:\n    claims = [claim]\n    ledger.record(claim, [1.0])\nledger.record("avae/c1", [1.0])'
    )
    notebook = nbformat.v4.new_notebook(cells=[markdown, nbformat.v4.new_code_cell(loop)])
    nbformat.write(notebook, tmp_path / "notebooks" / "10_own.ipynb")
    assert cells.recording("10_own", "avae/c2") is None  # the names lead in a circle
    found = cells.recording("10_own", "avae/c1")
    assert (found.heading, found.place, found.anchor) == ("Two of them", "Two-of-them", f"cell-{found.id}")
