"""Encoder and decoder bodies: plain tensors in, plain tensors out.

An encoder maps a batch of samples ``(n, *shape)`` to the numbers that describe a posterior ``(n, outputs)``; a
decoder maps codes ``(n, code)`` to the numbers that describe a likelihood ``(n, *shape)``. What these numbers mean
is the business of :mod:`vaelib.models.latents` and :mod:`vaelib.models.likelihoods`.
"""

import math
from abc import abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

from pydantic import BeforeValidator, Field
from torch import nn

from vaelib.errors import Invalid
from vaelib.models.layers import (
    ACTIVATIONS,
    Activation,
    Body,
    Branches,
    Dropout,
    between,
    down,
    last_up,
    linear,
    normalised,
    up,
)
from vaelib.parts import Count, Family

Shape = tuple[int, ...]
Sizes = Sequence[int]

Units = Annotated[tuple[Count, ...], Field(min_length=1), BeforeValidator(lambda v: (v,) if isinstance(v, int) else v)]
"""One or more whole numbers; a single one may stand for itself."""


class Network(Family):
    """The family of pairs of bodies: a description.

    A body is any module of tensors; its weights are drawn anew by :func:`initialise`. One that is random in training
    takes its random numbers as a second argument, from a method ``noise(n, generator)``, as :class:`Body` does.
    """

    def check(self, shape: Shape, batch: int) -> None:
        """Refuse samples of a shape, or a smallest batch, that the bodies cannot take; any is taken by default.

        Raises
        ------
        Invalid
            The sentence names the field ``network``, or ``batch_size``.
        """

    @abstractmethod
    def encoder(self, shape: Shape, outputs: int, sizes: Sizes = ()) -> nn.Module:
        """From samples ``(n, *shape)`` to ``(n, outputs)``; `sizes` are those of the blocks of a vector."""

    @abstractmethod
    def decoder(self, shape: Shape, code: int, sizes: Sizes = ()) -> nn.Module:
        """From codes ``(n, code)`` to ``(n, *shape)``."""

    def _refuse(self, shape: Shape, what: str) -> Invalid:
        return Invalid("network", self.kind, f"one that takes samples of shape {tuple(shape)}; this one takes {what}")


class Burgess(Network):
    """The convolutional bodies of Burgess et al. (2018) as in table 2 of the α-VAE paper.

    Convolutions 4x4, stride 2, padding 1, down to 4x4, then two fully connected layers; the decoder mirrors it. Images
    are square with a side of 32 or 64.

    Parameters
    ----------
    filters
        Of each convolution.
    units
        Of the two fully connected layers.
    activation
        Between all layers.
    """

    kind = "burgess"

    filters: Count = 32
    units: Count = 256
    activation: Activation = "relu"

    def check(self, shape: Shape, batch: int) -> None:
        """Refuse what is no square image with a side of 32 or 64."""
        if len(shape) != 3 or shape[1] != shape[2] or shape[1] not in (32, 64):
            raise self._refuse(shape, "images of 32x32 or 64x64")

    def encoder(self, shape: Shape, outputs: int, sizes: Sizes = ()) -> nn.Module:
        """The encoder."""
        channels = [shape[0], *[self.filters] * self._depth(shape)]
        convolutions = between([down(a, b) for a, b in pairwise(channels)], self.activation)
        units = (16 * self.filters, self.units, self.units, outputs)
        dense = between([linear(a, b) for a, b in pairwise(units)], self.activation)
        return Body(*convolutions, ACTIVATIONS[self.activation](), nn.Flatten(), *dense)

    def decoder(self, shape: Shape, code: int, sizes: Sizes = ()) -> nn.Module:
        """The decoder."""
        units = (code, self.units, self.units, 16 * self.filters)
        dense = between([linear(a, b) for a, b in pairwise(units)], self.activation)
        growing = [up(self.filters, self.filters) for _ in range(self._depth(shape) - 1)]
        convolutions = between([*growing, last_up(self.filters, shape[0])], self.activation)
        return Body(*dense, ACTIVATIONS[self.activation](), nn.Unflatten(1, (self.filters, 4, 4)), *convolutions)

    @staticmethod
    def _depth(shape: Shape) -> int:
        return int(math.log2(shape[1])) - 2


class _Normalised(Network):
    """Bodies with batch normalisation, which cannot be told anything by one sample."""

    def check(self, shape: Shape, batch: int) -> None:
        """Refuse a batch of one sample."""
        if batch < 2:
            raise Invalid("batch_size", batch, "one whose last batch has two samples or more, to be normalised")


