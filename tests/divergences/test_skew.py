import math

import numpy as np
import pytest
import sympy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats
from scipy.optimize import minimize_scalar
from torch.distributions import Independent, Normal, kl_divergence

from vaelib import Bound, Experiment, Gaussian, Joint
from vaelib.divergences import (
    FORMS,
    DualGeometricJS,
    ExtendedGeometricJS,
    Fixed,
    GeometricJS,
    Learned,
    Newton,
    optimal_skew,
    predicted_skew,
    rate_of_skew,
    resistor_average,
    reverse_kl,
    skew_of_rates,
)
from vaelib.errors import Invalid

D = torch.float64
EACH = ["batch", "datum", "latent", "both"]


@pytest.mark.parametrize("form", FORMS)
def test_newton_finds_the_minimum_of_the_batchs_mean(family, form):
    q, p = family(0), family(1)

    def mean(a):
        return FORMS[form](q, p, torch.tensor(a, dtype=D)).mean().item()

    found = optimal_skew(q, p, form).item()
    assert found == pytest.approx(
        minimize_scalar(mean, bounds=(0, 1), method="bounded", options={"xatol": 1e-9}).x, abs=2e-6
    )
    grid = torch.linspace(0, 1, 201).tolist()
    assert mean(found) <= min(map(mean, grid)) + 1e-12


@settings(max_examples=60)
@given(
    st.sampled_from(sorted(FORMS)),
    st.lists(st.tuples(st.floats(-8, 8), st.floats(-16, 16)), min_size=1, max_size=4),
    st.floats(0, 1),
)
def test_it_is_found_for_any_widths_from_any_start(form, moments, start):
    mean, log_sd = torch.tensor(moments, dtype=D).T
    q, p = Normal(mean, log_sd.exp()), Normal(torch.zeros((), dtype=D), torch.ones((), dtype=D))
    found = optimal_skew(q, p, form, start=start).double()
    assert 0 <= found <= 1
    if kl_divergence(q, p).mean() < 1e-9:
        return
    best = FORMS[form](q, p, found).mean()
    for other in (found - 1e-4, found + 1e-4, torch.tensor(start, dtype=D)):
        if abs(other - found) < 1e-5:
            continue  # the promise is 1e-6 in the skew; between two such tiny ones the divergence may still differ
        assert best <= FORMS[form](q, p, other.clamp(0, 1)).mean() * (1 + 1e-9)


@pytest.mark.parametrize("form", FORMS)
def test_where_every_skew_is_as_good_the_start_comes_back(form):
    p = Independent(Normal(torch.zeros(3, 2), torch.ones(3, 2)), 1)
    assert optimal_skew(p, p, form, start=0.3).item() == pytest.approx(0.3)


