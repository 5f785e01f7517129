import json
import re
from collections import defaultdict
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import mistune
import nbformat
import pandas as pd
import pytest

from vaelib import Experiment
from vaelib.companion import claims, figures, plots, report, statements
from vaelib.companion.claims import Claim, Ledger, Setting
from vaelib.errors import UserError

ROOT = Path(__file__).parents[2]
NASTY = r"a|b *c* _d_ __e__ <f> & &lt; `g` [h](i) ![j] ~~k~~ \ $l$ \| \* fashion_mnist"


class Page(HTMLParser):
    """What a page shows: its images, and the texts of its elements by their tag; elements are closed in turn."""

    def __init__(self, text):
        super().__init__()
        self.images, self.texts, self.open = [], defaultdict(list), [("", "")]
        self.feed(text)
        assert [tag for tag, _ in self.open] == [""]

    def handle_starttag(self, tag, attributes):
        if tag != "meta":
            self.open.append((tag, ""))

    def handle_startendtag(self, tag, attributes):
        assert tag == "img"
        self.images.append(dict(attributes))

    def handle_endtag(self, tag):
        opened, text = self.open.pop()
        assert opened == tag
        self.texts[tag].append(text.strip())

    def handle_data(self, data):
        tag, text = self.open.pop()
        self.open.append((tag, text + data))


def rendered(markdown):
    """A report as a code host shows it."""
    return Page(str(mistune.create_markdown(plugins=["table"])(markdown.read_text())))


@pytest.fixture
def saved():
    def save(caption, claim):
        folder = figures.folder("02_test", "quick")
        for data in ("mnist", "mnist5k"):
            Ledger(folder).record(claim, [0.01, 0.011], setting=Setting(data=data, epochs=100))
        table, of = pd.DataFrame({"x": [1, 2], "y": [1, 2]}), [Experiment(data="mnist")]
        figures.show(
            plots.curves.means, table, "a.b", folder=folder, caption=caption, of=of, claims=[claim], x="x", y="y"
        )
        return report.write("quick").with_name(f"{claim.split('/')[0]}.md")

    return save


def test_a_report_sets_figures_beside_claims(saved):
    markdown = saved("Skew against epoch.", "thesis/c5")
    text = markdown.read_text()
    assert "reduced: 1 agrees; stand-in: 1 agrees." in text
    assert text.index("*reduced*") < text.index("| mnist, 100 epochs |") < text.index("*stand-in*")
    assert text.index("*stand-in*") < text.index("| mnist5k, 100 epochs |")
    assert "![Skew against epoch.](02_test/a.b.png)" in text
    assert "*Skew against epoch.* (MNIST, Burgess network, 10 epochs, seed 0; 1 run, vaelib" in text
    assert "): thesis/c5\n" in text
    assert f"| {claims.get('thesis/c5').says} | holds |" in text
    (image,) = rendered(markdown).images
    assert image["alt"] == "Skew against epoch."
    assert (markdown.parent / image["src"]).exists()
    report.write("quick")
    assert markdown.read_text() == text


def test_the_index_counts_what_the_reports_of_papers_have(saved):
    first = saved("Skew against epoch.", "thesis/c5")
    saved("Skew.", "fgvae/c1")
    index = (first.parent / "REPORT.md").read_text()
    assert "1 notebooks. reduced: 1 agrees, 1 undecided; stand-in: 1 agrees, 1 undecided." in index
    assert "| [Thesis: learning skew](thesis.md) | reduced: 1 agrees; stand-in: 1 agrees. |" in index
    assert "[Representation learning](fgvae.md)" in index
    assert not (first.parent / "mivae.md").exists()
    assert "](02_test" not in index
    Ledger(first.parent / "02_test").file.write_text("[]")
    report.write("quick")
    assert not first.exists()  # nothing of this paper is recorded any more


def test_a_figure_that_tests_no_claim_is_in_the_index(saved):
    paper = saved("Skew.", "thesis/c1")
    note = paper.parent / "02_test" / "a.b.json"
    note.write_text(json.dumps(json.loads(note.read_text()) | {"claims": []}))
    index = report.write("quick").read_text()
    assert "![Skew.](02_test/a.b.png)" in index
    assert "![Skew.]" not in paper.read_text()


def test_a_note_of_an_older_version_is_shown_without_a_setting(saved):
    paper = saved("Skew.", "thesis/c1")
    note = paper.parent / "02_test" / "a.b.json"
    note.write_text(json.dumps({k: v for k, v in json.loads(note.read_text()).items() if k != "setting"}))
    report.write("quick")
    assert "*Skew.* (1 run, vaelib" in paper.read_text()


@pytest.mark.parametrize("file", sorted((ROOT / "figures").glob("*/*.md")), ids=lambda f: "/".join(f.parts[-2:]))
def test_the_links_of_a_committed_report_lead_somewhere(file):
    """To files that are there, and in notebooks to headings by the name that Jupyter and code hosts give them."""
    for link in re.findall(r"\]\(([^)]+)\)", file.read_text(encoding="utf-8")):
        path, _, place = link.partition("#")
        target = file.parent / unquote(path)
        assert target.exists(), link
        if place:
            source = "\n".join(c.source for c in nbformat.read(target, 4).cells if c.cell_type == "markdown")
            assert unquote(place) in {title.replace(" ", "-") for title in re.findall(r"^#+ (.+)$", source, re.M)}, link


def test_every_character_of_captions_and_statements_is_shown_as_it_is(saved, monkeypatch):
    nasty = Claim(id="thesis/c1", kind="statement", says=NASTY)
    monkeypatch.setitem(statements._book(), "thesis/c1", nasty)
    page = rendered(saved(NASTY, "thesis/c1"))
    assert page.images[0]["alt"] == NASTY
    assert page.texts["td"][1:3] == [NASTY, "holds"]
    assert len(page.texts["td"]) == 2 * 8
    assert NASTY in page.texts["em"]


def test_a_picture_that_is_missing_is_left_out(saved):
    markdown = saved("Skew.", "thesis/c1")
    (markdown.parent / "02_test" / "a.b.png").unlink()
    report.write("quick")
    assert "Skew." not in markdown.read_text()


def test_no_results_are_one_sentence():
    with pytest.raises(UserError, match="profile: 'paper' has no results"):
        report.write("paper")
