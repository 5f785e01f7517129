"""What a trained VAE does: functions of a model and of samples, nothing trained, nothing cached.

Samples are bytes or floats in [0, 1]; they are taken in batches, so a whole test set can be handed over.
"""

from collections.abc import Iterator

import pandas as pd
import torch
from torch import Tensor
from torch.distributions import Distribution

from vaelib.divergences import FORMS, optimal_skew, reverse_kl
from vaelib.objectives import Trainee
from vaelib.vae import VAE, pixels

_BATCH = 500


def _batches(samples: Tensor) -> Iterator[Tensor]:
    return (pixels(batch) for batch in samples.split(_BATCH))


@torch.no_grad()
def posterior(vae: VAE, samples: Tensor) -> Distribution:
    """q(z|x) of all samples: batch shape ``(n,)``."""
    return vae.latent.posterior(torch.cat([vae.encoder(x) for x in _batches(samples)]))


@torch.no_grad()
def reconstruction_error(vae: VAE, samples: Tensor, targets: Tensor | None = None) -> Tensor:
    """Squared error summed over the pixels of each sample, ``(n,)``, with the posterior mean decoded.

    The number in the papers' reconstruction tables.

    Parameters
    ----------
    vae
        The model.
    samples
        What is encoded, ``(n, *shape)``.
    targets
        What is compared with, `samples` themselves by default (clean images, when `samples` are noisy).
    """
    pairs = zip(_batches(samples), _batches(samples if targets is None else targets))
    return torch.cat([(vae.reconstruct(x) - target).square().flatten(1).sum(1) for x, target in pairs])


@torch.no_grad()
def mean_terms(trainee: Trainee, samples: Tensor, generator: torch.Generator) -> dict[str, float]:
    """The objective's terms on samples, averaged: what it minimises, with the skew as it stands."""
    totals: dict[str, float] = {}
    done = torch.ones((), device=samples.device)
    for x in _batches(samples):
        terms = trainee(x, trainee.objective.noise(trainee.vae, len(x), generator), done)
        for name, term in terms.items():
            totals[name] = totals.get(name, 0.0) + term.double().sum().item()
    return {name: total / len(samples) for name, total in totals.items()}


@torch.no_grad()
def latent_rates(q: Distribution, p: Distribution) -> Tensor:
    """Mean KL(q‖p) of each latent, ``(size,)``, in nats: above 0.01 a latent is called active."""
    return reverse_kl(q.base_dist, p.base_dist).mean(0)


@torch.no_grad()
def landscape(q: Distribution, p: Distribution, points: int) -> pd.DataFrame:
    """Mean divergence over a batch of posteriors against the skew, for every form.

    Returns
    -------
    DataFrame
        Columns ``form``, ``skew`` (an even grid of `points` from 0 to 1) and ``divergence`` (nats).
    """
    grid = torch.linspace(0, 1, points, dtype=torch.float64).tolist()
    rows = [(name, skew, form(q, p, skew).double().mean().item()) for name, form in FORMS.items() for skew in grid]
    return pd.DataFrame(rows, columns=["form", "skew", "divergence"])


def optimal_skews(q: Distribution, p: Distribution) -> dict[str, float]:
    """The minimiser of the mean divergence over a batch of posteriors, for every form."""
    return {name: float(optimal_skew(q, p, name)) for name in FORMS}
