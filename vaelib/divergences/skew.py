"""The skew: where it is best, and the three ways to have one in training."""

from abc import abstractmethod
from typing import Any, Literal, Self, TypeVar

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from vaelib.divergences.families import SkewLike, coordinates, forward_kl, geometry, reverse_kl
from vaelib.errors import Invalid
from vaelib.parts import Family, NotNegative, Share

Rate = TypeVar("Rate", float, Tensor)

SOLVED = ("geometric_js", "dual_geometric_js", "extended_geometric_js")

Per = Literal["batch", "datum", "latent", "both"]
"""What has a skew of its own: a batch, each sample, each latent dimension, or each dimension of each sample."""


def optimal_skew(
    q: Distribution, p: Distribution, form: str, *, per: Per = "batch", start: SkewLike = 0.5, iterations: int = 25
) -> Tensor:
    """The skews that minimise the mean divergence over a batch, without gradient.

    The extended form has them in closed form: KL(q‖p) / (KL(q‖p) + KL(p‖q)), α-VAE eq. 16. The others are found by
    Newton's method in double precision, with a bisection where a step would leave the interval that holds the minimum
    or is not half of the last one; the number of steps is fixed, so that it can be vectorised.

    Parameters
    ----------
    q, p
        Posteriors of any batch shape, and a prior.
    form
        One of :data:`vaelib.divergences.FORMS`.
    per
        One skew for the ``"batch"``, shape ``()``; for each ``"datum"``, of the batch shape; for each ``"latent"``, of
        the event shape: the divergence of factorised distributions is a sum over coordinates, each with its own skew;
        or for ``"both"``, of the batch's and the event's.
    start
        Where to start, and what comes back where q = p and every skew is as good.
    iterations
        Steps; the default reaches 1e-6 from anywhere, a start nearby needs three or four.

    Raises
    ------
    Invalid
        If there is no such form.
    TypeError
        If a skew for each latent is asked for of distributions that are not factorised.

    Examples
    --------
    >>> from torch.distributions import Independent, Normal
    >>> q = Independent(Normal(torch.tensor([[1.0, 0.1], [0.5, 2.0]]), 0.2 * torch.ones(2, 2)), 1)
    >>> p = Independent(Normal(torch.zeros(2), torch.ones(2)), 1)
    >>> optimal_skew(q, p, "dual_geometric_js", per="datum").shape
    torch.Size([2])
    """
    if form not in SOLVED:
        raise Invalid("form", form, f"one of {', '.join(SOLVED)}")
    if per in ("latent", "both"):
        q, p = coordinates(q), coordinates(p)
    family = geometry(q, q)
    q, p = family.detached(q), family.detached(p)
    reverse, forward = _shared(reverse_kl(q, p), per), _shared(forward_kl(q, p), per)
    skew = start = torch.as_tensor(start).detach().to(reverse).expand_as(reverse)
    total = reverse + forward
    if form == "extended_geometric_js":
        skew = torch.where(total > 0, reverse / torch.where(total > 0, total, 1.0), skew)
        return skew.to(torch.get_default_dtype())
    low, high = torch.zeros_like(skew), torch.ones_like(skew)
    last = high
    for _ in range(iterations):
        one, two, three = (_shared(slope, per) for slope in family.slopes(q, p, skew))
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


def _shared(values: Tensor, per: Per) -> Tensor:
    """The mean of a divergence's values over those that have one skew."""
    if per == "batch":
        return values.mean()
    return values.reshape(-1, values.shape[-1]).mean(0) if per == "latent" else values


def predicted_skew(rate: Rate, *, power: float = 2.0) -> Rate:
    """The best skew of the dual where posteriors are narrow: 2 / (1 + sqrt(5 + 4 r K)), a function of the rate alone.

    For narrow posteriors the dual is a KL(q‖p) + c(a) per latent, with c(a) = ((1-a)^2 / a + log a) / r, before any
    smooth prior; notebook 10 has the proof. So this is its weight of KL(q‖p), too: a dual α-VAE is a β-VAE that chooses
    its β from its own rate.

    Parameters
    ----------
    rate
        K: KL(q‖p) of a latent in nats, averaged over samples and over the latents that are in use.
    power
        r, of posteriors with density proportional to ``exp(-|x|^r)``: 2 for Gaussians, 1 for Laplace distributions.

    Examples
    --------
    >>> round(predicted_skew(1.97), 3)  # a skew of 0.36, which the papers report on MNIST, is a rate of 19.7 nats
    0.36
    """
    root: Rate = (5 + 4 * power * rate) ** 0.5
    return 2 / (1 + root)


def rate_of_skew(skew: Rate, *, power: float = 2.0) -> Rate:
    """The rate of a latent, in nats, at which a skew is the best of the dual: the inverse of :func:`predicted_skew`.

    Examples
    --------
    >>> round(rate_of_skew(0.36), 2)
    1.97
    """
    return (1 / skew**2 - 1 / skew - 1) / power


