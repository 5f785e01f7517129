"""What codes are good for: classifiers and survival models on them, and how two methods are compared.

Everything is fitted on training samples and scored on held-out ones.
"""

import math
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from vaelib.evaluation import cluster_scores


def classify(train: ArrayLike, labels: ArrayLike, test: ArrayLike, test_labels: ArrayLike, *, seed: int = 0):
    """Score the classifiers of the integrative VAEs' evaluation, and the majority class, on codes.

    Random forest of 50 trees on half of the features each, support vector machine with radial basis functions
    (C = 1.5), Gaussian naive Bayes.

    Parameters
    ----------
    train, test
        Codes or other features ``(n, features)``.
    labels, test_labels
        Two classes, 0 and 1.
    seed
        Of the random forest.

    Returns
    -------
    DataFrame
        One row a classifier (the index): ``accuracy``, ``balanced_accuracy`` and ``auc``, the area under the ROC curve.
    """
    from sklearn.dummy import DummyClassifier
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score
    from sklearn.naive_bayes import GaussianNB
    from sklearn.svm import SVC

    rows = {}
    for name, model in {
        "majority class": DummyClassifier(),
        "random forest": RandomForestClassifier(50, max_features=0.5, random_state=seed),
        "SVM": SVC(C=1.5, gamma="auto"),
        "naive Bayes": GaussianNB(),
    }.items():
        model.fit(train, labels)
        guessed = model.predict(test)
        score = (
            model.decision_function(test) if hasattr(model, "decision_function") else model.predict_proba(test)[:, 1]
        )
        rows[name] = {
            "accuracy": accuracy_score(test_labels, guessed),
            "balanced_accuracy": balanced_accuracy_score(test_labels, guessed),
            "auc": roc_auc_score(test_labels, score),
        }
    return pd.DataFrame(rows).T.rename_axis("classifier")


def separability(
    train: ArrayLike, labels: ArrayLike, test: ArrayLike, test_labels: ArrayLike, *, neighbours: int = 10, seed: int = 0
) -> dict[str, float]:
    """How far codes keep classes apart: by a hyperplane, by their neighbourhoods, and without any label.

    Parameters
    ----------
    train, test
        Codes or other features ``(n, features)``.
    labels, test_labels
        Classes, whole numbers.
    neighbours
        Of the nearest-neighbour classifier.
    seed
        Of the clusters' starts.

    Returns
    -------
    dict
        Of the test samples, ``linear``: accuracy of multinomial logistic regression on standardised codes;
        ``neighbours``: accuracy of the nearest neighbours' vote; ``nmi`` and ``ari``: normalised mutual information and
        adjusted Rand index of the classes and as many clusters, which k-means found in the training codes. Neighbours
        and clusters go by the codes' own distances: to standardise them would make unused latents count like others.
    """
    from sklearn.cluster import KMeans
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(train, labels)
    nearest = KNeighborsClassifier(neighbours).fit(train, labels)
    clusters = KMeans(len(np.unique(labels)), n_init=5, random_state=seed).fit(train)
    scores = cluster_scores(clusters.predict(test), test_labels)
    return {
        "linear": linear.score(test, test_labels),
        "neighbours": nearest.score(test, test_labels),
        "nmi": scores["nmi"],
        "ari": scores["ari"],
    }


class Survival(NamedTuple):
    """A Cox model's risks of held-out patients, their concordance with what happened, and its coefficients."""

    risk: np.ndarray
    concordance: float
    coefficients: np.ndarray


def survival(
    train: ArrayLike,
    event: ArrayLike,
    months: ArrayLike,
    test: ArrayLike,
    test_event: ArrayLike,
    test_months: ArrayLike,
) -> Survival:
    """Fit a ridge-penalised Cox model to codes scaled by their quartiles, and score it on held-out patients.

    Parameters
    ----------
    train, test
        Codes ``(n, features)``.
    event, test_event
        Whether the event was seen, bool.
    months, test_months
        Until the event, or until the patient was last seen without.

    Returns
    -------
    Survival
        With Harrell's concordance index: the share of comparable pairs of patients that the risk puts in the right
        order; one half for a constant risk.
    """
    from sklearn.preprocessing import RobustScaler
    from sksurv.linear_model import CoxnetSurvivalAnalysis
    from sksurv.metrics import concordance_index_censored
    from sksurv.util import Surv

    scaler = RobustScaler(unit_variance=True).fit(train)
    # One patient whose code has run away must not decide the fit: five standard deviations are as far as it counts.
    train, test = (np.clip(scaler.transform(codes), -5, 5) for codes in (train, test))
    # A ridge penalty of one half the squared norm: the coordinate descent of the elastic net, with next to no lasso in
    # it, takes a tenth of a second where Newton's method takes half a minute. The path from a strong penalty down to
    # this one keeps it from overflowing on the way.
    model = CoxnetSurvivalAnalysis(l1_ratio=1e-3, alphas=np.geomspace(10, 1 / len(train), 20), max_iter=1_000_000)
    model.fit(train, Surv.from_arrays(event, months))
    risk = model.predict(test)
    concordance = concordance_index_censored(np.asarray(test_event, bool), test_months, risk)[0]
    return Survival(risk, float(concordance), model.coef_[:, -1])


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
    ValueError
        If there are fewer than two differences.
    """
    from scipy import stats

    values = np.asarray(differences, float)
    if len(values) < 2:
        raise ValueError(f"differences: {len(values)} is not allowed; there have to be at least two")
    mean, error = values.mean(), math.sqrt(values.var(ddof=1) * (1 / len(values) + test_share))
    reach = stats.t.ppf(0.975, len(values) - 1) * error
    p = 2 * stats.t.sf(abs(mean) / error, len(values) - 1) if error else float(mean == 0)
    return Difference(float(mean), float(mean - reach), float(mean + reach), float(p))
