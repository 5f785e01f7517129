"""Heat maps, projections and intervals: what is in the table is what is drawn."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import LogNorm

from vaelib.companion.plots import heatmaps, intervals, projections


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


CELLS = pd.DataFrame(
    {
        "x": [2, 1, 2, 1, 1],
        "y": ["b", "b", "a", "a", "a"],
        "n": [4.0, 3.0, 2.0, 0.5, 1.5],
        "panel": ["left", "left", "left", "left", "right"],
    }
)


def test_cells_are_in_order_and_in_one_scale():
    """Numbers ascend, text comes as it first does; a cell without a row is left out."""
    left, right, bar = heatmaps.counts(CELLS, x="x", y="y", value="n", panels="panel", labels={"b": "beta"}).axes
    values = [ax.collections[0] for ax in (left, right)]
    assert values[0].get_array().tolist() == [[3, 4], [0.5, 2]]
    assert values[0].get_clim() == values[1].get_clim() == (0.5, 4)
    assert [text.get_text() for text in left.get_yticklabels()] == ["beta", "a"]
    assert left.get_ylim() == (2, 0)
    assert (left.get_title(loc="left"), bar.get_ylabel()) == ("left", "n")


def test_cells_may_rise_be_written_and_logarithmic():
    left = CELLS[CELLS["panel"] == "left"]
    ax = heatmaps.counts(left, x="x", y="y", value="n", rising=True, log=True, written=".1f").axes[0]
    assert ax.get_ylim() == (0, 2)
    assert isinstance(ax.collections[0].norm, LogNorm)
    assert [text.get_text() for text in ax.texts] == ["3.0", "4.0", "0.5", "2.0"]


def test_seeds_of_a_cell_are_averaged():
    table = pd.DataFrame({"x": [0, 0], "y": [0, 0], "n": [1.0, 3.0], "seed": [0, 1]})
    assert heatmaps.counts(table, x="x", y="y", value="n").axes[0].collections[0].get_array().tolist() == [[2.0]]


def test_ten_classes_have_ten_markers_and_colours():
    table = pd.DataFrame(
        {"x": np.arange(20.0), "y": 0.0, "label": [*range(10)] * 2, "picture": ["a"] * 10 + ["b"] * 10}
    )
    names = projections.class_names("fashion_mnist:28")
    figure = projections.classes(table, panels="picture", labels=names)
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["a", "b"]
    handles = figure.legends[0].legend_handles
    assert [handle.get_label() for handle in handles] == list(names.values())
    assert (
        len({str(handle.get_color()) for handle in handles})
        == len({str(handle.get_marker()) for handle in handles})
        == 10
    )
    assert len(figure.axes[0].collections[0].get_offsets()) == 10


def test_digits_have_no_names():
    assert projections.class_names("mnist5k") == {}


def test_intervals_are_as_the_table_has_them():
    table = pd.DataFrame(
        {
            "method": ["kl", "mmd"] * 2,
            "difference": [1.0, 2, 3, 4],
            "low": 0.5,
            "high": 5.0,
            "measure": ["a"] * 2 + ["b"] * 2,
        }
    )
    first, second = intervals.forest(table, panels="measure").axes
    drawn = [list(line.get_xdata()) for line in first.lines]
    assert drawn == [[0, 0], [0.5, 5.0], [1.0], [0.5, 5.0], [2.0]]
    assert [text.get_text() for text in first.get_yticklabels()] == ["KL(q‖p)", "MMD"]
    assert first.get_ylim()[0] > first.get_ylim()[1], "the first is on top"
    assert second.get_title(loc="left") == "b"
