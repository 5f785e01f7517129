import math

import pytest
import torch
from torch.distributions import (
    Independent,
    Normal,
    OneHotCategorical,
    RelaxedBernoulli,
    RelaxedOneHotCategorical,
    kl_divergence,
)

from vaelib import divergences as dv
from vaelib.errors import Invalid
from vaelib.models import Bits, Category, Gaussian, Joint, Point, Relaxation

LOGITS = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_a_relaxed_sample_is_the_one_of_torch_distributions():
    """The same Gumbel noise through its own formula, and its moments."""
    latent = Category(4, Relaxation(0.7)).build()
    q = latent.posterior(LOGITS[:1].expand(100_000, 4))
    ours = latent.sample(q, latent.noise(100_000, generator()))
    torch.manual_seed(0)
    theirs = RelaxedOneHotCategorical(torch.tensor(0.7), logits=LOGITS[0]).sample((100_000,))
    torch.testing.assert_close(ours.sum(1), torch.ones(100_000))
    torch.testing.assert_close(ours.mean(0), theirs.mean(0), atol=0.005, rtol=0)
    torch.testing.assert_close(ours.std(0), theirs.std(0), atol=0.005, rtol=0)


def test_an_exact_draw_has_the_posteriors_frequencies():
    latent = Category(4).build()
    q = latent.posterior(LOGITS[:1].expand(100_000, 4))
    drawn = latent.draw(q, latent.noise(100_000, generator()))
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(drawn.mean(0), LOGITS[0].softmax(0), atol=0.005, rtol=0)


def test_the_temperature_is_annealed():
    latent, noise = Category(4, Relaxation(2.0, 0.5)).build(), torch.zeros(3, 4)
    q = latent.posterior(LOGITS)
    for progress, temperature in ((0.0, 2.0), (0.5, 1.0), (1.0, 0.5)):
        expected = (q.logits / temperature).softmax(-1)
        torch.testing.assert_close(latent.sample(q, noise, torch.tensor(progress)), expected)


def test_straight_through_is_one_hot_with_the_relaxed_gradient():
    soft, hard = (Category(4, Relaxation(0.7, straight_through=h)).build() for h in (False, True))
    noise, weight = soft.noise(3, generator()), torch.randn(3, 4, generator=generator(1))
    gradients = []
    for latent in (soft, hard):
        logits = LOGITS.clone().requires_grad_()
        z = latent.sample(latent.posterior(logits), noise)
        (z * weight).sum().backward()
        gradients.append(logits.grad)
    torch.testing.assert_close(z.detach(), soft.draw(soft.posterior(LOGITS), noise))
    torch.testing.assert_close(*gradients)


def test_gumbel_noise_is_finite_and_has_its_moments():
    noise = Category(10).build().noise(100_000, generator())
    assert noise.isfinite().all()
    assert noise.mean() == pytest.approx(0.5772, abs=0.01)
    assert noise.var() == pytest.approx(math.pi**2 / 6, abs=0.02)


def test_a_joint_is_its_parts_side_by_side():
    latent = Joint((Gaussian(2), Category(4, Relaxation()))).build()
    assert (latent.outputs, latent.code) == (8, 6)
    outputs = torch.cat([torch.randn(3, 4, generator=generator()), LOGITS], 1)
    q, p, noise = latent.posterior(outputs), latent.prior(), latent.noise(3, generator())
    assert (q.batch_shape, q.event_shape, p.batch_shape) == ((3,), (6,), ())
    gaussian, category = Gaussian(2).build(), OneHotCategorical(logits=LOGITS)
    normal = gaussian.posterior(outputs[:, :4])
    torch.testing.assert_close(q.mean, torch.cat([normal.mean, category.probs], 1))
    expected = kl_divergence(normal, gaussian.prior()) + math.log(4) - category.entropy()
    torch.testing.assert_close(kl_divergence(q, p), expected)
    drawn = latent.draw(q, noise)
    torch.testing.assert_close(drawn[:, :2], gaussian.sample(normal, noise[:, :2]))
    torch.testing.assert_close(q.log_prob(drawn), normal.log_prob(drawn[:, :2]) + category.log_prob(drawn[:, 2:]))
    assert latent.sample(q, noise).shape == (3, 6)


