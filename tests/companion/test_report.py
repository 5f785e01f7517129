from collections import defaultdict
from html.parser import HTMLParser

import mistune
import pandas as pd
import pytest

from vaelib import Experiment
from vaelib.companion import claims, figures, plots, report, statements
from vaelib.companion.claims import Claim, Ledger, Setting
from vaelib.errors import UserError

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
        return report.write("quick")

    return save


def test_a_report_sets_figures_beside_claims(saved):
    markdown = saved("Skew against epoch.", "thesis/c5")
    text = markdown.read_text()
    assert "1 notebooks. reduced: 1 agrees; stand-in: 1 agrees." in text
    assert text.index("*reduced*") < text.index("| mnist, 100 epochs |") < text.index("*stand-in*")
    assert text.index("*stand-in*") < text.index("| mnist5k, 100 epochs |")
    assert "![Skew against epoch.](02_test/a.b.png)" in text
    assert "*Skew against epoch.* (MNIST, Burgess network, 10 epochs, seed 0; 1 runs, vaelib" in text
    assert "| thesis/c5 |" in text
    assert f"- thesis/c5: {claims.get('thesis/c5').says}, holds" in text
    (image,) = rendered(markdown).images
    assert image["alt"] == "Skew against epoch."
    assert (markdown.parent / image["src"]).exists()
    assert report.write("quick").read_text() == text


def test_every_character_of_captions_and_statements_is_shown_as_it_is(saved, monkeypatch):
    nasty = Claim(id="thesis/c1", kind="statement", says=NASTY)
    monkeypatch.setitem(statements._book(), "thesis/c1", nasty)
    page = rendered(saved(NASTY, "thesis/c1"))
    assert page.images[0]["alt"] == NASTY
    assert page.texts["td"][:3] == ["thesis/c1", NASTY, "holds"]
    assert len(page.texts["td"]) == 2 * 8
    assert NASTY in page.texts["em"]
    assert page.texts["li"] == [f"thesis/c1: {NASTY}, holds"]


def test_a_picture_that_is_missing_is_left_out(saved):
    markdown = saved("Skew.", "thesis/c1")
    (markdown.parent / "02_test" / "a.b.png").unlink()
    assert "Skew" not in report.write("quick").read_text()


def test_no_results_are_one_sentence():
    with pytest.raises(UserError, match="profile: 'paper' has no results"):
        report.write("paper")
