r"""Divergences between a posterior q and a prior p, one number a sample, in nats.

Every function takes :mod:`torch.distributions` objects and returns what
:func:`torch.distributions.kl_divergence` would: a tensor of their batch shape, summed over event dimensions. The
convention is that of the thesis (its eqs. 36 to 38), throughout:

.. math::

    G_a = q^a p^{1-a} / Z(a), \qquad
    JS^G_a = (1-a) KL(q‖G_a) + a KL(p‖G_a), \qquad
    JS^G_{*a} = (1-a) KL(G_a‖q) + a KL(G_a‖p),

so that a = 0 gives KL(q‖p) for the first and KL(p‖q) for the dual, and a = 1 the other. Supported are pairs of Normal,
MultivariateNormal, Categorical, OneHotCategorical or Bernoulli, Independent of these, and a Product of any.
"""

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    Independent,
    MultivariateNormal,
    Normal,
    OneHotCategorical,
    constraints,
    kl_divergence,
    register_kl,
)
from torch.func import grad
from torch.nn.functional import softplus

SkewLike = float | Tensor


class Product(Distribution):
    """Independent distributions side by side: an event is their events, concatenated.

    Parameters
    ----------
    parts
        Distributions of one batch shape, with events that are vectors.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}

    def __init__(self, parts: Sequence[Distribution]):
        self.parts, self._sizes = list(parts), [part.event_shape[0] for part in parts]
        super().__init__(parts[0].batch_shape, torch.Size([sum(self._sizes)]), validate_args=False)

    @property
    def mean(self) -> Tensor:
        """``(*batch, sum of the parts' sizes)``."""
        return torch.cat([part.mean for part in self.parts], dim=-1)

    @property
    def variance(self) -> Tensor:
        """As :attr:`mean`."""
        return torch.cat([part.variance for part in self.parts], dim=-1)

    def log_prob(self, value: Tensor) -> Tensor:
        """The sum of the parts' log-densities."""
        return sum(part.log_prob(v) for part, v in zip(self.parts, value.split(self._sizes, dim=-1)))


@register_kl(Product, Product)
def _(q: Product, p: Product) -> Tensor:
    return sum(reverse_kl(a, b) for a, b in zip(q.parts, p.parts))


def reverse_kl(q: Distribution, p: Distribution) -> Tensor:
    """KL(q‖p), the rate of the evidence lower bound."""
    # What torch.distributions has for discrete families assigns by a mask: it cannot be vectorised over a stack, and
    # does not broadcast.
    if isinstance(q, OneHotCategorical) and isinstance(p, OneHotCategorical):
        return (q.probs * (q.logits - p.logits)).sum(-1)
    if isinstance(q, Bernoulli) and isinstance(p, Bernoulli):
        return q.probs * (q.logits - p.logits) - softplus(q.logits) + softplus(p.logits)
    if isinstance(q, Independent) and isinstance(p, Independent):
        dims = q.reinterpreted_batch_ndims
        if dims == p.reinterpreted_batch_ndims:
            return _sum_last(reverse_kl(q.base_dist, p.base_dist), dims)
    return kl_divergence(q, p)


def forward_kl(q: Distribution, p: Distribution) -> Tensor:
    """KL(p‖q)."""
    return reverse_kl(p, q)


# The natural parameters of each family that define it: what the weighted geometric mean interpolates.
_PARAMETERS: dict[type[Distribution], tuple[str, ...]] = {
    Normal: ("loc", "scale"),
    MultivariateNormal: ("loc", "scale_tril"),
    Categorical: ("logits",),
    OneHotCategorical: ("logits",),
    Bernoulli: ("logits",),
}


def _family(q: Distribution, p: Distribution) -> type[Distribution]:
    """The common family of two distributions."""
    if type(q) is not type(p) or type(q) not in _PARAMETERS:
        names = ", ".join(family.__name__ for family in _PARAMETERS)
        raise TypeError(
            f"q, p: a pair of {type(q).__name__} and {type(p).__name__} is not supported; "
            f"both have to be of one family out of {names}, or Independent of it"
        )
    return type(q)


def geometric_mean(q: Distribution, p: Distribution, skew: SkewLike) -> tuple[Distribution, Tensor]:
    """The normalised weighted geometric mean G ∝ q^a p^(1-a) of two distributions of one family.

    Parameters
    ----------
    q, p
        Distributions.
    skew
        a in [0, 1], a number or a tensor that broadcasts with the parameters.

    Returns
    -------
    mean : Distribution
        G, of the same family.
    log_normaliser : Tensor
        log Z(a), never positive, of the batch shape.

    Raises
    ------
    TypeError
        If the pair is not supported.
    """
    if isinstance(q, Product) and isinstance(p, Product):
        means, log_normalisers = zip(*(geometric_mean(a, b, skew) for a, b in zip(q.parts, p.parts)))
        return Product(means), sum(log_normalisers)
    if isinstance(q, Independent) and isinstance(p, Independent):
        dims = q.reinterpreted_batch_ndims
        base, log_normaliser = geometric_mean(q.base_dist, p.base_dist, skew)
        return Independent(base, dims, validate_args=False), _sum_last(log_normaliser, dims)
    family, a = _family(q, p), skew
    if family is Normal:
        c = _Normalised(q, p, a)
        mean = Normal(p.loc + p.scale * c.w * c.m, p.scale * c.u.rsqrt(), validate_args=False)
        return mean, -(a * c.v * c.lam * c.m**2 + c.u.log() + 2 * a * c.r.log()) / 2
    if family is MultivariateNormal:
        (eta_q, precision_q), (eta_p, precision_p) = _natural(q), _natural(p)
        eta, precision = a * eta_q + (1 - a) * eta_p, a * precision_q + (1 - a) * precision_p
        loc = torch.linalg.solve(precision, eta.unsqueeze(-1)).squeeze(-1)
        mean = MultivariateNormal(loc, precision_matrix=precision, validate_args=False)
        parts = [_log_partition(eta, precision), _log_partition(eta_q, precision_q), _log_partition(eta_p, precision_p)]
        return mean, parts[0] - a * parts[1] - (1 - a) * parts[2]
    logits = a * q.logits + (1 - a) * p.logits
    if family is Bernoulli:
        return Bernoulli(logits=logits, validate_args=False), (
            softplus(logits) - a * softplus(q.logits) - (1 - a) * softplus(p.logits)
        )
    return family(logits=logits, validate_args=False), logits.logsumexp(-1)


def _natural(d: MultivariateNormal) -> tuple[Tensor, Tensor]:
    precision = d.precision_matrix
    return (precision @ d.loc.unsqueeze(-1)).squeeze(-1), precision


def _log_partition(eta: Tensor, precision: Tensor) -> Tensor:
    quadratic = (eta * torch.linalg.solve(precision, eta.unsqueeze(-1)).squeeze(-1)).sum(-1)
    return (quadratic - torch.linalg.slogdet(precision).logabsdet) / 2


class _Normalised:
    """A pair of Gaussians in the coordinates in which p = N(0, 1) and q = N(m, r^2), one coordinate at a time.

    Written so that nothing overflows, cancels or turns into 0 * inf, at a = 0 and a = 1 either, as long as both KLs
    can be represented.
    """

    def __init__(self, q: Normal, p: Normal, skew: SkewLike):
        a = self.a = skew
        self.r = q.scale / p.scale
        self.m = (q.loc - p.loc) / p.scale
        precision = 1 / self.r
        self.lam = precision * precision  # of q; as a product, so that its gradient does not overflow first
        self.u = (1 - a) + a * self.lam  # precision of G
        self.v = (1 - a) / self.u
        self.w = a * self.lam / self.u  # = 1 - v
        self.gap = (1 - self.r) * (1 + self.r)  # 1 - r^2 without cancellation

    def to_mean(self) -> tuple[Tensor, Tensor]:
        a, m2 = self.a, self.m**2
        wide = a + (1 - a) * self.r**2
        from_q = _excess(wide, -(1 - a) * self.gap) + (1 - a) * self.v * m2
        from_p = _excess(self.u, a * self.lam * self.gap) + a * self.w * self.lam * m2
        return from_q / 2, from_p / 2

    def from_mean(self) -> tuple[Tensor, Tensor]:
        m2 = self.m**2
        to_q = _excess(self.lam / self.u, self.v * self.lam * self.gap) + self.v**2 * self.lam * m2
        to_p = _excess(1 / self.u, -self.w * self.gap) + self.w**2 * m2
        return to_q / 2, to_p / 2


def _excess(value: Tensor, above_one: Tensor) -> Tensor:
    """The convex function x - 1 - log x at `value` = 1 + `above_one`, to full precision near one as well."""
    close, tiny = above_one.abs() < 0.5, above_one.abs() < torch.finfo(value.dtype).eps ** 0.2
    log = torch.where(close, torch.where(close, above_one, 0.0).log1p(), torch.where(close, 1.0, value).log())
    x = torch.where(tiny, above_one, 0.0)
    series = x * x * (1 / 2 - x * (1 / 3 - x * (1 / 4 - x * (1 / 5 - x / 6))))
    return torch.where(tiny, series, above_one - log)


def _sum_last(values: Tensor, dims: int) -> Tensor:
    return values.flatten(-dims).sum(-1) if dims else values


def _kls(q: Distribution, p: Distribution, skew: SkewLike, *, to_mean: bool) -> tuple[Tensor, Tensor]:
    """KL(q‖G) and KL(p‖G), or KL(G‖q) and KL(G‖p)."""
    if isinstance(q, Product) and isinstance(p, Product):
        firsts, seconds = zip(*(_kls(a, b, skew, to_mean=to_mean) for a, b in zip(q.parts, p.parts)))
        return sum(firsts), sum(seconds)
    if isinstance(q, Independent) and isinstance(p, Independent):
        first, second = _kls(q.base_dist, p.base_dist, skew, to_mean=to_mean)
        return _sum_last(first, q.reinterpreted_batch_ndims), _sum_last(second, q.reinterpreted_batch_ndims)
    if _family(q, p) is Normal:
        pair = _Normalised(q, p, skew)
        return pair.to_mean() if to_mean else pair.from_mean()
    mean, _ = geometric_mean(q, p, skew)
    return (reverse_kl(q, mean), reverse_kl(p, mean)) if to_mean else (reverse_kl(mean, q), reverse_kl(mean, p))


def geometric_js(q: Distribution, p: Distribution, skew: SkewLike) -> Tensor:
    """Skew geometric Jensen-Shannon divergence (1-a) KL(q‖G) + a KL(p‖G): thesis eq. 36, α-VAE eqs. 3 and 4.

    Strictly convex in the skew, with one interior minimum, unless q = p.
    """
    from_q, from_p = _kls(q, p, skew, to_mean=True)
    return (1 - skew) * from_q + skew * from_p


def dual_geometric_js(q: Distribution, p: Distribution, skew: SkewLike) -> Tensor:
    """Dual skew geometric Jensen-Shannon divergence (1-a) KL(G‖q) + a KL(G‖p): thesis eq. 37, α-VAE eqs. 7 and 8.

    For Gaussians strictly convex in the skew, with one interior minimum, unless q = p; other families need not be.
    """
    to_q, to_p = _kls(q, p, skew, to_mean=False)
    return (1 - skew) * to_q + skew * to_p


def extended_geometric_js(q: Distribution, p: Distribution, skew: SkewLike) -> Tensor:
    """The skew geometric JS with G not normalised: (1-a)^2 KL(q‖p) + a^2 KL(p‖q), as α-VAE proposition 1 has it.

    It is :func:`geometric_js` minus log Z(a).
    """
    return (1 - skew) ** 2 * reverse_kl(q, p) + skew**2 * forward_kl(q, p)


FORMS: dict[str, Callable[[Distribution, Distribution, SkewLike], Tensor]] = {
    "geometric_js": geometric_js,
    "dual_geometric_js": dual_geometric_js,
    "extended_geometric_js": extended_geometric_js,
}
"""The divergences that have a skew, by name."""


def resistor_average(q: Distribution, p: Distribution) -> Tensor:
    """KL(q‖p) KL(p‖q) / (KL(q‖p) + KL(p‖q)): the minimum over the skew of :func:`extended_geometric_js`.

    Zero, with gradient zero, where q = p.
    """
    reverse, forward = reverse_kl(q, p), forward_kl(q, p)
    return reverse * (forward / (reverse + forward).clamp_min(torch.finfo(reverse.dtype).tiny))


def mmd(samples: Tensor, prior_samples: Tensor) -> Tensor:
    """Maximum mean discrepancy of codes ``(n, d)`` and draws from the prior ``(m, d)``, shape ``()``.

    The biased (V-statistic) estimate with the kernel exp(-mean_d (x-y)^2 / d), as InfoVAE defines it. The papers' own
    code compares other things with it: rows of (mean, log-variance) with standard normal rows. For that, hand over
    :func:`moment_rows` and draws of the same width.
    """

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return (-(x[:, None] - y[None]).square().mean(-1) / x.shape[-1]).exp().mean()

    return kernel(samples, samples) + kernel(prior_samples, prior_samples) - 2 * kernel(samples, prior_samples)


def moment_rows(q: Distribution) -> Tensor:
    """Rows (mean, log-variance) ``(n, 2 d)`` of diagonal Gaussians: codes, to the papers' MMD."""
    return torch.cat([q.mean, q.variance.log()], dim=-1)


def _detached(d: Distribution) -> Distribution:
    """The same distribution in double precision, outside of the gradient's graph."""
    if isinstance(d, Product):
        return Product([_detached(part) for part in d.parts])
    if isinstance(d, Independent):
        return Independent(_detached(d.base_dist), d.reinterpreted_batch_ndims, validate_args=False)
    parameters = {name: getattr(d, name).detach().double() for name in _PARAMETERS[_family(d, d)]}
    return type(d)(**parameters, validate_args=False)


def _log_normaliser_derivatives(q: Distribution, p: Distribution, skew: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The first three derivatives of the batch mean of log Z(a), on which alone both normalised forms depend in a."""
    if isinstance(q, Product):
        parts = [_log_normaliser_derivatives(a, b, skew) for a, b in zip(q.parts, p.parts)]
        return tuple(sum(derivatives) for derivatives in zip(*parts))
    if isinstance(q, Independent) and isinstance(q.base_dist, Normal):
        # A mean over all coordinates, times their number, is the mean over the batch of the sum over coordinates.
        first, second, third = _log_normaliser_derivatives(q.base_dist, p.base_dist, skew)
        count = q.event_shape.numel()
        return first * count, second * count, third * count
    if isinstance(q, Normal):
        c = _Normalised(q, p, skew)
        rise, bend = c.lam * c.gap / c.u, c.lam**2 * c.m**2 / c.u**3
        slope = -((c.lam * c.v**2 - c.w**2) * c.m**2 + rise + 2 * c.r.log()) / 2
        return slope.mean(), (bend + rise**2 / 2).mean(), (-3 * bend * rise - rise**3).mean()
    first = grad(lambda a: geometric_mean(q, p, a)[1].mean())
    second = grad(first)
    return first(skew), second(skew), grad(second)(skew)


def optimal_skew(q: Distribution, p: Distribution, form: str, *, start: SkewLike = 0.5, iterations: int = 25) -> Tensor:
    """The skew that minimises the mean divergence over a batch, shape ``()``, without gradient.

    The extended form has it in closed form: KL(q‖p) / (KL(q‖p) + KL(p‖q)), α-VAE eq. 16. The others are found by
    Newton's method in double precision, with a bisection where a step would leave the interval that holds the minimum
    or is not half of the last one; the number of steps is fixed, so that it can be vectorised.

    Parameters
    ----------
    q, p
        Posteriors of any batch shape, and a prior.
    form
        One of :data:`FORMS`.
    start
        Where to start, and what comes back where q = p and every skew is as good.
    iterations
        Steps; the default reaches 1e-6 from anywhere, a start nearby needs three or four.
    """
    if form not in FORMS:
        raise ValueError(f"form: {form!r} is not allowed; it has to be one of {', '.join(FORMS)}")
    q, p = _detached(q), _detached(p)
    reverse, forward = reverse_kl(q, p).mean(), forward_kl(q, p).mean()
    skew = start = torch.as_tensor(start).detach().to(reverse)
    total = reverse + forward
    if form == "extended_geometric_js":
        skew = torch.where(total > 0, reverse / torch.where(total > 0, total, 1.0), skew)
        return skew.to(torch.get_default_dtype())
    low, high = torch.zeros_like(skew), torch.ones_like(skew)
    last = high
    for _ in range(iterations):
        one, two, three = _log_normaliser_derivatives(q, p, skew)
        if form == "geometric_js":  # = (1-a)^2 KL(q‖p) + a^2 KL(p‖q) + log Z(a)
            slope, curvature = one - 2 * (1 - skew) * reverse + 2 * skew * forward, two + 2 * (reverse + forward)
        else:  # the dual is (2a-1) (log Z)'(a) - log Z(a)
            slope, curvature = one + (2 * skew - 1) * two, 3 * two + (2 * skew - 1) * three
        low, high = torch.where(slope < 0, skew, low), torch.where(slope > 0, skew, high)
        newton = skew - slope / curvature
        size = (newton - skew).abs()
        fast = (newton >= low) & (newton <= high) & ((size <= last / 2) | (size <= 1e-12 * skew))
        step = torch.where(fast, newton, (low + high) / 2)
        skew, last = step, (step - skew).abs()
    skew = torch.where(total > 0, skew, start)
    return skew.to(torch.get_default_dtype())


class Skew(nn.Module):
    """A skew in [0, 1] that can be learned: a parameter, and its projection.

    Whether it is learned is the optimiser's business: a fixed skew is one that no optimiser holds.

    Parameters
    ----------
    start
        Where it starts, in [0, 1].

    Raises
    ------
    ValueError
        If the start lies outside of [0, 1].
    """

    def __init__(self, start: float = 0.5):
        super().__init__()
        if not 0 <= start <= 1:
            raise ValueError(f"skew: {start!r} is not allowed; it has to lie from 0 to 1")
        self.value = nn.Parameter(torch.tensor(float(start)))

    def forward(self) -> Tensor:
        """The skew, shape ``()``."""
        return self.value

    @torch.no_grad()
    def clamp_(self) -> None:
        """Project it back to [0, 1], after an optimiser's step."""
        self.value.clamp_(0, 1)
