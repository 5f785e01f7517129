"""The smallest rate at a distortion that is asked for: the VAE as a constrained optimisation."""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import softsign

from vaelib.divergences import Divergence, ReverseKL
from vaelib.objectives.base import Site
from vaelib.objectives.pathwise import Pathwise, PathwiseModule
from vaelib.parts import NotNegative

LARGEST = 1e3
"""The multiplier and its inverse stay below: a tolerance that cannot be met would drive it to infinity."""


class Geco(Pathwise):
    r"""The divergence, as small as it gets where the distortion is no larger than a tolerance.

    .. math:: \min_{\theta, \phi} \max_{\mu > 0}\; D(q(z|x), p(z)) + \mu\, (E_{q(z|x)}[-\log p(x|z)] - \kappa)

    Rezende and Viola (2018), Algorithm 1. In place of a weight of the divergence one chooses the distortion; in the end
    1 / μ is the β of a β-VAE that has it. The multiplier rises where the distortion, averaged over recent batches, is
    above the tolerance, and falls where it is below. As in the paper log μ takes the steps, so that μ stays positive;
    they are Adam's, whose running mean is what the paper has a moving average of the constraint for.

    Parameters
    ----------
    tolerance
        κ, in nats an image: with the Gaussian likelihood the squared error plus ``log(pi) / 2`` an entry.
    divergence
        D.
    rate
        Of Adam, for log μ, which starts at 0: about so much it moves in a step where the tolerance is far.

    Examples
    --------
    >>> Geco(80.0).tolerance
    80.0
    """

    kind = "geco"

    tolerance: float
    divergence: Divergence = ReverseKL()
    rate: NotNegative = 1e-2

    tensors = ("corruption", "tolerance")

    def build(self, site: Site) -> "GecoModule":
        """The module."""
        return GecoModule(self, site)


class GecoModule(PathwiseModule):
    """The module of :class:`Geco`; it reports the ``multiplier``."""

    tolerance: Tensor

    def __init__(self, part: Geco, site: Site):
        super().__init__(part, site)
        self.multiplier = _Multiplier(part.rate)

    def combined(self, distortion: Tensor, divergence: Tensor, progress: Tensor) -> Tensor:
        """The Lagrangian; what descends it climbs in the multiplier."""
        excess, log = distortion - self.tolerance, self.multiplier.log
        # An excess of many nats counts as one: Adam's running mean square would remember the hundreds at the start for
        # thousands of steps, and the multiplier would hardly move any more.
        slope = softsign(excess.detach().mean())
        return divergence.mean() + log.detach().exp() * excess - (log - log.detach()) * slope

    def report(self) -> dict[str, Tensor]:
        """The multiplier, beside what the divergence reports."""
        return {**super().report(), "multiplier": self.multiplier.log.detach().exp()}

    @torch.no_grad()
    def project_(self) -> None:
        """Keep the multiplier finite, and above zero."""
        super().project_()
        self.multiplier.log.clamp_(-math.log(LARGEST), math.log(LARGEST))


class _Multiplier(nn.Module):
    """The logarithm of μ, shape ``()``, trained at a rate of its own."""

    def __init__(self, rate: float):
        super().__init__()
        self.log = nn.Parameter(torch.zeros(()))
        self.rate = rate  # what training gives the parameters of a module that has one
