"""Fitting one Gaussian to a density that is known point by point, by any divergence: the papers' toy examples.

Between a Gaussian q and a mixture p no divergence has a closed form. Here every one is a sum over weighted points that
do not move during the fit, so a fit is a smooth, deterministic minimisation. Convention as in
:mod:`vaelib.divergences`, with the mixture in the place of the prior.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal

from vaelib.divergences.sampling import sample
from vaelib.errors import Invalid

FITTED = ("kl", "forward_kl", "geometric_js", "dual_geometric_js")
"""The divergences that a Gaussian can be fitted by."""


class Points(NamedTuple):
    """Points ``(n, d)`` and weights ``(n,)`` that integrate: the integral of f is about the sum of weight times f."""

    x: Tensor
    weight: Tensor


def grid(low: float, high: float, points: int, dimension: int) -> Points:
    """An even grid over a cube: exact for smooth densities that vanish at its faces; for one or two dimensions."""
    axis = torch.linspace(low, high, points, dtype=torch.float64)
    x = torch.cartesian_prod(*[axis] * dimension).reshape(-1, dimension)
    return Points(x, torch.full((len(x),), float(axis[1] - axis[0]) ** dimension, dtype=torch.float64))


def draws(target: Distribution, n: int, seed: int) -> Points:
    """Points for more dimensions: half from the target, half from a broad Gaussian around it, weighted to match."""
    generator = torch.Generator().manual_seed(seed)
    own = sample(target, n // 2, generator).double()
    mean, sd = own.mean(0), 1.3 * own.std(0)
    broad = Independent(Normal(mean, sd), 1)
    x = torch.cat([own, sample(broad, n - n // 2, generator)])
    proposal = torch.stack([target.log_prob(x), broad.log_prob(x)]).logsumexp(0) - torch.tensor(2.0).log()
    return Points(x, (-proposal).exp() / n)


def divergence(log_q: Tensor, log_p: Tensor, weight: Tensor, form: str, skew: Tensor | float) -> Tensor:
    """A divergence of two densities from their logarithms at weighted points, shape ``()``, in nats.

    Parameters
    ----------
    log_q, log_p, weight
        Shape ``(n,)``.
    form
        One of :data:`FITTED`.
    skew
        Of the two forms that have one.
    """

    def kl(log_a: Tensor, log_b: Tensor) -> Tensor:
        # + b - a integrates to nothing; it makes every term positive, and the sum robust to the points' error.
        a, b = log_a.exp(), log_b.exp()
        return (weight * (a * (log_a - log_b) + b - a)).sum()

    if form == "kl":
        return kl(log_q, log_p)
    if form == "forward_kl":
        return kl(log_p, log_q)
    log_g = skew * log_q + (1 - skew) * log_p
    log_g = log_g - (weight.log() + log_g).logsumexp(0)
    if form == "geometric_js":
        return (1 - skew) * kl(log_q, log_g) + skew * kl(log_p, log_g)
    return (1 - skew) * kl(log_g, log_q) + skew * kl(log_g, log_p)


@dataclass(frozen=True)
class Fit:
    """A fitted Gaussian, its skew (learned, fixed or none), and the divergence that is left, in nats."""

    gaussian: MultivariateNormal
    skew: float | None
    divergence: float


def fit(
    target: Distribution,
    form: str,
    points: Points,
    *,
    skew: float | None = None,
    ball: bool = False,
    mean: Tensor | None = None,
    steps: int = 60,
) -> Fit:
    """Fit a Gaussian to a density by minimising a divergence.

    Parameters
    ----------
    target
        A distribution of event shape ``(d,)``.
    form
        One of :data:`FITTED`.
    points
        From :func:`grid` or :func:`draws`.
    skew
        Held fixed; None: it is learned together with the Gaussian, where the form has one.
    ball
        Fit a Gaussian ball, whose covariance is a multiple of the identity, as the α-VAE paper's figure 2 does.
    mean
        Where to start; by default at the target's moments. The reverse KL has one minimum a mode.
    steps
        Most iterations of L-BFGS.

    Raises
    ------
    ValueError
        If the form is unknown, or the divergence becomes infinite or not a number.
    """
    if form not in FITTED:
        raise Invalid("form", form, f"one of {', '.join(FITTED)}")
    x, weight = points
    log_p, dimension = target.log_prob(x).double(), x.shape[1]
    mass = weight * log_p.exp()
    centre = (mass[:, None] * x).sum(0) / mass.sum()
    spread = ((mass[:, None] * (x - centre) ** 2).sum(0) / mass.sum()).mean().sqrt()
    loc = (centre if mean is None else mean.double()).clone().requires_grad_()
    root = (torch.zeros(()) if ball else torch.zeros(dimension, dimension)).double().requires_grad_()
    logit = torch.zeros((), dtype=torch.float64, requires_grad=True)
    learned = skew is None and form in ("geometric_js", "dual_geometric_js")
    eye = torch.eye(dimension, dtype=torch.float64)

    def gaussian() -> MultivariateNormal:
        # A triangle whose diagonal is an exponential: any covariance, and none that is not one.
        scale = root.exp() * eye if ball else root.tril(-1) + torch.diag_embed(root.diagonal().exp())
        return MultivariateNormal(loc, scale_tril=spread * scale, validate_args=False)

    def left() -> Tensor:
        return divergence(gaussian().log_prob(x), log_p, weight, form, logit.sigmoid() if learned else skew or 0.0)

    parameters = [loc, root, *([logit] if learned else [])]
    optimiser = torch.optim.LBFGS(parameters, max_iter=steps, tolerance_grad=1e-8, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = left()
        value.backward()
        return value

    optimiser.step(closure)
    with torch.no_grad():
        value, fitted = float(left()), gaussian()
    if not torch.tensor(value).isfinite():
        raise ValueError(
            f"points: the {form} of the fit is {value}; the points have to cover the target and the Gaussian"
        )
    return Fit(fitted, logit.sigmoid().item() if learned else skew, value)
