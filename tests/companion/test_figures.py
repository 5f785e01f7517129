import json

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from vaelib.companion import figures
from vaelib.divergences import Divergence
from vaelib.errors import Invalid
from vaelib.runs.experiment import COMPARED


@pytest.fixture
def axes():
    figures.use_style()
    figure, ax = plt.subplots()
    yield ax
    plt.close(figure)


TABLE = pd.DataFrame(
    {
        "epoch": [0, 1, 0, 1, 0, 1],
        "skew": [0.1, 0.2, 0.3, 0.4, 0.5, 0.5],
        "seed": [0, 0, 1, 1, 2, 2],
        "start": [1, 1, 1, 1, 2, 2],
    }
)


def test_a_band_is_mean_and_standard_deviation(axes):
    figures.band(axes, TABLE[TABLE["start"] == 1], "epoch", "skew", label=r"$x^{a}$")
    (line,) = axes.lines
    np.testing.assert_allclose(line.get_ydata(), [0.2, 0.3])
    low, high = axes.collections[0].get_paths()[0].get_extents().intervaly
    sd = np.std([0.1, 0.3], ddof=1)
    np.testing.assert_allclose([low, high], [0.2 - sd, 0.3 + sd])
    assert line.get_label() == r"$x^{a}$"


def test_a_band_by_a_column_is_a_line_for_each_value(axes):
    figures.band(axes, TABLE, "epoch", "skew", by="start", label="from {}")
    assert [line.get_label() for line in axes.lines] == ["from 1", "from 2"]


def test_a_reference_shows_the_papers_spread(axes):
    figures.reference(axes, 0.36, None, "paper")
    assert len(axes.patches) == 0
    figures.reference(axes, 0.36, 0.1, "paper")
    assert len(axes.patches) == 1


@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_laid_out_in_rows(axes, channels):
    samples = torch.zeros(5, channels, 4, 6, dtype=torch.uint8)
    samples[3] = 255
    figures.images(axes, samples, columns=3)
    shown = axes.images[0].get_array()
    assert shown.shape[:2] == (8, 18)
    assert shown[:4].max() == 0
    assert shown[4:, :6].min() == 1
    assert shown[4:, 12:].min() == 1, "an empty place is white"


def test_rows_of_images_have_their_names_beside_them(axes):
    rows = {"bytes": torch.full((3, 1, 4, 4), 255, dtype=torch.uint8), "floats": torch.zeros(3, 1, 4, 4)}
    figures.image_rows(axes, rows)
    drawn = axes.get_images()[0].get_array()
    assert drawn.shape == (8, 12)
    assert (drawn[:4] == 1).all()
    assert (drawn[4:] == 0).all()
    assert [(text.get_text(), text.get_position()[1]) for text in axes.texts] == [("bytes", 2), ("floats", 6)]


def test_every_method_of_the_papers_has_a_look():
    looks = [figures.LOOKS[name] for name in COMPARED]
    assert len({look.label for look in looks}) == len(looks)
    assert len({(look.colour, look.linestyle) for look in looks}) == len(looks)


def test_every_divergence_has_a_look():
    ours = [kind for kind, part in Divergence.kinds.items() if part.__module__.startswith("vaelib.")]
    assert set(ours) <= set(figures.LOOKS)
    looks = {(figures.LOOKS[name].colour, figures.LOOKS[name].linestyle) for name in ours}
    assert len(looks) == len(ours)


def save(ax, folder, name="line"):
    ax.plot([0, 1], [0, 1])
    data = pd.DataFrame({"x": [0, 1 / 3], "y": ["a", "b"]})
    figures.save(
        ax.figure,
        name,
        folder=folder,
        data=data,
        caption="A line.",
        claims=["thesis/c1"],
        runs=["b", "a"],
        parameters={"n": 1},
    )


def test_a_saved_figure_has_its_data_and_provenance(axes, tmp_path):
    folder = figures.folder("03_test", "quick")
    assert folder.is_dir()
    assert folder.parts[-2:] == ("quick", "03_test")
    save(axes, folder)
    assert sorted(p.name for p in folder.iterdir()) == ["line.csv", "line.json", "line.png"]
    note = json.loads((folder / "line.json").read_text())
    assert (note["claims"], note["runs"], note["parameters"]) == (["thesis/c1"], ["a", "b"], {"n": 1})
    assert note["torch"] == torch.__version__
    assert pd.read_csv(folder / "line.csv")["x"].tolist() == [0, 0.333333]


def test_the_name_of_a_figure_is_kept_whole(axes):
    folder = figures.folder("03_test", "quick")
    save(axes, folder, "rate_0")
    before = (folder / "rate_0.png").read_bytes()
    axes.set_title("another")
    save(axes, folder, "rate_0.5")
    assert (folder / "rate_0.png").read_bytes() == before
    names = [f"{name}.{ending}" for name in ("rate_0", "rate_0.5") for ending in ("csv", "json", "png")]
    assert sorted(p.name for p in folder.iterdir()) == sorted(names)


@pytest.mark.parametrize("name", ["", "a/b", "../a", "a b", "α", "claims", "a\n"])
def test_what_is_not_a_file_name_for_a_figure_is_refused(axes, name):
    folder = figures.folder("03_test", "quick")
    with pytest.raises(Invalid, match=r"name: .* has to be of letters"):
        save(axes, folder, name)
    assert list(folder.iterdir()) == []


def test_the_same_figure_gives_the_same_bytes(axes, tmp_path):
    folder = figures.folder("03_test", "quick")
    save(axes, folder)
    first = {p.name: p.read_bytes() for p in folder.iterdir()}
    figure, ax = plt.subplots()
    save(ax, folder)
    plt.close(figure)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == first


def test_a_figure_that_says_the_same_stays_as_it_is(monkeypatch):
    """A new commit alone rewrote every note, and left the tree dirty after each run."""
    folder, told = figures.folder("03_test", "quick"), []
    for commit in ("one", "another"):
        monkeypatch.setattr(figures, "commit", lambda commit=commit: commit)
        figure, ax = plt.subplots()
        save(ax, folder)
        plt.close(figure)
        told.append(json.loads((folder / "line.json").read_text()))
    assert told[0] == told[1]
    assert told[1]["commit"] == "one"


def test_a_pdf_comes_on_demand(axes, monkeypatch):
    folder = figures.folder("03_test", "quick")
    monkeypatch.setenv("VAELIB_PDF", "1")
    save(axes, folder)
    assert (folder / "line.pdf").read_bytes().startswith(b"%PDF")


def test_a_logarithmic_axis_is_labelled_in_plain_numbers():
    figure, ax = plt.subplots()
    ax.plot([3, 60], [0.02, 3000])
    ax.set(xscale="log", yscale="log")
    figures.plain_log(ax.xaxis)
    figures.plain_log(ax.yaxis)
    figure.canvas.draw()
    seen = {float(t.get_text()) for t in ax.get_xticklabels(which="both") if t.get_text()}
    assert {5, 10, 20, 50} <= seen
    assert {"0.1", "1", "10", "100", "1000"} <= {t.get_text() for t in ax.get_yticklabels(which="both")}
    plt.close(figure)
