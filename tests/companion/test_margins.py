import numpy as np
import pandas as pd
import pytest

from vaelib.companion import margins

EPOCHS = range(21)


def history(path, seeds=(0, 1)):
    rows = [(seed, "js", epoch, path(epoch), path(epoch) + 0.003) for seed in seeds for epoch in EPOCHS]
    return pd.DataFrame(rows, columns=["seed", "form", "epoch", "optimal_skew", "skew"])


def test_starts_of_a_seed_are_no_samples():
    final = pd.DataFrame(
        [
            (s, form, skew)
            for s in (0, 1)
            for form, skews in (("js", (0.1, 0.1)), ("dual", (0.3, 0.4)))
            for skew in skews
        ],
        columns=["seed", "form", "skew"],
    )
    found = margins.start_forgotten(final, "form")
    assert list(found.index) == [0, 1]
    assert found["js"].tolist() == pytest.approx([0.02, 0.02])
    assert found["dual"].tolist() == pytest.approx([0.02 - 0.1 / 2**0.5] * 2)
    renamed = final.assign(fold=final["seed"], cell="a")
    assert list(margins.start_forgotten(renamed, ["cell", "form"], unit="fold").columns) == ["a, dual", "a, js"]


def test_a_path_falls_and_settles():
    falling = margins.falls_and_settles(history(lambda epoch: 0.3 + 0.2 * 0.5**epoch))
    assert (falling > 0).all(axis=None)
    assert (margins.falls_and_settles(history(lambda epoch: 0.4))["falls"] < 0).all()
    assert (margins.falls_and_settles(history(lambda epoch: 0.4 - 0.01 * epoch))["settles"] < 0).all()
    assert margins.before_last_tenth(100) == 90
    assert margins.before_last_tenth(15) == 14


def test_the_state_of_a_skew_is_that_of_the_worst_run():
    runs = pd.concat([history(lambda epoch: 0.3, [0]), history(lambda epoch: 0.3 + 0.001 * epoch, [1])])
    state = margins.skew_state(runs, ["seed"])
    assert state == pytest.approx({"newton_distance": 0.003, "late_movement": 0.002})


def test_where_a_minimum_is():
    grid = np.linspace(0, 1, 11)
    assert margins.vertex(pd.Series((grid - 0.33) ** 2, grid)) == pytest.approx(0.33)
    assert margins.vertex(pd.Series(grid, grid)) == pytest.approx(0.0)
    fixed = pd.DataFrame(
        {"seed": 0, "divergence": "js", "start": grid, "test_loss": (grid - 0.33) ** 2, "test_divergence": grid}
    )
    learned = pd.DataFrame({"seed": [0, 0], "divergence": ["js", "js"], "skew": [0.30, 0.34]})
    assert margins.minimum_near(fixed, learned, "test_loss").loc[0, "js"] == pytest.approx(0.04)


def test_a_curve_is_convex_and_a_peak_is_one():
    grid = np.linspace(0, 1, 21)
    curve = pd.DataFrame({"seed": 0, "form": "js", "epoch": 1, "skew": grid, "divergence": (grid - 0.3) ** 2})
    assert margins.convexity(curve).loc[0, "js"] == pytest.approx(2 * 0.05**2 / 0.49)
    assert margins.convexity(curve.assign(divergence=np.sin(3 * grid))).loc[0, "js"] < 0
    peak = pd.DataFrame({"seed": 0, "start": grid, "test_divergence": 2 - abs(grid - 0.2)})
    assert (margins.peaked(peak) > 0).all(axis=None)
    assert (margins.peaked(peak.assign(test_divergence=1 - grid)) <= 0).any(axis=None)


def test_an_order_is_a_share_at_the_worst_row_of_a_unit():
    errors = pd.DataFrame({"js": [8.0, 9.0, 9.0], "kl": [10.0, 10.0, 10.0]}, index=pd.Index([0, 0, 1], name="seed"))
    assert margins.below(errors, ("js", "kl"))["js below kl"].to_dict() == pytest.approx({0: 0.1, 1: 0.1})
    assert margins.below(errors, ("kl", "js"))["kl below js"].max() < 0


def test_a_gain_is_over_the_same_seed():
    index = pd.MultiIndex.from_tuples([(0, "js"), (1, "js"), (2, "js")], names=["seed", "divergence"])
    errors = pd.Series([8.0, 9.0, 1.0], index)
    alone = margins.gain(errors, pd.Series([10.0, 10.0], pd.Index([0, 1], name="seed")))
    assert alone["js"].to_dict() == pytest.approx({0: 0.2, 1: 0.1})
    assert margins.gain(errors, errors)["js"].tolist() == [0.0, 0.0, 0.0]


def test_the_share_of_tasks_counts_ties():
    index = pd.MultiIndex.from_tuples([("a", 0), ("b", 0), ("a", 1), ("b", 1)], names=["task", "fold"])
    errors = pd.DataFrame({"js": [1.0, 2.0, 3.0, 3.0], "kl": [1.0, 1.0, 2.0, 4.0]}, index)
    assert margins.share_best(errors, ["js"]).to_dict() == {0: 0.0, 1: 0.0}
    assert margins.share_best(-errors, ["js"]).to_dict() == {0: 0.5, 1: 0.0}
