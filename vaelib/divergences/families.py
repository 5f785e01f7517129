"""What the divergences need of a family of distributions, and the families that have it.

As :mod:`torch.distributions` registers KL divergences by pairs of types, a family registers its :class:`Geometry`
here: the weighted geometric mean G_a = q^a p^(1-a) / Z(a) of two of its members, and where that can be said better
than in general, the divergences to it and the derivatives of log Z. Composites recurse into their parts.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    Independent,
    OneHotCategorical,
    constraints,
    kl_divergence,
    register_kl,
)
from torch.func import grad
from torch.nn.functional import softplus

SkewLike = float | Tensor
Pair = tuple[Tensor, Tensor]
Triple = tuple[Tensor, Tensor, Tensor]


class Geometry(ABC):
    """The algebra of one family; every method takes two members of it. To be subclassed and registered.

    A skew is a number, or a tensor of shape ``()`` or of the members' batch shape: one for all, or one each.
    """

    parameters: tuple[str, ...] = ()
    """Names of the constructor's arguments that define a member."""

    def detached(self, d: Any) -> Distribution:
        """The same distribution in double precision, outside of the gradient's graph."""
        values = {name: getattr(d, name).detach().double() for name in self.parameters}
        member: Distribution = type(d)(**values, validate_args=False)
        return member

    def kl(self, q: Any, p: Any) -> Tensor:
        """KL(q‖p) of the batch shape."""
        return kl_divergence(q, p)

    @abstractmethod
    def mean(self, q: Any, p: Any, skew: SkewLike) -> tuple[Distribution, Tensor]:
        """G and log Z(a)."""

    def kls(self, q: Any, p: Any, skew: SkewLike, *, to_mean: bool) -> Pair:
        """KL(q‖G) and KL(p‖G), or KL(G‖q) and KL(G‖p)."""
        mean, _ = self.mean(q, p, skew)
        return (self.kl(q, mean), self.kl(p, mean)) if to_mean else (self.kl(mean, q), self.kl(mean, p))

    def slopes(self, q: Any, p: Any, skew: Tensor) -> Triple:
        """The first three derivatives in a of log Z(a), each of the batch shape: all that both forms need of a."""
        first = grad(lambda a: self.mean(q, p, a)[1].sum())
        second = grad(lambda a: first(a).sum())
        third = grad(lambda a: second(a).sum())
        each = skew.expand(torch.broadcast_shapes(q.batch_shape, p.batch_shape))
        return first(each), second(each), third(each)


_GEOMETRIES: dict[type[Distribution], Geometry] = {}
_G = TypeVar("_G", bound=type[Geometry])


def register_geometry(*families: type[Distribution]) -> Callable[[_G], _G]:
    """Class decorator: the geometry of these families of distributions.

    Examples
    --------
    >>> @register_geometry(torch.distributions.Exponential)
    ... class ExponentialGeometry(Geometry):
    ...     parameters = ("rate",)
    ...
    ...     def mean(self, q, p, skew):
    ...         rate = skew * q.rate + (1 - skew) * p.rate
    ...         log_normaliser = skew * q.rate.log() + (1 - skew) * p.rate.log() - rate.log()
    ...         return torch.distributions.Exponential(rate, validate_args=False), log_normaliser
    """

    def register(geometry: _G) -> _G:
        for family in families:
            _GEOMETRIES[family] = geometry()
        return geometry

    return register


def geometry(q: Distribution, p: Distribution) -> Geometry:
    """The geometry that two distributions share.

    Raises
    ------
    TypeError
        If they are not of one registered family.
    """
    if type(q) is not type(p) or type(q) not in _GEOMETRIES:
        names = ", ".join(family.__name__ for family in _GEOMETRIES)
        raise TypeError(
            f"q, p: a pair of {type(q).__name__} and {type(p).__name__} is not supported; "
            f"both have to be of one family out of {names}"
        )
    return _GEOMETRIES[type(q)]


def coordinates(d: Distribution) -> Distribution:
    """The coordinates of a factorised distribution over vectors, as a batch of shape ``(*batch, size)``.

    Examples
    --------
    >>> vector = Independent(torch.distributions.Normal(torch.zeros(5, 3), torch.ones(5, 3)), 1)
    >>> coordinates(vector).batch_shape
    torch.Size([5, 3])

    Raises
    ------
    TypeError
        If it is none: not Independent over one dimension.
    """
    if isinstance(d, Independent) and d.reinterpreted_batch_ndims == 1:
        alone: Distribution = d.base_dist
        return alone
    raise TypeError(
        f"q, p: a skew for each coordinate needs factorised distributions of vectors, not {type(d).__name__}"
    )


def within(skew: SkewLike, dims: int) -> SkewLike:
    """A skew each, with axes for the so many dimensions within a member; one skew for all stays as it is."""
    return skew[(..., *[None] * dims)] if isinstance(skew, Tensor) and skew.dim() else skew


