"""Explorers: what their fragments hold, against independent truth."""

import base64
import html
import itertools
import json
import math
import re
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import PIL.Image
import pytest
import torch
from torch.distributions import MultivariateNormal, kl_divergence

from vaelib.companion import explorers
from vaelib.companion.explorers import Explorer, Measured, Panel
from vaelib.companion.plots import pictures
from vaelib.errors import Invalid

ROOT = Path(__file__).parents[2]


def _explorer(**changed):
    sides = [1, 2, 2.5]
    table = pd.DataFrame(
        [(kind, side, side * side, f"<{kind}>") for kind in ("square", "box") for side in sides],
        columns=["kind", "side", "area", "name"],
    )
    given = {
        "title": 'A "square"',
        "table": table,
        "controls": {"kind": "kind", "side": "side, cm"},
        "panels": [Panel('<rect width="{side}" height="{side}"/>', "A {name} of side {side}", (4, 4))],
        "words": "The {name} of side {side} has the area {area}.",
    }
    return Explorer(**given | changed)


def _data(fragment):
    """What the script reads."""
    (text,) = re.findall(r'<script type="application/json" class="vl-data">(.*?)</script>', fragment, re.DOTALL)
    return json.loads(text)


def _rows(explorer):
    """All rows of a fragment as the script sees them."""
    columns = {
        name: [column["of"][k] for k in column["at"]] if isinstance(column, dict) else column
        for name, column in _data(explorer.html())["columns"].items()
    }
    return pd.DataFrame(columns)


# The mechanism


def test_a_fragment_holds_each_row_of_the_table_in_the_order_of_the_controls():
    explorer = _explorer()
    shuffled = _explorer(table=explorer.table.sample(frac=1, random_state=0).sort_values("kind", ascending=False))
    for one in (explorer, shuffled):
        rows, data = _rows(one), _data(one.html())
        assert rows[["kind", "side"]].values.tolist() == [[k, s] for k in ("square", "box") for s in (1, 2, 2.5)]
        assert (rows["area"] == rows["side"] ** 2).all()
        assert data["sizes"] == [2, 3]
        assert data["panels"][0]["markup"] == explorer.panels[0].markup


def test_without_a_script_the_row_of_the_start_is_seen_and_the_controls_are_not():
    fragment = _explorer(start={"kind": "box", "side": 2.5}).html()
    assert '<output aria-live="polite">The &lt;box&gt; of side 2.5 has the area 6.25.</output>' in fragment
    assert 'aria-label="A &lt;box&gt; of side 2.5"><rect width="2.5" height="2.5"/></svg>' in fragment
    assert '<div class="vl-controls" hidden>' in fragment
    assert '<option value="1" selected>box</option>' in fragment
    assert 'min="0" max="2" value="2"' in fragment
    assert 'aria-label="A &#34;square&#34;"' in fragment


def test_where_only_text_is_left_it_says_why():
    """JupyterLab takes styles, scripts and drawings out of a notebook that is not trusted."""
    fragment = _explorer().html()
    assert '<p class="vl-still">An explorer, A &#34;square&#34;: ' in fragment
    assert ".vl-explorer .vl-still { display: none; }" in fragment


def test_fragments_are_alone_the_same_and_without_ids_or_addresses():
    fragment = _explorer().html()
    assert fragment == _explorer().html()
    assert not re.search(r"\bid=|https?:|@import|url\(|src=", fragment)
    assert "</" not in re.search(r'"vl-data">(.*?)</script>', fragment, re.DOTALL)[1]


def test_a_notebook_shows_the_fragment_or_the_words():
    explorer = _explorer()
    assert explorer._repr_html_() == explorer.html()
    assert repr(explorer) == 'Explorer: A "square". The <square> of side 1 has the area 1.'


def test_a_panel_without_a_description_is_not_there():
    silent = _explorer(table=_explorer().table.assign(name=""), panels=[Panel("<path/>", "{name}", (4, 4))])
    assert '<svg viewBox="0 0 4 4" width="4" height="4" role="img" aria-label="" style="display:none">' in silent.html()


def test_keys_on_a_control_are_not_the_notebooks():
    """JupyterLab looks for this attribute on what has the focus first, and would move to another cell."""
    controls = re.findall(r"<(?:input|select)[^>]*>", _explorer().html())
    assert len(controls) == 2
    assert all('data-lm-suppress-shortcuts="yes"' in control for control in controls)


def test_a_control_with_one_value_is_not_shown():
    one = _explorer(table=_explorer().table.query("kind == 'box'")).html()
    assert one.count("<label hidden>") == 1
    assert _explorer().html().count("<label hidden>") == 0


