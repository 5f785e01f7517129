"""The maximum mean discrepancy, as InfoVAE defines it and as the papers' own code computes it."""

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaelib.divergences.base import Divergence, DivergenceModule, Noise, Sampler


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


class MMD(Divergence):
    """:func:`mmd` of codes and as many draws from the prior: it belongs to the batch, and is every sample's."""

    kind = "mmd"

    def build(self) -> DivergenceModule:
        """The module."""
        return _MMD(self)


class _MMD(DivergenceModule):
    def noise(self, latent: Sampler, n: int, generator: torch.Generator) -> Noise:
        """Of the draws from the prior."""
        return {"prior": latent.noise(n, generator)}

    def forward(
        self, q: Distribution, p: Distribution, z: Tensor, latent: Sampler, noise: Noise, progress: Tensor
    ) -> Tensor:
        """The discrepancy of the batch, for each sample."""
        return mmd(z, latent.sample(p, noise["prior"], progress)).expand(q.batch_shape)


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
