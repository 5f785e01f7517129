"""Draws from a generator that is handed in: their moments, and that nothing else moves them."""

import pytest
import torch
from torch.distributions import (
    Bernoulli,
    Categorical,
    Independent,
    Laplace,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
)

from vaelib.divergences import sample

D = torch.float64
N = 100_000
MEANS = torch.tensor([[-2.0, 0.0], [2.0, 1.0], [0.0, 5.0]], dtype=D)
CASES = {
    "normal": Normal(torch.tensor([[1.0, -2.0, 0.0]]), torch.tensor([[0.1], [3.0]])),
    "full": MultivariateNormal(
        torch.tensor([[0.5, -1.0], [3.0, 0.0]], dtype=D), torch.tensor([[2.0, 0.9], [0.9, 0.7]], dtype=D)
    ),
    "bernoulli": Bernoulli(logits=torch.tensor([[-3.0, 0.4, 1.0], [0.2, 5.0, -0.7]])),
    "vector": Independent(Normal(torch.tensor([1.0, 4.0], dtype=D), torch.tensor([2.0, 0.3], dtype=D)), 1),
    "bits": Independent(Bernoulli(torch.tensor([[0.2, 0.9], [0.45, 0.4]])), 1),
    "mixture": MixtureSameFamily(
        Categorical(torch.tensor([0.5, 0.3, 0.2], dtype=D)), Independent(Normal(MEANS, 0.5 * torch.ones(3, 2)), 1)
    ),
    "mixture of full": MixtureSameFamily(
        Categorical(torch.tensor([0.5, 0.3, 0.2], dtype=D)), MultivariateNormal(MEANS, torch.eye(2, dtype=D))
    ),
}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", CASES)
def test_draws_have_the_distributions_moments(name):
    """Within six standard errors, whose own are known from the draws; the seed is fixed."""
    d = CASES[name]
    x = sample(d, N, generator())
    assert x.shape == (N, *d.batch_shape, *d.event_shape)
    assert x.dtype == d.mean.dtype
    error = (d.variance / N).sqrt()
    assert ((x.mean(0) - d.mean).abs() < 6 * error).all()
    squares = (x - d.mean).square()
    assert ((squares.mean(0) - d.variance).abs() < 6 * squares.std(0) / N**0.5).all()


def test_draws_have_the_covariance():
    d = CASES["full"]
    x = sample(d, N, generator())[:, 1]
    torch.testing.assert_close(x.T.cov(), d.covariance_matrix[1], atol=0.03, rtol=0)


def test_draws_of_a_mixture_come_from_one_component_each():
    """Coordinates of one draw belong together: nothing lies near (2, 0), which mixes two components."""
    tight = MixtureSameFamily(
        Categorical(torch.tensor([0.5, 0.3, 0.2], dtype=D)), Independent(Normal(MEANS, 0.01 * torch.ones(3, 2)), 1)
    )
    nearest = (sample(tight, 5000, generator())[:, None] - MEANS).norm(dim=-1)
    assert (nearest.min(1).values < 0.1).all()
    shares = nearest.argmin(1).bincount() / 5000
    torch.testing.assert_close(shares, torch.tensor([0.5, 0.3, 0.2]), atol=0.04, rtol=0)


@pytest.mark.parametrize("name", CASES)
def test_a_generator_decides_alone(name):
    d = CASES[name]
    torch.manual_seed(1)
    before, first = torch.get_rng_state(), sample(d, 50, generator(3))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(sample(d, 50, generator(3)), first)
    assert not torch.equal(sample(d, 50, generator(4)), first)
    assert len(first.unique(dim=0)) > 1


def test_what_it_cannot_draw_from_is_named():
    with pytest.raises(TypeError, match="d: Laplace cannot be drawn from with a generator"):
        sample(Laplace(0.0, 1.0), 1, generator())
