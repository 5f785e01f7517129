import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PathCollection

from vaelib.companion.plots import densities, estimates, functions, scans, scatters, tradeoffs
from vaelib.companion.plots.style import LOOKS


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def skews(fixed):
    rows = [("dual_geometric_js", "fixed", s, 10 + s) for s in fixed]
    rows += [("dual_geometric_js", "gradient", s, 9.0) for s in (0.37, 0.38, 0.39)]
    return pd.DataFrame(rows, columns=["divergence", "update", "skew", "error"])


@pytest.mark.parametrize(("fixed", "joined"), [((), 0), ((0.0, 0.35), 0), ((0.0, 0.3, 0.6, 1.0), 1)])
def test_few_fixed_skews_are_not_joined_and_each_learned_run_is_a_star(fixed, joined):
    figure = scans.fixed_and_learned(
        skews(fixed), x="skew", y="error", by="divergence", update="update", learned="gradient"
    )
    ax = figure.axes[0]
    lines = [line for line in ax.get_lines() if len(line.get_xdata()) > 1]
    assert len(lines) == joined
    dots, stars = (collection.get_offsets() for collection in ax.collections)
    assert (len(dots), len(stars)) == (len(fixed), 3)
    named = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert ("fixed" in named) == bool(fixed)


def test_a_family_is_joined_in_the_order_of_its_weight():
    table = pd.DataFrame(
        {
            "method": ["kl", "beta4", "beta0.5", "learned_dual", "learned_dual"],
            "weight": [1, 4, 0.5, 1, 1],
            "rate": [10.0, 2.0, 15.0, 16.0, 18.0],
            "error": [15.0, 40.0, 13.0, 12.0, 14.0],
        }
    )
    figure = tradeoffs.frontier(
        table,
        x="rate",
        y="error",
        along="weight",
        family=["kl", "beta4", "beta0.5"],
        log=["rate"],
        limits={"rate": [1, None]},
    )
    ax = figure.axes[0]
    assert ax.containers[0].lines[0].get_xdata().tolist() == [15, 10, 2]
    assert ax.containers[1].lines[0].get_xydata().tolist() == [[17, 13]]
    low, high = ax.get_xlim()
    assert low == 1
    assert high > 18  # everything is in the picture


def test_a_better_estimate_is_a_star_at_the_right():
    table = pd.DataFrame(
        {
            "draws": [1, 100, np.nan],
            "log_p": [-150.0, -140.0, -121.0],
            "method": "mmd",
            "likelihood": "bernoulli",
            "kind": ["", "", "reference"],
        }
    )
    figure = estimates.against_draws(table, x="draws", y="log_p", by="method", panels="likelihood", star="annealed")
    (star,) = [c for c in figure.axes[0].collections if isinstance(c, PathCollection)]
    x, y = star.get_offsets()[0]
    assert (x > 100, y) == (True, -121)


def test_functions_have_marks_levels_and_places():
    rows = [
        ("kl", 0.0, 1.0, ""),
        ("kl", 1.0, 2.0, ""),
        ("kl", 0.5, 1.5, "mark"),
        ("printed", np.nan, 1.2, "reference"),
        ("kl", 0.2, np.nan, "at"),
    ]
    table = pd.DataFrame(rows, columns=["form", "skew", "value", "kind"])
    table["label"] = table["kind"].map({"at": "α = 0.2"})
    figure = functions.lines(table, x="skew", y="value", by="form")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["KL(q‖p)", "printed", "α = 0.2"]
    ax = figure.axes[0]
    data = [line.get_xydata().tolist() for line in ax.get_lines()]
    assert [[0, 1], [1, 2]] in data
    assert [[0, 1.2], [1, 1.2]] in data
    assert [[0.2, 0], [0.2, 1]] in data
    assert ax.collections[0].get_offsets().tolist() == [[0.5, 1.5]]


def test_ellipses_lie_along_the_axes_of_a_covariance():
    """One and two standard deviations: 3 along the diagonal, 1 across."""
    table = pd.DataFrame([["kl", 1.0, 2.0, 5.0, 4.0, 4.0, 5.0]], columns=["form", *densities.MOMENTS])
    inner, outer = densities.gaussians(table, by="form").axes[0].patches
    assert inner.get_center() == (1, 2)
    assert (inner.width, inner.height) == pytest.approx((6, 2))
    assert (outer.width, outer.height) == pytest.approx((12, 4))
    assert inner.angle % 180 == pytest.approx(45)
    assert plt.matplotlib.colors.to_hex(inner.get_edgecolor()) == LOOKS["kl"].colour
    assert inner.get_linewidth() < outer.get_linewidth()
    (alone,) = densities.gaussians(table, by="form", deviations=[2]).axes[0].patches
    assert (alone.width, alone.height) == (outer.width, outer.height)


def test_what_is_varied_has_its_own_axis():
    table = pd.DataFrame(
        {
            "varied": ["balls"] * 4 + ["dimension"] * 4,
            "value": [2, 20, 2, 20, 1, 6, 1, 6],
            "skew": np.linspace(0.3, 0.5, 8),
        }
    )
    figure = scatters.trends(
        table, x="value", y="skew", panels="varied", colour="dual_geometric_js", names={"balls": "number of balls"}
    )
    assert [ax.get_xlabel() for ax in figure.axes] == ["number of balls", "dimension"]
    assert figure.axes[1].get_xlim()[1] < 10


def test_cases_of_agreement_are_told_apart_by_colour():
    table = pd.DataFrame({"a": [0.1, 0.5, 0.2], "b": [0.2, 0.5, 0.2], "of": ["x", "y", "y"]})
    figure = functions.agreement(table, x="a", y="b", by="of", labels={"x": "one"})
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["one", "y"]
    assert [len(line.get_xdata()) for line in figure.axes[0].get_lines()] == [2, 1, 2]


def test_agreement_has_the_diagonal():
    ax = functions.agreement(pd.DataFrame({"a": [0.1, 0.5], "b": [0.2, 0.5]}), x="a", y="b").axes[0]
    assert ax.get_lines()[0].get_xydata().tolist() == [[0, 0], [1, 1]]
