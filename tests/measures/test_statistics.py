import math

import numpy as np
import pandas as pd
import pytest

from vaelib import measures
from vaelib.errors import Invalid

RNG = np.random.default_rng(0)


def test_the_paired_interval_covers_as_often_as_it_says():
    rng, hits = np.random.default_rng(0), 0
    for trial in range(200):
        seed_effect, image_effect = rng.normal(size=(8, 1)), rng.normal(size=60)
        second = rng.normal(size=(8, 60)) + 5 * image_effect  # shared difficulty of the images cancels in the pairs
        first = second + 0.3 + rng.normal(size=(8, 60)) + 0.5 * seed_effect
        low, high = measures.paired_interval(first, second, seed=trial)
        hits += low < 0.3 < high
    assert 0.85 < hits / 200 < 0.99  # percentile intervals of 8 seeds are a little short


def test_the_paired_interval_of_equals_is_a_point():
    errors = np.random.default_rng(0).random((3, 10))
    assert measures.paired_interval(errors + 1, errors) == pytest.approx((1, 1))


def test_between_the_members_of_a_family():
    family = pd.DataFrame({"rate": [1.0, 4.0, 4.0, 16.0], "error": [30.0, 19.0, 21.0, 10.0]})
    assert measures.at_rate(family, 2.0, "error") == pytest.approx(25)
    assert measures.at_rate(family, 8.0, "error") == pytest.approx(15)
    assert math.isnan(measures.at_rate(family, 0.9, "error"))
    assert math.isnan(measures.at_rate(family, 17, "error"))


def test_the_corrected_test_is_the_t_test_without_overlap():
    from scipy import stats

    values = RNG.normal(0.2, 1, 15)
    found, plain = measures.corrected_difference(values, 0.0), stats.ttest_1samp(values, 0)
    assert found.p == pytest.approx(plain.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(plain.confidence_interval()))


def test_the_correction_keeps_the_false_alarm_rate_of_cross_validation():
    """Differences that share a component as overlapping training sets make them: the plain test cries wolf."""
    share, false = 0.25, 0
    for _ in range(2000):
        common = RNG.normal() * np.sqrt(share / (1 + share))
        false += measures.corrected_difference(common + RNG.normal(size=15) / np.sqrt(1 + share), share).p < 0.05
    assert false / 2000 < 0.07


def test_one_difference_tells_nothing():
    with pytest.raises(Invalid, match="differences: 1 is not allowed; it has to be two or more"):
        measures.corrected_difference([0.1], 0.25)


def test_no_difference_at_all():
    assert measures.corrected_difference([0.0, 0.0], 0.25) == (0, 0, 0, 1)
