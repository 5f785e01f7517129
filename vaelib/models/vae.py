"""The variational auto-encoder: an encoder, a decoder, a latent and a likelihood.

Likelihoods follow the papers' reductions: log-probabilities are summed over pixels, one number an image, in nats.
"""

from collections.abc import Callable, Sequence
from math import sqrt
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Distribution, Independent, Normal, constraints

from vaelib.latents import Categorical, Gaussian, Joint


def bernoulli(outputs: Tensor) -> Distribution:
    """Independent Bernoulli pixels with logits `outputs`; minus its log-density is the binary cross entropy."""
    return Independent(Bernoulli(logits=outputs, validate_args=False), outputs.dim() - 1, validate_args=False)


def gaussian(outputs: Tensor) -> Distribution:
    """Gaussian pixels of variance 1/2 around ``sigmoid(outputs)``.

    Minus its log-density is the papers' summed squared error plus the constant ``log(pi) / 2`` a pixel.
    """
    pixels = Normal(outputs.sigmoid(), sqrt(0.5), validate_args=False)
    return Independent(pixels, outputs.dim() - 1, validate_args=False)


def linear(outputs: Tensor) -> Distribution:
    """Gaussian entries of variance 1/2 around `outputs`: the summed squared error without a sigmoid, and a constant."""
    entries = Normal(outputs, sqrt(0.5), validate_args=False)
    return Independent(entries, outputs.dim() - 1, validate_args=False)


class Balanced(Distribution):
    """Blocks of a vector, each with its own likelihood and all of the same say.

    The log-density of a block of f features out of F in M blocks is multiplied by F / (M f), as if all blocks were
    equally wide: the sum of the blocks' *mean* errors that the integrative VAEs minimise, times F / M.

    Parameters
    ----------
    outputs
        Of the decoder, ``(n, F)``.
    blocks
        Size and likelihood of each: ``bernoulli``, or ``gaussian`` for :func:`linear`.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}

    def __init__(self, outputs: Tensor, blocks: Sequence[tuple[int, str]]):
        super().__init__(outputs.shape[:1], outputs.shape[1:], validate_args=False)
        self._sizes = [size for size, _ in blocks]
        likelihoods = [bernoulli if kind == "bernoulli" else linear for _, kind in blocks]
        self._parts = [make(part) for make, part in zip(likelihoods, outputs.split(self._sizes, dim=1))]

    @property
    def mean(self) -> Tensor:
        """``(n, F)``."""
        return torch.cat([part.mean for part in self._parts], dim=1)

    def log_prob(self, value: Tensor) -> Tensor:
        """The blocks' log-densities, each with its factor, summed: ``(n,)``."""
        total = sum(self._sizes) / len(self._sizes)
        densities = [part.log_prob(x) for part, x in zip(self._parts, value.split(self._sizes, dim=1))]
        return sum(total / size * density for size, density in zip(self._sizes, densities))


Blocks = Sequence[tuple[int, str]]

LIKELIHOODS: dict[str, Callable[[Tensor, Blocks], Distribution]] = {
    "bernoulli": lambda outputs, blocks=(): bernoulli(outputs),
    "gaussian": lambda outputs, blocks=(): gaussian(outputs),
    "linear": lambda outputs, blocks=(): linear(outputs),
    "balanced": Balanced,
}
"""From a decoder's outputs, and the blocks of the data where it has such, to p(x|z)."""


class VAE(nn.Module):
    """A variational auto-encoder p(x|z) p(z) with the approximate posterior q(z|x).

    Parameters
    ----------
    encoder
        Maps samples ``(n, *shape)`` to ``(n, latent.outputs)``.
    decoder
        Maps codes ``(n, latent.code)`` to ``(n, *shape)``.
    latent
        Turns the encoder's numbers into a posterior.
    likelihood
        Turns the decoder's numbers into a distribution of samples: a value of :data:`LIKELIHOODS`.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        latent: Gaussian | Categorical | Joint,
        likelihood: Callable[[Tensor], Distribution],
    ):
        super().__init__()
        self.encoder, self.decoder, self.latent = encoder, decoder, latent
        self._likelihood = likelihood

    @property
    def prior(self) -> Distribution:
        """p(z), batch shape ``()``."""
        return self.latent.prior()

    def posterior(self, x: Tensor) -> Distribution:
        """q(z|x) of batch shape ``(n,)`` for samples ``(n, *shape)`` in [0, 1]."""
        return self.latent.posterior(self.encoder(x))

    def likelihood(self, z: Tensor) -> Distribution:
        """p(x|z) of batch shape ``(n,)`` for codes ``(n, code)``; its ``log_prob`` is in nats an image."""
        return self._likelihood(self.decoder(z))

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """The mean of p(x|z) at the posterior mean: ``(n, *shape)`` for samples ``(n, *shape)``."""
        return self.likelihood(self.posterior(x).mean).mean

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """The means of p(x|z) for n codes drawn from the prior: ``(n, *shape)``, on the generator's device."""
        return self.likelihood(self.latent.draw(self.prior, self.latent.noise(n, generator))).mean


def distortion_of(likelihood: Distribution, x: Tensor, draws: int) -> Tensor:
    """-log p(x|z) ``(draws, n)`` of samples ``(n, *shape)``, each with so many codes, decoded as one batch.

    Parameters
    ----------
    likelihood
        Of codes ``(draws * n, code)``, those of the first draw first.
    x, draws
        The samples, and how often each occurs.
    """
    repeated = x.expand(draws, *x.shape).flatten(0, 1)
    return -likelihood.log_prob(repeated).unflatten(0, (draws, len(x)))


def pixels(samples: Tensor) -> Tensor:
    """Samples as the networks take them: bytes become floats in [0, 1], floats stay as they are."""
    return samples.float().div_(255) if samples.dtype == torch.uint8 else samples
