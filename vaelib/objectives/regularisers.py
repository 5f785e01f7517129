"""The contract of a regulariser: a term of the loss that looks at a batch's codes as a whole.

A divergence compares each posterior with the prior. A regulariser compares what they are together, the aggregate
posterior, with the product of its marginals (total correlation), with the prior (moments, an adversary), or with what
can be read from the decoded samples (information).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.func import functional_call

from vaelib.divergences import Noise
from vaelib.errors import Invalid
from vaelib.models.latents import Latent, LatentModule
from vaelib.models.vae import VAE
from vaelib.objectives.base import Site
from vaelib.parts import Built, Family, NotNegative


@dataclass
class Codes:
    """The codes of a batch of n samples, and what they come from.

    Attributes
    ----------
    vae
        The model.
    posterior
        Batch shape ``(n,)``.
    z
        Codes drawn from it, ``(draws, n, code)``.
    noise
        The objective's, for these samples.
    progress
        How far the training has come, from 0 to 1, shape ``()``.
    learning
        Whether a regulariser's own networks are trained: then nothing here has a gradient.
    """

    vae: VAE
    posterior: Distribution
    z: Tensor
    noise: Noise
    progress: Tensor
    learning: bool = False

    @cached_property
    def likelihood(self) -> Distribution:
        """p(x|z) of batch shape ``(draws * n,)``; the codes are decoded when this is first asked for."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.learning):
            return self.vae.likelihood(self.z.flatten(0, 1), self.noise)


class Regulariser(Family):
    """The family of regularisers: a description.

    Parameters
    ----------
    weight
        What its value is multiplied by before it is added to the loss.
    """

    weight: NotNegative = 1.0

    tensors: ClassVar[tuple[str, ...]] = ("weight",)

    def check(self, latent: Latent) -> None:
        """Refuse a latent that it is not for; any is taken by default.

        Raises
        ------
        Invalid
            The sentence names the field ``objective.regularisers``.
        """

    def refuse(self, needed: str) -> Invalid:
        """What is said where the latent is not as needed."""
        return Invalid("objective.regularisers", self.kind, f"left out for this latent: it is for {needed}")

    @abstractmethod
    def build(self, site: Site) -> "RegulariserModule":
        """The module, with the networks that it needs."""


class RegulariserModule(Built, ABC):
    """The contract of a regulariser in training."""

    sign: ClassVar[int] = 1
    """1 for what is to be small, -1 for what is to be large."""
    weight: Tensor

    def noise(self, latent: LatentModule, n: int, draws: int, generator: torch.Generator) -> Noise:
        """Random numbers that n samples need, by names of its own, each of length n along its first axis."""
        return {}

    @abstractmethod
    def value(self, codes: Codes) -> Tensor:
        """What is measured, shape ``(n,)`` or ``()``, in nats: the term of the history that bears its name."""


class LearnedRegulariserModule(RegulariserModule):
    """The contract of a regulariser that has networks of its own.

    They are trained in a phase of their own, named as the regulariser is, before the model's in each step: there
    :meth:`learn` is what is minimised, and no gradient reaches the model. In the model's phase :meth:`value` must keep
    the gradient from these networks; :func:`outputs_of` does.
    """

    @abstractmethod
    def learn(self, codes: Codes) -> Tensor:
        """The loss of its own networks, one number a code or a sample."""


def outputs_of(network: nn.Module, inputs: Tensor, *, frozen: bool) -> Tensor:
    """What a network gives; with `frozen` a gradient passes through it to the inputs, and none reaches its weights."""
    weights = {name: p.detach() if frozen else p for name, p in network.named_parameters()}
    outputs: Tensor = functional_call(network, weights, (inputs,))
    return outputs
