"""What a trained VAE does: functions of a model and of samples, nothing trained, nothing cached.

Samples are bytes or floats in [0, 1], wherever they lie; they are taken in batches, so a whole test set can be handed
over. What comes back lies where the model does.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal, OneHotCategorical

from vaelib.divergences import FORMS, Product, optimal_skew, reverse_kl
from vaelib.objectives import Trainee, corrupt
from vaelib.vae import VAE, pixels

_BATCH = 500


def batches(model: torch.nn.Module, samples: Tensor) -> Iterator[Tensor]:
    """Samples in parts, on the model's device, as the networks take them."""
    device = next(model.parameters()).device
    return (pixels(batch.to(device)) for batch in samples.split(_BATCH))


@torch.no_grad()
def posterior(vae: VAE, samples: Tensor) -> Distribution:
    """q(z|x) of all samples: batch shape ``(n,)``."""
    return vae.latent.posterior(torch.cat([vae.encoder(x) for x in batches(vae, samples)]))


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
    pairs = zip(batches(vae, samples), batches(vae, samples if targets is None else targets))
    return torch.cat([(vae.reconstruct(x) - target).square().flatten(1).sum(1) for x, target in pairs])


def noisy(samples: Tensor, sd: float, generator: torch.Generator) -> Tensor:
    """Samples with Gaussian noise of this standard deviation on them, clipped to [0, 1]."""
    clean = pixels(samples)
    return corrupt(clean, torch.randn(clean.shape, generator=generator, device=generator.device), sd)


@torch.no_grad()
def mean_terms(trainee: Trainee, samples: Tensor, generator: torch.Generator) -> dict[str, float]:
    """The objective's terms on samples, averaged: what it minimises, with the skew as it stands."""
    totals: dict[str, float] = {}
    done = torch.ones((), device=generator.device)
    for x in batches(trainee, samples):
        terms = trainee(x, trainee.objective.noise(trainee.vae, x.shape, generator), done)
        for name, term in terms.items():
            totals[name] = totals.get(name, 0.0) + term.double().sum().item()
    return {name: total / len(samples) for name, total in totals.items()}


@torch.no_grad()
def latent_rates(q: Distribution, p: Distribution) -> Tensor:
    """Mean KL(q‖p) of each latent, ``(size,)``, in nats: above 0.01 a latent is called active. A category is one."""
    if isinstance(q, Product):
        return torch.cat([latent_rates(a, b) for a, b in zip(q.parts, p.parts)])
    rates = reverse_kl(q.base_dist, p.base_dist) if isinstance(q, Independent) else reverse_kl(q, p)[:, None]
    return rates.mean(0)


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


def latent_table(q: Distribution, p: Distribution) -> pd.DataFrame:
    """Each latent of a batch of diagonal Gaussian posteriors by itself.

    Returns
    -------
    DataFrame
        One row a latent, the most used first: ``latent``, ``rate`` (mean KL(q‖p), nats), ``sd`` (mean posterior
        standard deviation), and for every form the skew that is optimal for this latent alone.
    """
    loc, scale, rates = q.base_dist.loc, q.base_dist.scale, latent_rates(q, p)
    rows = []
    for latent in rates.argsort(descending=True).tolist():
        alone = Normal(loc[:, latent], scale[:, latent]), Normal(p.base_dist.loc[latent], p.base_dist.scale[latent])
        rows.append(
            {"latent": latent, "rate": rates[latent].item(), "sd": scale[:, latent].mean().item()}
            | optimal_skews(*alone)
        )
    return pd.DataFrame(rows)


