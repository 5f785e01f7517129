"""Samples made with a generator that is handed in: torch.distributions knows the global one only."""

from functools import singledispatch
from typing import Any

import torch
from torch import Generator, Tensor
from torch.distributions import Bernoulli, Distribution, Independent, MixtureSameFamily, MultivariateNormal, Normal


@singledispatch
def sample(d: Distribution, n: int, generator: Generator) -> Tensor:
    """Draw from a distribution: ``(n, *batch, *event)``.

    Parameters
    ----------
    d
        Normal, MultivariateNormal, Bernoulli, Independent of these, or a MixtureSameFamily of any without a batch.
    n
        How many samples.
    generator
        On the distribution's device.

    Raises
    ------
    TypeError
        If it is another distribution.

    Examples
    --------
    >>> sample(Normal(0.0, 1.0), 3, torch.Generator().manual_seed(0)).shape
    torch.Size([3])
    """
    raise TypeError(f"d: {type(d).__name__} cannot be drawn from with a generator that is handed in")


def _normal(d: Any, n: int, generator: Generator) -> Tensor:
    shape = (n, *d.batch_shape, *d.event_shape)
    return torch.randn(shape, generator=generator, device=generator.device, dtype=d.loc.dtype)


@sample.register
def _(d: Normal, n: int, generator: Generator) -> Tensor:
    return d.loc + d.scale * _normal(d, n, generator)


@sample.register
def _(d: MultivariateNormal, n: int, generator: Generator) -> Tensor:
    turned: Tensor = (d.scale_tril @ _normal(d, n, generator).unsqueeze(-1)).squeeze(-1)
    return d.loc + turned


@sample.register
def _(d: Bernoulli, n: int, generator: Generator) -> Tensor:
    return torch.bernoulli(d.probs.expand(n, *d.batch_shape), generator=generator)


@sample.register
def _(d: Independent, n: int, generator: Generator) -> Tensor:  # type: ignore[type-arg]  # generic since torch 2.13
    return sample(d.base_dist, n, generator)


@sample.register
def _(d: MixtureSameFamily, n: int, generator: Generator) -> Tensor:
    components = sample(d.component_distribution, n, generator)
    chosen = torch.multinomial(d.mixture_distribution.probs, n, replacement=True, generator=generator)
    return components[torch.arange(n), chosen]
