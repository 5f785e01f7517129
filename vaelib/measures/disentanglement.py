r"""Disentanglement: how far each latent stands for one known factor of variation, by the five usual scores.

All of them look at codes (posterior means) and at the factors of the same samples. The scores of the β-VAE and of
FactorVAE need samples that agree in one factor and are random in the others. Such are found among the samples at hand,
so nothing is rendered or encoded anew, and any data set with factors will do: one that is rendered, the official
dSprites, or a subset of either.

The scores are written here, as no library that is kept up has them: disentanglement_lib (last released in 2020) needs
TensorFlow 1, disent (2023) needs Lightning and its own data sets, and latentverse (2026) has neither of the two scores
above and another importance matrix than DCI's. What scikit-learn has is used.
"""

from collections.abc import Collection
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from vaelib.data import Dataset, Factors
from vaelib.errors import Invalid
from vaelib.measures.base import Observation, Observed, Observer, Split, posterior
from vaelib.models import Latent
from vaelib.parts import Count

Floats: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int64]

_POINTS = 2000  # of a sampling score: so many to fit its classifier, and as many to score it, to 1 %


class DCI(NamedTuple):
    """What :func:`dci` gives."""

    disentanglement: float
    """How far a latent matters to one factor only."""
    completeness: float
    """How far a factor needs one latent only."""
    informativeness: float
    """How well the code predicts the factors of samples that the predictor has not seen."""


def mutual_information_gap(codes: ArrayLike | Tensor, factors: ArrayLike | Tensor, *, bins: int = 20) -> float:
    r"""MIG: how much more the best latent says about a factor than the second best (Chen et al., 2018, eq. 6).

    .. math:: \frac{1}{K} \sum_k \frac{1}{H(v_k)} \Big( I(z_{j^{(k)}}; v_k) - \max_{j \ne j^{(k)}} I(z_j; v_k) \Big)

    Here the information is that of the histogram of the codes, as is usual since; the paper draws from the posteriors.
    A histogram of n samples finds about (bins - 1) (values - 1) / 2n nats too much, in every latent: in the
    difference that cancels, but for the choice of the best two.

    Parameters
    ----------
    codes
        ``(n, d)``.
    factors
        Whole numbers ``(n, k)``.
    bins
        Of equal width, in each latent.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    Invalid
        If there are fewer than two latents or two factors, if they are not of the same samples, if a factor does not
        vary, or if codes are not finite or factors not whole.

    Examples
    --------
    >>> factors = [[0, 0], [0, 1], [1, 0], [1, 1]]
    >>> mutual_information_gap(factors, factors, bins=2)
    1.0
    """
    from sklearn.metrics import mutual_info_score

    z, v = _checked(codes, factors)
    binned = [np.digitize(latent, np.histogram_bin_edges(latent, bins)[1:-1]) for latent in z.T]
    entropies = np.array([mutual_info_score(factor, factor) for factor in v.T])
    information = np.array([[mutual_info_score(factor, latent) for latent in binned] for factor in v.T])
    return _gap(information / entropies[:, None])


def attribute_predictability(
    codes: ArrayLike | Tensor, factors: ArrayLike | Tensor, *, nominal: Collection[int] = ()
) -> float:
    r"""SAP: how much better the best latent alone predicts a factor than the second best (Kumar et al., 2018).

    A factor with an order is predicted by a line, and scored by R², the squared correlation; a nominal one by
    thresholds on the latent, one fewer than it has classes, and scored by the balanced accuracy. As that is 1/classes
    by chance, so many classes allow no more than 1 - 1/classes.

    Parameters
    ----------
    codes, factors
        As in :func:`mutual_information_gap`, and so what is raised.
    nominal
        Which columns are classes without an order.

    Returns
    -------
    float
        From 0 to 1: "separated attribute predictability".

    Examples
    --------
    >>> factors = [[0, 0], [0, 1], [1, 0], [1, 1]]
    >>> attribute_predictability(factors, factors)
    1.0
    >>> attribute_predictability(factors, factors, nominal=[0])
    0.75
    """
    z, v = _checked(codes, factors)
    return _gap(np.array([[(_thresholds if k in nominal else _line)(c, f) for c in z.T] for k, f in enumerate(v.T)]))


