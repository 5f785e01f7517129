import pandas as pd
import pytest
import torch
from matplotlib.colors import to_hex

from vaelib.companion import figures, plots
from vaelib.companion.plots import curves, landscapes, pictures, points, style


@pytest.fixture(autouse=True)
def _close():
    yield
    figures.plt.close("all")


TABLE = pd.DataFrame(
    [(m, s, e, k, e + s + (m == "kl")) for m in ("kl", "mmd") for s in (0, 1) for e in (1, 2, 3) for k in ("a", "b")],
    columns=["method", "seed", "epoch", "images", "loss"],
)
PRINTED = pd.DataFrame({"kind": "reference", "method": ["mmd", "chance"], "loss": [2.5, 9.0], "sd": [0.5, None]})


def labels(figure):
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def test_kinds_of_figures_are_found_by_name():
    assert plots.curves is curves
    with pytest.raises(AttributeError, match="no kind of figures called 'pies'"):
        plots.pies  # noqa: B018


# Style


def test_a_method_has_its_own_colour_and_anything_else_a_shade():
    found = style.looks(["mmd", 0.5, "mmd", None, 0.25], {"0.5": "a half"})
    assert [look.label for look in found.values()] == ["MMD", "a half", "0.25"]
    assert found["mmd"].colour == style.LOOKS["mmd"].colour
    assert found[0.5].colour != found[0.25].colour


def test_the_interval_of_a_mean_is_the_verdicts():
    low, high = style.interval([1.0, 2.0, 3.0])
    assert (low, high) == pytest.approx((2 - 2.484, 2 + 2.484), abs=1e-3)
    assert style.interval([4.0]) == (4.0, 4.0)


def test_a_logarithmic_axis_is_labelled_in_plain_numbers():
    figure, ax = figures.plt.subplots()
    ax.plot([3, 60], [0.02, 3000])
    style.dress(ax, "x", "y", log=["x", "y"])
    figure.canvas.draw()
    assert {"5", "10", "20", "50"} <= {t.get_text() for t in ax.get_xticklabels(which="both")}
    assert {"0.1", "1", "10", "100", "1000"} <= {t.get_text() for t in ax.get_yticklabels(which="both")}


# Curves


def test_lines_are_means_in_the_colours_of_their_methods_and_bands_are_deviations():
    (ax,) = curves.means(TABLE, x="epoch", y="loss", by="method").axes
    kl, mmd = (line for line in ax.lines if len(line.get_ydata()))
    assert kl.get_ydata().tolist() == [2.5, 3.5, 4.5]
    assert to_hex(mmd.get_color()) == style.LOOKS["mmd"].colour.lower()
    low, high = ax.collections[1].get_paths()[0].get_extents().intervaly
    sd = pd.Series([0, 0, 1, 1]).std()
    assert (low, high) == pytest.approx((1.5 - sd, 3.5 + sd))


def test_measures_have_panels_with_their_words():
    table = TABLE.assign(rate=1.0)
    figure = curves.means(table, x="epoch", y=["loss", "rate"], by="method", names={"rate": "rate, nats"})
    assert [ax.get_ylabel() for ax in figure.axes] == ["loss", "rate, nats"]


def test_panels_and_kinds_of_lines():
    figure = curves.means(TABLE, x="epoch", y="loss", by="method", panels="images", labels={"a": "clean"})
    assert [ax.get_title("left") for ax in figure.axes] == ["clean", "b"]
    figure = curves.means(TABLE, x="epoch", y="loss", by="method", lines="images", labels={"a": "clean"})
    assert labels(figure) == ["KL(q‖p)", "MMD", "clean", "b"]


def test_what_is_printed_is_a_line_with_its_spread():
    figure = curves.means(pd.concat([TABLE, PRINTED]), x="epoch", y="loss", by="method")
    assert labels(figure) == ["KL(q‖p)", "MMD", "MMD, paper", "chance"]
    assert len(figure.axes[0].patches) == 1


# Points


def test_every_run_is_a_dot_and_what_is_printed_a_diamond():
    (ax,) = points.by_method(pd.concat([TABLE, PRINTED]), y="loss").axes
    dots = [c.get_offsets() for c in ax.collections if len(c.get_offsets())]
    assert sum(map(len, dots)) == len(TABLE)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["KL(q‖p)", "MMD"]
    diamonds = [line for line in ax.lines if line.get_marker() == "D"]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in diamonds] == [(2.5, 1)]


def test_a_path_joins_means_in_its_order_and_marks_them():
    table = TABLE.rename(columns={"epoch": "weight"}).assign(rate=lambda t: 10 / t["weight"])
    figure = points.paths(table, x="rate", y="loss", along="weight", marked=["kl"])
    (ax,) = figure.axes
    paths = [line.get_xdata().tolist() for line in ax.lines if line.get_linestyle() != "None"]
    assert paths == [pytest.approx([10, 5, 10 / 3])] * 2
    assert [text.get_text() for text in ax.texts] == ["1", "2", "3"]
    assert labels(figure) == ["KL(q‖p)", "MMD"]


