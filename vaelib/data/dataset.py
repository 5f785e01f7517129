"""What every data set is, once loaded: tensors in memory, checked."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from vaelib.errors import DataError, Invalid

HELD_OUT = 0.1
"""The fraction held out for testing where nobody published a split."""


class Factors(NamedTuple):
    """The generative factors of every sample: for each name an int64 index tensor, (N,)."""

    train: dict[str, Tensor]
    test: dict[str, Tensor]
    nominal: tuple[str, ...] = ()
    """Names of those that are classes: their values have no order."""


class Months(NamedTuple):
    """For every patient the months until the event, or until the patient was last seen without: float64, (N,)."""

    train: Tensor
    test: Tensor


class Block(NamedTuple):
    """Neighbouring columns of vectors that belong together: a modality."""

    name: str
    size: int
    likelihood: str
    """What it is modelled with: ``bernoulli`` or ``gaussian``."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set in memory.

    Attributes
    ----------
    name
        What it was loaded by.
    train, test
        Images (N, C, H, W) or vectors (N, F). ``uint8`` are bytes, worth their value times :attr:`scale`; ``float32``
        are taken as they are, and images among them lie within [0, 1].
    train_labels, test_labels
        Classes, int64 (N,), where there are.
    factors
        The known generative factors, where there are.
    months
        How long patients were observed, where the samples are such; their labels say whether they relapsed.
    blocks
        The modalities of vectors, in the order of their columns; empty where there is only one.
    source
        Where it came from, in a sentence.

    Raises
    ------
    DataError
        When a field does not hold what it should; the message names the field, the value and what is allowed.
    """

    name: str
    train: Tensor
    test: Tensor
    train_labels: Tensor | None = None
    test_labels: Tensor | None = None
    factors: Factors | None = None
    months: Months | None = None
    blocks: tuple[Block, ...] = ()
    source: str = "arrays held in memory"

    def __post_init__(self) -> None:
        for part, samples, labels in (("train", self.train, self.train_labels), ("test", self.test, self.test_labels)):
            field = f"{self.name}: {part}"
            _check_samples(field, samples)
            if labels is not None and (shape := tuple(labels.shape)) != (count := len(samples),):
                raise DataError(
                    f"{field}_labels has shape {shape}; it needs one label for each of the {count} samples."
                )
        has, needs = (f"{tuple(samples.shape[1:])} of {samples.dtype}" for samples in (self.test, self.train))
        if has != needs:
            raise DataError(f"{self.name}: test has samples {has}; they have to be as those of train, {needs}.")

    @classmethod
    def from_arrays(
        cls,
        train: ArrayLike | Tensor,
        test: ArrayLike | Tensor | None = None,
        *,
        train_labels: ArrayLike | Tensor | None = None,
        test_labels: ArrayLike | Tensor | None = None,
        name: str = "arrays",
        source: str = "arrays held in memory",
        pad: bool = True,
        test_fraction: float = HELD_OUT,
        seed: int = 0,
    ) -> "Dataset":
        """Make a data set of arrays.

        Parameters
        ----------
        train, test
            NumPy arrays or tensors, uint8 or floating: grey images (N, H, W), images (N, C, H, W) or (N, H, W, C) with
            one or three channels (channels first where it could be either), or vectors (N, F). Memory is shared where
            it can be.
        train_labels, test_labels
            Classes as whole numbers, (N,).
        name, source
            What to call it, and where it came from.
        pad
            Whether images of 28x28 are zero-padded to 32x32, which is what the convolutional networks take.
        test_fraction, seed
            Where ``test`` is None, this fraction of ``train``, drawn with this seed, is held out to be it.

        Returns
        -------
        Dataset
            With images as (N, C, H, W), floats as float32 and labels as int64.

        Raises
        ------
        DataError
            When an array is empty, of another type or shape, or holds values that are not finite or, in images of
            floats, not within [0, 1]; when labels do not match or do not fit into int64.
        Invalid
            When ``test_fraction`` leaves nothing on one side.

        Examples
        --------
        >>> data = Dataset.from_arrays(np.zeros((50, 28, 28), np.uint8))
        >>> len(data.train), len(data.test), data.shape
        (45, 5, (1, 32, 32))
        """
        if test is None and test_labels is not None:
            raise DataError(f"{name}: test_labels was given without test; it is allowed only with it.")
        x, y = _samples(f"{name}: train", train, pad), _labels(f"{name}: train_labels", train_labels)
        x_test = x if test is None else _samples(f"{name}: test", test, pad)
        whole = cls(name, x, x_test, y, _labels(f"{name}: test_labels", test_labels), source=source)
        if test is not None:
            return whole
        kept, held = split(len(x), test_fraction, seed)
        y_kept, y_held = (None, None) if y is None else (y[kept], y[held])
        return cls(name, x[kept], x[held], y_kept, y_held, source=source)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample: (C, H, W) or (F,)."""
        return tuple(self.train.shape[1:])

    @property
    def scale(self) -> float:
        """What a stored value is multiplied by: 1/255 for bytes, 1 for floats."""
        return 1 / 255 if self.train.dtype == torch.uint8 else 1.0

    @property
    def classes(self) -> tuple[Tensor, Tensor] | None:
        """Of the training and the test samples: their labels or, where there are none, the first nominal factor."""
        if self.train_labels is not None and self.test_labels is not None:
            return self.train_labels, self.test_labels
        if self.factors is not None and self.factors.nominal:
            name = self.factors.nominal[0]
            return self.factors.train[name], self.factors.test[name]
        return None

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of samples and labels, with their shapes and types."""
        digest = hashlib.sha256()
        for x in (self.train, self.test, self.train_labels, self.test_labels):
            digest.update(b"none" if x is None else f"{x.dtype} {tuple(x.shape)}".encode())
            if x is not None:
                digest.update(x.contiguous().numpy().data)
        return digest.hexdigest()


def split(count: int, fraction: float = HELD_OUT, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Which of ``count`` samples train and which are held out, as two index tensors: always the same for one seed."""
    held = round(count * fraction) if 0 < fraction < 1 else 0
    if not 0 < held < count:
        raise Invalid("test_fraction", fraction, f"a fraction of {count} samples that leaves at least one on each side")
    order = torch.from_numpy(np.random.default_rng(seed).permutation(count))
    return order[held:], order[:held]