def dci(
    codes: ArrayLike | Tensor,
    factors: ArrayLike | Tensor,
    *,
    nominal: Collection[int] = (),
    trees: int = 30,
    seed: int = 0,
) -> DCI:
    r"""Disentanglement, completeness and informativeness (Eastwood and Williams, 2018).

    With R the importance of each latent for each factor, disentanglement and completeness are

    .. math::
        \sum_j \rho_j \big(1 - H_K(P_j)\big), \quad P_{jk} = \frac{R_{jk}}{\sum_{k'} R_{jk'}}, \quad
        \rho_j = \frac{\sum_k R_{jk}}{\sum_{j'k} R_{j'k}}
        \qquad \text{and} \qquad
        \frac{1}{K} \sum_k \big(1 - H_D(\tilde P_k)\big), \quad \tilde P_{jk} = \frac{R_{jk}}{\sum_{j'} R_{j'k}},

    with entropies to the base of the number of factors and of latents. Of the two predictors in the paper, lasso and
    random forest, this is the forest, as codes need not be linear in the factors: it regresses those that have an order
    and classifies those that are nominal. Boosted trees, which others use, take a tree a class and round, minutes for
    dSprites. Informativeness is R², or the share that is classified rightly, each sample being predicted by the
    trees that have not seen it: the paper gives the error, on a test set.

    Parameters
    ----------
    codes, factors, nominal
        As in :func:`attribute_predictability`.
    trees
        In a forest. Each sees half of the samples, and has five or more a leaf, so that it learns none by heart.
    seed
        Of the forests.

    Returns
    -------
    DCI
        The first two from 0 to 1; the third at most 1, and below 0 where the code predicts worse than the mean.

    Raises
    ------
    Invalid
        As in :func:`mutual_information_gap`.
    """
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    z, v = _checked(codes, factors)
    # Every latent is a candidate at every split: splits that must do without the best would spread importance. A tree
    # of half as many draws as there are samples leaves 61 % of these out, so that each is left out by some trees.
    how = {"min_samples_leaf": 5, "max_features": 1.0, "max_samples": 0.5, "oob_score": True, "random_state": seed}
    importances, scores = [], []
    for k, factor in enumerate(v.T):
        forest: Any = (RandomForestClassifier if k in nominal else RandomForestRegressor)(trees, **how).fit(z, factor)
        importances.append(forest.feature_importances_)
        scores.append(forest.oob_score_)
    return DCI(*_concentrated(np.stack(importances, 1)), float(np.mean(scores)))


def factor_vae_score(
    codes: ArrayLike | Tensor,
    factors: ArrayLike | Tensor,
    *,
    size: int = 64,
    points: int = _POINTS,
    unused: float = 0.05,
    seed: int = 0,
) -> float:
    """The FactorVAE score: whether the latent that varies least tells which factor is fixed (Kim and Mnih, 2018).

    A point is a factor, drawn at random, and a batch of samples that agree in it. Each latent's variance in the batch
    is divided by that over all samples, and the latent with the least of these votes. Each latent stands for the factor
    that it voted for most often.

    Parameters
    ----------
    codes, factors
        As in :func:`mutual_information_gap`, and so what is raised.
    size
        Samples in a batch, drawn with replacement: a value that fewer samples share is possible.
    points
        As many are drawn to find what latents stand for, and again to score that.
    unused
        Latents with a smaller standard deviation over all samples, in units of the code, do not vote.
    seed
        Of what is drawn.

    Returns
    -------
    float
        The share of points for which the vote is right; about 1/k by chance.
    """
    z, v = _checked(codes, factors)
    rng, (points_in_all, k) = np.random.default_rng(seed), (2 * points, v.shape[1])
    fixed = rng.integers(k, size=points_in_all)
    anchors = np.repeat(rng.integers(len(z), size=points_in_all)[:, None], size, 1)
    batches = _sharing(v, fixed, anchors, rng)
    spread = z.std(0)
    variance = np.full((points_in_all, z.shape[1]), np.inf)
    for latent in np.flatnonzero(spread >= max(unused, np.finfo(float).tiny)):
        variance[:, latent] = (z[batches, latent] / spread[latent]).var(1)
    votes, counts = variance.argmin(1), np.zeros((z.shape[1], k))
    np.add.at(counts, (votes[:points], fixed[:points]), 1)
    return float((counts.argmax(1)[votes[points:]] == fixed[points:]).mean())