def test_without_a_path_there_are_dots_only():
    (ax,) = points.paths(TABLE, x="epoch", y="loss").axes
    assert {line.get_linestyle() for line in ax.lines} == {"None"}


@pytest.mark.parametrize("upright", [False, True])
def test_an_interval_that_leaves_its_panel_ends_in_an_arrow(upright):
    """Intervals of two folds ran off the axes, and looked as if they ended there."""
    table = pd.DataFrame({"method": ["kl", "kl", "mmd", "mmd"], "error": [1.0, 2.0, 1.5, 1.501]})
    (ax,) = points.by_method(table, y="error", limits={"error": [0.9, 2.1]}, upright=upright).axes
    arrows = {line.get_marker(): line.get_xydata()[0].tolist() for line in ax.lines if line.get_marker() in "<>v^"}
    low, high = [0, 0.9], [0, 2.1]
    assert arrows == ({"v": low, "^": high} if upright else {"<": low[::-1], ">": high[::-1]})
    assert (ax.get_ylim() if upright else ax.get_xlim()) == (0.9, 2.1)
    assert [line for line in points.by_method(table, y="error").axes[0].lines if line.get_marker() in "<>"] == []


def test_the_first_and_the_last_method_are_whole_in_the_picture():
    printed = pd.DataFrame({"kind": "reference", "method": ["kl", "mmd"], "loss": [2.5, 2.5]})
    (ax,) = points.by_method(pd.concat([TABLE, printed]), y="loss").axes
    assert ax.get_ylim() == (1.5, -0.5)


# Landscapes


def test_a_landscape_has_a_curve_an_epoch_and_what_was_learned():
    rows = [
        ("geometric_js", a, e, s, (a - 0.4) ** 2 + 5) for a in (0.0, 0.2, 0.4, 0.6) for e in (0, 1, 2) for s in (0, 1)
    ]
    table = pd.DataFrame(rows, columns=["form", "skew", "epoch", "seed", "loss"])
    learned = pd.DataFrame(
        {"form": "geometric_js", "skew": [0.5, 0.3], "loss": [5.5, None], "kind": ["learned", "newton"]}
    )
    (ax,) = landscapes.by_epoch(
        pd.concat([table, learned]), x="skew", y="loss", form="form", epochs=[0, 2], minima=True, less={"loss": 5}
    ).axes
    drawn = [line for line in ax.lines if len(line.get_xdata()) == 4]
    assert len(drawn) == 2
    assert drawn[0].get_ydata() == pytest.approx([0.16, 0.04, 0, 0.04])
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in ax.lines if line.get_marker() == "o"] == [
        (0.4, 0)
    ] * 2
    (star,) = (line for line in ax.lines if line.get_marker() == "*")
    assert (star.get_xdata()[0], star.get_ydata()[0]) == (0.5, 0.5)
    assert [line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == ":"] == [0.3]


# Pictures


@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_survives_as_text(channels):
    images = torch.arange(2 * channels * 4 * 6).reshape(2, channels, 4, 6).byte()
    for image, text in zip(images, pictures.encode(images)):
        assert torch.equal(torch.tensor(pictures.decode(text)).reshape(4, 6, channels).permute(2, 0, 1), image)


def test_floats_are_rounded_to_bytes():
    (text,) = pictures.encode(torch.tensor([[[[-1.0, 0.5, 2.0]]]]))
    assert pictures.decode(text).tolist() == [[0, 128, 255]]


def test_rows_of_images_have_their_names_beside_them():
    rows = {"kl": torch.full((3, 1, 4, 4), 255, dtype=torch.uint8), "floats": torch.zeros(3, 1, 4, 4)}
    table = pd.concat([pictures.table(rows, noise=noise) for noise in (1.0, 3.0)])
    figure = pictures.rows(table, panels="noise", labels={"1": "s = 1"}, across=2)
    assert [ax.get_title("left") for ax in figure.axes] == ["s = 1", "3"]
    drawn = figure.axes[0].get_images()[0].get_array()
    assert drawn.shape == (9, 14)
    assert (drawn[:5] == 255).all(), "a row of white, and what is between it and the next"
    black = drawn[5:, [k for k in range(14) if k not in (4, 9)]]
    assert (black == 0).all()
    assert (drawn[:, [4, 9]] == 255).all(), "images lie one white pixel apart"
    texts = [(text.get_text(), text.get_position()[1]) for text in figure.axes[0].texts]
    assert texts == [("KL(q‖p)", 2.25), ("floats", 6.75)]


def test_a_grid_is_filled_with_white():
    table = pictures.table({"digits": torch.zeros(5, 3, 4, 6, dtype=torch.uint8)})
    (ax,) = pictures.squares(table, columns=3).axes
    shown = ax.get_images()[0].get_array()
    assert shown.shape == (9, 20, 3)
    assert (shown[:4, :6] == 0).all()
    assert (shown[5:, 14:] == 255).all(), "an empty place is white"
