"""log p(x) by importance sampling."""

import math
from collections.abc import Callable
from typing import Literal

import pandas as pd
import torch
from torch import Tensor
from torch.distributions import Distribution

from vaelib.measures.base import Observation, Observed, Observer, batches
from vaelib.models import VAE
from vaelib.parts import Count

Proposal = Callable[[Tensor], Distribution]

_DRAWS = 500


@torch.no_grad()
def log_weights(
    vae: VAE, samples: Tensor, draws: int, generator: torch.Generator, *, proposal: Proposal | None = None
) -> Tensor:
    """Importance weights log p(x|z) p(z) / r(z) with z ~ r, ``(n, draws)``, in nats, double precision.

    Parameters
    ----------
    vae
        The model.
    samples
        ``(n, *shape)``.
    draws
        How many z for each sample.
    generator
        On the model's device.
    proposal
        r: what gives a batch of distributions for a batch of samples; by default the posterior. The prior in its place
        gives plain Monte Carlo.
    """
    proposal, prior = proposal or vae.posterior, vae.prior
    rows = []
    for x in (x for batch in batches(vae, samples) for x in batch[:, None]):
        r, weights = proposal(x), []
        for count in [_DRAWS] * (draws // _DRAWS) + [draws % _DRAWS] * (draws % _DRAWS > 0):
            z = vae.latent.draw(r, vae.latent.noise(count, generator))
            weights.append(vae.likelihood(z).log_prob(x) + prior.log_prob(z) - r.log_prob(z))
        rows.append(torch.cat(weights).double())
    return torch.stack(rows)


def log_likelihood(weights: Tensor, draws: int | None = None) -> Tensor:
    """Importance-weighted log p(x) from the first `draws` of :func:`log_weights`, ``(n,)``, in nats.

    In expectation a lower bound that rises with the number of draws (Burda et al., 2016); with one draw it is the
    evidence lower bound.
    """
    first = weights[:, :draws]
    return first.logsumexp(1) - math.log(first.shape[1])


def effective_draws(weights: Tensor) -> Tensor:
    """How many equally weighted draws the weights are worth, ``(n,)``: the square of their sum over that of squares."""
    return (2 * weights.logsumexp(1) - (2 * weights).logsumexp(1)).exp()


class Evidence(Observer):
    """log p(x) of the first test samples: a row a sample and number of draws.

    Columns ``image``, ``draws``, ``log_p`` and ``effective`` (of all draws); and ``bound``, the mean log weight, which
    is the evidence lower bound with exact codes, and ``cross_entropy``, -log p(x|z) at the posterior mean.

    Parameters
    ----------
    images
        How many samples.
    draws
        Numbers of importance samples; the largest are drawn, the others are the first of them.
    proposal
        Where the codes come from.
    """

    kind = "evidence"

    images: Count = 100
    draws: tuple[Count, ...] = (1000,)
    proposal: Literal["posterior", "prior"] = "posterior"

    def cost(self) -> int:
        """Decodings, of which five take about as long as the training with an image."""
        return self.images * max(self.draws) // 5

    def observe(self, run: Observed) -> Observation:
        """The table."""
        vae, x = run.vae, run.data.test[: self.images]
        proposal = None if self.proposal == "posterior" else lambda _: vae.prior
        weights = log_weights(vae, x, max(self.draws), run.generator, proposal=proposal)
        with torch.no_grad():
            at_mean = [-vae.likelihood(vae.posterior(part).mean).log_prob(part) for part in batches(vae, x)]
        common = {
            "image": range(len(x)),
            "effective": effective_draws(weights).cpu().numpy(),
            "bound": weights.mean(1).cpu().numpy(),
            "cross_entropy": torch.cat(at_mean).double().cpu().numpy(),
        }
        tables = [{**common, "draws": k, "log_p": log_likelihood(weights, k).cpu().numpy()} for k in self.draws]
        return pd.concat(map(pd.DataFrame, tables), ignore_index=True)
