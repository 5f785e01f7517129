from html.parser import HTMLParser

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from vaelib import figures, report
from vaelib.claims import Ledger


class Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.images, self.open = [], []

    def handle_starttag(self, tag, attributes):
        if tag == "img":
            self.images.append(dict(attributes))
        elif tag not in ("meta",):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_a_report_sets_figures_beside_claims():
    folder = figures.folder("02_test", "quick")
    Ledger(folder).record("thesis/c1", [0.01, 0.011], dataset="mnist", epochs=100)
    figure, _ = plt.subplots()
    figures.save(
        figure, "a", folder=folder, data=pd.DataFrame({"x": [1]}), caption="Skew <&> epoch.", claims=["thesis/c1"]
    )
    plt.close(figure)
    markdown, page = report.write("quick")
    text = markdown.read_text()
    assert "1 notebooks: 1 reproduced, 0 trend only" in text
    assert "![Skew <&> epoch.](02_test/a.png)" in text
    assert "| thesis/c1 |" in text
    parser = Links()
    parser.feed(page.read_text())
    assert parser.open == []
    (image,) = parser.images
    assert image["alt"] == "Skew <&> epoch."
    assert (page.parent / image["src"]).exists()
    assert report.write("quick")[0].read_text() == text


def test_no_results_are_one_sentence():
    with pytest.raises(FileNotFoundError, match="profile: 'paper' has no results"):
        report.write("paper")
