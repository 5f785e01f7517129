"""An adversary between the codes and the prior: the adversarial auto-encoder."""

import torch
from torch import Tensor
from torch.nn.functional import softplus

from vaelib.divergences import Noise
from vaelib.models.latents import LatentModule
from vaelib.objectives.base import Site
from vaelib.objectives.critics import Critic, CriticModule
from vaelib.objectives.regularisers import Codes, RegulariserModule


class Adversary(Critic):
    r"""How well a discriminator D tells the codes from draws of the prior.

    .. math:: E_{q(z)}[-\log(1 - D(z))], \qquad D \approx \frac{q(z)}{q(z) + p(z)}

    Beside the distortion alone it is the adversarial auto-encoder (Makhzani et al., 2015; MI-VAE paper, section 5.4),
    whose encoder is deterministic (the latent :class:`~vaelib.models.Point`) or Gaussian; with the squared error as
    distortion also the WAE-GAN (Tolstikhin et al., 2018). As there, encoder and decoder take one step together, where
    the adversarial auto-encoder lets the encoder take a second one, against D. Where the aggregate posterior is the
    prior and D knows it, the value is log 2. A D that learns as fast as the encoder can drive the codes in circles: let
    it have a third of the run's rate.

    Examples
    --------
    >>> from vaelib import Adam, Bound, Experiment
    >>> aae = Bound(weight=0.0, regularisers=(Adversary(weight=10.0, rate=3e-4),))
    >>> e = Experiment(objective=aae, latent="point", optimiser=Adam(1e-3))
    """

    kind = "adversary"

    def build(self, site: Site) -> RegulariserModule:
        """The module with its discriminator."""
        return _Adversary(self, self.network(site))


class _Adversary(CriticModule):
    def noise(self, latent: LatentModule, n: int, draws: int, generator: torch.Generator) -> Noise:
        """Of as many draws from the prior as there are codes."""
        return {"adversary": latent.noise(n * draws, generator).unflatten(0, (n, draws))}

    def others(self, codes: Codes) -> Tensor:
        """Draws from the prior."""
        return codes.vae.latent.prior_sample(codes.noise["adversary"].transpose(0, 1), codes.progress)

    def value(self, codes: Codes) -> Tensor:
        """-log(1 - D) at each sample's codes, averaged over its draws."""
        return softplus(self.log_ratio(codes.z, frozen=True)).mean(0)