@pytest.mark.parametrize("per", EACH)
@pytest.mark.parametrize("form", FORMS)
def test_it_vectorises(form, per):
    p = Independent(Normal(torch.zeros(3), torch.ones(3)), 1)
    g = torch.Generator().manual_seed(0)
    mean, sd = torch.randn(5, 8, 3, generator=g), torch.rand(5, 8, 3, generator=g) + 0.05

    def one(mean, sd):
        q = Independent(Normal(mean, sd, validate_args=False), 1, validate_args=False)
        return optimal_skew(q, p, form, per=per)

    together = torch.func.vmap(one)(mean, sd)
    alone = torch.stack([one(m, s) for m, s in zip(mean, sd)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)


def best_of(function):
    """The minimiser on [0, 1], by scipy."""
    return minimize_scalar(function, bounds=(0, 1), method="bounded", options={"xatol": 1e-9}).x


@pytest.mark.parametrize("form", FORMS)
def test_each_datum_has_the_skew_of_a_batch_of_one(family, form):
    q, p = family(0), family(1)
    found = optimal_skew(q, p, form, per="datum")
    assert found.shape == q.batch_shape
    for row, skew in enumerate(found):
        exact = best_of(lambda a, row=row: FORMS[form](q, p, torch.tensor(a, dtype=D))[row].item())
        assert skew.item() == pytest.approx(exact, abs=2e-6)


@pytest.mark.parametrize("form", FORMS)
def test_each_latent_and_each_coordinate_has_its_own_minimum(form, diagonal):
    """Against one scalar minimisation each, of Gaussians in one dimension."""
    q, p = diagonal(0).base_dist, diagonal(1).base_dist
    latent = optimal_skew(diagonal(0), diagonal(1), form, per="latent")
    both = optimal_skew(diagonal(0), diagonal(1), form, per="both")
    assert (latent.shape, both.shape) == ((3,), (4, 3))

    def at(a):
        return FORMS[form](q, p, torch.tensor(a, dtype=D))

    for j in range(3):
        assert latent[j].item() == pytest.approx(best_of(lambda a, j=j: at(a)[:, j].mean().item()), abs=2e-6)
        for i in range(4):
            assert both[i, j].item() == pytest.approx(best_of(lambda a, i=i, j=j: at(a)[i, j].item()), abs=2e-6)


@pytest.mark.parametrize("form", FORMS)
def test_one_sample_of_one_latent_has_one_skew(form):
    q, p = moments(n=1, size=1)
    found = [optimal_skew(q, p, form, per=per).item() for per in EACH]
    assert found == pytest.approx([found[0]] * 4, abs=1e-7)


def test_a_skew_for_each_latent_needs_factorised_posteriors(full, categorical):
    for q in (full(0), categorical(0)):
        with pytest.raises(TypeError, match="a skew for each coordinate needs factorised distributions of vectors"):
            optimal_skew(q, q, "geometric_js", per="latent")
    with pytest.raises(Invalid, match=r"^objective\.divergence: 'geometric_js' is not allowed; .* needs factorised"):
        Experiment(latent=Joint((Gaussian(2), Gaussian(2))), objective=Bound(GeometricJS(Newton(per="both"))))
    with pytest.raises(Invalid, match="per: 'pixel' is not allowed; it has to be one of batch, datum, latent, both"):
        Newton(per="pixel")


def test_a_near_start_needs_few_steps(diagonal):
    q, p = diagonal(0), diagonal(1)
    for form in FORMS:
        best = optimal_skew(q, p, form)
        assert optimal_skew(q, p, form, start=best + 0.03, iterations=4).item() == pytest.approx(best.item(), abs=1e-6)


def test_the_papers_skews_follow_from_the_posteriors_width():
    """Mean square one and sigma 0.2 in ten dimensions: 0.111 and 0.381 (the papers learn 0.118 to 0.120, and 0.360)."""
    mean = math.sqrt(1 - 0.2**2)
    q = Independent(Normal(torch.full((1, 10), mean), torch.full((1, 10), 0.2)), 1)
    p = Independent(Normal(torch.zeros(10), torch.ones(10)), 1)
    assert optimal_skew(q, p, "geometric_js").item() == pytest.approx(0.111, abs=1e-3)
    assert optimal_skew(q, p, "dual_geometric_js").item() == pytest.approx(0.381, abs=1e-3)


def test_it_carries_no_gradient():
    mean = torch.ones(2, 3, requires_grad=True)
    q = Independent(Normal(mean, 0.5 * torch.ones(2, 3)), 1)
    assert not optimal_skew(q, Independent(Normal(torch.zeros(3), torch.ones(3)), 1), "geometric_js").requires_grad


def test_an_unknown_form_is_refused():
    p = Normal(torch.zeros(2), torch.ones(2))
    with pytest.raises(ValueError, match="form: 'kl' is not allowed; it has to be one of geometric_js"):
        optimal_skew(p, p, "kl")


def moments(seed=0, n=6, size=3):
    g = torch.Generator().manual_seed(seed)
    loc, spread = torch.randn(n, size, generator=g), torch.randn(n, size, generator=g)
    p = Independent(Normal(torch.zeros(size), torch.ones(size)), 1)
    return Independent(Normal(loc, (0.7 * spread).exp()), 1), p


def value(module, q, p):
    """A divergence module's values; those with a skew take no codes and no noise."""
    return module(q, p, torch.empty(0), None, {}, torch.ones(()))


FORM = {"geometric_js": GeometricJS, "dual_geometric_js": DualGeometricJS, "extended_geometric_js": ExtendedGeometricJS}


def test_a_learned_skew_is_the_only_parameter_and_is_projected():
    module = GeometricJS(Learned(0.25)).build()
    assert [(name, p.item()) for name, p in module.named_parameters()] == [("skew.value", 0.25)]
    assert module.skew.rate == 1e-4
    for step, expected in ((-1.0, 0.0), (5.0, 1.0)):
        with torch.no_grad():
            module.skew.value += step
        module.project_()
        assert module.report() == {"skew": torch.tensor(expected)}


@pytest.mark.parametrize("kind", [Fixed, Learned, Newton])
@pytest.mark.parametrize("start", [-0.1, 1.1, float("nan"), float("inf"), "x", True, None])
def test_a_skew_starts_in_the_unit_interval(kind, start):
    with pytest.raises(Invalid, match=r"start: .* it has to be a number from 0 to 1"):
        kind(start)
    with pytest.raises(Invalid, match=r"skew"):
        GeometricJS({"kind": kind.kind, "start": start})


@pytest.mark.parametrize("skew", [Fixed(0.3), Learned(0.3), Newton(0.3)])
@pytest.mark.parametrize("form", FORM)
def test_a_module_gives_the_form_at_its_skew(form, skew):
    """In evaluation every skew stands still."""
    q, p = moments()
    module = FORM[form](skew).build().eval()
    assert torch.equal(value(module, q, p), FORMS[form](q, p, torch.tensor(0.3)))
    assert module.report()["skew"].item() == pytest.approx(0.3)


def test_a_fixed_skew_stays_in_training():
    q, p = moments()
    module = GeometricJS(0.3).build().train()
    before = value(module, q, p)
    assert list(module.parameters()) == []
    assert torch.equal(before, FORMS["geometric_js"](q, p, torch.tensor(0.3)))
    assert module.skew.value.item() == pytest.approx(0.3)


@pytest.mark.parametrize("form", FORM)
def test_newton_finds_the_batchs_minimum_and_goes_on_from_there(form):
    module, (q, p) = FORM[form](Newton(0.9)).build().train(), moments()
    for _ in range(3):
        found = value(module, q, p)
    best = minimize_scalar(lambda a: FORMS[form](q, p, a).mean().item(), bounds=(0, 1), method="bounded").x
    assert module.skew.value.item() == pytest.approx(best, abs=1e-4)
    assert torch.equal(found, FORMS[form](q, p, module.skew.value))
    assert list(module.parameters()) == []
    module.eval()
    stands = module.skew.value.clone()
    value(module, *moments(1))
    assert torch.equal(module.skew.value, stands)


def minimum(form, per, q, p):
    """The lowest mean divergence of a batch of Gaussians, by one scalar minimisation for each skew."""
    q, p = q.base_dist, p.base_dist
    rows, columns = range(len(q.loc)), range(q.loc.shape[1])
    groups = {"batch": [...], "datum": list(rows), "latent": [(..., j) for j in columns]}
    groups["both"] = [(i, j) for i in rows for j in columns]

    def lowest(group):
        return minimize_scalar(lambda a: FORMS[form](q, p, a)[group].sum().item(), bounds=(0, 1), method="bounded").fun

    return sum(map(lowest, groups[per])) / len(rows)


@pytest.mark.parametrize("per", EACH)
@pytest.mark.parametrize("form", FORM)
def test_newtons_gradient_is_that_of_the_minimised_divergence(form, per):
    """The envelope theorem, against central differences of the minimum over the skews."""
    q, p = moments()
    loc, scale = q.base_dist.loc.double(), q.base_dist.scale.double()
    p = Independent(Normal(torch.zeros(3, dtype=D), torch.ones(3, dtype=D)), 1)

    def moved(shift):
        return Independent(Normal(loc + shift, scale), 1)

    module = FORM[form](Newton(per=per)).build().double().train()
    shift = torch.zeros((), dtype=D, requires_grad=True)
    for _ in range(3):
        value(module, moved(0.0), p)
    value(module, moved(shift), p).mean().backward()
    numeric = (minimum(form, per, moved(1e-3), p) - minimum(form, per, moved(-1e-3), p)) / 2e-3
    assert shift.grad.item() == pytest.approx(numeric, rel=1e-4)


@pytest.mark.parametrize("form", FORM)
def test_the_more_skews_the_lower_the_divergence(form):
    (q, p), lowest = moments(n=30), {}
    for per in EACH:
        module = FORM[form](Newton(per=per)).build().train()
        for _ in range(3):
            lowest[per] = value(module, q, p).mean().item()
    assert lowest["both"] < min(lowest["datum"], lowest["latent"])
    assert max(lowest["datum"], lowest["latent"]) < lowest["batch"]


@pytest.mark.parametrize("per", EACH[1:])
@pytest.mark.parametrize("form", FORM)
def test_several_skews_are_found_in_evaluation_too_and_reported_by_mean_and_spread(form, per):
    module, (q, p) = FORM[form](Newton(0.4, per)).build(), moments()
    found, best = value(module.train(), q, p), optimal_skew(q, p, form, per=per)
    values = FORMS[form](q, p, best) if per == "datum" else FORMS[form](q.base_dist, p.base_dist, best).sum(-1)
    torch.testing.assert_close(found, values, rtol=1e-5, atol=1e-6)
    assert list(module.parameters()) == []
    reported = {name: number.item() for name, number in module.report().items()}
    assert reported == pytest.approx(
        {"skew": best.mean().item(), "skew_spread": best.std(correction=0).item()}, abs=1e-5
    )
    assert module.measured(q, p) == pytest.approx(
        {f"optimal_{name}": number for name, number in reported.items()}, abs=1e-5
    )
    other, _ = moments(1)
    assert value(module.eval(), other, p).mean().item() == pytest.approx(minimum(form, per, other, p), rel=1e-4)
    assert {name: number.item() for name, number in module.report().items()} == reported


def test_posteriors_on_the_prior_keep_the_start_and_get_no_gradient():
    loc = torch.tensor([[0.0, 1.0], [0.0, 0.0]], requires_grad=True)
    q, p = Independent(Normal(loc, torch.ones(2, 2)), 1), Independent(Normal(torch.zeros(2), torch.ones(2)), 1)
    assert optimal_skew(q, p, "dual_geometric_js", per="datum", start=0.3)[1].item() == pytest.approx(0.3)
    both = optimal_skew(q, p, "dual_geometric_js", per="both", start=0.3)
    torch.testing.assert_close(both, torch.tensor([[0.3, 0.5], [0.3, 0.3]]))
    (slope,) = torch.autograd.grad(value(DualGeometricJS(Newton(per="both")).build().train(), q, p).sum(), loc)
    assert slope[loc == 0].abs().max() == 0
    assert slope[0, 1] > 0


def test_the_resistor_average_is_the_extended_form_with_a_skew_for_each_datum():
    q, p = moments()
    each = value(ExtendedGeometricJS(Newton(per="datum")).build(), q, p)
    torch.testing.assert_close(each, resistor_average(q, p))
    both = value(ExtendedGeometricJS(Newton(per="both")).build(), q, p)
    torch.testing.assert_close(both, resistor_average(q.base_dist, p.base_dist).sum(-1))


@pytest.mark.parametrize(("nats", "of_means", "of_widths"), [(1.02, 0.90, 1.08), (12.0, 1.0, 1.0)])
def test_the_resistor_average_weighs_nearly_as_the_kl_does(nats, of_means, of_widths):
    """Relative to KL(q‖p), where mean square and variance add up to one, as notebook 10 has it."""
    sd = torch.tensor(math.exp(-nats), dtype=D)
    loc, log_sd = (1 - sd**2).sqrt().requires_grad_(), sd.log().requires_grad_()
    q, p = Normal(loc, log_sd.exp()), Normal(torch.zeros((), dtype=D), torch.ones((), dtype=D))
    ours = torch.autograd.grad(resistor_average(q, p), [loc, log_sd], retain_graph=True)
    kl = torch.autograd.grad(reverse_kl(q, p), [loc, log_sd])
    assert [float(a / b) for a, b in zip(ours, kl)] == pytest.approx([of_means, of_widths], abs=6e-3)


def test_a_number_stands_for_a_fixed_skew():
    assert GeometricJS(0.3) == GeometricJS(Fixed(0.3)) == GeometricJS(skew={"kind": "fixed", "start": 0.3})
    assert GeometricJS(1).canonical() == GeometricJS(1.0).canonical()
    assert GeometricJS("newton").skew == Newton(0.5)
    assert Newton(per="batch").canonical() == {"kind": "newton"}


@pytest.mark.parametrize("power", [1, 2])
def test_the_predicted_skew_is_the_minimum_of_the_narrow_dual(power):
    a, rate = sympy.symbols("a K", positive=True)
    narrow = a * rate + ((1 - a) ** 2 / a + sympy.log(a)) / power
    slope = sympy.diff(narrow, a)
    for value in (0.5, 2, 7):
        found = predicted_skew(sympy.Integer(1) * sympy.Rational(value), power=power)
        assert abs(slope.subs({a: found, rate: sympy.Rational(value)}).evalf(30)) < 1e-12
        assert sympy.diff(slope, a).subs(a, found) > 0


def test_the_rate_of_a_skew_is_the_inverse():
    rates = torch.linspace(0.1, 6, 30, dtype=D)
    for power in (1.0, 2.0):
        torch.testing.assert_close(rate_of_skew(predicted_skew(rates, power=power), power=power), rates)


@pytest.mark.parametrize("form", ["geometric_js", "dual_geometric_js"])
def test_rates_alone_have_the_skew_of_all_posteriors_that_fit_the_prior(form):
    """Any means whose squares average to 1 - σ² do, here of Student's t; rates by the KL of all; wide latents, too."""
    sd = torch.tensor([0.1, 0.3, 0.7, 0.95], dtype=D)
    means = torch.as_tensor(stats.t(5).rvs((500, 4), random_state=0))
    means = means * ((1 - sd**2) / means.square().mean(0)).sqrt()
    q = Independent(Normal(means, sd.expand(500, 4)), 1)
    p = Independent(Normal(torch.zeros(4, dtype=D), torch.ones(4, dtype=D)), 1)
    each = (means.square() + sd**2 - 1 - 2 * sd.log()).mean(0) / 2  # KL(q‖p) of each latent
    sums = lambda a: FORMS[form](q, p, a).mean().item()  # noqa: E731
    exact = minimize_scalar(sums, bounds=(0.01, 0.9), method="bounded", options={"xatol": 1e-10}).x
    assert skew_of_rates(each, form).item() == pytest.approx(exact, abs=1e-6)
    unused = torch.cat([each, torch.zeros(3, dtype=D)])
    assert skew_of_rates(unused, form).item() == pytest.approx(exact, abs=1e-6)


def test_equal_and_large_rates_have_the_predicted_skew():
    for rate in (3.0, 5.0):
        assert skew_of_rates(torch.full((4,), rate)).item() == pytest.approx(predicted_skew(rate), abs=1e-4)


def test_narrow_gaussians_have_the_predicted_skew_to_the_fourth_order_of_their_width():
    """Where the aggregate fits the prior, mean square and variance adding up to one, half the width has a 16th."""

    def error(sd):
        p = Normal(torch.zeros(1, dtype=D), torch.ones(1, dtype=D))
        q = Normal(torch.full((1,), math.sqrt(1 - sd**2), dtype=D), torch.full((1,), sd, dtype=D))
        exact = minimize_scalar(
            lambda a: FORMS["dual_geometric_js"](q, p, a).item(), bounds=(0.1, 0.7), method="bounded",
            options={"xatol": 1e-12},
        ).x  # fmt: skip
        return abs(exact - predicted_skew(reverse_kl(q, p).item()))

    assert error(0.2) < 2e-3
    assert 10 < error(0.2) / error(0.1) < 22


def test_narrow_laplace_posteriors_have_the_skew_predicted_for_them():
    """By quadrature, before a Gaussian prior."""
    z = np.linspace(-1, 3, 400_001)
    step, width = z[1] - z[0], 0.01
    log_q, log_p = -np.abs(z - 1) / width - np.log(2 * width), -(z**2) / 2 - np.log(2 * np.pi) / 2

    def dual(a):
        log_g = a * log_q + (1 - a) * log_p
        log_g -= np.log(np.exp(log_g).sum() * step)
        return (np.exp(log_g) * (log_g - (1 - a) * log_q - a * log_p)).sum() * step

    rate = (np.exp(log_q) * (log_q - log_p)).sum() * step
    found = minimize_scalar(dual, bounds=(0.1, 0.7), method="bounded").x
    assert found == pytest.approx(predicted_skew(rate, power=1), abs=1e-3)
    assert abs(found - predicted_skew(rate)) > 0.05


@pytest.mark.parametrize("shape", [stats.logistic, stats.gumbel_r], ids=["logistic", "gumbel"])
def test_the_error_of_narrow_location_scale_posteriors_falls_with_their_scale(shape):
    """Theorem 4 of notebook 10: the skew that K and the shape's c(a) ask for, against the best one by quadrature."""
    x = np.linspace(-40, 40, 40_001)
    step, log_h = x[1] - x[0], shape.logpdf(x)
    entropy = -(np.exp(log_h) * log_h).sum() * step

    def error(scale):
        log_q, log_p = log_h - np.log(scale), stats.norm.logpdf(1 + scale * x)
        rate = (np.exp(log_h) * (log_q - log_p)).sum() * step

        def narrow(a):
            weight = np.exp(a * log_h) * step
            rho, slope = np.log(weight.sum()), (weight * log_h).sum() / weight.sum()
            return a * (rate + entropy) + (2 * a - 1) * slope - rho

        def dual(a):
            log_g = a * log_q + (1 - a) * log_p
            log_g = log_g - np.log(np.exp(log_g).sum() * step * scale)
            return (np.exp(log_g) * (log_g - (1 - a) * log_q - a * log_p)).sum() * step * scale

        exact, found = (minimize_scalar(f, bounds=(0.05, 0.8), method="bounded").x for f in (dual, narrow))
        return abs(exact - found)

    errors = [error(scale) for scale in (0.1, 0.03, 0.01, 0.003)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < min(2e-3, errors[0] / 8)


def test_the_dual_of_one_poisson_or_bernoulli_has_one_minimum():
    """With ψ = log Z the product of ψ' and its third derivative is below the square of the second (notebook 10)."""
    t = np.linspace(0.005, 0.995, 199)
    for d in (-40.0, -3.0, -0.1, 0.1, 3.0, 40.0):  # of two Poissons whose rates have this log ratio
        first, bend = d * np.exp(t * d) - np.expm1(d), d**2 * np.exp(t * d)
        ratio = first * d * bend / bend**2
        np.testing.assert_allclose(ratio, 1 - np.expm1(d) / (d * np.exp(t * d)), rtol=1e-9)
        assert ratio.max() < 1
    ends = np.random.default_rng(0).normal(scale=6, size=(300, 2))
    for low, high in [*ends, (0.0, 9.0), (-9.0, 9.0)]:  # log-odds of two Bernoullis
        d, s = high - low, special.expit(low + t * (high - low))
        mean = (np.logaddexp(0, high) - np.logaddexp(0, low)) / d  # of s along the path
        first, bend, third = d * (s - mean), d**2 * s * (1 - s), d**3 * s * (1 - s) * (1 - 2 * s)
        assert (first * third / bend**2).max() < 1