class MLP(_Normalised):
    """Fully connected bodies: by default those of Kingma and Welling (2014) with a ReLU.

    Parameters
    ----------
    units
        Of the encoder's hidden layers, one after the other; the decoder mirrors them.
    activation
        Of the hidden units; Kingma and Welling's, and the variance-loss paper's, is ``"tanh"``.
    batch_norm
        Normalise each hidden layer over the batch, before its activation.

    Examples
    --------
    >>> FGVAE = MLP(units=(512, 256, 128), batch_norm=True)  # table 4.1 of the FGVAE thesis
    """

    kind = "mlp"

    units: Units = (400,)
    activation: Activation = "relu"
    batch_norm: bool = False

    def check(self, shape: Shape, batch: int) -> None:
        """Refuse a batch of one sample where it is to be normalised."""
        if self.batch_norm:
            super().check(shape, batch)

    def encoder(self, shape: Shape, outputs: int, sizes: Sizes = ()) -> nn.Module:
        """The encoder."""
        hidden = self._hidden((math.prod(shape), *self.units))
        return Body(nn.Flatten(), *hidden, linear(self.units[-1], outputs))

    def decoder(self, shape: Shape, code: int, sizes: Sizes = ()) -> nn.Module:
        """The decoder."""
        hidden = self._hidden((code, *self.units[::-1]))
        return Body(*hidden, linear(self.units[0], math.prod(shape)), nn.Unflatten(1, tuple(shape)))

    def _hidden(self, units: Sequence[int]) -> list[nn.Module]:
        layers: list[nn.Module] = []
        for a, b in pairwise(units):
            norm = [nn.BatchNorm1d(b)] if self.batch_norm else []
            layers += [linear(a, b), *norm, ACTIVATIONS[self.activation]()]
        return layers


class NormalisedConvolutions(_Normalised):
    """The convolutional bodies of the factorised-Gaussian VAE of Chen (2020), as in the thesis' listing A.1.

    Convolutions 4x4, padding 1, with batch normalisation and ReLU; the decoder mirrors it. The stride is 2, as in the
    listing; with the 1 of table 4.2 the images would not shrink to the sizes that it gives. Images are square, with a
    side that the strides divide.

    Parameters
    ----------
    filters
        Of the encoder's convolutions, one after the other.
    """

    kind = "normalised_convolutions"

    filters: Units = (32, 64, 128)

    def check(self, shape: Shape, batch: int) -> None:
        """Refuse what is no square image that the strides divide, and a batch of one sample."""
        shrink = 2 ** len(self.filters)
        if len(shape) != 3 or shape[1] != shape[2] or shape[1] % shrink:
            raise self._refuse(shape, f"square images with a side divisible by {shrink}")
        super().check(shape, batch)

    def encoder(self, shape: Shape, outputs: int, sizes: Sizes = ()) -> nn.Module:
        """The encoder."""
        pairs = pairwise((shape[0], *self.filters))
        shrinking = [module for a, b in pairs for module in normalised(down(a, b), nn.BatchNorm2d(b))]
        return Body(*shrinking, nn.Flatten(), linear(math.prod(self._deepest(shape)), outputs))

    def decoder(self, shape: Shape, code: int, sizes: Sizes = ()) -> nn.Module:
        """The decoder."""
        deepest = self._deepest(shape)
        flat = math.prod(deepest)
        pairs = pairwise(self.filters[::-1])
        growing = [module for a, b in pairs for module in normalised(up(a, b), nn.BatchNorm2d(b))]
        start = normalised(linear(code, flat), nn.BatchNorm1d(flat))
        return Body(*start, nn.Unflatten(1, deepest), *growing, last_up(self.filters[0], shape[0]))

    def _deepest(self, shape: Shape) -> tuple[int, int, int]:
        side = shape[1] // 2 ** len(self.filters)
        return self.filters[-1], side, side


class _Integrative(_Normalised):
    """The integrative VAEs of Simidjievski et al. (2019): dense layers of ELU units, normalised, with dropout.

    Parameters
    ----------
    units
        Of each layer; the reference tries 128, 256 and 512.
    dropout
        Share of the decoder's units that is dropped before its last layer.
    """

    units: Count = 256
    dropout: Annotated[float, Field(ge=0, le=0.99)] = 0.2

    def check(self, shape: Shape, batch: int) -> None:
        """Refuse what is no vector, and a batch of one sample."""
        if len(shape) != 1:
            raise self._refuse(shape, "vectors")
        super().check(shape, batch)

    def _dense(self, inputs: int) -> list[nn.Module]:
        return [linear(inputs, self.units), nn.ELU(), nn.BatchNorm1d(self.units)]

    def _decoder(self, code: int, last: nn.Module) -> nn.Module:
        return Body(*self._dense(code), Dropout(self.units, self.dropout), last)


class CNC(_Integrative):
    """CNC, the integrative VAE that concatenates the modalities: one dense layer on either side."""

    kind = "cnc"

    def encoder(self, shape: Shape, outputs: int, sizes: Sizes = ()) -> nn.Module:
        """The encoder."""
        return Body(*self._dense(shape[0]), linear(self.units, outputs))

    def decoder(self, shape: Shape, code: int, sizes: Sizes = ()) -> nn.Module:
        """The decoder."""
        return self._decoder(code, linear(self.units, shape[0]))


class XVAE(_Integrative):
    """X, the integrative VAE with a branch for each modality on either side of a common layer."""

    kind = "x"

    def encoder(self, shape: Shape, outputs: int, sizes: Sizes = ()) -> nn.Module:
        """The encoder: a dense layer for each block, then a common one."""
        sizes = list(sizes) or [shape[0]]
        branches = Branches([nn.Sequential(*self._dense(size)) for size in sizes], sizes)
        return Body(branches, *self._dense(len(sizes) * self.units), linear(self.units, outputs))

    def decoder(self, shape: Shape, code: int, sizes: Sizes = ()) -> nn.Module:
        """The decoder: a common layer, then one for each block."""
        sizes = list(sizes) or [shape[0]]
        heads = [nn.Sequential(*self._dense(self.units), linear(self.units, size)) for size in sizes]
        return self._decoder(code, Branches(heads))
