"""Latent variables: what the encoder's numbers mean, and the prior they are measured against.

A latent turns an encoder's output into a :mod:`torch.distributions` posterior. The noise that its samples are
reparameterised with is drawn apart, from a generator that the caller owns: ``rsample`` of torch.distributions knows
only the global generator, and a run must depend on its own seed alone.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch import distributions as families
from torch.distributions import Distribution, Independent, Normal, OneHotCategorical
from torch.nn.functional import one_hot

from vaelib.divergences import Product
from vaelib.errors import Invalid
from vaelib.parts import Built, Count, Family, Part, Several


class Latent(Family):
    """The family of latents: a description."""

    @property
    @abstractmethod
    def width(self) -> int:
        """How many numbers per sample the decoder gets."""

    @property
    def leaves(self) -> "tuple[Latent, ...]":
        """The latents that lie side by side in this one: itself, unless it is a :class:`Joint`."""
        return (self,)

    def check(self, *, differentiated: bool) -> None:
        """Refuse to be trained with, or without, a gradient through the draw; both are fine by default.

        Raises
        ------
        Invalid
            The sentence names the field ``latent``.
        """

    @abstractmethod
    def build(self) -> "LatentModule":
        """The module."""


class LatentModule(Built, ABC):
    """The contract of a latent.

    Attributes
    ----------
    outputs
        How many numbers per sample the encoder has to give.
    code
        How many numbers per sample the decoder gets.
    """

    outputs: int
    code: int

    @abstractmethod
    def posterior(self, outputs: Tensor) -> Distribution:
        """Posterior of batch shape ``(n,)`` and event shape ``(code,)`` from encoder outputs ``(n, outputs)``."""

    @abstractmethod
    def prior(self) -> Distribution:
        """The prior, batch shape ``()`` and event shape ``(code,)``."""

    @abstractmethod
    def noise(self, n: int, generator: torch.Generator) -> Tensor:
        """Base noise ``(n, code)`` for n samples, on the generator's device."""

    @abstractmethod
    def sample(self, distribution: Distribution, noise: Tensor, progress: float | Tensor = 1.0) -> Tensor:
        """Samples ``(n, code)`` that a gradient can pass: reparameterised, of what is discrete relaxed."""

    def draw(self, distribution: Distribution, noise: Tensor) -> Tensor:
        """Exact samples ``(n, code)``; by default :meth:`sample` gives such."""
        return self.sample(distribution, noise)

    def prior_sample(self, noise: Tensor, progress: float | Tensor = 1.0) -> Tensor:
        """Samples ``(n, code)`` of the prior for codes to be compared with: relaxed where :meth:`sample` relaxes."""
        return self.sample(self.prior(), noise, progress)


class _Continuous(Latent):
    """Latents that are `size` real numbers."""

    size: Count = 10

    @property
    def width(self) -> int:
        """The size."""
        return self.size


class Gaussian(_Continuous):
    """A diagonal Gaussian posterior N(mean, diag(exp(log-variance))) with a standard normal prior.

    Parameters
    ----------
    size
        Number of latent dimensions.
    """

    kind = "gaussian"

    def build(self) -> "GaussianLatent":
        """The module."""
        return GaussianLatent(self)


