"""How far latents depend on each other in the aggregate posterior: its total correlation, from above and from below."""

import copy
import math
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.distributions import Distribution, Normal

from vaelib.data import Dataset
from vaelib.divergences import reverse_kl
from vaelib.errors import Invalid
from vaelib.measures.base import Observation, Observed, Observer, Split, encode, posterior
from vaelib.measures.codes import drawn, log_aggregate
from vaelib.models import VAE, Latent
from vaelib.models.latents import GaussianLatent
from vaelib.parts import Count

Floats: TypeAlias = NDArray[np.float64]

_DRAWS = 10  # of each posterior that the bound is scored on: a mean of exponentials needs many


@torch.no_grad()
def rate_parts(vae: VAE, samples: Tensor, generator: torch.Generator, *, draws: int = 1000) -> dict[str, float]:
    r"""The rate cut in three (Chen et al., 2018, eq. 2), x uniform over the samples.

    .. math::
        \mathbb{E}_x \mathrm{KL}(q(z|x)\,\|\,p(z)) = I(x; z)
        + \mathrm{KL}\Big(q(z)\,\Big\|\,\prod_j q(z_j)\Big) + \sum_j \mathrm{KL}(q(z_j)\,\|\,p(z_j))

    The aggregate q(z) and its marginals are the averages of all n posteriors, not of a batch. The second and the third
    part together are :math:`\mathrm{KL}(q(z)\,\|\,p(z))`. The second, the total correlation, is zero where latents are
    independent in the aggregate.

    Parameters
    ----------
    vae
        A model with Gaussian posteriors and prior.
    samples
        ``(n, *shape)``: the population.
    generator
        On the model's device.
    draws
        Of how many z, each of another sample, the expectations are taken; at most n.

    Returns
    -------
    dict
        In nats, ``rate``, its three parts ``information``, ``total_correlation`` and ``dimension_kl``, and ``limit`` =
        log n, which the information cannot exceed. As far as n samples find too little of it, they find too much total
        correlation: see :func:`correlation_bound` for how much there is at least.

    Raises
    ------
    Invalid
        If the latent is not Gaussian.
    """
    _check(type(vae.latent).__name__, isinstance(vae.latent, GaussianLatent))
    q: Any = posterior(vae, samples)
    own, z = drawn(vae, samples, generator, draws)
    prior: Any = vae.prior
    joint = log_aggregate(q, z)
    alone = [Normal(*one) for one in zip(q.base_dist.loc.T, q.base_dist.scale.T)]  # all at once take d times the memory
    marginals = torch.stack([log_aggregate(one, z[:, latent]) for latent, one in enumerate(alone)], 1)
    return {
        "rate": reverse_kl(q, prior).double().mean().item(),
        "information": (own.log_prob(z) - joint).mean().item(),
        "total_correlation": (joint - marginals.sum(1)).mean().item(),
        "dimension_kl": (marginals - prior.base_dist.log_prob(z)).sum(1).mean().item(),
        "limit": math.log(len(samples)),
    }