def skew_of_rates(rates: Tensor, form: str = "dual_geometric_js") -> Tensor:
    r"""The best skew of Gaussian latents of which nothing but the rates is known; wide or unused ones are no matter.

    If all posteriors of latent j have one width :math:`\sigma_j` and, with their means, the prior's second moment,
    :math:`\sigma_j^2 + E m_j^2 = 1`, its rate is :math:`-\log \sigma_j`. As every form is affine in
    :math:`m_j^2`, its mean over samples is then that of the one posterior with :math:`m_j^2 = 1 - \sigma_j^2`:
    a function of the rates alone (notebook 10). Where rates are equal and large it is :func:`predicted_skew`.

    Parameters
    ----------
    rates
        KL(q‖p) of each latent in nats, averaged over samples, ``(d,)``.
    form
        One of :data:`vaelib.divergences.FORMS`.

    Returns
    -------
    Tensor
        The skew, shape ``()``.

    Raises
    ------
    Invalid
        If there is no such form.

    Examples
    --------
    >>> [round(float(skew_of_rates(torch.tensor(rates))), 3) for rates in ([1.4, 1.4, 0.0], [1.4, 1.4], [2.0, 0.8])]
    [0.395, 0.395, 0.385]
    """
    variances = (-2 * rates.double().clamp_min(0)).exp()
    q = Independent(Normal((1 - variances).sqrt(), variances.sqrt(), validate_args=False), 1)
    p = Independent(Normal(torch.zeros_like(variances), torch.ones_like(variances)), 1)
    return optimal_skew(q, p, form)


class Skew(Family):
    """The family of ways to have a skew; a number stands for a fixed one."""

    start: Share = 0.5

    tensors = ("start",)

    @classmethod
    def parse(cls, value: Any) -> Self:
        """As for every family; a number is :class:`Fixed`."""
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return super().parse({"kind": "fixed", "start": value} if number else value)

    @abstractmethod
    def build(self) -> "SkewModule":
        """The module."""


class SkewModule(nn.Module):
    """A skew in [0, 1], held in ``value``, shape ``()``: a buffer, unless a subclass makes it a parameter."""

    value: Tensor
    per: Per = "batch"

    def __init__(self, part: Skew):
        super().__init__()
        self.register_buffer("value", torch.tensor(part.start))

    def forward(self, q: Distribution, p: Distribution, form: str) -> Tensor:
        """The skew for a batch of posteriors and a form, shape ``()``; or the skews, of the shape that ``per`` says."""
        return self.value

    def report(self) -> dict[str, Tensor]:
        """What belongs into a run's history, each of shape ``()``."""
        return {"skew": self.value.detach()}


class Fixed(Skew):
    """A skew that stays where it is."""

    kind = "fixed"

    start: Share

    def build(self) -> SkewModule:
        """The module."""
        return SkewModule(self)


class Learned(Skew):
    """A skew trained by gradient descent from a start, at a rate of its own, clipped to [0, 1]: the papers' way.

    Parameters
    ----------
    start
        Where it starts.
    rate
        Of Adam; the papers' 1e-4 by default.
    """

    kind = "learned"

    start: Share = 0.5
    rate: NotNegative = 1e-4

    def build(self) -> SkewModule:
        """The module."""
        return _LearnedSkew(self)


class _LearnedSkew(SkewModule):
    def __init__(self, part: Learned):
        nn.Module.__init__(self)
        self.value = nn.Parameter(torch.tensor(part.start))
        self.rate = part.rate  # what training gives the parameters of a module that has one


class Newton(Skew):
    r"""The minimiser of the batch's mean divergence, found anew in each step of training.

    By the envelope theorem the encoder's gradient is that of the minimised divergence. With skews of their own it is

    .. math:: \min_{a_{ij}} \operatorname{mean}_i \textstyle\sum_j D_{a_{ij}}(q_{ij}, p_j),

    with one a for all, one for each sample i, one for each latent j, or one for each of both: the more, the lower. As
    each term is convex in its skew, all have one minimum, and nothing has to be amortised by a network.

    Parameters
    ----------
    start
        Where it starts.
    per
        What has a skew of its own: see :data:`Per`. The batch's skew stands still in evaluation; skews of ``"datum"``,
        ``"latent"`` and ``"both"`` are found there, too, for the samples at hand, and of those of the last batch of
        training the mean and the standard deviation are reported (``skew``, ``skew_spread``).

    Examples
    --------
    >>> from vaelib.divergences import DualGeometricJS
    >>> DualGeometricJS(Newton(per="latent")).canonical()
    {'kind': 'dual_geometric_js', 'skew': {'kind': 'newton', 'per': 'latent'}}
    """

    kind = "newton"

    start: Share = 0.5
    per: Per = "batch"

    def build(self) -> SkewModule:
        """The module."""
        return _NewtonSkew(self) if self.per == "batch" else _NewtonSkews(self)


class _NewtonSkew(SkewModule):
    def forward(self, q: Distribution, p: Distribution, form: str) -> Tensor:
        """The skew, brought to its optimum in training."""
        if self.training:
            # In place, like a batch normalisation's running mean: the next batch starts from here, a few steps away.
            self.value.copy_(optimal_skew(q, p, form, start=self.value, iterations=6))
        return self.value


class _NewtonSkews(SkewModule):
    """Several skews; ``value`` and ``spread`` are the mean and standard deviation of those of the last batch."""

    spread: Tensor

    def __init__(self, part: Newton):
        super().__init__(part)
        self.per = part.per
        self.register_buffer("spread", torch.zeros(()))

    def forward(self, q: Distribution, p: Distribution, form: str) -> Tensor:
        """The skews of these samples, latents, or both."""
        skews = optimal_skew(q, p, form, per=self.per, start=self.value, iterations=10)  # from their mean, not far away
        if self.training:
            self.value.copy_(skews.mean())
            self.spread.copy_(skews.std(correction=0))
        return skews

    def report(self) -> dict[str, Tensor]:
        """Their mean and standard deviation."""
        return {**super().report(), "skew_spread": self.spread}
