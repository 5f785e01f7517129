"""The total correlation of the codes, estimated from a batch: the β-TCVAE."""

from math import log

from torch import Tensor
from torch.distributions import Distribution, Normal

from vaelib.models.latents import Gaussian, Latent
from vaelib.objectives.base import Site
from vaelib.objectives.regularisers import Codes, Regulariser, RegulariserModule


class TotalCorrelation(Regulariser):
    r"""How much the numbers of the code depend on each other: :func:`total_correlation` of the batch.

    .. math:: KL\bigl(q(z) \,\|\, \textstyle\prod_j q(z_j)\bigr)

    With the weight β - 1 beside KL(q‖p) it is the β-TCVAE (Chen et al., 2018; MI-VAE paper, eq. 5.5 with α = γ = 1).

    Examples
    --------
    >>> TotalCorrelation(weight=5.0)  # β = 6
    TotalCorrelation(weight=5.0)
    """

    kind = "total_correlation"

    def check(self, latent: Latent) -> None:
        """Refuse what is not Gaussian: relaxed codes have no density."""
        if not all(isinstance(leaf, Gaussian) for leaf in latent.leaves):
            raise self.refuse("Gaussian latents, whose codes have a density")

    def build(self, site: Site) -> RegulariserModule:
        """The module."""
        return _TotalCorrelation(self)


class _TotalCorrelation(RegulariserModule):
    def value(self, codes: Codes) -> Tensor:
        """The estimate of each sample, averaged over its draws."""
        found = total_correlation(codes.posterior, codes.z.flatten(0, 1))
        rows: Tensor = found.unflatten(0, codes.z.shape[:2])
        return rows.mean(0)


def total_correlation(posterior: Distribution, z: Tensor) -> Tensor:
    """The log ratio q(z) / prod_j q(z_j), where q is the mixture of n Gaussian posteriors: ``(m,)``, in nats.

    Its mean over codes from the mixture estimates the total correlation. Chen et al.'s minibatch-weighted sampling is
    larger by a constant, (code - 1) log N for N training samples, which no gradient sees and which would hide the
    value. As each code finds its own posterior among n alone, the estimate is too large where posteriors are narrow.

    Parameters
    ----------
    posterior
        Diagonal Gaussians of batch shape ``(n,)``.
    z
        Codes ``(m, code)``.
    """
    mean: Tensor = posterior.mean
    each: Tensor = Normal(mean, posterior.stddev, validate_args=False).log_prob(z[:, None])  # (m, n, code)
    joint, marginals = each.sum(-1).logsumexp(1), each.logsumexp(1).sum(-1)
    return joint - marginals + (mean.shape[-1] - 1) * log(len(mean))
