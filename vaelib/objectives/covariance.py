"""The covariance of the codes beside that of the prior: the DIP-VAE."""

from typing import Literal

from torch import Tensor

from vaelib.models.latents import Category, Latent, Point
from vaelib.objectives.base import Site
from vaelib.objectives.regularisers import Codes, Regulariser, RegulariserModule
from vaelib.parts import NotNegative


class Covariance(Regulariser):
    r"""How far a batch's covariance C is from that of the prior, whose numbers are uncorrelated.

    .. math:: \sum_{i \ne j} C_{ij}^2 + d \sum_i (C_{ii} - \mathrm{Var}_p\, z_i)^2

    The DIP-VAE (Kumar et al., 2018, their eqs. 6 and 7; MI-VAE paper, eq. 5.6, the distance being one of moments): its
    λ_od is the weight, its λ_d the weight times d.

    Parameters
    ----------
    of
        The covariance of the posteriors' ``"means"`` (DIP-VAE-I), or of the ``"codes"``, to which the posteriors' own
        variances are added (DIP-VAE-II).
    diagonal
        d.

    Examples
    --------
    >>> dip_1, dip_2 = Covariance("means", diagonal=10.0, weight=10.0), Covariance("codes", weight=10.0)
    """

    kind = "covariance"

    of: Literal["means", "codes"] = "codes"
    diagonal: NotNegative = 1.0

    tensors = ("weight", "diagonal")

    def check(self, latent: Latent) -> None:
        """Refuse a category, whose numbers add up to one; and the codes' own variance where they have none."""
        if any(isinstance(leaf, Category) for leaf in latent.leaves):
            raise self.refuse("latents whose numbers can be uncorrelated, which a category's cannot")
        if self.of == "codes" and any(isinstance(leaf, Point) for leaf in latent.leaves):
            raise self.refuse("latents with noise, unless it is of the 'means'")

    def build(self, site: Site) -> RegulariserModule:
        """The module."""
        return _Covariance(self)


class _Covariance(RegulariserModule):
    diagonal: Tensor

    def __init__(self, part: Covariance):
        super().__init__(part)
        self.of = part.of

    def value(self, codes: Codes) -> Tensor:
        """The penalty of the batch, shape ``()``."""
        means: Tensor = codes.posterior.mean
        centred = means - means.mean(0)
        covariance = centred.T @ centred / len(means)
        variances = covariance.diagonal()
        across = covariance - variances.diag_embed()
        if self.of == "codes":
            variances = variances + codes.posterior.variance.mean(0)
        excess = variances - codes.vae.prior.variance
        return across.square().sum() + self.diagonal * excess.square().sum()