def beta_vae_score(
    codes: ArrayLike | Tensor, factors: ArrayLike | Tensor, *, size: int = 64, points: int = _POINTS, seed: int = 0
) -> float:
    r"""The β-VAE score: whether a linear classifier sees which factor pairs agree in (Higgins et al., 2017).

    A point is a factor k, drawn at random, and L pairs of samples that agree in it. The classifier predicts k from

    .. math:: \frac{1}{L} \sum_{l=1}^{L} |z_{1,l} - z_{2,l}|

    and is multinomial logistic regression on these differences, standardised. Latents may mix factors, as long as each
    does so in a way of its own: what is asked is whether a factor can be told from all latents together.

    Parameters
    ----------
    codes, factors
        As in :func:`mutual_information_gap`, and so what is raised.
    size
        L, pairs in a point.
    points
        As many are drawn to fit the classifier, and again to score it.
    seed
        Of what is drawn.

    Returns
    -------
    float
        The classifier's accuracy; about 1/k by chance.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    z, v = _checked(codes, factors)
    rng = np.random.default_rng(seed)
    fixed = rng.integers(v.shape[1], size=2 * points)
    first = rng.integers(len(z), size=(2 * points, size))
    second = _sharing(v, fixed, first, rng)
    differences = np.stack([np.abs(latent[first] - latent[second]).mean(1) for latent in z.T], 1)
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    return float(classifier.fit(differences[:points], fixed[:points]).score(differences[points:], fixed[points:]))


def disentanglement(
    codes: ArrayLike | Tensor, factors: ArrayLike | Tensor, *, nominal: Collection[int] = (), seed: int = 0
) -> dict[str, float]:
    """All five scores, each with its usual settings.

    Parameters
    ----------
    codes
        ``(n, d)``, usually posterior means.
    factors
        The known factors of the same samples, whole numbers ``(n, k)``.
    nominal
        Which of them are classes without an order, by column.
    seed
        Of what is drawn.

    Returns
    -------
    dict
        ``mig`` (:func:`mutual_information_gap`), ``sap`` (:func:`attribute_predictability`), ``disentanglement``,
        ``completeness`` and ``informativeness`` (:func:`dci`), ``factor_vae`` (:func:`factor_vae_score`) and
        ``beta_vae`` (:func:`beta_vae_score`); 1 is best.

    Raises
    ------
    Invalid
        As in :func:`mutual_information_gap`.
    """
    return {
        "mig": mutual_information_gap(codes, factors),
        "sap": attribute_predictability(codes, factors, nominal=nominal),
        **dci(codes, factors, nominal=nominal, seed=seed)._asdict(),
        "factor_vae": factor_vae_score(codes, factors, seed=seed),
        "beta_vae": beta_vae_score(codes, factors, seed=seed),
    }


class Disentanglement(Observer):
    """The :func:`disentanglement` of posterior means, beside that of codes without any: a row a score.

    Columns ``score``, ``value``, and ``chance``: the same score of the same codes, permuted among the samples, which
    keeps how codes are distributed and what they say of each other, and nothing of what they say about factors. That is
    the random code; for the encoder that has not been trained, take the scores ``at=(0, epochs)``.

    Parameters
    ----------
    split
        The samples.
    images
        How many, the first of them.
    """

    kind = "disentanglement"
    needs = ("factors",)

    split: Split = "test"
    images: Count = 5000

    def check(self, latent: Latent, data: Dataset) -> None:
        """Refuse a run without two latents, or data without two factors that vary among the samples."""
        super().check(latent, data)
        if latent.width < 2:
            raise Invalid("latent", latent.kind, "of two numbers or more, where disentanglement is observed")
        factors, _ = self._factors(data.factors)
        _checked(np.zeros((len(factors), 2)), factors)

    def observe(self, run: Observed) -> Observation:
        """The table."""
        factors, nominal = self._factors(run.data.factors)
        codes = posterior(run.vae, run.samples(self.split)[: self.images]).mean.cpu()
        seed = int(torch.randint(2**31, (), generator=run.generator, device=run.generator.device))
        permuted = codes[np.random.default_rng(seed).permutation(len(codes))]
        value, chance = (disentanglement(z, factors, nominal=nominal, seed=seed) for z in (codes, permuted))
        return pd.DataFrame({"score": list(value), "value": value.values(), "chance": chance.values()})

    def _factors(self, known: Factors | None) -> tuple[Tensor, tuple[int, ...]]:
        """The factors of the samples, ``(n, k)``, and which columns are nominal."""
        if known is None:
            raise TypeError("disentanglement: the data need factors")
        columns = known.train if self.split == "train" else known.test
        nominal = tuple(k for k, name in enumerate(columns) if name in known.nominal)
        return torch.stack(list(columns.values()), 1)[: self.images], nominal


def _checked(codes: ArrayLike | Tensor, factors: ArrayLike | Tensor) -> tuple[Floats, Integers]:
    z, v = np.asarray(codes, float), np.asarray(factors)
    if z.ndim != 2 or z.shape[1] < 2 or not np.isfinite(z).all():
        raise Invalid("codes", codes, "finite numbers (n, d) with two latents or more")
    if v.ndim != 2 or v.shape[1] < 2 or v.dtype.kind not in "iu":
        raise Invalid("factors", factors, "whole numbers (n, k) with two factors or more")
    if len(v) != len(z):
        raise Invalid("factors", f"those of {len(v)} samples", f"of the {len(z)} samples whose codes are given")
    if fixed := [k for k, factor in enumerate(v.T) if len(np.unique(factor)) < 2]:
        raise Invalid("factors", factors, f"of two values or more each; column {fixed[0]} has one")
    return z, v.astype(np.int64)


def _gap(scores: Floats) -> float:
    """Mean over factors of the best latent's score less the second best's, from ``(k, d)``."""
    *_, second, best = np.sort(scores, 1).T
    return float((best - second).mean())


def _line(latent: Floats, factor: Integers) -> float:
    """R² of the line that predicts a factor from a latent."""
    return float(np.corrcoef(latent, factor)[0, 1] ** 2) if np.ptp(latent) > 0 else 0.0


def _thresholds(latent: Floats, factor: Integers) -> float:
    """Balanced accuracy of the thresholds that tell a factor's classes by a latent."""
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.tree import DecisionTreeClassifier

    tree = DecisionTreeClassifier(max_leaf_nodes=len(np.unique(factor)), class_weight="balanced", random_state=0)
    return float(balanced_accuracy_score(factor, tree.fit(latent[:, None], factor).predict(latent[:, None])))


