import numpy as np
import pytest

from vaelib.measures.survival import classify, log_rank, survival

RNG = np.random.default_rng(0)


def samples(n, shift):
    labels = RNG.integers(0, 2, n)
    return RNG.normal(size=(n, 4)) + shift * labels[:, None] * [1, 0, 0, 0], labels


def patients(n, slope):
    codes = RNG.normal(size=(n, 3))
    time = RNG.exponential(np.exp(-slope * codes[:, 1]))
    seen = RNG.exponential(2, n)
    return codes, time < seen, np.minimum(time, seen)


def test_classifiers_find_what_is_there():
    """Two Gaussians two standard deviations apart: the best accuracy is Φ(1) = 0.841, the best area Φ(√2) = 0.921."""
    scores = classify(*samples(2000, 2.0), *samples(4000, 2.0))
    assert scores.loc[["random forest", "SVM", "naive Bayes"], "accuracy"].between(0.80, 0.86).all()
    assert scores.loc["naive Bayes", "auc"] == pytest.approx(0.921, abs=0.015)
    assert scores.loc["majority class", "balanced_accuracy"] == 0.5
    assert scores.loc["majority class", "auc"] == 0.5


def test_classifiers_find_nothing_where_nothing_is():
    scores = classify(*samples(400, 0.0), *samples(3000, 0.0))
    assert (scores["auc"] - 0.5).abs().max() < 0.05


def test_the_majority_class_is_the_larger_share():
    x, labels = RNG.normal(size=(100, 2)), np.array([0] * 70 + [1] * 30)
    assert classify(x, labels, x, labels).loc["majority class", "accuracy"] == 0.7


def test_a_cox_model_finds_the_hazard_that_was_put_in():
    found = survival(*patients(3000, 1.0), *patients(2000, 1.0))
    assert found.coefficients[1] == pytest.approx(1.0, abs=0.1)
    assert np.abs(found.coefficients[[0, 2]]).max() < 0.1
    assert found.concordance > 0.7
    assert found.risk.shape == (2000,)


def test_the_penalty_is_the_ridge_of_coxs_model():
    from sklearn.preprocessing import RobustScaler
    from sksurv.linear_model import CoxPHSurvivalAnalysis
    from sksurv.util import Surv

    train, test = patients(300, 1.0), patients(100, 1.0)
    exact = CoxPHSurvivalAnalysis(alpha=1.0).fit(
        RobustScaler(unit_variance=True).fit_transform(train[0]), Surv.from_arrays(*train[1:])
    )
    np.testing.assert_allclose(survival(*train, *test).coefficients, exact.coef_, atol=5e-3)


def test_a_runaway_code_does_not_decide_the_fit():
    train, test = patients(1000, 1.0), patients(1000, 1.0)
    plain = survival(*train, *test).concordance
    train[0][3] = 1e9
    test[0][4] = -1e12
    assert survival(*train, *test).concordance == pytest.approx(plain, abs=0.01)


def test_a_cox_model_of_nothing_is_at_one_half():
    assert survival(*patients(1000, 0.0), *patients(2000, 0.0)).concordance == pytest.approx(0.5, abs=0.04)


def test_the_log_rank_test_is_the_sum_over_event_times():
    """Observed less expected events of one group, squared, over the hypergeometric variance: no ties here."""
    time = np.arange(1.0, 13.0)
    event, group = RNG.random(12) < 0.7, np.array([0, 1] * 6)
    excess, variance = 0.0, 0.0
    for t in time[event]:
        share = (group[time >= t] == 1).mean()
        excess += (group[time == t][0] == 1) - share
        variance += share * (1 - share)
    assert log_rank(event, time, group).statistic == pytest.approx(excess**2 / variance)


def test_the_log_rank_test_has_its_level_and_finds_a_hazard():
    groups = np.repeat([0, 1], 60)
    level = [log_rank(np.ones(120, bool), RNG.exponential(size=120), groups).p < 0.05 for _ in range(200)]
    assert 0.01 < np.mean(level) < 0.1
    assert log_rank(np.ones(120, bool), RNG.exponential(1 + 2 * groups), groups).p < 0.01
