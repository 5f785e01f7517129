"""Likelihoods: what the decoder's numbers mean.

They follow the papers' reductions: log-probabilities are summed over pixels, one number an image, in nats.
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from math import log, sqrt
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Distribution, Independent, Normal, constraints

from vaelib.data import Block, Dataset
from vaelib.errors import Invalid
from vaelib.parts import Family, Positive


class Likelihood(Family):
    """The family of likelihoods p(x|z).

    Attributes
    ----------
    numbers
        How many numbers the decoder gives for each entry of a sample: so many times the channels, or the features.
    """

    numbers: ClassVar[int] = 1

    def check(self, data: Dataset) -> None:
        """Refuse data that the likelihood does not fit; any is taken by default.

        Raises
        ------
        Invalid
            The sentence names the field ``likelihood``.
        """

    @abstractmethod
    def of(self, outputs: Tensor, blocks: Sequence[Block] = ()) -> Distribution:
        """p(x|z) of batch shape ``(n,)`` from a decoder's outputs ``(n, *shape)`` and the blocks of the data."""

    def build(self, blocks: Sequence[Block] = ()) -> Callable[[Tensor], Distribution]:
        """What a VAE takes for data of these blocks: :meth:`of`, or a module where the likelihood has parameters."""
        return partial(self.of, blocks=blocks)


def _refuse_blocks(likelihood: Likelihood, data: Dataset) -> None:
    if data.blocks:
        raise Invalid("likelihood", likelihood.kind, f"one for data with blocks, which {data.name} is")


def _independent(entries: Distribution, outputs: Tensor) -> Distribution:
    return Independent(entries, outputs.dim() - 1, validate_args=False)


class BernoulliLikelihood(Likelihood):
    """Independent Bernoulli pixels with the outputs as logits; minus its log-density is the binary cross entropy."""

    kind = "bernoulli"

    def check(self, data: Dataset) -> None:
        """Refuse data beyond [0, 1]."""
        if data.train.is_floating_point():
            low, high = (float(v) for v in torch.aminmax(data.train))
            if low < 0 or high > 1:
                raise Invalid("likelihood", self.kind, f"one for values from {low:g} to {high:g}; it is for [0, 1]")

    def of(self, outputs: Tensor, blocks: Sequence[Block] = ()) -> Distribution:
        """The distribution."""
        return _independent(Bernoulli(logits=outputs, validate_args=False), outputs)


class GaussianLikelihood(Likelihood):
    """Gaussian entries of variance 1/2 around the outputs.

    Minus its log-density is the papers' summed squared error plus the constant ``log(pi) / 2`` an entry.

    Parameters
    ----------
    sigmoid
        Whether the mean is the sigmoid of the outputs, as for images in [0, 1], or the outputs themselves.
    """

    kind = "gaussian"

    sigmoid: bool = True

    def of(self, outputs: Tensor, blocks: Sequence[Block] = ()) -> Distribution:
        """The distribution."""
        mean = outputs.sigmoid() if self.sigmoid else outputs
        return _independent(Normal(mean, sqrt(0.5), validate_args=False), outputs)


class ScaledGaussianLikelihood(Likelihood):
    """Gaussian entries whose mean and log standard deviation the decoder gives: eq. 24 of the variance-loss paper.

    Parameters
    ----------
    floor
        The smallest standard deviation. Without one the density of entries that never change, such as the pixels at
        the rim of a digit, has no bound; the default is one grey level.
    """

    kind = "scaled_gaussian"

    numbers: ClassVar[int] = 2

    floor: Positive = 1 / 255

    def check(self, data: Dataset) -> None:
        """Refuse data with blocks."""
        _refuse_blocks(self, data)

    def of(self, outputs: Tensor, blocks: Sequence[Block] = ()) -> Distribution:
        """p(x|z) from outputs ``(n, 2 channels, ...)``: means first, then log standard deviations."""
        mean, log_scale = outputs.chunk(2, dim=1)
        scale = log_scale.clamp(min=log(self.floor)).exp()
        return _independent(Normal(mean, scale, validate_args=False), mean)