TABLE = _explorer().table


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"table": TABLE.iloc[1:]}, "table: .* one row for each combination of kind, side"),
        ({"table": pd.concat([TABLE, TABLE])}, "table: .* one row for each combination of kind, side"),
        ({"table": TABLE.iloc[:0]}, "table: .* one row for each combination"),
        ({"table": TABLE.drop(columns="area")}, "table: .* with columns area, which the texts name"),
        ({"table": TABLE.assign(area=math.nan)}, "table.area: .* finite numbers, or text"),
        ({"table": TABLE.assign(name=None)}, "table.name: .* finite numbers, or text"),
        ({"start": {"side": 3}}, "start.side: 3 is not allowed; it has to be a value of a control's column"),
        ({"start": {"area": 4}}, "start.area: 4 is not allowed"),
    ],
)
def test_what_cannot_be_explored_is_refused_in_a_sentence(changed, message):
    with pytest.raises(Invalid, match=message) as caught:
        _explorer(**changed)
    assert "\n" not in str(caught.value)


# The skew

PAIR = (
    MultivariateNormal(torch.tensor([1.0, -0.5]).double(), torch.tensor([[0.5, 0.2], [0.2, 0.3]]).double()),
    MultivariateNormal(torch.zeros(2).double(), torch.tensor([[1.0, 0.3], [0.3, 2.0]]).double()),
)


@pytest.fixture(scope="module")
def skew():
    return explorers.skew({"mine": PAIR}, steps=20)


def _mean(alpha):
    """G by its precision, apart from the package."""
    q, p = PAIR
    precision = alpha * q.precision_matrix + (1 - alpha) * p.precision_matrix
    weighted = alpha * q.precision_matrix @ q.loc + (1 - alpha) * p.precision_matrix @ p.loc
    return MultivariateNormal(torch.linalg.solve(precision, weighted), precision_matrix=precision)


def test_the_divergences_are_those_of_the_definitions(skew):
    (q, p), rows = PAIR, _rows(skew)
    assert rows["skew"].tolist() == [round(k / 20, 2) for k in range(21)]
    for _, row in rows.iterrows():
        a, g = row["skew"], _mean(row["skew"])
        first = (1 - a) * kl_divergence(q, g) + a * kl_divergence(p, g)
        dual = (1 - a) * kl_divergence(g, q) + a * kl_divergence(g, p)
        extended = (1 - a) ** 2 * kl_divergence(q, p) + a**2 * kl_divergence(p, q)
        for form, value in {
            "geometric_js": first,
            "dual_geometric_js": dual,
            "extended_geometric_js": extended,
        }.items():
            assert float(row[form]) == pytest.approx(float(value), abs=0.0051)


def test_the_minima_are_those_of_a_fine_grid(skew):
    (q, p), row = PAIR, _rows(skew).iloc[0]
    grid = torch.linspace(0, 1, 1001).double()
    values = torch.stack([(1 - a) * kl_divergence(_mean(a), q) + a * kl_divergence(_mean(a), p) for a in grid])
    assert float(row["dual_geometric_js_best"]) == pytest.approx(float(grid[values.argmin()]), abs=0.0061)
    assert float(row["dual_geometric_js_least"]) == pytest.approx(float(values.min()), abs=0.0051)


def test_an_ellipse_is_that_of_the_gaussian(skew):
    for _, row in _rows(skew).iterrows():
        for column, gaussian in {"q": PAIR[0], "p": PAIR[1], "g": _mean(row["skew"])}.items():
            x, y, degrees, *radii = map(float, re.findall(r"-?[\d.]+", row[column]))
            scale, turn = 250 / 7.2, math.radians(-degrees)  # y is downwards in a picture
            assert [(x - 125) / scale, (125 - y) / scale] == pytest.approx(gaussian.loc.tolist(), abs=0.01)
            rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
            drawn = rotation @ np.diag(np.square(radii) / scale**2) @ rotation.T
            assert drawn == pytest.approx(gaussian.covariance_matrix.numpy(), abs=0.02)


def test_a_dot_lies_on_its_curve(skew):
    rows, colours = _rows(skew), {"geometric_js": "#0072B2", "dual_geometric_js": "#D55E00"}
    for form, colour in colours.items():
        path = re.search(rf'stroke:{colour}" d="M([\d .L-]+)"/><circle', rows["chart"][0])[1]
        points = [[float(v) for v in point.split()] for point in path.split("L")]
        assert points == rows[["x", f"{form}_y"]].values.tolist()


@pytest.mark.parametrize(
    ("pairs", "steps", "message"),
    [
        ({}, 50, "pairs: .* at least one posterior and prior"),
        ({"line": (MultivariateNormal(torch.zeros(1), torch.eye(1)),) * 2}, 50, "pairs.line: .* in the plane"),
        ({"mine": PAIR}, 0, "steps: 0 is not allowed"),
    ],
)
def test_pairs_that_cannot_be_drawn_are_refused(pairs, steps, message):
    with pytest.raises(Invalid, match=message):
        explorers.skew(pairs, steps)


