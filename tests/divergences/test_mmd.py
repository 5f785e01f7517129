import math

import numpy as np
import pytest
import torch
from torch.distributions import Independent, Normal

from vaelib.divergences import MMD, MomentsMMD, mmd, moment_rows
from vaelib.errors import Invalid
from vaelib.models import Bits, Category, Gaussian, Joint, Point, Relaxation

D = torch.float64


def test_mmd_is_the_v_statistic():
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(6, 3, generator=g, dtype=D), torch.randn(5, 3, generator=g, dtype=D)

    def kernel(a, b):
        return math.exp(-sum((s - t) ** 2 for s, t in zip(a, b)) / len(a) / len(a))

    def mean(a, b):
        return sum(kernel(s, t) for s in a.tolist() for t in b.tolist()) / (len(a) * len(b))

    assert mmd(x, y).item() == pytest.approx(mean(x, x) + mean(y, y) - 2 * mean(x, y), rel=1e-12)
    assert mmd(x, x).item() == pytest.approx(0, abs=1e-15)
    shuffled = x[torch.randperm(6, generator=g)]
    assert mmd(shuffled, y).item() == pytest.approx(mmd(x, y).item())


def test_the_other_kernel_is_that_of_the_wae():
    """C / (C + squared distance), where C is the mean squared distance of two draws from the prior."""
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(6, 3, generator=g, dtype=D), torch.randn(5, 3, generator=g, dtype=D)

    def mean(a, b):
        return np.mean([6 / (6 + sum((s - t) ** 2 for s, t in zip(p, q))) for p in a.tolist() for q in b.tolist()])

    expected = mean(x, x) + mean(y, y) - 2 * mean(x, y)
    assert mmd(x, y, "inverse_multiquadratic").item() == pytest.approx(expected, rel=1e-12)
    draws = torch.randn(2, 100_000, 3, generator=g, dtype=D)
    assert (draws[0] - draws[1]).square().sum(-1).mean().item() == pytest.approx(6, rel=0.01)


def test_codes_without_noise_are_compared_with_draws_that_have_it():
    """A deterministic encoder's codes are to spread as the prior does, and not to lie at its mean."""
    latent, part = Point(3).build(), MMD("inverse_multiquadratic")
    noise = part.build().noise(latent, 400, generator())
    spread, collapsed = torch.randn(400, 3, generator=generator(1)), torch.zeros(400, 3)
    near, far = (called(part, latent, latent.posterior(z), z, noise)[0] for z in (spread, collapsed))
    torch.testing.assert_close(near, mmd(spread, noise["prior"], "inverse_multiquadratic"))
    assert near < 0.02 < far


def test_moment_rows_are_mean_and_log_variance(diagonal):
    q = diagonal(0)
    torch.testing.assert_close(moment_rows(q), torch.cat([q.mean, 2 * q.stddev.log()], 1))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def called(part, latent, q, z, noise):
    return part.build()(q, latent.prior(), z, latent, noise, torch.ones(()))


def test_the_divergence_is_the_mmd_of_codes_and_draws_from_the_prior():
    latent, module = Gaussian(3).build(), MMD().build()
    q = latent.posterior(torch.randn(6, 6, generator=generator()))
    z, noise = torch.randn(6, 3, generator=generator(1)), module.noise(latent, 6, generator(2))
    expected = mmd(z, torch.randn(6, 3, generator=generator(2)))
    torch.testing.assert_close(called(MMD(), latent, q, z, noise), expected.expand(6))


def test_the_mmd_of_bits_is_that_of_fair_coins_relaxed_as_the_codes_are():
    latent = Bits(4, Relaxation(0.5)).build()
    noise = MMD().build().noise(latent, 5, generator(2))
    z = torch.rand(5, 4, generator=generator(1))
    coins = (latent.noise(5, generator(2)) / 0.5).sigmoid()
    found = called(MMD(), latent, latent.posterior(torch.zeros(5, 4)), z, noise)
    torch.testing.assert_close(found, mmd(z, coins).expand(5))


def test_the_moments_are_compared_with_standard_normal_rows_of_their_width():
    latent, module = Gaussian(2).build(), MomentsMMD().build()
    q = latent.posterior(torch.randn(7, 4, generator=generator()))
    noise = module.noise(latent, 7, generator(2))
    rows = torch.cat([q.mean, q.variance.log()], 1)
    expected = mmd(rows, torch.randn(7, 4, generator=generator(2)))
    torch.testing.assert_close(called(MomentsMMD(), latent, q, torch.zeros(7, 2), noise), expected.expand(7))


@pytest.mark.parametrize(
    "latent",
    [Point(3), Bits(3, Relaxation()), Category(3, Relaxation()), Joint((Gaussian(2), Category(3, Relaxation())))],
    ids=lambda latent: latent.kind,
)
def test_moments_need_a_mean_and_a_log_variance(latent):
    with pytest.raises(Invalid, match=r"objective.divergence: 'mmd_moments' is not allowed; .* log-variance") as caught:
        MomentsMMD().check(latent.build())
    assert "\n" not in str(caught.value)
    MMD().check(latent.build())


def test_moments_take_gaussians_side_by_side():
    MomentsMMD().check(Gaussian(3).build())
    both = Joint((Gaussian(2), Gaussian(1))).build()
    MomentsMMD().check(both)
    q = both.posterior(torch.randn(4, 6, generator=generator()))
    whole = Independent(Normal(q.mean, q.variance.sqrt()), 1)
    torch.testing.assert_close(moment_rows(q), moment_rows(whole))
