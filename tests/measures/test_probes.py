import numpy as np
import pytest

from vaelib.probes import classify, corrected_difference, separability, survival

RNG = np.random.default_rng(0)


def samples(n, shift):
    labels = RNG.integers(0, 2, n)
    return RNG.normal(size=(n, 4)) + shift * labels[:, None] * [1, 0, 0, 0], labels


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


def blobs(n, apart):
    """Three Gaussians at the corners of a triangle with sides of `apart`, beside one latent of noise."""
    labels = RNG.integers(0, 3, n)
    corners = apart * np.array([[0, 0, 0], [1, 0, 0], [0.5, 0.75**0.5, 0]])
    return corners[labels] + RNG.normal(size=(n, 3)), labels


def test_what_lies_apart_is_separable_by_any_measure():
    assert min(separability(*blobs(300, 20.0), *blobs(200, 20.0)).values()) == 1


def test_the_linear_probe_of_three_gaussians_reaches_the_best_there_is():
    """Hyperplanes between equal balls are optimal: the best accuracy is that of the nearest corner."""
    train, (test, labels) = blobs(4000, 2.5), blobs(6000, 2.5)
    corners = 2.5 * np.array([[0, 0], [1, 0], [0.5, 0.75**0.5]])
    best = (np.linalg.norm(test[:, None, :2] - corners, axis=-1).argmin(1) == labels).mean()
    found = separability(*train, test, labels)
    assert found["linear"] == pytest.approx(best, abs=0.01)
    assert best - 0.03 < found["neighbours"] < best + 0.005
    assert 0.4 < found["ari"] < 0.8


def test_a_ring_around_a_ball_is_left_to_the_neighbours():
    angle, labels = RNG.uniform(0, 2 * np.pi, 1000), np.arange(1000) % 2
    codes = labels[:, None] * 5 * np.stack([np.cos(angle), np.sin(angle)], 1) + RNG.normal(size=(1000, 2)) / 2
    found = separability(codes[:600], labels[:600], codes[600:], labels[600:])
    assert found["neighbours"] == 1
    assert found["linear"] < 0.7
    assert found["ari"] < 0.3


def test_what_is_not_apart_is_not_separable():
    found = separability(*blobs(1000, 0.0), *blobs(2000, 0.0))
    assert max(found["linear"], found["neighbours"]) < 0.38
    assert max(found["nmi"], found["ari"]) < 0.02


def patients(n, slope):
    codes = RNG.normal(size=(n, 3))
    time = RNG.exponential(np.exp(-slope * codes[:, 1]))
    seen = RNG.exponential(2, n)
    return codes, time < seen, np.minimum(time, seen)


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


def test_the_corrected_test_is_the_t_test_without_overlap():
    from scipy import stats

    values = RNG.normal(0.2, 1, 15)
    found, plain = corrected_difference(values, 0.0), stats.ttest_1samp(values, 0)
    assert found.p == pytest.approx(plain.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(plain.confidence_interval()))


def test_the_correction_keeps_the_false_alarm_rate_of_cross_validation():
    """Differences that share a component as overlapping training sets make them: the plain test cries wolf."""
    share, false = 0.25, 0
    for _ in range(2000):
        common = RNG.normal() * np.sqrt(share / (1 + share))
        false += corrected_difference(common + RNG.normal(size=15) / np.sqrt(1 + share), share).p < 0.05
    assert false / 2000 < 0.07


def test_one_difference_tells_nothing():
    with pytest.raises(ValueError, match="1 is not allowed; there have to be at least two"):
        corrected_difference([0.1], 0.25)


def test_no_difference_at_all():
    assert corrected_difference([0.0, 0.0], 0.25) == (0, 0, 0, 1)