class GaussianLatent(LatentModule):
    """The module of :class:`Gaussian`: the encoder gives means and log-variances."""

    zero: Tensor

    def __init__(self, part: "Gaussian | Point"):
        super().__init__(part)
        self.outputs, self.code = 2 * part.size, part.size
        self.register_buffer("zero", torch.zeros(part.size), persistent=False)

    def posterior(self, outputs: Tensor) -> Distribution:
        """Posterior of batch shape ``(n,)`` and event shape ``(size,)`` from encoder outputs ``(n, 2 size)``."""
        mean, log_variance = outputs.chunk(2, dim=-1)
        return Independent(Normal(mean, (log_variance / 2).exp(), validate_args=False), 1, validate_args=False)

    def prior(self) -> Distribution:
        """The standard normal, batch shape ``()`` and event shape ``(size,)``."""
        return Independent(Normal(self.zero, self.zero + 1, validate_args=False), 1, validate_args=False)

    def noise(self, n: int, generator: torch.Generator) -> Tensor:
        """Standard normal noise ``(n, size)``."""
        return torch.randn(n, self.code, generator=generator, device=generator.device)

    def sample(self, distribution: Any, noise: Tensor, progress: float | Tensor = 1.0) -> Tensor:
        """Reparameterised samples mean + scale * noise, ``(n, size)``."""
        loc, scale = distribution.base_dist.loc, distribution.base_dist.scale
        samples: Tensor = loc + scale * noise
        return samples


class Point(_Continuous):
    """No noise: the code of a deterministic auto-encoder, in the place of a posterior.

    The posterior that is measured, and drawn from after training, is N(code, 1), so that the rate is half the squared
    norm of the code: with weight 0 it plays no part, and with another it is a ridge penalty on the codes.
    """

    kind = "point"

    def check(self, *, differentiated: bool) -> None:
        """Refuse estimators that do not differentiate through the draw: there is no noise."""
        if not differentiated:
            raise Invalid("latent", self.kind, "one with noise for this objective, which compares draws")

    def build(self) -> "PointLatent":
        """The module."""
        return PointLatent(self)


class PointLatent(GaussianLatent):
    """The module of :class:`Point`: the encoder gives the code."""

    def __init__(self, part: Point):
        super().__init__(part)
        self.outputs = part.size

    def posterior(self, outputs: Tensor) -> Distribution:
        """N(outputs, 1), batch shape ``(n,)`` and event shape ``(size,)``."""
        return Independent(Normal(outputs, self.zero + 1, validate_args=False), 1, validate_args=False)

    def sample(self, distribution: Any, noise: Tensor, progress: float | Tensor = 1.0) -> Tensor:
        """The code itself, for each row of noise ``(n, size)``."""
        code: Tensor = distribution.base_dist.loc
        return code.expand(noise.shape)

    draw = GaussianLatent.sample

    def prior_sample(self, noise: Tensor, progress: float | Tensor = 1.0) -> Tensor:
        """Draws from the standard normal: the codes have no noise, the prior has."""
        return self.draw(self.prior(), noise)


class Relaxation(Part):
    """How discrete codes are made differentiable.

    Parameters
    ----------
    temperature
        Of the relaxation, at the start of training.
    final
        At its end, geometrically in between; by default it stays.
    straight_through
        Samples are exact, and their gradient that of the relaxed ones.
    """

    temperature: Annotated[float, Field(ge=1e-3)] = 1.0
    final: Annotated[float, Field(ge=1e-3)] | None = None
    straight_through: bool = False

    tensors = ("temperature", "final")

    def __init__(self, /, *values: Any, **fields: Any):
        super().__init__(*values, **fields)
        if self.final == self.temperature:  # one spelling for one meaning
            object.__setattr__(self, "final", None)


class Discrete(Latent):
    """Latents with finitely many values: drawn exactly, or relaxed so that a gradient can pass.

    Parameters
    ----------
    size
        How many numbers the encoder gives, and the decoder gets.
    relaxation
        Given just where the objective differentiates through the draw.
    """

    size: Count = 10
    relaxation: Relaxation | None = None

    @property
    def width(self) -> int:
        """The size."""
        return self.size

    def check(self, *, differentiated: bool) -> None:
        """Refuse to be relaxed for nothing, or not relaxed where a gradient has to pass."""
        if differentiated and self.relaxation is None:
            raise Invalid("latent.relaxation", None, "given for this objective, which differentiates through the draw")
        if not differentiated and self.relaxation is not None:
            raise Invalid("latent.relaxation", self.relaxation, "left out for this objective, which needs exact draws")