def _samples(field: str, values: ArrayLike | Tensor, pad: bool) -> Tensor:
    """Samples as a tensor in one of the two layouts, (N, C, H, W) or (N, F)."""
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        raise DataError(f"{field} has type {array.dtype}; allowed are uint8 (0 to 255) and floats.")
    if array.dtype.kind == "f":
        with np.errstate(over="ignore"):  # what does not fit becomes infinite, and is refused as that
            array = array.astype(np.float32, copy=False)
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4 and array.shape[1] not in (1, 3) and array.shape[3] in (1, 3):
        array = array.transpose(0, 3, 1, 2)
    if pad and array.shape[2:] == (28, 28):
        array = np.pad(array, ((0, 0), (0, 0), (2, 2), (2, 2)))
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))


def _labels(field: str, values: ArrayLike | Tensor | None) -> Tensor | None:
    """Labels as int64, where there are any."""
    if values is None:
        return None
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if array.dtype.kind not in "iu":
        raise DataError(f"{field} has type {array.dtype}; allowed are whole numbers.")
    if array.size and array.max() > np.iinfo(np.int64).max:
        raise DataError(f"{field} holds {array.max()}; allowed are whole numbers below 2^63.")
    return torch.from_numpy(array.astype(np.int64))


def _check_samples(field: str, samples: Tensor) -> None:
    shape = tuple(samples.shape)
    if samples.ndim not in (2, 4) or (samples.ndim == 4 and shape[1] not in (1, 3)):
        allowed = "vectors (N, F) and images (N, H, W), (N, C, H, W) or (N, H, W, C) with 1 or 3 channels"
        raise DataError(f"{field} has shape {shape}; allowed are {allowed}.")
    if samples.numel() == 0:
        raise DataError(f"{field} has shape {shape}, which is empty; it needs at least one sample.")
    if samples.dtype != torch.uint8:
        low, high = (float(v) for v in torch.aminmax(samples))  # both are NaN where any value is
        if not np.isfinite([low, high]).all():
            raise DataError(f"{field} holds NaN or infinite values; all have to be finite.")
        if samples.ndim == 4 and not 0 <= low <= high <= 1:
            raise DataError(f"{field} holds values from {low:g} to {high:g}; images of floats lie within [0, 1].")