@pytest.mark.parametrize("form", dv.FORMS)
def test_a_product_of_gaussians_is_the_gaussian_of_all(form):
    loc, scale = torch.randn(5, 3, generator=generator()), torch.rand(5, 3, generator=generator()) + 0.1
    zero, one = torch.zeros(3), torch.ones(3)

    def whole(loc, scale):
        return Independent(Normal(loc, scale), 1)

    def parts(loc, scale):
        return dv.Product([whole(loc[..., :1], scale[..., :1]), whole(loc[..., 1:], scale[..., 1:])])

    q, p, qs, ps = whole(loc, scale), whole(zero, one), parts(loc, scale), parts(zero, one)
    torch.testing.assert_close(dv.FORMS[form](qs, ps, 0.3), dv.FORMS[form](q, p, 0.3))
    torch.testing.assert_close(dv.optimal_skew(qs, ps, form), dv.optimal_skew(q, p, form))
    torch.testing.assert_close(dv.geometric_mean(qs, ps, 0.3)[1], dv.geometric_mean(q, p, 0.3)[1])


@pytest.mark.parametrize("form", ["geometric_js", "dual_geometric_js"])
def test_the_divergence_of_a_joint_is_the_sum_and_its_skew_the_minimiser(form):
    latent = Joint((Gaussian(2), Category(4, Relaxation()))).build()
    q, p = latent.posterior(torch.randn(50, 8, generator=generator())), latent.prior()
    grid = torch.linspace(0.01, 0.99, 981)
    values = torch.stack([dv.FORMS[form](q, p, a).mean() for a in grid])
    by_part = sum(dv.FORMS[form](a, b, 0.4) for a, b in zip(q.parts, p.parts))
    torch.testing.assert_close(dv.FORMS[form](q, p, 0.4), by_part)
    assert dv.optimal_skew(q, p, form).item() == pytest.approx(grid[values.argmin()].item(), abs=2e-3)


def test_bits_are_relaxed_and_drawn_as_torch_distributions_does():
    """Relaxed samples are a function of logistic noise; exact ones have the posterior's frequencies."""
    bits, logits = Bits(3, Relaxation(0.7)).build(), torch.tensor([[-2.0, 0.3, 4.0]])
    q = bits.posterior(logits)
    noise = bits.noise(50_000, generator())
    sample = bits.sample(q, noise)
    family = RelaxedBernoulli(torch.tensor(0.7), logits=logits)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        reference = family.rsample((50_000,)).squeeze(1)
    torch.testing.assert_close(sample.mean(0), reference.mean(0), rtol=0, atol=0.01)
    torch.testing.assert_close(sample.std(0), reference.std(0), rtol=0, atol=0.01)
    drawn = bits.draw(q, noise)
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(drawn.mean(0), logits.sigmoid()[0], rtol=0, atol=0.01)
    assert noise.isfinite().all()


def test_hard_bits_are_bits_with_the_relaxed_gradient():
    logits = torch.tensor([[-1.0, 0.5]], requires_grad=True)
    noise = Bits(2).build().noise(1, generator())
    hard = Bits(2, Relaxation(0.5, straight_through=True)).build()
    sample = hard.sample(hard.posterior(logits), noise)
    assert set(sample.flatten().tolist()) <= {0.0, 1.0}
    (gradient,) = torch.autograd.grad(sample.sum(), logits)
    (expected,) = torch.autograd.grad(((logits + noise) / 0.5).sigmoid().sum(), logits)
    torch.testing.assert_close(gradient, expected)


def test_a_point_has_no_noise_in_training_and_half_its_square_as_rate():
    point, code = Point(2).build(), torch.tensor([[1.0, 2.0]])
    q, noise = point.posterior(code), point.noise(4, generator())
    assert torch.equal(point.sample(q, noise), code.expand(4, -1))
    assert torch.equal(point.draw(q, noise), code + noise)
    torch.testing.assert_close(dv.reverse_kl(q, point.prior()), torch.tensor([2.5]))