# The landscape


def _landscape(shift=0.0, epochs=(0, 1, 2)):
    return pd.DataFrame(
        [
            (form, seed, epoch, skew / 10, 3 + seed + epoch * (skew / 10 - 0.5 + epoch / 10 + shift) ** 2)
            for form, seed, epoch, skew in itertools.product(
                ("geometric_js", "dual_geometric_js"), (0, 1), epochs, range(11)
            )
        ],
        columns=["form", "seed", "epoch", "skew", "divergence"],
    )


def test_the_minimum_of_each_epoch_is_that_of_the_mean_over_seeds():
    rows = _rows(explorers.landscape({"here": _landscape(), "there": _landscape(0.1)})).set_index(
        ["data", "form", "epoch"]
    )
    assert len(rows) == 2 * 2 * 3
    assert rows.loc[("here", "dual", 2), ["best", "least"]].tolist() == ["0.30", "3.50"]
    assert rows.loc[("there", "dual", 2), ["best", "least"]].tolist() == ["0.20", "3.50"]
    assert rows.loc[("here", "first form", 1), "left"] == f"KL(q‖p) = {3.5 + 0.16:.1f}"
    assert rows.loc[("here", "dual", 1), "left"].startswith("KL(p‖q)")


def test_an_extended_form_is_explored_as_well():
    rows = _rows(explorers.landscape({"here": _landscape().replace("dual_geometric_js", "extended_geometric_js")}))
    assert set(rows["form"]) == {"first form", "extended form"}
    assert set(rows.query("form == 'extended form'")["left"].str.split(" = ").str[0]) == {"KL(q‖p)"}


def test_only_epochs_that_all_have_are_shown():
    rows = _rows(explorers.landscape({"here": _landscape(), "there": _landscape(epochs=(1, 2, 3))}))
    assert set(rows["epoch"]) == {1, 2}


def test_landscapes_that_lack_something_are_refused():
    with pytest.raises(Invalid, match="at least one table"):
        explorers.landscape({})
    with pytest.raises(Invalid, match=r"tables.here: .* a table with columns form, epoch"):
        explorers.landscape({"here": _landscape().drop(columns="epoch")})
    with pytest.raises(Invalid, match=r"tables.here.form: .* of geometric_js, dual_geometric_js"):
        explorers.landscape({"here": _landscape().assign(form="kl")})
    with pytest.raises(Invalid, match="one row for each combination"):
        explorers.landscape({"here": _landscape(), "there": _landscape().query("form == 'geometric_js'")})


# At equal rate


def _errors(methods=("learned_dual", "mmd")):
    """A family of which rate = 10 / β and error = 10 + 4 log(20 / rate), and methods one above that line."""
    family = [(f"beta{b}" if b != 1 else "kl", b, 10 / b, 10 + 4 * math.log(2 * b)) for b in (0.25, 0.5, 1)]
    rates = {"learned_dual": 10 * 2**0.5, "mmd": 1000.0}
    rows = [(m, 1.0, rates[m], 11 + 4 * math.log(20 / rates[m])) for m in methods] + family
    table = pd.DataFrame(rows, columns=["method", "weight", "test_rate", "test_reconstruction"])
    return table.assign(seed=0, skew=[0.4] + [math.nan] * (len(table) - 1))


def _pictures(rows=("test image", "learned_dual", "mmd", "kl", "beta0.25", "beta0.5")):
    generator = torch.Generator().manual_seed(0)
    return pictures.table({row: torch.rand(2, 1, 8, 8, generator=generator) for row in rows})


def test_a_method_is_beside_the_family_at_its_rate():
    rows = _rows(explorers.equal_rate({"here": Measured(_errors())}))
    assert list(rows["method"].unique()) == ["MMD", "dual, learned α"]
    dual = rows.query("method != 'MMD'").iloc[0]
    assert dual["what"] == "dual, learned α = 0.400"
    assert (dual["rate"], dual["error"]) == ("14.1", "12.39")
    said = re.fullmatch(r".*β ≈ ([\d.]+), squared error ([\d.]+); the method's is ([\d.]+) higher\.", dual["beside"])
    assert [float(number) for number in said.groups()] == pytest.approx([2**-0.5, 11.39, 1], abs=0.0051)


def test_nothing_is_extrapolated():
    mmd = _rows(explorers.equal_rate({"here": Measured(_errors())})).query("method == 'MMD'").iloc[0]
    assert mmd["beside"] == "No β-VAE of the family has this rate; the nearest, β = 0.25, has 40.0 nats."
    assert mmd["marks"].count("<circle") == 1


