"""How methods are compared: intervals over seeds, images and folds, and what a family gives at a rate."""

import math
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from vaelib.errors import Invalid


def paired_interval(first: ArrayLike, second: ArrayLike, *, level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """A bootstrap interval of the mean difference of two methods on the same seeds and the same images.

    Both the seeds and the images are drawn anew, 2,000 times, each pair of runs and each image staying together.

    Parameters
    ----------
    first, second
        Errors ``(seeds, images)``.
    level
        Coverage.
    seed
        Of the resampling.
    """
    difference, rng = np.asarray(first, float) - np.asarray(second, float), np.random.default_rng(seed)
    seeds, count = difference.shape
    weights = rng.multinomial(count, np.full(count, 1 / count), 2000) / count
    means = weights @ difference.T
    means = np.take_along_axis(means, rng.integers(seeds, size=means.shape), axis=1).mean(1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def at_rate(frontier: pd.DataFrame, rate: float, value: str) -> float:
    """What a one-parameter family gives at a rate: linear between its members in the logarithm of the rate.

    Parameters
    ----------
    frontier
        Members of the family, one a row, with columns ``rate`` and `value`.
    rate
        Where, in nats.
    value
        The column.

    Returns
    -------
    float
        NaN outside of the family's rates: nothing is extrapolated.
    """
    family = frontier.groupby("rate")[value].mean()
    return float(np.interp(math.log(rate), np.log(family.index), family, left=math.nan, right=math.nan))


class Difference(NamedTuple):
    """A mean paired difference over folds and repeats, its 95 % interval, and the p-value of no difference."""

    mean: float
    low: float
    high: float
    p: float


def corrected_difference(differences: ArrayLike, test_share: float) -> Difference:
    """The corrected resampled t-test of Nadeau and Bengio (2003).

    The training sets of folds overlap, so their scores are not independent: the variance of the mean is multiplied
    as if for that.

    Parameters
    ----------
    differences
        One paired difference a fold and repeat.
    test_share
        Patients tested for each one trained on: 1/4 with five folds.

    Raises
    ------
    Invalid
        If there are fewer than two differences.
    """
    from scipy import stats

    values = np.asarray(differences, float)
    if len(values) < 2:
        raise Invalid("differences", len(values), "two or more")
    mean, error = values.mean(), math.sqrt(values.var(ddof=1) * (1 / len(values) + test_share))
    reach = stats.t.ppf(0.975, len(values) - 1) * error
    p = 2 * stats.t.sf(abs(mean) / error, len(values) - 1) if error else float(mean == 0)
    return Difference(float(mean), float(mean - reach), float(mean + reach), float(p))
