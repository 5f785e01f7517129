"""A family that is registered from outside works wherever those of the package do."""

import math

import pytest
import torch
from scipy import integrate
from scipy.optimize import minimize_scalar
from torch.distributions import Exponential, Independent, Normal, kl_divergence

from vaelib import divergences as dv
from vaelib.divergences import families

D = torch.float64
SKEWS = [0.0, 0.2, 0.5, 0.9, 1.0]


@pytest.fixture(autouse=True)
def _exponential(monkeypatch):
    """As the docstring of `register_geometry` has it; afterwards it is gone."""
    monkeypatch.setattr(families, "_GEOMETRIES", dict(families._GEOMETRIES))

    @dv.register_geometry(Exponential)
    class ExponentialGeometry(dv.Geometry):
        parameters = ("rate",)

        def mean(self, q, p, skew):
            rate = skew * q.rate + (1 - skew) * p.rate
            log_normaliser = skew * q.rate.log() + (1 - skew) * p.rate.log() - rate.log()
            return Exponential(rate, validate_args=False), log_normaliser


def exponential(rate):
    return Exponential(torch.tensor(rate, dtype=D))


@pytest.mark.parametrize("skew", SKEWS)
@pytest.mark.parametrize("rates", [(3.0, 1.0), (0.4, 2.0)])
def test_a_registered_family_against_quadrature(rates, skew):
    q, p = map(exponential, rates)

    def integral(function):
        def at(x):
            x = torch.tensor(x, dtype=D)
            return float(function(q.log_prob(x), p.log_prob(x)))

        return integrate.quad(at, 0, 120, points=[1, 10], limit=400)[0]

    z = integral(lambda a, b: (skew * a + (1 - skew) * b).exp())

    def kl(weight, against):
        return integral(lambda a, b: weight(a, b).exp() * (weight(a, b) - against(a, b)))

    mean, first, second = lambda a, b: skew * a + (1 - skew) * b - math.log(z), lambda a, b: a, lambda a, b: b
    js = (1 - skew) * kl(first, mean) + skew * kl(second, mean)
    dual = (1 - skew) * kl(mean, first) + skew * kl(mean, second)
    assert dv.geometric_js(q, p, skew).item() == pytest.approx(js, rel=1e-6, abs=1e-9)
    assert dv.dual_geometric_js(q, p, skew).item() == pytest.approx(dual, rel=1e-6, abs=1e-9)
    assert dv.geometric_mean(q, p, skew)[1].item() == pytest.approx(math.log(z), abs=1e-9)
    extended = (1 - skew) ** 2 * kl(first, second) + skew**2 * kl(second, first)
    assert dv.extended_geometric_js(q, p, skew).item() == pytest.approx(extended, rel=1e-6)


@pytest.mark.parametrize("form", dv.FORMS)
def test_the_skew_of_a_registered_family_is_the_minimiser(form):
    q, p = exponential([3.0, 0.4, 1.1]), exponential(1.0)

    def mean(a):
        return dv.FORMS[form](q, p, torch.tensor(a, dtype=D)).mean().item()

    exact = minimize_scalar(mean, bounds=(0, 1), method="bounded", options={"xatol": 1e-9}).x
    assert dv.optimal_skew(q, p, form).item() == pytest.approx(exact, abs=2e-6)


@pytest.mark.parametrize("form", dv.FORMS)
def test_a_registered_family_goes_into_composites(form):
    """A vector of them beside a Gaussian: the sums over coordinates and parts."""
    rates = torch.tensor([[3.0, 0.4], [1.2, 2.0]], dtype=D)
    loc, scale = torch.tensor([[0.3], [-1.0]], dtype=D), torch.tensor([[0.4], [1.5]], dtype=D)
    ones, zero = torch.ones(2, dtype=D), torch.zeros(1, dtype=D)
    q = dv.Product([Independent(Exponential(rates), 1), Independent(Normal(loc, scale), 1)])
    p = dv.Product([Independent(Exponential(ones), 1), Independent(Normal(zero, ones[:1]), 1)])
    by_hand = dv.FORMS[form](Exponential(rates), Exponential(ones), 0.3).sum(1)
    by_hand = by_hand + dv.FORMS[form](Normal(loc, scale), Normal(zero, ones[:1]), 0.3).sum(1)
    torch.testing.assert_close(dv.FORMS[form](q, p, 0.3), by_hand)
    grid = torch.linspace(0, 1, 2001, dtype=D)
    values = torch.stack([dv.FORMS[form](q, p, a).mean() for a in grid])
    assert dv.optimal_skew(q, p, form).item() == pytest.approx(grid[values.argmin()].item(), abs=6e-4)
    torch.testing.assert_close(dv.reverse_kl(q, p), kl_divergence(q, p))


def test_the_skew_of_a_registered_family_vectorises():
    rates = torch.tensor([[3.0, 0.4, 1.1], [0.2, 0.3, 2.0]], dtype=D)

    def one(rates):
        return dv.optimal_skew(Exponential(rates, validate_args=False), exponential(1.0), "geometric_js")

    torch.testing.assert_close(torch.func.vmap(one)(rates), torch.stack([one(r) for r in rates]), rtol=0, atol=1e-6)


def test_a_registered_family_is_named_among_those_that_are_supported():
    with pytest.raises(TypeError, match=r"Normal.*Exponential"):
        dv.geometric_mean(exponential(1.0), Normal(0.0, 1.0), 0.5)
