"""Latent variables: what the encoder's numbers mean, and the prior they are measured against.

A latent turns an encoder's output into a :mod:`torch.distributions` posterior. The noise that its samples are
reparameterised with is drawn apart, from a generator that the caller owns: ``rsample`` of torch.distributions knows
only the global generator, and a run must depend on its own seed alone.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch import distributions as families
from torch.distributions import Distribution, Independent, Normal, OneHotCategorical
from torch.nn.functional import one_hot

from vaelib.divergences import Product


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

    def sample(self, distribution: Distribution, noise: Tensor, progress: float | Tensor = 1.0) -> Tensor:
        """Reparameterised samples mean + scale * noise, ``(n, size)``."""
        return distribution.base_dist.loc + distribution.base_dist.scale * noise

    draw = sample


class Discrete(nn.Module, ABC):
    """Latents with finitely many values: drawn exactly, or relaxed so that a gradient can pass.

    Parameters
    ----------
    size
        How many numbers the encoder gives and the decoder gets.
    temperature, final_temperature
        Of the relaxation at the start and at the end of training, geometrically in between; the second is the first
        by default.
    hard
        Samples are exact, and their gradient that of the relaxed ones (straight-through).

    Attributes
    ----------
    outputs, code
        As for :class:`Gaussian`: logits, and exact or relaxed values.
    """

    zero: Tensor
    temperature: Tensor
    final_temperature: Tensor

    def __init__(self, size: int, temperature: float = 1.0, final_temperature: float | None = None, hard: bool = False):
        super().__init__()
        self.outputs = self.code = size
        self.hard = hard
        self.register_buffer("zero", torch.zeros(size), persistent=False)
        self.register_buffer("temperature", torch.tensor(float(temperature)))
        self.register_buffer("final_temperature", torch.tensor(float(final_temperature or temperature)))

    @abstractmethod
    def posterior(self, outputs: Tensor) -> Distribution:
        """Posterior of batch shape ``(n,)`` and event shape ``(size,)`` from encoder outputs ``(n, size)``."""

    @abstractmethod
    def draw(self, distribution: Distribution, noise: Tensor) -> Tensor:
        """Exact samples ``(n, size)``, without a gradient."""

    @abstractmethod
    def _relaxed(self, distribution: Distribution, noise: Tensor, temperature: Tensor) -> Tensor:
        """Relaxed samples ``(n, size)``."""

    def prior(self) -> Distribution:
        """The uniform distribution over the values."""
        return self.posterior(self.zero)

    def sample(self, distribution: Distribution, noise: Tensor, progress: float | Tensor = 1.0) -> Tensor:
        """Relaxed samples ``(n, size)``; exact ones with the relaxed ones' gradient where the latent is hard."""
        temperature = self.temperature * (self.final_temperature / self.temperature) ** progress
        relaxed = self._relaxed(distribution, noise, temperature)
        return self.draw(distribution, noise) + relaxed - relaxed.detach() if self.hard else relaxed

    def _uniform(self, n: int, generator: torch.Generator) -> Tensor:
        """Uniform noise ``(n, size)`` above zero."""
        uniform = torch.rand(n, self.code, generator=generator, device=generator.device)
        return uniform.clamp_min(torch.finfo(uniform.dtype).tiny)


class Categorical(Discrete):
    """One of `size` categories, one-hot, with a uniform prior, relaxed by Gumbel-softmax: a :class:`Discrete`."""

    def posterior(self, outputs: Tensor) -> Distribution:
        """Posterior of batch shape ``(n,)`` and event shape ``(size,)`` from encoder outputs ``(n, size)``."""
        return OneHotCategorical(logits=outputs, validate_args=False)

    def noise(self, n: int, generator: torch.Generator) -> Tensor:
        """Gumbel noise ``(n, size)`` for n samples, on the generator's device."""
        uniform = self._uniform(n, generator)
        return -(-uniform.log()).clamp_min(torch.finfo(uniform.dtype).tiny).log()

    def _relaxed(self, distribution: Distribution, noise: Tensor, temperature: Tensor) -> Tensor:
        # As torch.distributions' RelaxedOneHotCategorical draws them.
        return ((distribution.logits + noise) / temperature).softmax(-1)

    def draw(self, distribution: Distribution, noise: Tensor) -> Tensor:
        """Exact samples, one-hot, ``(n, size)``, without a gradient: the Gumbel-max trick."""
        perturbed = distribution.logits + noise
        return one_hot(perturbed.argmax(-1), self.code).to(perturbed)


