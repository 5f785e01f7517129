"""Weighted KLs that find their weights: what the divergences with a skew are, or nearly are, for narrow posteriors."""

import torch
from torch import Tensor
from torch.distributions import Distribution, Normal

from vaelib.divergences.base import Divergence, DivergenceModule, Noise, Sampler
from vaelib.divergences.families import coordinates, reverse_kl
from vaelib.divergences.skew import Newton, optimal_skew, predicted_skew


class SelfWeightedKL(Divergence):
    """What a dual with its best skew is for narrow Gaussian posteriors: KL(q‖p) with the weight that the rate asks for.

    d latents of mean rate K have a K + c(a) each, with a = :func:`predicted_skew` of K, found anew in each step of
    training, and c(a) = ((1-a)^2 / a + log a) / 2. As a is best for it, its gradient is that of a KL(q‖p): a β-VAE with
    β = a. There is no skew geometric mean in it, and nothing to choose. All latents are taken to be in use.
    """

    kind = "self_weighted_kl"

    def build(self) -> DivergenceModule:
        """The module."""
        return _SelfWeighted(self)


class _SelfWeighted(DivergenceModule):
    weight: Tensor

    def __init__(self, part: Divergence):
        super().__init__(part)
        self.register_buffer("weight", torch.tensor(0.5))

    def forward(
        self, q: Distribution, p: Distribution, z: Tensor, latent: Sampler, noise: Noise, progress: Tensor
    ) -> Tensor:
        """Its value for each sample, at the weight as it is, or as it is found here."""
        rate, latents = reverse_kl(q, p), q.event_shape.numel()
        if self.training:
            self.weight.copy_(predicted_skew(rate.detach().mean() / latents))
        return self.weight * rate + latents * ((1 - self.weight) ** 2 / self.weight + self.weight.log()) / 2

    def report(self) -> dict[str, Tensor]:
        """The weight, under the name of what it stands for: a skew."""
        return {"skew": self.weight}

    def measured(self, q: Distribution, p: Distribution) -> dict[str, float]:
        """The skew that would be the dual's best."""
        return {"optimal_skew": float(optimal_skew(q, p, "dual_geometric_js"))}


class SplitKL(Divergence):
    r"""What the first form nearly is: KL(q‖p) with a weight for the means and another for the widths.

    In units of the prior, for posteriors of means m and standard deviations s,

    .. math:: \tfrac12 \sum_j v\, m_j^2 + w\, (s_j^2 - 1 - \log s_j^2).

    Both weights are found anew in each step of training: those with which the gradients, of means and of logarithms of
    widths, fit the ones that :func:`geometric_js` with its best skew has for this batch (least squares). No gradient
    passes through them. With one weight for both this would be a β-VAE; notebook 10 has the theorem.

    Examples
    --------
    >>> from torch.distributions import Independent, Normal
    >>> q = Independent(Normal(torch.full((1, 2), 0.98), 0.2), 1)
    >>> p = Independent(Normal(torch.zeros(2), torch.ones(2)), 1)
    >>> [round(w, 1) for w in split_weights(q, p, optimal_skew(q, p, "geometric_js")).tolist()]
    [0.4, 0.6]
    """

    kind = "split_kl"

    def build(self) -> DivergenceModule:
        """The module."""
        return _Split(self)


def split_weights(q: Distribution, p: Distribution, skew: Tensor) -> Tensor:
    """The weights v and w ``(2,)`` of :class:`SplitKL` for posteriors of batch shape ``(n,)``, without gradient.

    From the first form as theorem 5 of notebook 10 writes it: exactly, and not only for narrow posteriors.
    """
    m, s = (t.detach() for t in _standardised(q, p))
    a, precision = skew, s**-2
    d = (1 - a) * s**2 / a
    mean_pull = a**2 * precision - a * (1 - a) + (1 - a) * d / (1 + d)  # of each m, over that of KL(q‖p)
    width_pull = a**2 * precision * (1 + m**2) - a - (1 - a) ** 2 * s**2
    width_pull = width_pull - (1 - a) * m**2 * d / (1 + d) ** 2 + d / (1 + d)  # less the gradient in log s
    kl_pull, tiny = 1 - s**2, torch.finfo(s.dtype).tiny
    of_means = (mean_pull * m**2).mean() / (m**2).mean().clamp_min(tiny)
    return torch.stack([of_means, (width_pull * kl_pull).mean() / (kl_pull**2).mean().clamp_min(tiny)])


def _standardised(q: Distribution, p: Distribution) -> tuple[Tensor, Tensor]:
    """Means and widths of factorised Gaussians ``(n, size)`` in units of the prior."""
    one, other = coordinates(q), coordinates(p)
    if not (isinstance(one, Normal) and isinstance(other, Normal)):
        raise TypeError(f"q, p: two weights of KL(q‖p) need Gaussians, not {type(one).__name__}")
    return (one.loc - other.loc) / other.scale, one.scale / other.scale


class _Split(DivergenceModule):
    weights: Tensor

    def __init__(self, part: Divergence):
        super().__init__(part)
        self.skew = Newton().build()
        self.register_buffer("weights", torch.ones(2))

    def forward(
        self, q: Distribution, p: Distribution, z: Tensor, latent: Sampler, noise: Noise, progress: Tensor
    ) -> Tensor:
        """Its value for each sample, at the weights as they are, or as they are found here."""
        if self.training:
            self.weights.copy_(split_weights(q, p, self.skew(q, p, "geometric_js")))
        m, s = _standardised(q, p)
        return (self.weights[0] * m**2 + self.weights[1] * (s**2 - 1 - 2 * s.log())).sum(-1) / 2

    def report(self) -> dict[str, Tensor]:
        """Both weights, and the skew of the first form that they stand for."""
        return {**self.skew.report(), "mean_weight": self.weights[..., 0], "width_weight": self.weights[..., 1]}

    def measured(self, q: Distribution, p: Distribution) -> dict[str, float]:
        """The skew that would be the first form's best."""
        return {"optimal_skew": float(optimal_skew(q, p, "geometric_js"))}
