"""How far codes keep classes apart, and which class a decoded image is of."""

from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from torch import Tensor

from vaelib.data import Dataset
from vaelib.measures.base import Observation, Observed, Observer, decode, posterior
from vaelib.measures.codes import cluster_scores, each_category
from vaelib.models import pixels
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

    right = recognised(train, labels, test, test_labels, neighbours=neighbours)
    clusters = KMeans(len(np.unique(labels)), n_init=5, random_state=seed).fit(train)
    scores = cluster_scores(clusters.predict(test), test_labels)
    return {
        **{name: float(column.mean()) for name, column in right.items()},
        "nmi": scores["nmi"],
        "ari": scores["ari"],
    }


def recognised(
    train: ArrayLike, labels: ArrayLike, test: ArrayLike, test_labels: ArrayLike, *, neighbours: int = 10
) -> pd.DataFrame:
    """Whether the two classifiers of :func:`separability` are right, sample by sample: for paired tests of two codes.

    Returns
    -------
    DataFrame
        One row a test sample, in their order; columns ``linear`` and ``neighbours``, true where right.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(train, labels)
    nearest = KNeighborsClassifier(neighbours).fit(train, labels)
    return pd.DataFrame({n: c.predict(test) == test_labels for n, c in (("linear", linear), ("neighbours", nearest))})


def reader(train: Tensor, labels: ArrayLike) -> Any:
    """A classifier of images: a support vector machine on their first 50 principal components.

    Deterministic, and trained in seconds on some thousands of images; right on about 96 % of the embedded test digits.

    Parameters
    ----------
    train
        Images ``(n, *shape)``, bytes or in [0, 1].
    labels
        Their classes ``(n,)``.

    Returns
    -------
    sklearn.pipeline.Pipeline
        Fitted; ``predict`` takes images as rows of pixels in [0, 1].
    """
    from sklearn.decomposition import PCA
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import SVC

    rows = _rows(train)
    components = PCA(min(50, *rows.shape), svd_solver="covariance_eigh", random_state=0)
    return make_pipeline(components, SVC(C=10.0, random_state=0)).fit(rows, labels)


def _rows(images: Tensor) -> Any:
    return pixels(images).flatten(1).cpu().numpy()


@lru_cache(maxsize=1)
def _reader_of(data: Dataset) -> Any:
    """The reader of a data set's training images, kept for the next run of the same process."""
    if data.train_labels is None:
        raise TypeError("the data need labels")
    return reader(data.train, data.train_labels.numpy())


def _coded(run: Observed, kind: str) -> tuple[Any, Any, Any, Any]:
    """The posterior means of training samples and their classes, and those of test samples."""
    data = run.data
    if data.classes is None:
        raise TypeError(f"{kind}: the data need classes")
    train, test = (posterior(run.vae, x).mean.cpu().numpy() for x in (data.train, data.test))
    return train, data.classes[0].numpy(), test, data.classes[1].numpy()


class Separability(Observer):
    """The :func:`separability` of the classes by the posterior means, in one row."""

    kind = "separability"
    needs = ("classes",)

    neighbours: Count = 10

    def observe(self, run: Observed) -> Observation:
        """The table."""
        train, labels, test, test_labels = _coded(run, self.kind)
        scores = separability(train, labels, test, test_labels, neighbours=self.neighbours)
        return pd.DataFrame([scores])


class Recognised(Observer):
    """The :func:`recognised` test samples, by classifiers on posterior means: ``image``, ``linear``, ``neighbours``."""

    kind = "recognised"
    needs = ("classes",)

    neighbours: Count = 10

    def observe(self, run: Observed) -> Observation:
        """The table."""
        train, labels, test, test_labels = _coded(run, self.kind)
        right = recognised(train, labels, test, test_labels, neighbours=self.neighbours)
        return right.rename_axis("image").reset_index()


class Legibility(Observer):
    """What a :func:`reader` takes test images for, before and after they are coded.

    Columns ``image``, ``label``, ``read`` (of the image itself) and ``decoded`` (of one exact draw of its code).

    Parameters
    ----------
    images
        How many, the first of the test set.
    """

    kind = "legibility"
    needs = ("labels",)

    images: Count = 1000

    def observe(self, run: Observed) -> Observation:
        """The table."""
        samples, labels = run.data.test[: self.images], run.data.test_labels
        if labels is None:
            raise TypeError("legibility: the data need labels")
        classifier, q = _reader_of(run.data), posterior(run.vae, samples)
        decoded = decode(run.vae, run.vae.latent.draw(q, run.vae.latent.noise(len(samples), run.generator)))
        read = {"read": classifier.predict(_rows(samples)), "decoded": classifier.predict(_rows(decoded))}
        return pd.DataFrame({"label": labels[: self.images].numpy(), **read}).rename_axis("image").reset_index()


class CategoryClasses(Observer):
    """What a :func:`reader` takes test images for that are decoded with each category in the place of their own.

    A row an image and category: ``image``, ``label``, ``category``, ``decoded`` (the class read from the decoded image)
    and ``distance`` (its squared distance from the mean over the categories).

    Parameters
    ----------
    images
        How many, the first of the test set.
    """

    kind = "category_classes"
    needs = ("labels", "category")

    images: Count = 200

    def observe(self, run: Observed) -> Observation:
        """The table."""
        labels = run.data.test_labels
        if labels is None:
            raise TypeError("category_classes: the data need labels")
        decoded = each_category(run.vae, run.data.test[: self.images]).cpu()
        n, count = decoded.shape[:2]
        distance = (decoded - decoded.mean(1, keepdim=True)).square().flatten(2).sum(2)
        return pd.DataFrame(
            {
                "image": np.repeat(np.arange(n), count),
                "label": np.repeat(labels[:n].numpy(), count),
                "category": np.tile(np.arange(count), n),
                "decoded": _reader_of(run.data).predict(_rows(decoded.flatten(0, 1))),
                "distance": distance.flatten().numpy(),
            }
        )
