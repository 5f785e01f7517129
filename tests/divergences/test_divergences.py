"""The divergences against independent truth: quadrature, Monte Carlo, 80-digit arithmetic, limits, symmetries."""

import math

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import integrate
from torch.distributions import (
    Bernoulli,
    Categorical,
    Independent,
    Laplace,
    MultivariateNormal,
    Normal,
    OneHotCategorical,
    kl_divergence,
)

from vaelib.divergences import (
    FORMS,
    dual_geometric_js,
    extended_geometric_js,
    forward_kl,
    geometric_js,
    geometric_mean,
    resistor_average,
    reverse_kl,
)

D = torch.float64
SKEWS = [0.0, 0.05, 0.3, 0.5, 0.8, 1.0]
NORMALISED = {"geometric_js": geometric_js, "dual_geometric_js": dual_geometric_js}


def normal(mean, sd):
    return Normal(torch.tensor(mean, dtype=D), torch.tensor(sd, dtype=D))


@pytest.mark.parametrize("skew", SKEWS)
@pytest.mark.parametrize("pair", [((1.0, 0.3), (0.0, 1.0)), ((-2.0, 2.5), (0.5, 0.8)), ((0.1, 1.1), (0.0, 1.0))])
def test_gaussians_against_quadrature(pair, skew):
    q, p = (normal(*moments) for moments in pair)

    def integral(function):
        def at(x):
            x = torch.tensor(x, dtype=D)
            return float(function(q.log_prob(x), p.log_prob(x)))

        return integrate.quad(at, -40, 40, points=[pair[0][0], pair[1][0]], limit=400)[0]

    z = integral(lambda lq, lp: (skew * lq + (1 - skew) * lp).exp())

    def kl(weight, against):
        return integral(lambda lq, lp: weight(lq, lp).exp() * (weight(lq, lp) - against(lq, lp)))

    mean, first, second = lambda lq, lp: skew * lq + (1 - skew) * lp - math.log(z), lambda lq, lp: lq, lambda lq, lp: lp
    js = (1 - skew) * kl(first, mean) + skew * kl(second, mean)
    dual = (1 - skew) * kl(mean, first) + skew * kl(mean, second)
    assert geometric_js(q, p, skew).item() == pytest.approx(js, rel=1e-6, abs=1e-9)
    assert dual_geometric_js(q, p, skew).item() == pytest.approx(dual, rel=1e-6, abs=1e-9)
    g, log_z = geometric_mean(q, p, skew)
    assert log_z.item() == pytest.approx(math.log(z), abs=1e-9)
    x = torch.linspace(-3, 3, 7, dtype=D)
    torch.testing.assert_close(g.log_prob(x), mean(q.log_prob(x), p.log_prob(x)))


@pytest.mark.parametrize("skew", [0.2, 0.7])
@pytest.mark.parametrize("family", ["diagonal", "full"], indirect=True)
def test_gaussians_against_monte_carlo(family, skew):
    """Within five standard errors: a false alarm once in 10^6 draws of a seed, and the seed is fixed."""
    q, p = family(0, batch=1), family(1, batch=1)
    torch.manual_seed(0)
    mean, _ = geometric_mean(q, p, skew)

    def estimate(a, b):
        x = a.sample((200_000,))
        return a.log_prob(x) - b.log_prob(x)

    for found, (first, second) in (
        (geometric_js, ((q, mean), (p, mean))),
        (dual_geometric_js, ((mean, q), (mean, p))),
    ):
        samples = (1 - skew) * estimate(*first) + skew * estimate(*second)
        error = samples.std() / math.sqrt(len(samples))
        assert abs(samples.mean() - found(q, p, skew).squeeze()) < 5 * error


@pytest.mark.parametrize("skew", SKEWS)
def test_categoricals_against_sums(skew, categorical):
    q, p = categorical(0), categorical(1)
    weights = q.probs**skew * p.probs ** (1 - skew)
    z = weights.sum(-1, keepdim=True)
    g = weights / z

    def kl(a, b):
        return (a * (a / b).log()).sum(-1)

    torch.testing.assert_close(geometric_js(q, p, skew), (1 - skew) * kl(q.probs, g) + skew * kl(p.probs, g))
    torch.testing.assert_close(dual_geometric_js(q, p, skew), (1 - skew) * kl(g, q.probs) + skew * kl(g, p.probs))
    torch.testing.assert_close(geometric_mean(q, p, skew)[1], z.squeeze(-1).log())