class DiscreteLatent(LatentModule):
    """What the modules of discrete latents share: `width` numbers for the encoder to give and the decoder to get."""

    zero: Tensor

    def __init__(self, part: Discrete, width: int):
        super().__init__(part)
        self.outputs = self.code = width
        self.relaxation = _Relaxed(part.relaxation) if part.relaxation else None
        self.register_buffer("zero", torch.zeros(width), persistent=False)

    @abstractmethod
    def draw(self, distribution: Distribution, noise: Tensor) -> Tensor:
        """Exact samples ``(n, code)``, without a gradient."""

    @abstractmethod
    def relaxed(self, distribution: Distribution, noise: Tensor, temperature: Tensor) -> Tensor:
        """Relaxed samples ``(n, code)``."""

    def prior(self) -> Distribution:
        """The uniform distribution over the values."""
        return self.posterior(self.zero)

    def sample(self, distribution: Distribution, noise: Tensor, progress: float | Tensor = 1.0) -> Tensor:
        """Relaxed samples; exact ones with the relaxed ones' gradient where it goes straight through.

        Raises
        ------
        TypeError
            If the latent has no relaxation.
        """
        if self.relaxation is None:
            raise TypeError("relaxation: a discrete latent without one has no samples that a gradient can pass")
        relaxed = self.relaxed(distribution, noise, self.relaxation(progress))
        if not self.relaxation.straight_through:
            return relaxed
        return self.draw(distribution, noise) + relaxed - relaxed.detach()

    def _uniform(self, n: int, generator: torch.Generator) -> Tensor:
        """Uniform noise ``(n, code)`` above zero."""
        uniform = torch.rand(n, self.code, generator=generator, device=generator.device)
        return uniform.clamp_min(torch.finfo(uniform.dtype).tiny)


class _Relaxed(Built):
    """The temperature, as it stands."""

    temperature: Tensor
    final: Tensor | None

    def __init__(self, part: Relaxation):
        super().__init__(part)
        self.straight_through = part.straight_through

    def forward(self, progress: float | Tensor) -> Tensor:
        """The temperature when the training has come so far."""
        final = self.temperature if self.final is None else self.final
        temperature: Tensor = self.temperature * (final / self.temperature) ** progress
        return temperature


class Category(Discrete):
    """One of `size` categories, one-hot, with a uniform prior, relaxed by Gumbel-softmax."""

    kind = "category"

    size: Several = 10

    def build(self) -> LatentModule:
        """The module."""
        return _CategoryLatent(self, self.size)


class _CategoryLatent(DiscreteLatent):
    def posterior(self, outputs: Tensor) -> Distribution:
        """Posterior of batch shape ``(n,)`` and event shape ``(size,)`` from encoder outputs ``(n, size)``."""
        return OneHotCategorical(logits=outputs, validate_args=False)

    def noise(self, n: int, generator: torch.Generator) -> Tensor:
        """Gumbel noise ``(n, size)``."""
        uniform = self._uniform(n, generator)
        return -(-uniform.log()).clamp_min(torch.finfo(uniform.dtype).tiny).log()

    def relaxed(self, distribution: Any, noise: Tensor, temperature: Tensor) -> Tensor:
        """As torch.distributions' RelaxedOneHotCategorical draws them."""
        logits: Tensor = distribution.logits
        return ((logits + noise) / temperature).softmax(-1)

    def draw(self, distribution: Any, noise: Tensor) -> Tensor:
        """Exact samples, one-hot: the Gumbel-max trick."""
        perturbed: Tensor = distribution.logits + noise
        return one_hot(perturbed.argmax(-1), self.code).to(perturbed)


class Bits(Discrete):
    """`size` independent bits with fair coins as prior, relaxed as Gumbel-softmax of two."""

    kind = "bits"

    def build(self) -> LatentModule:
        """The module."""
        return _BitsLatent(self, self.size)


