"""The total correlation of the codes by a discriminator: the FactorVAE."""

import torch
from torch import Tensor

from vaelib.divergences import Noise
from vaelib.models.latents import Category, Latent, LatentModule
from vaelib.objectives.base import Site
from vaelib.objectives.critics import Critic, CriticModule
from vaelib.objectives.regularisers import Codes, RegulariserModule


class LearnedTotalCorrelation(Critic):
    r"""How much the numbers of the code depend on each other, by what a discriminator has learned of it.

    .. math:: KL\bigl(q(z) \,\|\, \bar q(z)\bigr) \approx E_{q(z)}[\log D(z) - \log(1 - D(z))], \qquad
        \bar q(z) = \textstyle\prod_j q(z_j)

    With the weight γ beside KL(q‖p) it is the FactorVAE (Kim and Mnih, 2018; MI-VAE paper, eq. 5.3). Codes from the
    product of the marginals are those of the batch, each number permuted by itself over the samples; the paper takes
    another batch for them.

    Examples
    --------
    >>> from vaelib import Bound
    >>> factor_vae = Bound(regularisers=(LearnedTotalCorrelation(weight=5.0),))
    """

    kind = "learned_total_correlation"

    def check(self, latent: Latent) -> None:
        """Refuse a category, whose numbers add up to one."""
        if any(isinstance(leaf, Category) for leaf in latent.leaves):
            raise self.refuse("latents whose numbers can be independent, which a category's cannot")

    def build(self, site: Site) -> RegulariserModule:
        """The module with its discriminator."""
        return _LearnedTotalCorrelation(self, self.network(site))


class _LearnedTotalCorrelation(CriticModule):
    def noise(self, latent: LatentModule, n: int, draws: int, generator: torch.Generator) -> Noise:
        """Numbers whose order, within any part of the samples, is a random one: a permutation for each column."""
        return {"permuted": torch.rand(n, latent.code, generator=generator, device=generator.device)}

    def others(self, codes: Codes) -> Tensor:
        """The codes, each of their numbers from another sample."""
        return codes.z.gather(1, codes.noise["permuted"].argsort(0).expand(codes.z.shape))

    def value(self, codes: Codes) -> Tensor:
        """The log ratio at each sample's codes, averaged over its draws."""
        return self.log_ratio(codes.z, frozen=True).mean(0)
