"""The evidence lower bound with any divergence and regularisers: VAE, β-VAE, InfoVAE, α-VAE, MI-VAE and their kin."""

from typing import Annotated

from pydantic import Field
from torch import Tensor

from vaelib.divergences import Divergence, ReverseKL
from vaelib.objectives.base import Site
from vaelib.objectives.information import Information
from vaelib.objectives.pathwise import Pathwise, PathwiseModule
from vaelib.parts import NotNegative


class Bound(Pathwise):
    r"""Distortion plus a weighted divergence of posterior and prior, plus regularisers.

    .. math:: E_{q(z|x)}[-\log p(x|z)] + \lambda\, |D(q(z|x), p(z)) - C t| + \sum_r \lambda_r R_r

    With D = KL(q‖p), λ = 1 and C = 0 this is the negative evidence lower bound; with λ > 1 the β-VAE; with
    C > 0 the β-VAE of controlled capacity (MI-VAE paper, eq. 3.19), where t goes from 0 to 1 over the training; with
    a skew geometric JS the α-VAE (its eq. 14); with λ = 500 and D the MMD the papers' InfoVAE; with information the
    MI-VAE (eq. 4.9). The others are in its chapter 5: with ``TotalCorrelation`` the β-TCVAE, with
    ``LearnedTotalCorrelation`` the FactorVAE, with ``Covariance`` the DIP-VAE, with ``Adversary`` and λ = 0 the
    adversarial auto-encoder, with the MMD of the other kernel the WAE.

    Parameters
    ----------
    divergence
        D.
    weight
        λ.
    capacity
        C, in nats.
    information
        A regulariser that keeps information in the code: its bound times its weight is subtracted from the loss.
    warmup
        The share of the training over which λ rises from 0 in proportion, which is called KL annealing (Bowman et al.,
        2016); by default λ is there from the start.
    regularisers
        R, each with its λ.

    Examples
    --------
    >>> Bound(divergence="geometric_js").divergence
    GeometricJS(skew=Fixed(start=0.5))
    >>> Bound(regularisers=({"kind": "total_correlation", "weight": 5.0},)).regularisers
    (TotalCorrelation(weight=5.0),)
    """

    kind = "bound"

    # In the order in which they may be given by position.
    divergence: Divergence = ReverseKL()
    weight: NotNegative = 1.0
    capacity: NotNegative = 0.0
    information: Information | None = None
    warmup: Annotated[float, Field(gt=0, le=1)] | None = None

    tensors = ("corruption", "weight", "capacity", "warmup")

    def build(self, site: Site) -> "BoundModule":
        """The module."""
        return BoundModule(self, site)


class BoundModule(PathwiseModule):
    """The module of :class:`Bound`."""

    weight: Tensor
    capacity: Tensor
    warmup: Tensor | None

    def combined(self, distortion: Tensor, divergence: Tensor, progress: Tensor) -> Tensor:
        """Distortion plus the weighted divergence, as far as it exceeds the capacity or falls short of it."""
        weight = self.weight if self.warmup is None else self.weight * (progress / self.warmup).clamp(max=1)
        return distortion + weight * (divergence.mean() - self.capacity * progress).abs()