Proposal = Callable[[Tensor], Distribution]


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
        for count in [_BATCH] * (draws // _BATCH) + [draws % _BATCH] * (draws % _BATCH > 0):
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


@torch.no_grad()
def surgery(vae: VAE, samples: Tensor, generator: torch.Generator, *, draws: int = 1000) -> dict[str, float]:
    """The rate cut in two: E KL(q(z|x)‖p(z)) = I(x; z) + KL(q(z)‖p(z)), x uniform over the samples.

    After Hoffman and Johnson (2016). q(z) is the average of all n posteriors, so the mutual information cannot exceed
    log n, and near it says no more than that every sample can be told apart.

    Parameters
    ----------
    vae
        The model.
    samples
        ``(n, *shape)``: the population.
    generator
        On the model's device.
    draws
        Of how many z, each of another sample, the expectation is taken; at most n.

    Returns
    -------
    dict
        ``rate``, ``mutual_information``, ``marginal_kl`` and ``limit`` = log n, in nats.
    """
    q, n = posterior(vae, samples), len(samples)
    chosen = torch.randperm(n, generator=generator, device=generator.device)[:draws]
    own = vae.latent.posterior(torch.cat([vae.encoder(x) for x in batches(vae, samples[chosen.to(samples.device)])]))
    z = vae.latent.draw(own, vae.latent.noise(len(chosen), generator))
    aggregate = torch.cat([q.log_prob(part[:, None]).double().logsumexp(1) for part in z.split(100)]) - math.log(n)
    information = (own.log_prob(z) - aggregate).mean().item()
    marginal = (aggregate - vae.prior.log_prob(z)).mean().item()
    rate = reverse_kl(q, vae.prior).double().mean().item()
    return {"rate": rate, "mutual_information": information, "marginal_kl": marginal, "limit": math.log(n)}


def paired_interval(first: ArrayLike, second: ArrayLike, *, level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """A bootstrap interval of the mean difference of two methods on the same seeds and the same images.

    Both the seeds and the images are drawn anew, 2,000 times, each pair of runs and each image staying together.

    Parameters
    ----------
    first, second
        Errors ``(seeds, images)``.
    level
        Coverage.
    seed
        Of the resampling.
    """
    difference, rng = np.asarray(first, float) - np.asarray(second, float), np.random.default_rng(seed)
    seeds, count = difference.shape
    weights = rng.multinomial(count, np.full(count, 1 / count), 2000) / count
    means = weights @ difference.T
    means = np.take_along_axis(means, rng.integers(seeds, size=means.shape), axis=1).mean(1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def at_rate(frontier: pd.DataFrame, rate: float, value: str) -> float:
    """What a one-parameter family gives at a rate: linear between its members in the logarithm of the rate.

    Parameters
    ----------
    frontier
        Members of the family, one a row, with columns ``rate`` and `value`.
    rate
        Where, in nats.
    value
        The column.

    Returns
    -------
    float
        NaN outside of the family's rates: nothing is extrapolated.
    """
    family = frontier.groupby("rate")[value].mean()
    return float(np.interp(math.log(rate), np.log(family.index), family, left=math.nan, right=math.nan))


def category(q: Distribution) -> OneHotCategorical | None:
    """The category in a posterior, by itself or in a joint one; None if there is none, or more than one."""
    found = [part for part in (q.parts if isinstance(q, Product) else [q]) if isinstance(part, OneHotCategorical)]
    return found[0] if len(found) == 1 else None


def category_table(c: OneHotCategorical) -> dict[str, float]:
    """What n posteriors of a category are like.

    Returns
    -------
    dict
        ``information``: what the category says about which of the n samples it came from, exactly, the entropy of the
        average posterior less the average entropy; ``entropy`` of the average; ``rate``, the mean KL to the uniform
        distribution; in nats; and ``probability_0`` to ``probability_9``: the share of all probabilities in each tenth
        of [0, 1].
    """
    entropy = OneHotCategorical(probs=c.probs.mean(0)).entropy().item()
    within = c.entropy().mean().item()
    counts = torch.histc(c.probs.float(), 10, 0, 1) / c.probs.numel()
    rate = math.log(c.event_shape[0]) - within
    shares = {f"probability_{k}": share for k, share in enumerate(counts.tolist())}
    return {"information": entropy - within, "entropy": entropy, "rate": rate, **shares}


def cluster_scores(assigned: ArrayLike, labels: ArrayLike) -> dict[str, float]:
    """How well clusters are classes, without any label used to make them.

    Parameters
    ----------
    assigned, labels
        Cluster and class of each sample, whole numbers.

    Returns
    -------
    dict
        ``accuracy``, each cluster standing for one class of its own (the best such matching); ``majority``, each
        cluster standing for its most frequent class, as the MI-VAE paper counts; ``nmi`` and ``ari``, the normalised
        mutual information and the adjusted Rand index.
    """
    from scipy.optimize import linear_sum_assignment
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
    from sklearn.metrics.cluster import contingency_matrix

    table = contingency_matrix(labels, assigned)
    rows, columns = linear_sum_assignment(table, maximize=True)
    return {
        "accuracy": table[rows, columns].sum() / table.sum(),
        "majority": table.max(axis=0).sum() / table.sum(),
        "nmi": normalized_mutual_info_score(labels, assigned),
        "ari": adjusted_rand_score(labels, assigned),
    }
