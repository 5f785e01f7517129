"""The maximum mean discrepancy, as InfoVAE defines it and as the papers' own code computes it."""

from typing import Literal

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaelib.divergences.base import Divergence, DivergenceModule, Noise, Sampler

Kernel = Literal["gaussian", "inverse_multiquadratic"]


def mmd(samples: Tensor, prior_samples: Tensor, kernel: Kernel = "gaussian") -> Tensor:
    """Maximum mean discrepancy of codes ``(n, d)`` and draws from the prior ``(m, d)``, shape ``()``.

    The biased (V-statistic) estimate. The papers' own code compares other things with it: rows of (mean, log-variance)
    with standard normal rows. For that, hand over :func:`moment_rows` and draws of the same width.

    Parameters
    ----------
    samples, prior_samples
        What is compared.
    kernel
        ``"gaussian"``: exp(-mean_d (x-y)^2 / d), as InfoVAE defines it; or ``"inverse_multiquadratic"``, as the WAE has
        it: C / (C + sum_d (x-y)^2), where C = 2 d is the mean squared distance of two draws from a standard normal.
    """

    def similarity(x: Tensor, y: Tensor) -> Tensor:
        squares, d = (x[:, None] - y[None]).square(), x.shape[-1]
        if kernel == "gaussian":
            return (-squares.mean(-1) / d).exp().mean()
        return (2 * d / (2 * d + squares.sum(-1))).mean()

    within = similarity(samples, samples) + similarity(prior_samples, prior_samples)
    return within - 2 * similarity(samples, prior_samples)


def moment_rows(q: Distribution) -> Tensor:
    """Rows (mean, log-variance) ``(n, 2 d)`` of diagonal Gaussians: codes, to the papers' MMD."""
    return torch.cat([q.mean, q.variance.log()], dim=-1)


class MMD(Divergence):
    """:func:`mmd` of codes and as many draws from the prior: it belongs to the batch, and is every sample's.

    With the inverse multiquadratic kernel and the squared error as distortion this is the WAE-MMD (Tolstikhin et al.,
    2018; MI-VAE paper, eq. 5.7), whose encoder is deterministic (the latent :class:`~vaelib.models.Point`) or Gaussian.
    The WAE's estimate leaves out each code's similarity with itself; of that the gradient sees no more than a factor of
    1 - 1/n in the codes' similarity with each other.

    Parameters
    ----------
    kernel
        As for :func:`mmd`.

    Examples
    --------
    >>> from vaelib import Bound
    >>> wae = Bound(MMD("inverse_multiquadratic"), weight=10.0)
    """

    kind = "mmd"

    kernel: Kernel = "gaussian"

    def build(self) -> DivergenceModule:
        """The module."""
        return _MMD(self)


class _MMD(DivergenceModule):
    def __init__(self, part: MMD):
        super().__init__(part)
        self.kernel = part.kernel

    def noise(self, latent: Sampler, n: int, generator: torch.Generator) -> Noise:
        """Of the draws from the prior."""
        return {"prior": latent.noise(n, generator)}

    def forward(
        self, q: Distribution, p: Distribution, z: Tensor, latent: Sampler, noise: Noise, progress: Tensor
    ) -> Tensor:
        """The discrepancy of the batch, for each sample."""
        return mmd(z, latent.prior_sample(noise["prior"], progress), self.kernel).expand(q.batch_shape)


class MomentsMMD(Divergence):
    """:func:`mmd` of rows of (mean, log-variance) and standard normal rows: what the code behind the papers does."""

    kind = "mmd_moments"

    def build(self) -> DivergenceModule:
        """The module."""
        return _MomentsMMD(self)


class _MomentsMMD(DivergenceModule):
    def noise(self, latent: Sampler, n: int, generator: torch.Generator) -> Noise:
        """Standard normal rows."""
        return {"prior": torch.randn(n, latent.outputs, generator=generator, device=generator.device)}

    def forward(
        self, q: Distribution, p: Distribution, z: Tensor, latent: Sampler, noise: Noise, progress: Tensor
    ) -> Tensor:
        """The discrepancy of the batch, for each sample."""
        rows = moment_rows(q)
        if rows.shape[-1] != noise["prior"].shape[-1]:
            raise TypeError("q: the MMD of moments is for latents whose encoder gives a mean and a log-variance each")
        return mmd(rows, noise["prior"]).expand(q.batch_shape)
