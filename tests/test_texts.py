"""What readers see first: notebooks that can be followed, and a README that says what the ledger says."""

import re
from pathlib import Path

import nbformat
import pytest

from vaelib import paths
from vaelib.companion import check, claims

ROOT = Path(__file__).parents[1]
NOTEBOOKS = {
    file.stem: nbformat.read(file, as_version=4).cells for file in sorted((ROOT / "notebooks").glob("*.ipynb"))
}
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("cells", NOTEBOOKS.values(), ids=NOTEBOOKS)
def test_a_cell_is_seen_whole(cells):
    assert max(len(cell.source.splitlines()) for cell in cells if cell.cell_type == "code") <= 25


@pytest.mark.parametrize("cells", NOTEBOOKS.values(), ids=NOTEBOOKS)
def test_a_notebook_begins_with_what_it_is_for(cells):
    first = cells[0].source.casefold()
    assert first.startswith("# ")
    for what in ("you will learn", "you should know", "section", "minute"):
        assert what in first, what


@pytest.mark.parametrize("cells", NOTEBOOKS.values(), ids=NOTEBOOKS)
def test_a_notebook_ends_with_a_conclusion_and_the_verdicts(cells):
    titles = [line for cell in cells if cell.cell_type == "markdown" for line in cell.source.splitlines()]
    titles = [line for line in titles if re.match("#+ ", line)]
    assert any("conclusion" in title.casefold() for title in titles[-3:]), titles[-3:]
    (verdicts,) = [cell for cell in cells[-2:] if "ledger.table(" in cell.source]
    assert "nbval-ignore-output" not in verdicts.metadata.get("tags", [])
    assert verdicts.outputs


@pytest.mark.parametrize("cells", NOTEBOOKS.values(), ids=NOTEBOOKS)
def test_every_figure_has_a_caption(cells):
    """Under each picture stands its number and what it shows; the picture has a text for those who cannot see."""
    numbers = []
    for cell in cells:
        outputs = cell.get("outputs", [])
        for output, after in zip(outputs, [*outputs[1:], None]):
            if "image/png" in output.get("data", {}):
                assert after is not None, cell.source
                found = re.match(r"\*\*Figure (\d+)\.\*\* \S", after.data["text/markdown"])
                assert found, cell.source
                assert output.metadata["image/png"]["alt"]
                numbers.append(int(found[1]))
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize("cells", NOTEBOOKS.values(), ids=NOTEBOOKS)
def test_a_displayed_formula_is_a_paragraph(cells):
    """Within one, the site's parser pairs the dollars of what follows wrongly; Jupyter's does not."""
    for cell in cells:
        if cell.cell_type == "markdown":
            around = re.split(r"\$\$.+?\$\$", f"\n\n{cell.source}\n\n", flags=re.DOTALL)
            assert all(text.endswith("\n\n") for text in around[:-1]), cell.id
            assert all(text.startswith("\n\n") for text in around[1:]), cell.id


def rows():
    """The README's table of claims: id, data, what was measured, finding and scale."""
    table = [line.strip("| ").split(" | ") for line in README.splitlines() if line.startswith("| `")]
    return [(row[0].strip("`"), row[1], *row[-3:]) for row in table]


def test_the_readme_is_short_and_has_ten_claims():
    assert len(rows()) == 10
    assert len(README.split()) < 1100


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_the_readme_says_what_the_ledger_says(row, monkeypatch):
    name, _, measured, finding, scale = row
    monkeypatch.setattr(paths, "figures", lambda: ROOT / "figures")
    (answer,) = check.answer([claims.get(name)])
    found = {
        (table["measured"], f.verdict.finding, f.verdict.scaled.partition(", not stated")[0] or "theory")
        for f in answer.found
        for table in [claims.verdict_table([f.record], digits=3).iloc[0]]
    }
    assert (measured, finding, scale) in found


@pytest.mark.parametrize("link", re.findall(r"\]\((?!http)([^)#]+)", README))
def test_the_readmes_links_lead_somewhere(link):
    assert (ROOT / link).exists()