def _concentrated(importance: Floats) -> tuple[float, float]:
    """Disentanglement and completeness of importances ``(d, k)``; 0 where nothing is important."""
    latents = importance.sum(1)
    weights = latents / (latents.sum() or 1)
    return float(weights @ _concentration(importance)), float(_concentration(importance.T).mean())


def _concentration(weights: Floats) -> Floats:
    """1 less the entropy of each row, to the base of its length; 0 of a row of zeros."""
    from scipy.special import entr

    sums = weights.sum(1)
    shares = np.divide(weights, sums[:, None], out=np.zeros_like(weights), where=sums[:, None] > 0)
    return np.where(sums > 0, 1 - entr(shares).sum(1) / np.log(weights.shape[1]), 0.0)


def _sharing(factors: Integers, fixed: Integers, of: Integers, rng: np.random.Generator) -> Integers:
    """For samples `of` ``(points, size)``, others at random that agree with them in the point's fixed factor.

    A sample is not drawn for itself, as it would agree in everything, unless no other has its value.
    """
    found = np.empty_like(of)
    for k, factor in enumerate(factors.T):
        chosen = of[fixed == k]
        order = np.argsort(factor, kind="stable")  # samples of one value are neighbours here
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        _, values, counts = np.unique(factor, return_inverse=True, return_counts=True)
        start, count = (np.cumsum(counts) - counts)[values[chosen]], counts[values[chosen]]
        step = 1 + (rng.random(chosen.shape) * (count - 1)).astype(np.int64)
        found[fixed == k] = order[start + (place[chosen] - start + step) % count]
    return found
