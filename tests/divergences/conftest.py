"""Families of distributions, as fixtures: each gives a batch of members for a seed, in double precision."""

import pytest
import torch
from torch.distributions import Bernoulli, Categorical, Independent, MultivariateNormal, Normal, OneHotCategorical

D = torch.float64


def _diagonal(seed, batch=4, size=3):
    g = torch.Generator().manual_seed(seed)
    mean, spread = torch.randn(batch, size, generator=g, dtype=D), torch.randn(batch, size, generator=g, dtype=D)
    return Independent(Normal(mean, (0.7 * spread).exp()), 1)


def _full(seed, batch=4, size=2):
    g = torch.Generator().manual_seed(seed)
    root = torch.randn(batch, size, size, generator=g, dtype=D)
    return MultivariateNormal(torch.randn(batch, size, generator=g, dtype=D), root @ root.mT + 0.3 * torch.eye(size))


def _categorical(seed, batch=4, size=5):
    g = torch.Generator().manual_seed(seed)
    return Categorical(logits=torch.randn(batch, size, generator=g, dtype=D))


def _bernoulli(seed, batch=4):
    g = torch.Generator().manual_seed(seed)
    return Bernoulli(logits=2 * torch.randn(batch, generator=g, dtype=D))


def _one_hot(seed):
    return OneHotCategorical(logits=_categorical(seed).logits)


FAMILIES = {
    "diagonal": _diagonal,
    "full": _full,
    "categorical": _categorical,
    "one_hot": _one_hot,
    "bernoulli": _bernoulli,
}


@pytest.fixture(scope="session", params=FAMILIES)
def family(request):
    """Every family in turn; parametrise indirectly by name for some of them."""
    return FAMILIES[request.param]


@pytest.fixture(scope="session")
def diagonal():
    return _diagonal


@pytest.fixture(scope="session")
def full():
    return _full


@pytest.fixture(scope="session")
def categorical():
    return _categorical


@pytest.fixture(scope="session")
def bernoulli():
    return _bernoulli
