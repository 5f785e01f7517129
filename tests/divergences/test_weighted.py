"""Weighted KLs that find their weights, against autograd."""

import math

import pytest
import torch
from torch.distributions import Independent, Normal

from vaelib import Bits, Bound, Experiment, Relaxation
from vaelib.divergences import (
    SelfWeightedKL,
    SplitKL,
    geometric_js,
    optimal_skew,
    predicted_skew,
    reverse_kl,
    split_weights,
)
from vaelib.errors import Invalid


def posteriors(seed, loc=0.0, scale=1.0):
    """Six posteriors of three latents, in double precision, before a prior; and what their gradients are taken in."""
    g = torch.Generator().manual_seed(seed)
    means, log_sds = (torch.randn(6, 3, generator=g, dtype=torch.float64, requires_grad=True) for _ in range(2))
    q = Independent(Normal(loc + scale * means, scale * (log_sds - 1).exp()), 1)
    p = Independent(Normal(torch.full((3,), loc, dtype=torch.float64), scale), 1)
    return q, p, means, log_sds


def value(module, q, p):
    """A divergence module's values; these take no codes and no noise."""
    return module.double()(q, p, torch.empty(0), None, {}, torch.ones(()))


def test_a_self_weighted_kl_is_a_beta_vaes_whose_beta_is_the_predicted_skew():
    module = SelfWeightedKL().build().train()
    q, p, loc, log_sd = posteriors(0)
    rate = reverse_kl(q, p)
    expected = predicted_skew(rate.mean().item() / 3)
    values = value(module, q, p)
    assert module.report()["skew"].item() == pytest.approx(expected)
    ours = torch.autograd.grad(values.mean(), [loc, log_sd], retain_graph=True)
    kl = torch.autograd.grad(rate.mean(), [loc, log_sd])
    for mine, theirs in zip(ours, kl):
        torch.testing.assert_close(mine, expected * theirs)
    weight = module.weight.item()
    constant = 3 * ((1 - weight) ** 2 / weight + math.log(weight)) / 2
    torch.testing.assert_close(values, weight * rate + constant)
    for other in (weight - 0.05, weight + 0.05):  # its weight is the best one
        assert values.mean() < other * rate.mean() + 3 * ((1 - other) ** 2 / other + math.log(other)) / 2
    module.eval()
    value(module, *posteriors(3)[:2])
    assert module.weight.item() == weight


def test_the_weights_of_means_and_widths_fit_the_gradients_of_the_first_form():
    """Least squares of one gradient by the other, both by autograd; a prior of any place and width."""
    q, p, means, log_sds = posteriors(1)
    skew = optimal_skew(q, p, "geometric_js").double()
    first = torch.autograd.grad(geometric_js(q, p, skew).sum(), [means, log_sds], retain_graph=True)
    kl = torch.autograd.grad(reverse_kl(q, p).sum(), [means, log_sds])
    expected = torch.stack([(a * b).sum() / (b * b).sum() for a, b in zip(first, kl)])
    torch.testing.assert_close(split_weights(q, p, skew), expected)
    torch.testing.assert_close(split_weights(*posteriors(1, loc=3.0, scale=0.5)[:2], skew), expected)


def test_a_split_kl_presses_on_means_and_widths_by_its_weights():
    q, p, means, log_sds = posteriors(2)
    module = SplitKL().build().train()
    values = value(module, q, p)
    seen = {name: float(v) for name, v in module.report().items()}
    skew = optimal_skew(q, p, "geometric_js").double()
    assert seen["skew"] == pytest.approx(float(skew), abs=1e-3)
    weights = seen["mean_weight"], seen["width_weight"]
    assert weights == pytest.approx(split_weights(q, p, skew).tolist(), rel=0.02)
    ours = torch.autograd.grad(values.sum(), [means, log_sds], retain_graph=True)
    kl = torch.autograd.grad(reverse_kl(q, p).sum(), [means, log_sds])
    for mine, theirs, weight in zip(ours, kl, weights):
        torch.testing.assert_close(mine, weight * theirs)
    module.eval()
    value(module, *posteriors(3)[:2])
    assert module.report()["mean_weight"].item() == seen["mean_weight"], "found in training alone"


def test_with_weights_of_one_it_is_kl():
    q, p, *_ = posteriors(4)
    torch.testing.assert_close(value(SplitKL().build().eval(), q, p), reverse_kl(q, p))


def test_it_needs_gaussians():
    with pytest.raises(Invalid, match=r"objective.divergence: .*'split_kl'.*two weights of KL.* need Gaussians"):
        Experiment(objective=Bound("split_kl"), latent=Bits(3, Relaxation()))
