"""What a divergence is to an objective: a description, and a module that may draw noise and hold parameters."""

from abc import ABC, abstractmethod
from typing import Protocol

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaelib.errors import Invalid
from vaelib.parts import Built, Family

Noise = dict[str, Tensor]


class Sampler(Protocol):
    """What a divergence may ask of a latent: distributions, noise, and samples made of it."""

    outputs: int

    def posterior(self, outputs: Tensor) -> Distribution:
        """Posteriors from encoder outputs."""

    def prior(self) -> Distribution:
        """The prior."""

    def noise(self, n: int, generator: torch.Generator) -> Tensor:
        """Noise of n samples."""

    def sample(self, distribution: Distribution, noise: Tensor, progress: float | Tensor = 1.0) -> Tensor:
        """Samples that a gradient can pass."""

    def prior_sample(self, noise: Tensor, progress: float | Tensor = 1.0) -> Tensor:
        """Samples of the prior, relaxed where those are."""


class Divergence(Family):
    """The family of divergences of a posterior from the prior: a description."""

    def check(self, latent: Sampler) -> None:
        """Refuse a latent that the divergence cannot take: by trying.

        Raises
        ------
        Invalid
            The sentence names the field ``objective.divergence``.
        """
        with torch.no_grad():
            module, generator = self.build(), torch.Generator().manual_seed(0)
            q, noise = latent.posterior(torch.zeros(2, latent.outputs)), module.noise(latent, 2, generator)
            z = latent.sample(q, latent.noise(2, generator))
            try:
                module(q, latent.prior(), z, latent, noise, torch.ones(()))
            except TypeError as error:
                raise Invalid("objective.divergence", self.kind, f"one that this latent can take ({error})") from error

    @abstractmethod
    def build(self) -> "DivergenceModule":
        """The module, with the parameters that are trained."""


class DivergenceModule(Built, ABC):
    """The contract of a divergence in training."""

    def noise(self, latent: Sampler, n: int, generator: torch.Generator) -> Noise:
        """Random numbers that n samples need, by name, each of length n along its first axis."""
        return {}

    @abstractmethod
    def forward(
        self, q: Distribution, p: Distribution, z: Tensor, latent: Sampler, noise: Noise, progress: Tensor
    ) -> Tensor:
        """The divergence of each sample ``(n,)``, in nats.

        Parameters
        ----------
        q
            Posteriors, batch shape ``(n,)``.
        p
            The prior, batch shape ``()``.
        z
            Codes drawn from the posteriors, ``(draws * n, code)``.
        latent
            What draws codes.
        noise
            From :meth:`noise`.
        progress
            How far the training has come, from 0 to 1, shape ``()``.

        Raises
        ------
        TypeError
            If it does not work for these distributions.
        """

    def report(self) -> dict[str, Tensor]:
        """Numbers that belong into a run's history, such as a skew: each of shape ``()``."""
        return {}

    def measured(self, q: Distribution, p: Distribution) -> dict[str, float]:
        """What belongs into the history of the test samples' posteriors, such as the skew that would be best."""
        return {}

    def project_(self) -> None:
        """Bring parameters back to where they are allowed, after an optimiser's step."""
