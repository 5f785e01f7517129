"""Additive mixtures of Gaussian balls, which one Gaussian is fitted to in the papers' low-dimensional figures."""

import re
from typing import Any

import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from vaelib.data.dataset import Dataset
from vaelib.errors import Invalid

SAMPLES = 10_000
_ALLOWED = {"components": range(1, 1_001), "dimension": range(1, 1_001), "seed": range(2**32)}


def mixture(components: int = 5, dimension: int = 2, seed: int = 0) -> MixtureSameFamily:
    """A random mixture of Gaussian balls, of the kind the papers' figures use.

    Weights are drawn from a Dirichlet distribution with concentration 1/2, standard deviations are the inverse of
    uniform draws from [1, 2], and means are uniform in [-3, 3].

    Parameters
    ----------
    components, dimension
        How many balls, in how many dimensions; from 1 to 1,000 each.
    seed
        What all of it is drawn with; from 0 to 2^32 - 1.

    Returns
    -------
    torch.distributions.MixtureSameFamily
        Event shape (dimension,).

    Raises
    ------
    Invalid
        When one of the three is not allowed.

    Examples
    --------
    >>> mixture(3, 2).sample((4,)).shape
    torch.Size([4, 2])
    """
    for field, value in (("components", components), ("dimension", dimension), ("seed", seed)):
        if value not in _ALLOWED[field]:
            raise Invalid(field, value, f"a whole number from {_ALLOWED[field][0]} to {_ALLOWED[field][-1]:,}")
    # torch.distributions draw from the global generator, so the Dirichlet comes from its definition: normalised
    # Gamma(1/2) draws, each half the square of a normal one.
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(components, generator=generator).square()
    scales = 1 / (1 + torch.rand(components, 1, generator=generator))
    means = 6 * torch.rand(components, dimension, generator=generator) - 3
    balls = Independent(Normal(means, scales.expand_as(means)), 1)
    return MixtureSameFamily(Categorical(weights), balls)


def options(argument: str | None) -> dict[str, int]:
    """The arguments of :func:`mixture` in ``components=10,dimension=2`` or the like, those that are given."""
    items = [re.fullmatch(r"(\w+)=([0-9]{1,10})", item) for item in argument.split(",")] if argument is not None else []
    found = {item[1]: int(item[2]) for item in items if item}
    if len(found) < len(items) or any(value not in _ALLOWED.get(key, ()) for key, value in found.items()):
        raise ValueError(
            "with one or more of these, each once: components and dimension up to 1,000, a seed below 2^32"
        )
    return found


def samples(name: str, components: int = 5, dimension: int = 2, seed: int = 0) -> Dataset:
    """10,000 samples of :func:`mixture`, labelled by component."""
    distribution = mixture(components, dimension, seed)
    generator = torch.Generator().manual_seed(seed)
    labels = torch.multinomial(distribution.mixture_distribution.probs, SAMPLES, replacement=True, generator=generator)
    balls: Any = distribution.component_distribution
    noise = torch.randn(SAMPLES, dimension, generator=generator)
    values = balls.base_dist.loc[labels] + balls.base_dist.scale[labels] * noise
    source = f"samples of a mixture of {components} Gaussian balls in {dimension} dimensions"
    return Dataset.from_arrays(values, train_labels=labels, name=name, source=source)