class Bernoulli(Discrete):
    """`size` independent bits with fair coins as prior, relaxed as Gumbel-softmax of two: a :class:`Discrete`."""

    def posterior(self, outputs: Tensor) -> Distribution:
        """Posterior of batch shape ``(n,)`` and event shape ``(size,)`` from encoder outputs ``(n, size)``."""
        return Independent(families.Bernoulli(logits=outputs, validate_args=False), 1, validate_args=False)

    def noise(self, n: int, generator: torch.Generator) -> Tensor:
        """Logistic noise ``(n, size)`` for n samples, on the generator's device."""
        return self._uniform(n, generator).clamp_max(1 - 2**-24).logit()

    def _relaxed(self, distribution: Distribution, noise: Tensor, temperature: Tensor) -> Tensor:
        # As torch.distributions' RelaxedBernoulli draws them.
        return ((distribution.base_dist.logits + noise) / temperature).sigmoid()

    def draw(self, distribution: Distribution, noise: Tensor) -> Tensor:
        """Exact samples, zeros and ones, ``(n, size)``, without a gradient."""
        perturbed = distribution.base_dist.logits + noise
        return (perturbed > 0).to(perturbed)


class Point(Gaussian):
    """No noise: the code of a deterministic auto-encoder, in the place of a posterior.

    The posterior that is measured, and drawn from after training, is N(code, 1), so that the rate is half the squared
    norm of the code: with weight 0 it plays no part, and with another it is a ridge penalty on the codes.
    """

    def __init__(self, size: int):
        super().__init__(size)
        self.outputs = size

    def posterior(self, outputs: Tensor) -> Distribution:
        """N(outputs, 1), batch shape ``(n,)`` and event shape ``(size,)``."""
        return Independent(Normal(outputs, self.zero + 1, validate_args=False), 1, validate_args=False)

    def sample(self, distribution: Distribution, noise: Tensor, progress: float | Tensor = 1.0) -> Tensor:
        """The code itself, for each row of noise ``(n, size)``."""
        return distribution.base_dist.loc.expand(noise.shape)


class Joint(nn.Module):
    """Latents side by side, independent of each other given the image.

    Parameters
    ----------
    parts
        The latents.

    Attributes
    ----------
    outputs, code
        The sums of the parts'.
    """

    def __init__(self, *parts: nn.Module):
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.outputs, self.code = sum(part.outputs for part in parts), sum(part.code for part in parts)

    def posterior(self, outputs: Tensor) -> Distribution:
        """Product of the parts' posteriors."""
        pieces = outputs.split([part.outputs for part in self.parts], dim=-1)
        return Product([part.posterior(piece) for part, piece in zip(self.parts, pieces)])

    def prior(self) -> Distribution:
        """Product of the parts' priors."""
        return Product([part.prior() for part in self.parts])

    def noise(self, n: int, generator: torch.Generator) -> Tensor:
        """The parts' noise ``(n, code)``."""
        return torch.cat([part.noise(n, generator) for part in self.parts], dim=-1)

    def sample(self, distribution: Distribution, noise: Tensor, progress: float | Tensor = 1.0) -> Tensor:
        """The parts' samples ``(n, code)``, as in training."""
        return self._each(distribution, noise, lambda part, d, e: part.sample(d, e, progress))

    def draw(self, distribution: Distribution, noise: Tensor) -> Tensor:
        """The parts' exact samples ``(n, code)``."""
        return self._each(distribution, noise, lambda part, d, e: part.draw(d, e))

    def _each(self, distribution: Distribution, noise: Tensor, sample: Callable[..., Tensor]) -> Tensor:
        pieces = noise.split([part.code for part in self.parts], dim=-1)
        return torch.cat([sample(*three) for three in zip(self.parts, distribution.parts, pieces)], dim=-1)