@pytest.mark.parametrize("skew", SKEWS)
def test_families_that_describe_the_same_agree(skew, bernoulli, diagonal):
    q, p = bernoulli(0), bernoulli(1)
    as_categorical = [Categorical(probs=torch.stack([d.probs, 1 - d.probs], -1)) for d in (q, p)]
    as_one_hot = [OneHotCategorical(probs=d.probs) for d in as_categorical]
    a, b = diagonal(0), diagonal(1)
    as_full = [MultivariateNormal(d.mean, torch.diag_embed(d.variance)) for d in (a, b)]
    for form in FORMS.values():
        torch.testing.assert_close(form(q, p, skew), form(*as_categorical, skew))
        torch.testing.assert_close(form(q, p, skew), form(*as_one_hot, skew))
        torch.testing.assert_close(form(a, b, skew), form(*as_full, skew))
    torch.testing.assert_close(geometric_mean(a, b, skew)[1], geometric_mean(*as_full, skew)[1])
    torch.testing.assert_close(geometric_mean(q, p, skew)[1], geometric_mean(*as_categorical, skew)[1])


def test_the_ends_are_the_two_kls(family):
    q, p = family(0), family(1)
    reverse, forward = kl_divergence(q, p), kl_divergence(p, q)
    for form, (start, end) in {
        geometric_js: (reverse, forward),
        dual_geometric_js: (forward, reverse),
        extended_geometric_js: (reverse, forward),
    }.items():
        torch.testing.assert_close(form(q, p, 0.0), start)
        torch.testing.assert_close(form(q, p, 1.0), end)
    torch.testing.assert_close(reverse_kl(q, p), reverse)
    torch.testing.assert_close(forward_kl(q, p), forward)


@pytest.mark.parametrize("skew", SKEWS)
def test_exchanging_the_two_mirrors_the_skew(family, skew):
    q, p = family(0), family(1)
    for form in FORMS.values():
        torch.testing.assert_close(form(q, p, skew), form(p, q, 1 - skew))


@pytest.mark.parametrize("skew", SKEWS)
def test_the_gap_between_the_forms_is_the_log_normaliser(family, skew):
    """THEORY: JS = (1-a)^2 KL(q|p) + a^2 KL(p|q) + log Z(a); and the dual is (2a-1) (log Z)' - log Z."""
    q, p = family(0), family(1)
    log_z = geometric_mean(q, p, skew)[1]
    assert (log_z <= 1e-12).all()
    torch.testing.assert_close(geometric_js(q, p, skew), extended_geometric_js(q, p, skew) + log_z)
    a = torch.tensor(skew, dtype=D, requires_grad=True)
    slopes = torch.stack([torch.autograd.grad(z, a, retain_graph=True)[0] for z in geometric_mean(q, p, a)[1]])
    torch.testing.assert_close(dual_geometric_js(q, p, skew), (2 * skew - 1) * slopes - log_z)


# The dual is proved convex for Gaussians; these Bernoullis show that it is not for every exponential family.
NAMES = ["diagonal", "full", "categorical", "one_hot", "bernoulli"]
CONVEX = [(form, name) for form in FORMS for name in NAMES if "dual" not in form or name in ("diagonal", "full")]


@pytest.mark.parametrize(("form", "family"), CONVEX, indirect=["family"])
def test_convex_in_the_skew_with_one_interior_minimum(form, family):
    q, p = family(0), family(1)
    grid = torch.linspace(0, 1, 201, dtype=D)
    values = torch.stack([FORMS[form](q, p, a) for a in grid])
    assert (values[2:] + values[:-2] > 2 * values[1:-1]).all()
    lowest = values.argmin(0)
    assert ((lowest > 0) & (lowest < 200)).all()


moments = st.tuples(st.floats(-5, 5), st.floats(-2, 2).map(math.exp))


@given(moments, moments, st.floats(0, 1), st.floats(-3, 3), st.floats(0.1, 10))
def test_affine_maps_change_nothing(first, second, skew, shift, factor):
    q, p = normal(*first), normal(*second)
    moved = [Normal(d.loc * -factor + shift, d.scale * factor) for d in (q, p)]
    for form in FORMS.values():
        torch.testing.assert_close(form(*moved, skew), form(q, p, skew), rtol=1e-6, atol=1e-9)


@given(moments, moments, st.floats(0, 1))
def test_never_negative_and_zero_only_for_equals(first, second, skew):
    q, p = normal(*first), normal(*second)
    for form in FORMS.values():
        assert form(q, p, skew) >= 0
        assert form(q, q, skew).abs() < 1e-12
    assume(abs(first[0] - second[0]) > 0.01 and 0.01 < skew < 0.99)
    assert geometric_js(q, p, skew) > 0
    assert dual_geometric_js(q, p, skew) > 0


