"""Figures of single runs, of estimators and of patients: what is in them, read off their axes."""

import json

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from vaelib.companion import figures, plots

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def labels(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def courses():
    rows = [
        {"divergence": form, "dataset": "a", "network": network, "start": start, "epoch": epoch, "skew": start}
        for form in ("geometric_js", "dual_geometric_js")
        for network in ("cnc", "x")
        for start in (0.5, 0.1)
        for epoch in (0, 1, 2)
    ]
    table = pd.DataFrame(rows).assign(optimal_skew=0.3)
    printed = {"divergence": "geometric_js", "dataset": "a", "network": "x", "start": "thesis", "skew": 0.42}
    return pd.concat([table, pd.DataFrame([printed | {"kind": "reference"}])], ignore_index=True)


def test_both_lines_of_a_run_have_one_colour_and_starts_are_in_order():
    figure = plots.courses.runs(
        courses(),
        x="epoch",
        y="skew",
        by="start",
        beside="optimal_skew",
        rows="divergence",
        columns=["dataset", "network"],
    )
    assert len(figure.axes) == 4
    assert [ax.get_title(loc="left") for ax in figure.axes[:2]] == ["a, cnc", "a, x"]
    drawn = [line for line in figure.axes[3].get_lines() if len(line.get_xdata()) == 3]
    full, dashed = ([line for line in drawn if (line.get_linestyle() == "-") == side] for side in (True, False))
    assert sorted(str(line.get_color()) for line in full) == sorted(str(line.get_color()) for line in dashed)
    assert len({str(line.get_color()) for line in full}) == 2
    names = labels(figure)
    assert names.index("0.1") < names.index("0.5")
    assert names[-3:] == ["skew", "optimal_skew", "thesis"]  # first the runs, then what they are compared with
    printed = [line for line in figure.axes[1].get_lines() if set(line.get_ydata()) == {0.42}]
    assert printed[0].get_linestyle() == ":"  # dashes are Newton's


def test_what_the_thesis_prints_is_a_line_in_its_own_panel_only():
    figure = plots.courses.runs(
        courses(), x="epoch", y="skew", by="start", rows="divergence", columns=["dataset", "network"]
    )
    flat = [[line for line in ax.get_lines() if set(line.get_ydata()) == {0.42}] for ax in figure.axes]
    assert [len(lines) for lines in flat] == [0, 1, 0, 0]


def test_the_laboratory_draws_noise_and_bias_together():
    """Noise alone makes the most biased estimator look best."""
    table = pd.DataFrame(
        {"estimator": "relaxed", "group": ["encoder", "decoder"], "model": "m", "draws": 2, "noise": 0.3, "bias": 0.4}
    )
    figure = plots.gradients.laboratory(table)
    assert figure.axes[0].get_lines()[0].get_ydata() == pytest.approx([0.5])


def test_training_has_a_line_for_each_run():
    rows = [(e, s, k, 100.0 / k + s, 5.0, 9.0 / k) for e in ("pathwise", "variance") for s in (0, 1) for k in (1, 2, 3)]
    table = pd.DataFrame(rows, columns=["estimator", "seed", "epoch", "bound", "test_rate", "train_loss"])
    figure = plots.gradients.training(table)
    assert sum(len(line.get_xdata()) == 3 for line in figure.axes[0].get_lines()) == 4
    assert sum(len(line.get_xdata()) == 3 for line in figure.axes[2].get_lines()) == 6


def scores():
    rows = [
        {"integration": "clin+rna", "model": model, "method": method, "fold": fold, "seed": 0, "classifier": classifier}
        for model, method in (("cnc", "kl"), ("x", "kl"), ("—", "PCA"))
        for fold in (0, 1)
        for classifier in ("SVM", "Cox model")
    ]
    table = pd.DataFrame(rows)
    return table.assign(auc=RNG.uniform(0.5, 0.7, len(table)), concordance=RNG.uniform(0.5, 0.7, len(table)))


def test_what_needs_no_network_stands_in_the_panels_of_every_network():
    figure = plots.cohorts.scores(scores(), measures={"SVM": "auc", "Cox model": "concordance"}, order=["kl", "PCA"])
    assert [ax.get_title(loc="left") for ax in figure.axes[::2]] == ["clin+rna, CNC", "clin+rna, X"]
    assert all([t.get_text() for t in ax.get_yticklabels()] == ["KL(q‖p)", "PCA"] for ax in figure.axes[::2])


def test_a_broken_fit_is_left_out_and_the_thesis_is_a_diamond():
    table = pd.DataFrame(
        {
            "integration": "a",
            "model": ["cnc", "cnc", "x", "x"],
            "fold": [0, 1, 0, 1],
            "seed": 0,
            "mmd": [0.5, np.nan, 0.7, 0.8],
        }
    )
    printed = pd.DataFrame([{"integration": "a", "model": m, "kind": "reference", "mmd": 1.1} for m in ("cnc", "x")])
    figure = plots.cohorts.relative(pd.concat([table, printed]), methods=["mmd"], axis="error")
    dots = [sum(len(c.get_offsets()) for c in ax.collections) for ax in figure.axes]
    assert dots == [1, 2]
    assert all(any(line.get_marker() == "D" for line in ax.get_lines()) for ax in figure.axes)


def test_patients_at_risk_are_counted():
    table = pd.DataFrame({"above": [True, True, False, False], "relapse": [True, False, True, True]})
    table = table.assign(months=[5.0, 30.0, 2.0, 40.0], subtype=["A", "B", "A", "B"], first=range(4), second=0)
    figure = plots.survival.patients(table, group={"True": "high", "False": "low"})
    (risk,) = [ax for ax in figure.axes if ax.get_ylabel() == "at risk"]
    assert [text.get_text() for text in risk.texts] == ["2", "1", "1", "0", "2", "1", "1", "1"]
    assert "log-rank test: p = " in figure.axes[0].get_title(loc="left")


def test_a_figure_of_patients_is_drawn_again_from_its_table(tmp_path, monkeypatch):
    monkeypatch.setenv("VAELIB_FIGURES", str(tmp_path))
    folder = figures.folder("05_metabric", "quick")
    figures.show(
        plots.cohorts.scores,
        scores(),
        "relapse",
        folder=folder,
        caption="A.",
        measures={"SVM": "auc"},
        order=["kl", "PCA"],
    )
    before = (folder / "relapse.png").read_bytes()
    assert json.loads((folder / "relapse.json").read_text())["plot"] == "cohorts.scores"
    (folder / "relapse.png").unlink()
    figures.redraw("quick")
    assert (folder / "relapse.png").read_bytes() == before