def correlation_bound(
    vae: VAE,
    train: Tensor,
    test: Tensor,
    generator: torch.Generator,
    *,
    patience: int = 3,
    epochs: int = 30,
) -> float:
    r"""A lower bound of the total correlation, by a classifier that tells codes from codes with shuffled latents.

    Kim and Mnih (2018) read the total correlation off such a classifier, as the mean of its log-odds T over codes. That
    may be too much or too little; what does not exceed the total correlation, but for chance, is

    .. math:: \mathbb{E}_{q(z)}\, T(z) - \log \mathbb{E}_{\prod_j q(z_j)}\, e^{T(z)}

    (Donsker and Varadhan, 1983) on samples that the classifier has not seen. Ten codes of each are drawn; from m codes
    no more than about log m can be shown. After each epoch, on codes drawn anew, the classifier is scored on a tenth of
    the training samples that is held out; it is trained until that has not improved for `patience` epochs, and the best
    is kept.

    Parameters
    ----------
    vae
        The model.
    train, test
        Samples ``(n, *shape)``.
    generator
        On the model's device.
    patience, epochs
        When to stop.

    Returns
    -------
    float
        In nats.

    Raises
    ------
    Invalid
        If the latent is not Gaussian.
    """
    from sklearn.neural_network import MLPClassifier

    _check(type(vae.latent).__name__, isinstance(vae.latent, GaussianLatent))
    outputs, device = encode(vae, train), generator.device
    whole = vae.latent.posterior(outputs)
    centre, spread = whole.mean.mean(0), (whole.mean.var(0) + whole.variance.mean(0)).sqrt()

    def pairs(q: Distribution, draws: int = _DRAWS) -> list[Floats]:
        """Codes, and codes with each latent shuffled; standardised, which leaves the total correlation as it is."""
        noise = (vae.latent.noise(len(q.mean), generator) for _ in range(draws))
        z = (torch.cat([vae.latent.draw(q, one) for one in noise]) - centre) / spread
        shuffled = z.gather(0, torch.rand(z.shape, generator=generator, device=device).argsort(0))
        return [part.double().cpu().numpy() for part in (z, shuffled)]

    order, held = torch.randperm(len(train), generator=generator, device=device), max(1, len(train) // 10)
    shown, scored = vae.latent.posterior(outputs[order[held:]]), pairs(vae.latent.posterior(outputs[order[:held]]))
    seed = int(torch.randint(2**31, (), generator=generator, device=device))
    classifier: Any = MLPClassifier((128, 128), random_state=seed)
    best, kept, since, epoch = -math.inf, classifier, 0, 0
    while since < patience and epoch < epochs:
        z, shuffled = pairs(shown, 1)
        classifier.partial_fit(np.concatenate([shuffled, z]), np.arange(2).repeat(len(z)), classes=[0, 1])
        score, epoch = _donsker_varadhan(classifier, *scored), epoch + 1
        since = 0 if score > best else since + 1
        if not since:
            best, kept = score, copy.deepcopy(classifier)
    return _donsker_varadhan(kept, *pairs(posterior(vae, test)))


def _donsker_varadhan(classifier: Any, z: Floats, shuffled: Floats) -> float:
    from scipy.special import logit, logsumexp

    least = np.finfo(float).eps  # a classifier that is certain would count without end
    of, other = (logit(classifier.predict_proba(part)[:, 1].clip(least, 1 - least)) for part in (z, shuffled))
    return float(of.mean() - (logsumexp(other) - math.log(len(other))))


def _check(latent: str, gaussian: bool) -> None:
    if not gaussian:
        raise Invalid("latent", latent, "a Gaussian one for the total correlation")


class RateParts(Observer):
    """The rate and its parts by :func:`rate_parts`, and the :func:`correlation_bound`, in one row, in nats.

    Columns ``rate``, ``information``, ``total_correlation``, ``dimension_kl``, ``limit`` and ``correlation_bound``.

    Parameters
    ----------
    split
        The samples whose aggregate posterior it is; the bound is trained and tested on both.
    draws
        Codes that the parts are averaged over.
    epochs
        Of the bound's classifier, at most.
    """

    kind = "rate_parts"

    split: Split = "train"
    draws: Count = 1000
    epochs: Count = 30

    def check(self, latent: Latent, data: Dataset) -> None:
        """Refuse a latent that is not Gaussian."""
        super().check(latent, data)
        _check(latent.kind, isinstance(latent.build(), GaussianLatent))

    def observe(self, run: Observed) -> Observation:
        """The table."""
        parts = rate_parts(run.vae, run.samples(self.split), run.generator, draws=self.draws)
        bound = correlation_bound(run.vae, run.data.train, run.data.test, run.generator, epochs=self.epochs)
        return pd.DataFrame([{**parts, "correlation_bound": bound}])