def truth(form, mean, log_sd, skew):
    """A form of N(mean, exp(log_sd)^2) and N(0, 1) in 80 digits, term by term from its definition."""
    with mpmath.workdps(80):
        m, a = mpmath.mpf(mean), mpmath.mpf(skew)
        r = mpmath.mpf(float(np.float32(math.exp(log_sd))))
        lam = 1 / r**2
        u = a * lam + 1 - a
        centre, variance = a * lam * m / u, 1 / u

        def kl(m1, v1, m2, v2):
            return (v1 / v2 + (m1 - m2) ** 2 / v2 - 1 + mpmath.log(v2 / v1)) / 2

        q, p, g = (m, r**2), (mpmath.mpf(0), mpmath.mpf(1)), (centre, variance)
        if form == "geometric_js":
            return float((1 - a) * kl(*q, *g) + a * kl(*p, *g))
        return float((1 - a) * kl(*g, *q) + a * kl(*g, *p))


@settings(max_examples=300)
@given(
    st.sampled_from(sorted(NORMALISED)),
    st.floats(-20, 20, width=32),
    st.floats(-34, 34),
    st.floats(0, 1, width=32) | st.sampled_from([0.0, 1.0, 2.0**-30]),
)
def test_single_precision_holds_for_tiny_and_huge_variances(form, mean, log_sd, skew):
    """Standard deviations from 1e-15 to 1e15 in float32: right to five digits, with finite values and no NaN."""
    assume(mean == 0 or abs(mean) > 1e-10)
    q = Normal(torch.tensor(mean), torch.tensor(math.exp(log_sd)))
    found = NORMALISED[form](q, Normal(torch.tensor(0.0), torch.tensor(1.0)), torch.tensor(skew)).item()
    assert found == pytest.approx(truth(form, mean, log_sd, skew), rel=3e-5, abs=1e-12)


@given(st.sampled_from(sorted(NORMALISED)), st.floats(-(2**-8), 2**-8, width=32), st.floats(-3e-3, 3e-3))
def test_single_precision_holds_next_to_the_prior(form, mean, log_sd):
    """Where q is almost p, the difference of large terms would leave nothing right; six digits are asked for."""
    assume(abs(mean) > 1e-6)
    q = Normal(torch.tensor(mean), torch.tensor(math.exp(log_sd)))
    found = NORMALISED[form](q, Normal(torch.tensor(0.0), torch.tensor(1.0)), 0.3).item()
    assert found == pytest.approx(truth(form, mean, log_sd, np.float32(0.3).item()), rel=2e-6)


@pytest.mark.parametrize("log_sd", [-60.0, -34.0, -3.0, -1e-2, 0.0, 1e-2, 3.0, 34.0])
@pytest.mark.parametrize("mean", [-20.0, 0.0, 0.3])
def test_the_rate_in_single_precision(mean, log_sd):
    """Torch's own is infinite where the variance vanishes before the standard deviation does."""
    q = Normal(torch.tensor(mean), torch.tensor(math.exp(log_sd)))
    mp, sd = mpmath.mp, q.scale.item()
    with mp.workdps(40):
        exact = float((mp.mpf(sd) ** 2 - 1 + mp.mpf(q.loc.item()) ** 2) / 2 - mp.log(sd))
    found = reverse_kl(q, Normal(torch.tensor(0.0), torch.tensor(1.0))).item()
    assert found == pytest.approx(exact, rel=2e-5, abs=1e-12)


def test_the_rate_of_a_batch_is_torchs_with_its_gradient_and_one_graph(diagonal):
    q, p = diagonal(0), diagonal(1)
    locs = [d.base_dist.loc.requires_grad_() for d in (q, p)]
    scales = [d.base_dist.scale.requires_grad_() for d in (q, p)]
    expected = kl_divergence(q, p)
    traced = torch.compile(reverse_kl, fullgraph=True, backend="eager")
    for found in (reverse_kl(q, p), traced(q, p)):
        torch.testing.assert_close(found, expected)
        gradients = torch.autograd.grad(found.sum(), [*locs, *scales])
        for ours, theirs in zip(gradients, torch.autograd.grad(expected.sum(), [*locs, *scales], retain_graph=True)):
            torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("log_sd", [-20.0, -10.0, 0.0, 10.0, 20.0])
