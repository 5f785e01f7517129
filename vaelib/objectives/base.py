"""The contract of an objective: from a VAE and a batch to the terms of a loss, one number a sample, in nats.

Everything that a sweep varies (skew, weight, capacity) is a parameter or a buffer, so that many objectives can be
stacked and trained in one vectorised step.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaelib.divergences import Noise
from vaelib.models.latents import Latent
from vaelib.models.layers import initialise
from vaelib.models.networks import Network, Shape
from vaelib.models.vae import VAE
from vaelib.parts import Built, Count, Family, NotNegative

Terms = dict[str, Tensor]


@dataclass(frozen=True)
class Site:
    """Where an objective is built: what it may need to build networks of its own.

    Attributes
    ----------
    network, latent
        Descriptions.
    shape, sizes
        Of one sample, and of its blocks.
    generator
        Gives a generator for a purpose, seeded by the experiment.
    """

    network: Network
    latent: Latent
    shape: Shape
    sizes: Sequence[int]
    generator: Callable[[str], torch.Generator]

    def body(self, outputs: int, purpose: str) -> nn.Module:
        """A network like the encoder, with so many outputs and a start of its own."""
        body = self.network.encoder(self.shape, outputs, self.sizes)
        initialise(body, self.generator(purpose))
        return body


class Objective(Family):
    """The family of objectives: a description.

    Parameters
    ----------
    draws
        How many codes are drawn for each sample in each step.
    corruption
        Standard deviation of Gaussian noise on what is encoded, clipped to [0, 1], in training and in tests; the
        distortion is that of the clean sample. By default the samples are encoded as they are.
    """

    draws: Count = 1
    corruption: NotNegative | None = None

    tensors: ClassVar[tuple[str, ...]] = ("corruption",)
    differentiated: ClassVar[bool] = True
    """Whether a gradient passes through the draw: then discrete codes have to be relaxed."""

    def check(self, latent: Latent) -> None:
        """Refuse a latent that it is not for.

        Raises
        ------
        Invalid
            The sentence names the field.
        """
        latent.check(differentiated=self.differentiated)

    @abstractmethod
    def build(self, site: Site) -> "ObjectiveModule":
        """The module."""


class ObjectiveModule(Built, ABC):
    """The contract of an objective in training.

    Attributes
    ----------
    phases
        Each step minimises the loss of one phase after the other.
    draws
        How many codes are drawn for each sample.
    """

    phases: tuple[str, ...] = ("model",)
    corruption: Tensor | None

    def __init__(self, part: Objective):
        super().__init__(part)
        self.draws = part.draws

    def noise(self, vae: VAE, shape: Sequence[int], generator: torch.Generator) -> Noise:
        """All random numbers that samples ``(n, ...)`` of a shape need, each of length n along its first axis."""
        n = shape[0]
        noise = {"posterior": self.code_noise(vae, n, generator), **self.more_noise(vae, n, generator)}
        if self.corruption is not None:
            noise["input"] = torch.randn(tuple(shape), generator=generator, device=generator.device)
        return noise | vae.noise(n, self.draws, generator)

    def code_noise(self, vae: VAE, n: int, generator: torch.Generator) -> Tensor:
        """For all draws of n samples, ``(n, draws, code)``."""
        noise: Tensor = vae.latent.noise(n * self.draws, generator)
        rows: Tensor = noise.unflatten(0, (n, self.draws))
        return rows

    def more_noise(self, vae: VAE, n: int, generator: torch.Generator) -> Noise:
        """Beside that of the codes and of the input, the numbers that the objective needs."""
        return {}

    def seen(self, x: Tensor, noise: Noise) -> Tensor:
        """What is encoded of samples."""
        return x if self.corruption is None else corrupt(x, noise["input"], self.corruption)

    @abstractmethod
    def forward(self, vae: VAE, x: Tensor, noise: Noise, progress: Tensor, phase: str = "model") -> Terms:
        """Loss, distortion, rate and what else there is of each sample.

        Parameters
        ----------
        vae
            The model.
        x
            Samples ``(n, *shape)`` in [0, 1].
        noise
            From :meth:`noise`, for the same shape.
        progress
            How far the training has come, from 0 to 1, shape ``()``.
        phase
            One of :attr:`phases`.

        Returns
        -------
        dict
            ``loss``; in the phase ``"model"`` also ``distortion`` (-log p(x|z), averaged over the draws), ``rate``
            (KL(q‖p), whatever is minimised), ``divergence``, and more; each ``(n,)``, in nats.
        """

    def report(self) -> dict[str, Tensor]:
        """Numbers that belong into a run's history, such as a skew: each of shape ``()``."""
        return {}

    def measured(self, q: Distribution, p: Distribution) -> dict[str, float]:
        """What belongs into the history of the test samples' posteriors, beside the terms."""
        return {}

    def project_(self) -> None:
        """Bring the parameters back to where they are allowed, after an optimiser's step."""


class Trainee(nn.Module):
    """What is trained: a VAE and the objective with its own parameters."""

    def __init__(self, vae: VAE, objective: ObjectiveModule):
        super().__init__()
        self.vae, self.objective = vae, objective

    def forward(self, x: Tensor, noise: Noise, progress: Tensor, phase: str = "model") -> Terms:
        """The objective's terms for a batch."""
        terms: Terms = self.objective(self.vae, x, noise, progress, phase)
        return terms


def corrupt(x: Tensor, noise: Tensor, sd: float | Tensor) -> Tensor:
    """Samples with so much noise on them, clipped to [0, 1]: the input of the α-VAE paper's figure 5."""
    noisy: Tensor = x + sd * noise
    return noisy.clamp(0, 1)
