"""The KL divergence that costs nothing below so many nats a latent."""

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaelib.divergences.base import Divergence, DivergenceModule, Noise, Sampler
from vaelib.divergences.families import latent_kls
from vaelib.parts import NotNegative


class FreeBits(Divergence):
    r"""KL(q‖p), of which each latent has so many nats for free, on average over the batch.

    .. math:: \sum_j \max\bigl(f,\; E_x[KL(q(z_j|x) \,\|\, p(z_j))]\bigr)

    Kingma et al. (2016), appendix C.8, with groups of one latent each; a category is one latent. A latent below f has
    no gradient from here, so that it need not be given up early in the training. It belongs to the batch, and is every
    sample's.

    Parameters
    ----------
    free
        f, in nats a latent.
    """

    kind = "free_bits"

    free: NotNegative = 0.5

    tensors = ("free",)

    def build(self) -> DivergenceModule:
        """The module."""
        return _FreeBits(self)


class _FreeBits(DivergenceModule):
    free: Tensor

    def forward(
        self, q: Distribution, p: Distribution, z: Tensor, latent: Sampler, noise: Noise, progress: Tensor
    ) -> Tensor:
        """The batch's value, for each sample."""
        return torch.maximum(latent_kls(q, p), self.free).sum().expand(q.batch_shape)
