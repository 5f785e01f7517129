"""What a rate is made of: bounds of the information that a code carries, and of its mismatch with the prior."""

import pandas as pd
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from vaelib.divergences import reverse_kl
from vaelib.measures.base import Observation, Observed, Observer, Split, posterior
from vaelib.measures.codes import surgery
from vaelib.models import VAE
from vaelib.parts import Count


@torch.no_grad()
def moment_mismatch(vae: VAE, samples: Tensor) -> float:
    """KL of a Gaussian with the aggregate posterior's mean and covariance from the prior, in nats.

    The divergence KL(q(z)‖p) of the aggregate posterior from a Gaussian prior is that of this Gaussian, plus the
    aggregate's own from it. So it is at least this number, whatever the shape of the aggregate.

    Parameters
    ----------
    vae
        A model with Gaussian posteriors and prior.
    samples
        ``(n, *shape)``, whose posteriors are averaged.
    """
    q, prior = posterior(vae, samples), vae.prior
    means = q.mean.double()
    covariance = torch.cov(means.T, correction=0) + torch.diag(q.variance.double().mean(0))
    aggregate = MultivariateNormal(means.mean(0), covariance)
    target = MultivariateNormal(prior.mean.double(), torch.diag(prior.variance.double()))
    return float(torch.distributions.kl_divergence(aggregate, target))


class RateBounds(Observer):
    r"""The rate, and what it is made of as far as so many samples tell, in one row, in nats.

    The rate, averaged over x, is :math:`I(x; z) + \mathrm{KL}(q(z)\,\|\,p(z))`. Of the first part n samples give a
    lower bound that cannot exceed log n, of the second their moments give one (:func:`moment_mismatch`). Columns
    ``rate``, ``information`` (at least), ``mismatch`` (at least) and ``limit`` = log n; the rest of the rate is
    undecided.

    Parameters
    ----------
    split
        The samples.
    draws
        Codes that the information is averaged over.
    """

    kind = "rate_bounds"

    split: Split = "train"
    draws: Count = 1000

    def observe(self, run: Observed) -> Observation:
        """The table."""
        samples = run.samples(self.split)
        parts = surgery(run.vae, samples, run.generator, draws=self.draws)
        rate = reverse_kl(posterior(run.vae, samples), run.vae.prior).double().mean().item()
        return pd.DataFrame(
            [
                {
                    "rate": rate,
                    "information": parts["mutual_information"],
                    "mismatch": moment_mismatch(run.vae, samples),
                    "limit": parts["limit"],
                }
            ]
        )
