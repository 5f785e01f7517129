"""The skew: where it is best, and the three ways to have one in training."""

from abc import abstractmethod
from typing import Any, Self, TypeVar

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaelib.divergences.families import SkewLike, forward_kl, geometry, reverse_kl
from vaelib.errors import Invalid
from vaelib.parts import Family, NotNegative, Share

Rate = TypeVar("Rate", float, Tensor)

SOLVED = ("geometric_js", "dual_geometric_js", "extended_geometric_js")


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
        One of :data:`vaelib.divergences.FORMS`.
    start
        Where to start, and what comes back where q = p and every skew is as good.
    iterations
        Steps; the default reaches 1e-6 from anywhere, a start nearby needs three or four.

    Raises
    ------
    Invalid
        If there is no such form.
    """
    if form not in SOLVED:
        raise Invalid("form", form, f"one of {', '.join(SOLVED)}")
    family = geometry(q, q)
    q, p = family.detached(q), family.detached(p)
    reverse, forward = reverse_kl(q, p).mean(), forward_kl(q, p).mean()
    skew = start = torch.as_tensor(start).detach().to(reverse)
    total = reverse + forward
    if form == "extended_geometric_js":
        skew = torch.where(total > 0, reverse / torch.where(total > 0, total, 1.0), skew)
        return skew.to(torch.get_default_dtype())
    low, high = torch.zeros_like(skew), torch.ones_like(skew)
    last = high
    for _ in range(iterations):
        one, two, three = family.slopes(q, p, skew)
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

    def __init__(self, part: Skew):
        super().__init__()
        self.register_buffer("value", torch.tensor(part.start))

    def forward(self, q: Distribution, p: Distribution, form: str) -> Tensor:
        """The skew for a batch of posteriors and a form, shape ``()``."""
        return self.value


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
    """The minimiser of the batch's mean divergence, found anew in each step of training.

    By the envelope theorem the encoder's gradient is that of the minimised divergence.
    """

    kind = "newton"

    def build(self) -> SkewModule:
        """The module."""
        return _NewtonSkew(self)


class _NewtonSkew(SkewModule):
    def forward(self, q: Distribution, p: Distribution, form: str) -> Tensor:
        """The skew, brought to its optimum in training."""
        if self.training:
            # In place, like a batch normalisation's running mean: the next batch starts from here, a few steps away.
            self.value.copy_(optimal_skew(q, p, form, start=self.value, iterations=6))
        return self.value
