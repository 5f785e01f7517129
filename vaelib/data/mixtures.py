"""Additive mixtures of Gaussian balls, which one Gaussian is fitted to in the papers' low-dimensional figures."""

import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from vaelib.data.dataset import Dataset

SAMPLES = 10_000


def mixture(components: int = 5, dimension: int = 2, seed: int = 0) -> MixtureSameFamily:
    """A random mixture of Gaussian balls, of the kind the papers' figures use.

    Weights are drawn from a Dirichlet distribution with concentration 1/2, standard deviations are the inverse of
    uniform draws from [1, 2], and means are uniform in [-3, 3].

    Parameters
    ----------
    components, dimension
        How many balls, in how many dimensions; at least one each.
    seed
        What all of it is drawn with.

    Returns
    -------
    torch.distributions.MixtureSameFamily
        Event shape (dimension,).

    Raises
    ------
    ValueError
        When ``components`` or ``dimension`` is less than one.
    """
    for field, value in (("components", components), ("dimension", dimension)):
        if value < 1:
            raise ValueError(f"{field} is {value}; allowed are whole numbers from 1.")
    # torch.distributions draw from the global generator, so the Dirichlet comes from its definition: normalised
    # Gamma(1/2) draws, each half the square of a normal one.
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(components, generator=generator).square()
    scales = 1 / (1 + torch.rand(components, 1, generator=generator))
    means = 6 * torch.rand(components, dimension, generator=generator) - 3
    balls = Independent(Normal(means, scales.expand_as(means)), 1)
    return MixtureSameFamily(Categorical(weights), balls)


def samples(name: str, argument: str) -> Dataset:
    """10,000 samples of :func:`mixture`, labelled by component; ``argument`` like ``components=10,dimension=2``."""
    options = {"components": 5, "dimension": 2, "seed": 0}
    for item in filter(None, argument.split(",")):
        key, _, value = item.partition("=")
        if key not in options or not value.isdecimal():
            raise ValueError(f"{name}: {item!r} is not allowed; write {','.join(f'{k}=N' for k in options)}.")
        options[key] = int(value)
    distribution = mixture(**options)
    generator = torch.Generator().manual_seed(options["seed"])
    labels = torch.multinomial(distribution.mixture_distribution.probs, SAMPLES, replacement=True, generator=generator)
    balls = distribution.component_distribution.base_dist
    noise = torch.randn(SAMPLES, options["dimension"], generator=generator)
    return Dataset.from_arrays(
        balls.loc[labels] + balls.scale[labels] * noise,
        train_labels=labels,
        name=name,
        source=f"samples of a mixture of {options['components']} Gaussian balls in {options['dimension']} dimensions",
    )
