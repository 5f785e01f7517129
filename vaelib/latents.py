"""Latent variables: what the encoder's numbers mean, and the prior they are measured against.

A latent turns an encoder's output into a :mod:`torch.distributions` posterior. The noise that its samples are
reparameterised with is drawn apart, from a generator that the caller owns: ``rsample`` of torch.distributions knows
only the global generator, and a run must depend on its own seed alone.
"""

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal


class Gaussian(nn.Module):
    """A diagonal Gaussian posterior N(mean, diag(exp(log-variance))) with a standard normal prior.

    Parameters
    ----------
    size
        Number of latent dimensions.

    Attributes
    ----------
    outputs
        How many numbers per sample the encoder has to give: mean and log-variance.
    code
        How many numbers per sample the decoder gets.
    """

    zero: Tensor

    def __init__(self, size: int):
        super().__init__()
        self.outputs, self.code = 2 * size, size
        self.register_buffer("zero", torch.zeros(size), persistent=False)

    def posterior(self, outputs: Tensor) -> Distribution:
        """Posterior of batch shape ``(n,)`` and event shape ``(size,)`` from encoder outputs ``(n, 2 size)``."""
        mean, log_variance = outputs.chunk(2, dim=-1)
        return Independent(Normal(mean, (log_variance / 2).exp(), validate_args=False), 1, validate_args=False)

    def prior(self) -> Distribution:
        """The standard normal, batch shape ``()`` and event shape ``(size,)``."""
        return Independent(Normal(self.zero, self.zero + 1, validate_args=False), 1, validate_args=False)

    def noise(self, n: int, generator: torch.Generator) -> Tensor:
        """Base noise ``(n, size)`` for n samples, on the generator's device."""
        return torch.randn(n, self.code, generator=generator, device=generator.device)

    def sample(self, distribution: Distribution, noise: Tensor) -> Tensor:
        """Reparameterised samples mean + scale * noise, ``(n, size)``."""
        return distribution.base_dist.loc + distribution.base_dist.scale * noise


LATENTS: dict[str, type[Gaussian]] = {"gaussian": Gaussian}
