"""What codes of patients predict: relapse by classifiers, and the time to it by a Cox model.

Everything is fitted on training samples and scored on held-out ones.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from vaelib.data import Dataset
from vaelib.measures.base import Observation, Observed, Observer, posterior


def classify(
    train: ArrayLike, labels: ArrayLike, test: ArrayLike, test_labels: ArrayLike, *, seed: int = 0
) -> pd.DataFrame:
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
        Of the random forest and the support vector machine.

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
        "SVM": SVC(C=1.5, gamma="auto", random_state=seed),
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


class Survival(NamedTuple):
    """A Cox model's risks of held-out patients, their concordance with what happened, and its coefficients."""

    risk: NDArray[np.float64]
    concordance: float
    coefficients: NDArray[np.float64]


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
    model = CoxnetSurvivalAnalysis(
        l1_ratio=1e-3, alphas=np.geomspace(10, 1 / len(np.asarray(event)), 20), max_iter=1_000_000
    )
    model.fit(train, Surv.from_arrays(event, months))
    risk = model.predict(test)
    concordance = concordance_index_censored(np.asarray(test_event, bool), test_months, risk)[0]
    return Survival(risk, float(concordance), model.coef_[:, -1])


class LogRank(NamedTuple):
    """The statistic of a log-rank test, and the p-value of no difference between the groups."""

    statistic: float
    p: float


def log_rank(event: ArrayLike, months: ArrayLike, group: ArrayLike) -> LogRank:
    """The log-rank test of whether groups of patients have the same hazard.

    Parameters
    ----------
    event
        Whether the event was seen, bool ``(n,)``.
    months
        Until the event, or until the patient was last seen without.
    group
        What each patient belongs to: two or more values.

    Returns
    -------
    LogRank
        The statistic has a chi-squared distribution of one degree of freedom less than there are groups.

    Examples
    --------
    >>> log_rank([True] * 6, [1, 2, 3, 10, 11, 12], [0, 0, 0, 1, 1, 1]).p < 0.05
    True
    """
    from sksurv.compare import compare_survival
    from sksurv.util import Surv

    outcome = Surv.from_arrays(np.asarray(event, bool), np.asarray(months, float))
    return LogRank(*(float(v) for v in compare_survival(outcome, np.asarray(group))))


class Relapse(Observer):
    """What the posterior means predict of held-out patients: a row a classifier (:func:`classify`), and a Cox model.

    Columns ``classifier``, ``accuracy``, ``balanced_accuracy``, ``auc``; and for the Cox model ``concordance``.
    """

    kind = "relapse"
    needs = ("labels", "months")

    def observe(self, run: Observed) -> Observation:
        """The table."""
        means = (posterior(run.vae, x).mean.cpu().numpy() for x in (run.data.train, run.data.test))
        return predict(run.data, *means, seed=run.seed)[0]


def predict(data: Dataset, train: ArrayLike, test: ArrayLike, *, seed: int = 0) -> tuple[pd.DataFrame, Survival]:
    """The table of :class:`Relapse` for any features of a fold's patients, and the Cox model's :class:`Survival`."""
    if data.train_labels is None or data.test_labels is None or data.months is None:
        raise TypeError("relapse: the data need an outcome, and the months until it")
    labels = data.train_labels.numpy(), data.test_labels.numpy()
    months = data.months.train.numpy(), data.months.test.numpy()
    cox = survival(train, labels[0] == 1, months[0], test, labels[1] == 1, months[1])
    table = classify(train, labels[0], test, labels[1], seed=seed).reset_index()
    last = pd.DataFrame([{"classifier": "Cox model", "concordance": cox.concordance}])
    return pd.concat([table, last], ignore_index=True), cox
