"""The divergences with a skew, and those between the KLs at their ends."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaelib.divergences.base import Divergence, DivergenceModule, Noise, Sampler
from vaelib.divergences.families import SkewLike, coordinates, forward_kl, geometry, reverse_kl
from vaelib.divergences.skew import Fixed, Skew, optimal_skew


def geometric_js(q: Distribution, p: Distribution, skew: SkewLike) -> Tensor:
    """Skew geometric Jensen-Shannon divergence (1-a) KL(q‖G) + a KL(p‖G): thesis eq. 36, α-VAE eqs. 3 and 4.

    Strictly convex in the skew, with one interior minimum, unless q = p.

    Examples
    --------
    >>> from torch.distributions import Normal
    >>> q, p = Normal(1.0, 0.3), Normal(0.0, 1.0)
    >>> bool(geometric_js(q, p, 0.0).isclose(reverse_kl(q, p)))
    True
    """
    from_q, from_p = geometry(q, p).kls(q, p, skew, to_mean=True)
    return (1 - skew) * from_q + skew * from_p


def dual_geometric_js(q: Distribution, p: Distribution, skew: SkewLike) -> Tensor:
    """Dual skew geometric Jensen-Shannon divergence (1-a) KL(G‖q) + a KL(G‖p): thesis eq. 37, α-VAE eqs. 7 and 8.

    For Gaussians strictly convex in the skew, with one interior minimum, unless q = p; other families need not be.
    """
    to_q, to_p = geometry(q, p).kls(q, p, skew, to_mean=False)
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


class _Closed(DivergenceModule):
    """A divergence without parameters, in closed form."""

    def __init__(self, part: Divergence, function: Callable[[Distribution, Distribution], Tensor]):
        super().__init__(part)
        self._function = function

    def forward(
        self, q: Distribution, p: Distribution, z: Tensor, latent: Sampler, noise: Noise, progress: Tensor
    ) -> Tensor:
        """The function's value for each sample."""
        return self._function(q, p)


class ReverseKL(Divergence):
    """KL(q‖p): the rate of the evidence lower bound."""

    kind = "kl"

    def build(self) -> DivergenceModule:
        """The module."""
        return _Closed(self, reverse_kl)


class ForwardKL(Divergence):
    """KL(p‖q)."""

    kind = "forward_kl"

    def build(self) -> DivergenceModule:
        """The module."""
        return _Closed(self, forward_kl)


class ResistorAverage(Divergence):
    """:func:`resistor_average`: the extended form at its best skew, which needs none."""

    kind = "resistor_average"

    def build(self) -> DivergenceModule:
        """The module."""
        return _Closed(self, resistor_average)


class SkewForm(Divergence):
    """A divergence with a skew: fixed (a number will do), :class:`Learned`, or found by :class:`Newton`'s method."""

    skew: Skew = Fixed(start=0.5)

    def build(self) -> DivergenceModule:
        """The module, with the skew."""
        return _Skewed(self)


class GeometricJS(SkewForm):
    """:func:`geometric_js`, with its skew.

    Examples
    --------
    >>> GeometricJS(skew=0.3) == GeometricJS(Fixed(0.3))
    True
    """

    kind = "geometric_js"


class DualGeometricJS(SkewForm):
    """:func:`dual_geometric_js`, with its skew."""

    kind = "dual_geometric_js"


class ExtendedGeometricJS(SkewForm):
    """:func:`extended_geometric_js`, with its skew."""

    kind = "extended_geometric_js"


class _Skewed(DivergenceModule):
    """One of :data:`FORMS` with its skew."""

    def __init__(self, part: SkewForm):
        super().__init__(part)
        self.form, self.skew = part.kind, part.skew.build()

    def forward(
        self, q: Distribution, p: Distribution, z: Tensor, latent: Sampler, noise: Noise, progress: Tensor
    ) -> Tensor:
        """The form's value for each sample, at the skew as it is, or at the skews as they are found here."""
        skew = self.skew(q, p, self.form)
        if self.skew.per in ("latent", "both"):  # the divergence of factorised distributions is a sum over coordinates
            return FORMS[self.form](coordinates(q), coordinates(p), skew).sum(-1)
        return FORMS[self.form](q, p, skew)

    def report(self) -> dict[str, Tensor]:
        """The skew; the mean and spread of several."""
        return self.skew.report()

    def measured(self, q: Distribution, p: Distribution) -> dict[str, float]:
        """The skew that would be best; the mean and spread of several."""
        best = optimal_skew(q, p, self.form, per=self.skew.per)
        found = {"optimal_skew": float(best.mean())}
        return found if self.skew.per == "batch" else {**found, "optimal_skew_spread": float(best.std(correction=0))}

    @torch.no_grad()
    def project_(self) -> None:
        """Bring the skew back to [0, 1]."""
        self.skew.value.clamp_(0, 1)