class _BitsLatent(DiscreteLatent):
    def posterior(self, outputs: Tensor) -> Distribution:
        """Posterior of batch shape ``(n,)`` and event shape ``(size,)`` from encoder outputs ``(n, size)``."""
        return Independent(families.Bernoulli(logits=outputs, validate_args=False), 1, validate_args=False)

    def noise(self, n: int, generator: torch.Generator) -> Tensor:
        """Logistic noise ``(n, size)``."""
        return self._uniform(n, generator).clamp_max(1 - 2**-24).logit()

    def relaxed(self, distribution: Any, noise: Tensor, temperature: Tensor) -> Tensor:
        """As torch.distributions' RelaxedBernoulli draws them."""
        logits: Tensor = distribution.base_dist.logits
        return ((logits + noise) / temperature).sigmoid()

    def draw(self, distribution: Any, noise: Tensor) -> Tensor:
        """Exact samples, zeros and ones."""
        perturbed: Tensor = distribution.base_dist.logits + noise
        return (perturbed > 0).to(perturbed)


class Joint(Latent):
    """Latents side by side, independent of each other given the image.

    Examples
    --------
    >>> Joint((Gaussian(16), Category(relaxation=Relaxation()))).width
    26
    """

    kind = "joint"

    parts: Annotated[tuple[Latent, ...], Field(min_length=1)]

    @property
    def width(self) -> int:
        """The sum of the parts'."""
        return sum(part.width for part in self.parts)

    @property
    def leaves(self) -> tuple[Latent, ...]:
        """The parts'."""
        return tuple(leaf for part in self.parts for leaf in part.leaves)

    def check(self, *, differentiated: bool) -> None:
        """As each part."""
        for part in self.parts:
            part.check(differentiated=differentiated)

    def build(self) -> "JointLatent":
        """The module."""
        return JointLatent(self)


class JointLatent(LatentModule):
    """The module of :class:`Joint`."""

    def __init__(self, part: Joint):
        super().__init__(part)
        self.parts = nn.ModuleList(p.build() for p in part.parts)
        self._outputs, self._codes = [p.outputs for p in self._latents], [p.code for p in self._latents]
        self.outputs, self.code = sum(self._outputs), sum(self._codes)

    @property
    def _latents(self) -> list[LatentModule]:
        return [part for part in self.parts if isinstance(part, LatentModule)]

    def posterior(self, outputs: Tensor) -> Distribution:
        """Product of the parts' posteriors."""
        pieces = outputs.split(self._outputs, dim=-1)
        return Product([part.posterior(piece) for part, piece in zip(self._latents, pieces)])

    def prior(self) -> Distribution:
        """Product of the parts' priors."""
        return Product([part.prior() for part in self._latents])

    def noise(self, n: int, generator: torch.Generator) -> Tensor:
        """The parts' noise."""
        return torch.cat([part.noise(n, generator) for part in self._latents], dim=-1)

    def sample(self, distribution: Distribution, noise: Tensor, progress: float | Tensor = 1.0) -> Tensor:
        """The parts' samples, as in training."""
        return self._each(distribution, noise, lambda part, d, e: part.sample(d, e, progress))

    def draw(self, distribution: Distribution, noise: Tensor) -> Tensor:
        """The parts' exact samples."""
        return self._each(distribution, noise, lambda part, d, e: part.draw(d, e))

    def prior_sample(self, noise: Tensor, progress: float | Tensor = 1.0) -> Tensor:
        """The parts' samples of their priors."""
        pieces = zip(self._latents, noise.split(self._codes, dim=-1))
        return torch.cat([part.prior_sample(piece, progress) for part, piece in pieces], dim=-1)

    def _each(self, distribution: Any, noise: Tensor, sample: Callable[..., Tensor]) -> Tensor:
        pieces = noise.split(self._codes, dim=-1)
        return torch.cat([sample(*three) for three in zip(self._latents, distribution.parts, pieces)], dim=-1)