def test_reconstructions_are_those_of_the_method_and_of_the_nearest_beta_vae():
    kept = _pictures()
    explorer = explorers.equal_rate({"here": Measured(_errors(), kept), "there": Measured(_errors())})
    rows = _rows(explorer).set_index(["data", "method", "image"])
    row = rows.loc[("here", "MMD", 2)]
    images = {name: pictures.decode(part["image"].iloc[1]) for name, part in kept.groupby("row")}
    for column, name in {"input": "test image", "own": "mmd", "other": "beta0.25"}.items():
        with PIL.Image.open(BytesIO(base64.b64decode(row[column].split(",")[1]))) as copy:
            assert np.abs(np.asarray(copy.convert("L"), float) - images[name]).max() <= 20, "16 levels of grey"
    off = (((images["mmd"] / 255.0 - images["test image"] / 255.0) ** 2).sum(),)
    assert row["own_error"] == f"squared error {off[0]:.1f}"
    assert row["own_error"].removeprefix("squared error ") in row["seen"]
    there = rows.loc[("there", "MMD", 2)]
    assert (there["pictured"], there["input"]) == ("", "data:,")
    assert "No reconstructions of these data are kept." in there["seen"]


def test_the_nearest_is_one_of_those_that_are_pictured():
    kept = _pictures(("test image", "learned_dual", "mmd", "kl"))
    assert set(_rows(explorers.equal_rate({"here": Measured(_errors(), kept)}))["other_name"]) == {"β = 1, as trained"}


def test_only_methods_that_all_data_have_can_be_chosen():
    both = {"here": Measured(_errors()), "there": Measured(_errors(methods=("learned_dual",)))}
    assert set(_rows(explorers.equal_rate(both))["method"]) == {"dual, learned α"}


def test_tables_of_errors_that_lack_something_are_refused():
    with pytest.raises(Invalid, match="at least one data set"):
        explorers.equal_rate({})
    with pytest.raises(Invalid, match=r"tables.here: .* a table with columns method"):
        explorers.equal_rate({"here": Measured(_errors().drop(columns="weight"))})
    with pytest.raises(Invalid, match=r"tables.here: .* two β-VAEs or more"):
        explorers.equal_rate({"here": Measured(_errors().query("method not in ['kl', 'beta0.5']"))})


# What is committed


@pytest.fixture
def _committed(monkeypatch):
    monkeypatch.setenv("VAELIB_FIGURES", str(ROOT / "figures"))


@pytest.mark.usefixtures("_committed")
@pytest.mark.parametrize("name", ["skew", "landscape", "equal_rate"])
def test_committed_tables_are_explored_in_less_than_150_kb(name):
    fragment = explorers.committed(name).html()
    without = re.sub(r"data:image/png;base64,[\w+/=]+", "", fragment)
    assert len(without.encode()) < 150_000
    assert len(fragment.encode()) < 250_000
    shown = html.unescape(re.search(r"<output[^>]*>(.*?)</output>", fragment)[1])
    assert "{" not in shown


@pytest.mark.usefixtures("_committed")
def test_committed_numbers_are_those_of_the_tables():
    table = pd.read_csv(ROOT / "figures/quick/03_landscapes/landscape_mnist5k_gaussian.csv")
    mean = table.groupby(["form", "epoch", "skew"])["divergence"].mean()
    rows = _rows(explorers.committed("landscape")).query("data.str.startswith('5,000')").set_index(["form", "epoch"])
    for form, word in {"geometric_js": "first form", "dual_geometric_js": "dual"}.items():
        for epoch in (0, 7, 15):
            curve = mean.loc[form, epoch]
            assert rows.loc[(word, epoch), ["best", "least"]].tolist() == [
                f"{curve.idxmin():.2f}",
                f"{curve.min():.2f}",
            ]
    errors = pd.read_csv(ROOT / "figures/quick/04_reconstruction/equal_rate_mnist5k_gaussian.csv")
    dual = errors.query("method == 'learned_dual'")[["test_rate", "test_reconstruction"]].mean()
    row = _rows(explorers.committed("equal_rate")).query("method == 'dual, learned α'").iloc[0]
    assert [row["rate"], row["error"]] == [f"{dual['test_rate']:.1f}", f"{dual['test_reconstruction']:.2f}"]


def test_an_explorer_that_does_not_exist_is_refused():
    with pytest.raises(Invalid, match=r"explorer: 'cube' .* one of skew, landscape, equal_rate"):
        explorers.committed("cube")


def test_a_notebook_with_an_explorer_kept_its_fragment():
    for name in ("01_theory_checks", "03_landscapes", "04_reconstruction"):
        cells = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
        (cell,) = [c for c in cells if re.search(r"explorers\.\w+\(\{?", "".join(c["source"])) and c["outputs"]]
        data = cell["outputs"][0]["data"]
        assert _data("".join(data["text/html"]))["sizes"]
        assert "".join(data["text/plain"]).startswith("Explorer: ")
