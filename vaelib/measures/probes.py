"""How far codes keep classes apart."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from vaelib.measures.base import Observation, Observed, Observer, posterior
from vaelib.measures.codes import cluster_scores
from vaelib.parts import Count


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


class Separability(Observer):
    """The :func:`separability` of the classes by the posterior means, in one row."""

    kind = "separability"
    needs = ("labels",)

    neighbours: Count = 10

    def observe(self, run: Observed) -> Observation:
        """The table."""
        data = run.data
        if data.train_labels is None or data.test_labels is None:
            raise TypeError("separability: the data need labels")
        train, test = (posterior(run.vae, x).mean.cpu().numpy() for x in (data.train, data.test))
        labels = data.train_labels.numpy(), data.test_labels.numpy()
        scores = separability(train, labels[0], test, labels[1], neighbours=self.neighbours)
        return pd.DataFrame([scores])
