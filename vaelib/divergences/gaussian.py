"""The geometry of Gaussians, written so that nothing overflows or cancels."""

import torch
from torch import Tensor
from torch.distributions import Distribution, MultivariateNormal, Normal

from vaelib.divergences.families import Geometry, Pair, SkewLike, Triple, register_geometry, within


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

    def to_mean(self) -> Pair:
        a, m2 = self.a, self.m**2
        wide = a + (1 - a) * self.r**2
        from_q = _excess(wide, -(1 - a) * self.gap) + (1 - a) * self.v * m2
        from_p = _excess(self.u, a * self.lam * self.gap) + a * self.w * self.lam * m2
        return from_q / 2, from_p / 2

    def from_mean(self) -> Pair:
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


@register_geometry(Normal)
class _NormalGeometry(Geometry):
    parameters = ("loc", "scale")

    def kl(self, q: Normal, p: Normal) -> Tensor:
        # Both differences, of r^2 - 1 and log r, are as good near r = 1 as r itself, and as r vanishes.
        r, m = q.scale / p.scale, (q.loc - p.loc) / p.scale
        return ((r - 1) * (r + 1) + m * m) / 2 - r.log()

    def mean(self, q: Normal, p: Normal, skew: SkewLike) -> tuple[Distribution, Tensor]:
        c = _Normalised(q, p, skew)
        mean = Normal(p.loc + p.scale * c.w * c.m, p.scale * c.u.rsqrt(), validate_args=False)
        return mean, -(skew * c.v * c.lam * c.m**2 + c.u.log() + 2 * skew * c.r.log()) / 2

    def kls(self, q: Normal, p: Normal, skew: SkewLike, *, to_mean: bool) -> Pair:
        pair = _Normalised(q, p, skew)
        return pair.to_mean() if to_mean else pair.from_mean()

    def slopes(self, q: Normal, p: Normal, skew: Tensor) -> Triple:
        c = _Normalised(q, p, skew)
        rise, bend = c.lam * c.gap / c.u, c.lam**2 * c.m**2 / c.u**3
        slope = -((c.lam * c.v**2 - c.w**2) * c.m**2 + rise + 2 * c.r.log()) / 2
        return slope, bend + rise**2 / 2, -3 * bend * rise - rise**3


@register_geometry(MultivariateNormal)
class _MultivariateNormalGeometry(Geometry):
    parameters = ("loc", "scale_tril")

    def mean(self, q: MultivariateNormal, p: MultivariateNormal, skew: SkewLike) -> tuple[Distribution, Tensor]:
        a, (eta_q, precision_q), (eta_p, precision_p) = skew, _natural(q), _natural(p)
        rows, tables = within(a, 1), within(a, 2)
        eta, precision = rows * eta_q + (1 - rows) * eta_p, tables * precision_q + (1 - tables) * precision_p
        loc = torch.linalg.solve(precision, eta.unsqueeze(-1)).squeeze(-1)
        mean = MultivariateNormal(loc, precision_matrix=precision, validate_args=False)
        parts = [_log_partition(eta, precision), _log_partition(eta_q, precision_q), _log_partition(eta_p, precision_p)]
        return mean, parts[0] - a * parts[1] - (1 - a) * parts[2]


def _natural(d: MultivariateNormal) -> Pair:
    precision = d.precision_matrix
    return (precision @ d.loc.unsqueeze(-1)).squeeze(-1), precision


def _log_partition(eta: Tensor, precision: Tensor) -> Tensor:
    quadratic: Tensor = (eta * torch.linalg.solve(precision, eta.unsqueeze(-1)).squeeze(-1)).sum(-1)
    determinant: Tensor = torch.linalg.slogdet(precision).logabsdet
    return (quadratic - determinant) / 2