def test_samples_of_the_prior_are_relaxed_as_the_codes_are_and_have_noise_where_those_have_none():
    joint = Joint((Point(2), Gaussian(1), Bits(2, Relaxation(0.5)))).build()
    noise = joint.noise(4, generator())
    expected = torch.cat([noise[:, :3], (noise[:, 3:] / 0.5).sigmoid()], dim=1)
    torch.testing.assert_close(joint.prior_sample(noise), expected)
    torch.testing.assert_close(joint.prior_sample(noise.expand(3, 4, 5)), expected.expand(3, 4, 5))


def test_the_log_density_of_a_draw_follows_from_its_noise():
    """The change of variables of the FGVAE thesis' section 3.6, against the density and the Jacobian itself."""
    latent = Gaussian(3).build()
    outputs = torch.randn(5, 6, dtype=torch.float64, generator=generator())
    noise = latent.noise(5, generator(1)).double()
    q = latent.posterior(outputs)
    z = latent.sample(q, noise)
    expected = Normal(0, 1).log_prob(noise).sum(1) - q.base_dist.scale.log().sum(1)
    torch.testing.assert_close(q.log_prob(z), expected)
    jacobian = torch.autograd.functional.jacobian(lambda e: latent.sample(q, e).sum(0), noise)  # (3, 5, 3)
    torch.testing.assert_close(torch.linalg.slogdet(jacobian.transpose(0, 1)).logabsdet, q.base_dist.scale.log().sum(1))


EACH = [
    Gaussian(3),
    Point(3),
    Bits(3, Relaxation()),
    Category(3, Relaxation()),
    Joint((Gaussian(2), Joint((Bits(1, Relaxation()), Category(4, Relaxation()))))),
]


@pytest.mark.parametrize("part", EACH, ids=lambda part: part.kind)
def test_the_contract_of_a_latent(part):
    """Widths are those of what is drawn, and what is drawn has a density; one batch shape or another."""
    latent = part.build()
    assert part.width == latent.code == latent.prior().event_shape[0]
    q = latent.posterior(torch.randn(5, latent.outputs, generator=generator()))
    assert (q.batch_shape, q.event_shape) == ((5,), (part.width,))
    for noise in (latent.noise(5, generator(1)), latent.noise(10, generator(1)).unflatten(0, (2, 5))):
        for z in (latent.draw(q, noise), latent.sample(q, noise)):
            assert z.shape == noise.shape
        assert q.log_prob(latent.draw(q, noise)).shape == noise.shape[:-1]
        assert latent.prior().log_prob(latent.draw(q, noise)).isfinite().all()
    assert torch.equal(latent.noise(5, generator(1)), latent.noise(5, generator(1)))
    assert [leaf.kind for leaf in part.leaves] == (
        ["gaussian", "bits", "category"] if part.kind == "joint" else [part.kind]
    )


@pytest.mark.parametrize("part", [Bits(3), Category(3), Joint((Gaussian(2), Bits(2)))], ids=lambda part: part.kind)
def test_what_is_not_relaxed_is_not_differentiated(part):
    with pytest.raises(Invalid, match=r"latent.relaxation: None is not allowed; it has to be given for this objective"):
        part.check(differentiated=True)
    part.check(differentiated=False)
    latent = part.build()
    with pytest.raises(TypeError, match="without one has no samples that a gradient can pass"):
        latent.sample(latent.posterior(torch.zeros(2, latent.outputs)), latent.noise(2, generator()))


@pytest.mark.parametrize(
    "part", [p for p in EACH if p.kind in ("bits", "category", "joint")], ids=lambda part: part.kind
)
def test_what_is_drawn_exactly_is_not_relaxed(part):
    with pytest.raises(Invalid, match=r"latent.relaxation: Relaxation\(.* it has to be left out for this objective"):
        part.check(differentiated=False)
    part.check(differentiated=True)


def test_a_point_has_no_draws_to_compare():
    Point().check(differentiated=True)
    with pytest.raises(Invalid, match="latent: 'point' is not allowed; it has to be one with noise"):
        Point().check(differentiated=False)


def test_a_temperature_that_ends_where_it_starts_stays():
    assert Relaxation(0.5, 0.5) == Relaxation(0.5)
    assert Relaxation(0.5, 0.5).canonical() == {"temperature": 0.5}
    assert hash(Relaxation(0.5, 0.5)) == hash(Relaxation(0.5))


def test_a_joint_needs_parts():
    with pytest.raises(Invalid, match="parts: "):
        Joint(())