def geometric_mean(q: Distribution, p: Distribution, skew: SkewLike) -> tuple[Distribution, Tensor]:
    """The normalised weighted geometric mean G ∝ q^a p^(1-a) of two distributions of one family.

    Parameters
    ----------
    q, p
        Distributions.
    skew
        a in [0, 1], a number or a tensor of shape ``()`` or of the batch shape.

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
    return geometry(q, p).mean(q, p, skew)


def reverse_kl(q: Distribution, p: Distribution) -> Tensor:
    """KL(q‖p), of the batch shape, in nats: the rate of the evidence lower bound."""
    if type(q) is type(p) and type(q) in _GEOMETRIES:
        return _GEOMETRIES[type(q)].kl(q, p)
    return kl_divergence(q, p)


def forward_kl(q: Distribution, p: Distribution) -> Tensor:
    """KL(p‖q), of the batch shape, in nats."""
    return reverse_kl(p, q)


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
        pieces = zip(self.parts, value.split(self._sizes, dim=-1))
        return _total([part.log_prob(v) for part, v in pieces])


def latent_kls(q: Any, p: Any) -> Tensor:
    """KL(q‖p) of each latent by itself, averaged over the batch: ``(latents,)``, in nats; a category is one latent.

    Examples
    --------
    >>> from torch.distributions import Normal
    >>> q, p = (Independent(Normal(torch.full((4, 3), mean), 1.0), 1) for mean in (2.0, 0.0))
    >>> latent_kls(q, p)
    tensor([2., 2., 2.])
    """
    if isinstance(q, Product):
        return torch.cat([latent_kls(a, b) for a, b in zip(q.parts, p.parts)])
    each = reverse_kl(q.base_dist, p.base_dist) if isinstance(q, Independent) else reverse_kl(q, p)[:, None]
    return each.mean(0)


def _total(terms: Sequence[Tensor]) -> Tensor:
    return torch.stack(torch.broadcast_tensors(*terms)).sum(0)


@register_geometry(Product)
class _ProductGeometry(Geometry):
    def detached(self, d: Product) -> Distribution:
        return Product([geometry(part, part).detached(part) for part in d.parts])

    def kl(self, q: Product, p: Product) -> Tensor:
        return _total([reverse_kl(a, b) for a, b in zip(q.parts, p.parts)])

    def mean(self, q: Product, p: Product, skew: SkewLike) -> tuple[Distribution, Tensor]:
        means, log_normalisers = zip(*(geometric_mean(a, b, skew) for a, b in zip(q.parts, p.parts)))
        return Product(means), _total(log_normalisers)

    def kls(self, q: Product, p: Product, skew: SkewLike, *, to_mean: bool) -> Pair:
        pairs = [geometry(a, b).kls(a, b, skew, to_mean=to_mean) for a, b in zip(q.parts, p.parts)]
        first, second = map(_total, zip(*pairs))
        return first, second

    def slopes(self, q: Product, p: Product, skew: Tensor) -> Triple:
        parts = [geometry(a, b).slopes(a, b, skew) for a, b in zip(q.parts, p.parts)]
        one, two, three = map(_total, zip(*parts))
        return one, two, three


register_kl(Product, Product)(_ProductGeometry().kl)


@register_geometry(Independent)
class _IndependentGeometry(Geometry):
    def detached(self, d: "Independent[Any]") -> Distribution:
        base = geometry(d.base_dist, d.base_dist).detached(d.base_dist)
        return Independent(base, d.reinterpreted_batch_ndims, validate_args=False)

    def kl(self, q: "Independent[Any]", p: "Independent[Any]") -> Tensor:
        if q.reinterpreted_batch_ndims != p.reinterpreted_batch_ndims:
            return kl_divergence(q, p)
        return _sum_last(reverse_kl(q.base_dist, p.base_dist), q)

    def mean(self, q: "Independent[Any]", p: "Independent[Any]", skew: SkewLike) -> tuple[Distribution, Tensor]:
        base, log_normaliser = geometric_mean(q.base_dist, p.base_dist, within(skew, q.reinterpreted_batch_ndims))
        mean = Independent(base, q.reinterpreted_batch_ndims, validate_args=False)
        return mean, _sum_last(log_normaliser, q)

    def kls(self, q: "Independent[Any]", p: "Independent[Any]", skew: SkewLike, *, to_mean: bool) -> Pair:
        skew = within(skew, q.reinterpreted_batch_ndims)
        first, second = geometry(q.base_dist, p.base_dist).kls(q.base_dist, p.base_dist, skew, to_mean=to_mean)
        return _sum_last(first, q), _sum_last(second, q)

    def slopes(self, q: "Independent[Any]", p: "Independent[Any]", skew: Tensor) -> Triple:
        each = torch.as_tensor(within(skew, q.reinterpreted_batch_ndims))
        one, two, three = geometry(q.base_dist, p.base_dist).slopes(q.base_dist, p.base_dist, each)
        return _sum_last(one, q), _sum_last(two, q), _sum_last(three, q)


def _sum_last(values: Tensor, d: "Independent[Any]") -> Tensor:
    dims = d.reinterpreted_batch_ndims
    return values.flatten(-dims).sum(-1) if dims else values


# What torch.distributions has as KL for discrete families assigns by a mask: it cannot be vectorised over a stack, and
# does not broadcast.


@register_geometry(Bernoulli)
class _BernoulliGeometry(Geometry):
    parameters = ("logits",)

    def kl(self, q: Bernoulli, p: Bernoulli) -> Tensor:
        return q.probs * (q.logits - p.logits) - softplus(q.logits) + softplus(p.logits)

    def mean(self, q: Bernoulli, p: Bernoulli, skew: SkewLike) -> tuple[Distribution, Tensor]:
        logits = skew * q.logits + (1 - skew) * p.logits
        log_normaliser = softplus(logits) - skew * softplus(q.logits) - (1 - skew) * softplus(p.logits)
        return Bernoulli(logits=logits, validate_args=False), log_normaliser


@register_geometry(Categorical, OneHotCategorical)
class _CategoricalGeometry(Geometry):
    parameters = ("logits",)

    def kl(self, q: Categorical, p: Categorical) -> Tensor:
        return (q.probs * (q.logits - p.logits)).sum(-1)

    def mean(self, q: Categorical, p: Categorical, skew: SkewLike) -> tuple[Distribution, Tensor]:
        skew = within(skew, 1)
        logits = skew * q.logits + (1 - skew) * p.logits
        return type(q)(logits=logits, validate_args=False), logits.logsumexp(-1)