class SharedGaussianLikelihood(Likelihood):
    """Gaussian entries around the outputs, of one standard deviation for all, which is trained along.

    A linear VAE with it is probabilistic PCA (FGVAE thesis, section 2.1; Lucas et al., 2019). There is no floor: it is
    for samples that cannot be decoded without an error. In :class:`ScaledGaussianLikelihood` the decoder gives a
    standard deviation for each entry of each sample.

    Parameters
    ----------
    sigmoid
        As for :class:`GaussianLikelihood`.
    start
        The standard deviation before training; by default that likelihood's.
    """

    kind = "shared_gaussian"

    sigmoid: bool = True
    start: Positive = sqrt(0.5)

    tensors = ("start",)

    def check(self, data: Dataset) -> None:
        """Refuse data with blocks."""
        _refuse_blocks(self, data)

    def of(self, outputs: Tensor, blocks: Sequence[Block] = ()) -> Distribution:
        """The distribution before training."""
        return self.around(outputs, self.start)

    def around(self, outputs: Tensor, scale: float | Tensor) -> Distribution:
        """p(x|z) from outputs ``(n, *shape)`` with a standard deviation."""
        mean = outputs.sigmoid() if self.sigmoid else outputs
        return _independent(Normal(mean, scale, validate_args=False), outputs)

    def build(self, blocks: Sequence[Block] = ()) -> "_Shared":
        """The module with the standard deviation as a parameter."""
        return _Shared(self)


class _Shared(nn.Module):
    """The module of :class:`SharedGaussianLikelihood`: the logarithm is trained, so that the deviation is positive."""

    def __init__(self, part: SharedGaussianLikelihood):
        super().__init__()
        self._around, self.log_scale = part.around, nn.Parameter(torch.tensor(log(part.start)))

    def forward(self, outputs: Tensor) -> Distribution:
        """p(x|z) of batch shape ``(n,)`` from outputs ``(n, *shape)``."""
        return self._around(outputs, self.log_scale.exp())


class BalancedLikelihood(Likelihood):
    """Blocks of a vector, each with its own likelihood and all of the same say: see :class:`Balanced`."""

    kind = "balanced"

    def check(self, data: Dataset) -> None:
        """Refuse data without blocks."""
        if not data.blocks:
            raise Invalid("likelihood", self.kind, f"one for data without blocks, which {data.name} is")

    def of(self, outputs: Tensor, blocks: Sequence[Block] = ()) -> Distribution:
        """The distribution."""
        return Balanced(outputs, blocks)


class Balanced(Distribution):
    """Blocks of a vector, each with its own likelihood and all of the same say.

    The log-density of a block of f features out of F in M blocks is multiplied by F / (M f), as if all blocks were
    equally wide: the sum of the blocks' *mean* errors that the integrative VAEs minimise, times F / M.

    Parameters
    ----------
    outputs
        Of the decoder, ``(n, F)``.
    blocks
        Size and likelihood of each: ``bernoulli``, or ``gaussian`` without a sigmoid.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}

    def __init__(self, outputs: Tensor, blocks: Sequence[Block]):
        super().__init__(outputs.shape[:1], outputs.shape[1:], validate_args=False)
        self._sizes = [block.size for block in blocks]
        kinds: dict[str, Likelihood] = {
            "bernoulli": BernoulliLikelihood(),
            "gaussian": GaussianLikelihood(sigmoid=False),
        }
        pieces = zip(blocks, outputs.split(self._sizes, dim=1))
        self._parts = [kinds[block.likelihood].of(piece) for block, piece in pieces]

    @property
    def mean(self) -> Tensor:
        """``(n, F)``."""
        return torch.cat([part.mean for part in self._parts], dim=1)

    def log_prob(self, value: Tensor) -> Tensor:
        """The blocks' log-densities, each with its factor, summed: ``(n,)``."""
        total = sum(self._sizes) / len(self._sizes)
        pieces = zip(self._sizes, self._parts, value.split(self._sizes, dim=1))
        return torch.stack([total / size * part.log_prob(x) for size, part, x in pieces]).sum(0)