@pytest.mark.parametrize("skew", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("form", FORMS)
def test_gradients_stay_finite_at_the_extremes(form, skew, log_sd):
    mean, sd = torch.tensor(0.7, requires_grad=True), torch.tensor(math.exp(log_sd), requires_grad=True)
    a = torch.tensor(skew, requires_grad=True)
    prior = Normal(torch.tensor(0.0), torch.tensor(1.0))
    gradients = torch.autograd.grad(FORMS[form](Normal(mean, sd), prior, a), (mean, sd, a))
    assert all(g.isfinite() for g in gradients)


@pytest.mark.parametrize("skew", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("form", [*FORMS.values(), lambda q, p, a: resistor_average(q, p)])
def test_gradients_against_finite_differences(form, skew):
    def of(mean, log_sd, prior_mean, prior_log_sd, a):
        q, p = (
            Normal(mean, log_sd.exp(), validate_args=False),
            Normal(prior_mean, prior_log_sd.exp(), validate_args=False),
        )
        return form(Independent(q, 1), Independent(p, 1), a)

    g = torch.Generator().manual_seed(0)
    arguments = [torch.randn(2, 3, generator=g, dtype=D) for _ in range(2)]
    arguments += [torch.randn(3, generator=g, dtype=D) for _ in range(2)] + [torch.tensor(skew, dtype=D)]
    assert torch.autograd.gradcheck(of, [t.requires_grad_() for t in arguments])


@pytest.mark.parametrize("form", FORMS.values())
def test_gradients_of_full_covariances(form):
    def of(mean, root, a):
        q = MultivariateNormal(mean, scale_tril=root.tril(), validate_args=False)
        return form(q, MultivariateNormal(torch.zeros(2, dtype=D), torch.eye(2, dtype=D)), a)

    g = torch.Generator().manual_seed(0)
    root = torch.eye(2, dtype=D) + 0.3 * torch.randn(2, 2, generator=g, dtype=D)
    arguments = [torch.randn(2, generator=g, dtype=D), root, torch.tensor(0.3, dtype=D)]
    assert torch.autograd.gradcheck(of, [t.requires_grad_() for t in arguments])


def test_the_resistor_average_is_the_extended_forms_minimum(diagonal):
    q, p = diagonal(0), diagonal(1)
    grid = torch.stack([extended_geometric_js(q, p, a) for a in torch.linspace(0, 1, 10_001, dtype=D)])
    torch.testing.assert_close(resistor_average(q, p), grid.min(0).values, rtol=1e-6, atol=0)
    mean = torch.zeros(3, requires_grad=True)
    same = Normal(mean, torch.ones(3))
    value = resistor_average(same, Normal(torch.zeros(3), torch.ones(3)))
    value.sum().backward()
    assert (value == 0).all()
    assert (mean.grad == 0).all()


def test_the_extended_dual_is_not_a_divergence():
    """The thesis' eq. 46 is (2a-1) Z'(a): -0.057 for this pair."""
    q, p, a = normal(1.0, 0.3), normal(0.0, 1.0), torch.tensor(0.4, dtype=D, requires_grad=True)
    z = geometric_mean(q, p, a)[1].exp()
    (slope,) = torch.autograd.grad(z, a)
    assert ((2 * a - 1) * slope).item() == pytest.approx(-0.057, abs=5e-4)


def test_results_have_the_batch_shape(diagonal, categorical, full):
    for q, p in ((diagonal(0), diagonal(1, batch=1)), (categorical(0), categorical(1)), (full(0), full(1))):
        for form in FORMS.values():
            assert form(q, p, 0.3).shape == q.batch_shape
    nested = Independent(Normal(torch.zeros(2, 3, 4), torch.ones(2, 3, 4)), 2)
    assert geometric_js(nested, nested, 0.5).shape == (2,)
    assert geometric_mean(nested, nested, 0.5)[0].event_shape == (3, 4)


@pytest.mark.parametrize("form", FORMS)
def test_a_skew_for_each_sample_broadcasts(form):
    q, p = Normal(torch.randn(3, dtype=D), torch.ones(3, dtype=D)), normal(0.0, 2.0)
    skews = torch.tensor([0.1, 0.5, 0.9], dtype=D)
    found = FORMS[form](q, p, skews)
    for k in range(3):
        alone = FORMS[form](Normal(q.loc[k], q.scale[k]), p, skews[k])
        torch.testing.assert_close(found[k], alone)


def test_unsupported_pairs_are_named():
    with pytest.raises(TypeError, match="a pair of Laplace and Normal is not supported"):
        geometric_js(Laplace(0.0, 1.0), Normal(0.0, 1.0), 0.5)
    with pytest.raises(TypeError, match="Laplace and Laplace"):
        geometric_mean(Laplace(0.0, 1.0), Laplace(0.0, 2.0), 0.5)


def test_the_divergence_of_bits_broadcasts_and_is_that_of_torch():
    q = Bernoulli(logits=torch.randn(4, 3, generator=torch.Generator().manual_seed(0)))
    p = Bernoulli(logits=torch.tensor([0.3, -1.0, 0.0]))
    expected = kl_divergence(q, p.expand((4, 3)))
    torch.testing.assert_close(reverse_kl(q, p), expected)
    torch.testing.assert_close(reverse_kl(Independent(q, 1), Independent(p, 1)), expected.sum(1))
