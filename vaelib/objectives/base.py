"""Training objectives: from a VAE and a batch to the terms of a loss, one number a sample, in nats.

Everything that a sweep varies (skew, weight, capacity) is a parameter or a buffer, so that many objectives can be
stacked and trained in one vectorised step.
"""

from collections.abc import Callable, Sequence
from math import log, pi

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Normal
from torch.func import functional_call

from vaelib import divergences
from vaelib.divergences import FORMS, Skew, geometric_mean
from vaelib.estimators import ESTIMATORS, REPARAMETERISED, Draws
from vaelib.vae import VAE, distortion_of

Terms = dict[str, Tensor]
Noise = dict[str, Tensor]

CLOSED: dict[str, Callable[[Distribution, Distribution], Tensor]] = {
    "kl": divergences.reverse_kl,
    "forward_kl": divergences.forward_kl,
    "resistor_average": divergences.resistor_average,
}
"""Divergences of posterior and prior that have no parameter."""

SAMPLED = ("mmd", "mmd_moments")
"""What the maximum mean discrepancy compares with draws from the prior: codes, as InfoVAE defines it, or rows of
(mean, log-variance) with standard normal rows, as the code behind the papers does."""

DIVERGENCES = (*CLOSED, *FORMS, *SAMPLED)
ENTROPIES = ("prior", "aggregate")
SKEW_UPDATES = ("fixed", "gradient", "newton")


def corrupt(x: Tensor, noise: Tensor, sd: float | Tensor) -> Tensor:
    """Samples with so much noise on them, clipped to [0, 1]: the input of the α-VAE paper's figure 5."""
    return (x + sd * noise).clamp(0, 1)


class Information(nn.Module):
    r"""The variational bound of the mutual information between a part of the code and the decoder's output.

    .. math:: E_{z \sim q(z|x),\, x' = \mathrm{decoder}(z)}[\log Q(\hat z|x')] + H(\hat z) \le I(\hat z; x')

    MI-VAE paper, eqs. 4.9 and 4.21. The bound holds with the entropy of the aggregate posterior q(ẑ), here that of the
    batch. The paper takes the prior's, which is larger: then a category that is the same for all images reaches log K
    with no information at all, and with λ > 1 it pays to go there.

    Parameters
    ----------
    network
        Q: from samples ``(n, *shape)`` to logits, or to means and log-variances.
    kind
        ``"category"`` or ``"gaussian"``.
    places
        Which numbers of the code the part is.
    weight
        λ, not negative.
    entropy
        ``"prior"`` or ``"aggregate"``.
    """

    weight: Tensor

    def __init__(
        self, network: nn.Module, kind: str, places: Sequence[int], weight: float = 1.0, entropy: str = "prior"
    ):
        super().__init__()
        self.network, self.kind, self.places, self.entropy = network, kind, list(places), entropy
        self.register_buffer("weight", torch.tensor(float(weight)))
        size = len(places)
        self.prior_entropy = log(size) if kind == "category" else size * (1 + log(2 * pi)) / 2

    def forward(self, samples: Tensor, z: Tensor, *, frozen: bool = False) -> Tensor:
        """Return log Q of the part of z ``(n, code)`` given samples ``(n, *shape)``: ``(n,)``, in nats.

        A relaxed category counts as the mixture of categories that it is. With `frozen` no gradient reaches Q.
        """
        weights = {name: p.detach() if frozen else p for name, p in self.network.named_parameters()}
        outputs, part = functional_call(self.network, weights, (samples,)), z[:, self.places]
        if self.kind == "category":
            return (part * outputs.log_softmax(-1)).sum(-1)
        mean, log_variance = outputs.chunk(2, dim=-1)
        return Normal(mean, (log_variance / 2).exp(), validate_args=False).log_prob(part).sum(-1)

    def code_entropy(self, posterior: Distribution, z: Tensor) -> Tensor | float:
        """H of the part, in nats: the prior's, or the aggregate's by a batch of posteriors and codes."""
        if self.entropy == "prior":
            return self.prior_entropy
        mean = posterior.mean[:, self.places]
        if self.kind == "category":
            average = mean.mean(0)
            return -torch.special.xlogy(average, average).sum()
        spread = Normal(mean, posterior.stddev[:, self.places], validate_args=False)
        densities = spread.log_prob(z[:, None, self.places]).sum(-1)
        return log(len(z)) - densities.logsumexp(1).mean()


class ELBO(nn.Module):
    r"""Distortion plus a weighted divergence of posterior and prior.

    .. math:: E_{q(z|x)}[-\log p(x|z)] + \lambda\, |D(q(z|x), p(z)) - C t|

    With D = KL(q‖p), λ = 1 and C = 0 this is the negative evidence lower bound; with λ > 1 the β-VAE; with
    C > 0 the β-VAE of controlled capacity (MI-VAE paper, eq. 3.19), where t goes from 0 to 1 over the training; with
    a skew geometric JS the α-VAE (its eq. 14); with λ = 500 and D the MMD the papers' InfoVAE.

    Parameters
    ----------
    divergence
        One of :data:`DIVERGENCES`.
    weight
        λ, not negative.
    capacity
        C, in nats.
    skew
        Start of the skew in [0, 1], of the forms that have one.
    information
        A regulariser that keeps information in the code: its bound times its weight is subtracted from the loss.
    corruption
        Standard deviation of Gaussian noise on what is encoded, clipped to [0, 1], in training and in tests; the
        distortion is that of the clean sample. None: the samples are encoded as they are.
    skew_update
        ``"fixed"``; ``"gradient"``: a trained parameter, as in the papers; ``"newton"``: the minimiser of the
        batch's mean divergence, found anew in each step. By the envelope theorem the encoder's gradient is that of
        the minimised divergence.
    draws
        How many codes are drawn for each sample in each step.
    estimator
        Of the gradient: ``"pathwise"``, or one of :data:`~vaelib.estimators.ESTIMATORS`, which are of the evidence
        lower bound: for the KL with weight 1 and nothing else.
    proposal
        Where the codes that the variance is taken over come from: the geometric mean q^r p^(1-r) of posterior and
        prior, normalised, for this r in [0, 1]; None: the posterior.
    """

    weight: Tensor
    capacity: Tensor
    corruption: Tensor | None

    def __init__(
        self,
        divergence: str = "kl",
        *,
        weight: float = 1.0,
        capacity: float = 0.0,
        information: Information | None = None,
        corruption: float | None = None,
        skew: float = 0.5,
        skew_update: str = "fixed",
        draws: int = 1,
        estimator: str = "pathwise",
        proposal: float | None = None,
    ):
        super().__init__()
        self.divergence = divergence
        self.draws, self.estimator, self.proposal = draws, estimator, proposal
        self.register_buffer("weight", torch.tensor(float(weight)))
        self.register_buffer("capacity", torch.tensor(float(capacity)))
        self.register_buffer("corruption", None if corruption is None else torch.tensor(float(corruption)))
        self.information = information
        self.phases = ("model",) if information is None else ("information", "model")
        self.skew = Skew(skew) if divergence in FORMS else None
        self.skew_update = skew_update
        if self.skew is not None and skew_update != "gradient":
            self.skew.requires_grad_(False)

    def noise(self, vae: VAE, shape: Sequence[int], generator: torch.Generator) -> Noise:
        """All random numbers that samples ``(n, ...)`` of a shape need, each of length n along its first axis."""
        n = shape[0]
        noise = {"posterior": self._noise(vae, n, generator)}
        if self.proposal is not None:
            noise["proposal"] = self._noise(vae, n, generator)
        if self.divergence == "mmd":
            noise["prior"] = vae.latent.noise(n, generator)
        if self.divergence == "mmd_moments":
            noise["prior"] = torch.randn(n, vae.latent.outputs, generator=generator, device=generator.device)
        if self.corruption is not None:
            noise["input"] = torch.randn(shape, generator=generator, device=generator.device)
        return noise

    def _noise(self, vae: VAE, n: int, generator: torch.Generator) -> Tensor:
        """For all draws of n samples, ``(n, draws, code)``."""
        return vae.latent.noise(n * self.draws, generator).unflatten(0, (n, self.draws))

    def forward(self, vae: VAE, x: Tensor, noise: Noise, progress: Tensor, phase: str = "model") -> Terms:
        """Loss, distortion, rate and divergence of each sample.

        Parameters
        ----------
        vae
            The model.
        x
            Samples ``(n, *shape)`` in [0, 1].
        noise
            From :meth:`noise`, for the same shape.
        progress
            How far the training has come, from 0 to 1, shape ``()``.
        phase
            One of :attr:`phases`: each step minimises the loss of one after the other. In ``"information"`` it is
            -log Q, a function of Q alone.

        Returns
        -------
        dict
            ``loss``, ``distortion`` (-log p(x|z), averaged over the draws), ``rate`` (KL(q‖p), whatever the
            divergence) and ``divergence``, each ``(n,)``, in nats; and ``information``, the bound, where it is asked
            for.
        """
        seen = x if self.corruption is None else corrupt(x, noise["input"], self.corruption)
        posterior, prior = vae.posterior(seen), vae.prior
        differentiable = self.estimator in REPARAMETERISED
        draw = vae.latent.sample if differentiable else lambda q, e, _: vae.latent.draw(q, e).detach()
        z = draw(posterior, noise["posterior"].transpose(0, 1), progress)  # (draws, n, code)
        flat = z.flatten(0, 1)
        if phase == "information":
            with torch.no_grad():
                decoded = vae.likelihood(flat).mean
            return {"loss": -self.information(decoded, flat.detach())}
        likelihood = vae.likelihood(flat)
        distortions = distortion_of(likelihood, x, self.draws)
        distortion = distortions.mean(0)
        rate = divergences.reverse_kl(posterior, prior)
        divergence = rate if self.divergence == "kl" else self._divergence(vae, posterior, flat, noise, progress)
        terms = {"distortion": distortion, "rate": rate, "divergence": divergence}
        if self.estimator != "pathwise":
            own = proposed = Draws(-distortions, prior.log_prob(z), posterior.log_prob(z))
            if self.proposal is not None:
                with torch.no_grad():
                    wide, _ = geometric_mean(posterior, prior, self.proposal)
                    z = vae.latent.draw(wide, noise["proposal"].transpose(0, 1))
                again = distortion_of(vae.likelihood(z.flatten(0, 1)), x, self.draws)
                proposed = Draws(-again, prior.log_prob(z), posterior.log_prob(z))
            return {"loss": ESTIMATORS[self.estimator](own, proposed), **terms}
        loss = distortion + self.weight * (divergence.mean() - self.capacity * progress).abs()
        if self.information is not None:
            entropy = self.information.code_entropy(posterior, flat)
            informed = self.information(likelihood.mean, flat, frozen=True).unflatten(0, z.shape[:2]).mean(0)
            terms["information"] = informed + entropy
            loss = loss - self.information.weight * terms["information"]
        return {"loss": loss, **terms}

    def _divergence(self, vae: VAE, posterior: Distribution, z: Tensor, noise: Noise, progress: Tensor) -> Tensor:
        prior = vae.prior
        if self.divergence in CLOSED:
            return CLOSED[self.divergence](posterior, prior)
        if self.divergence in SAMPLED:
            if self.divergence == "mmd":
                rows, drawn = z, vae.latent.sample(prior, noise["prior"], progress)
            else:
                rows, drawn = divergences.moment_rows(posterior), noise["prior"]
            return divergences.mmd(rows, drawn).expand(posterior.batch_shape)
        if self.training and self.skew_update == "newton":
            # In place, like a batch normalisation's running mean: the next batch starts from here, a few steps away.
            start = self.skew.value
            start.copy_(divergences.optimal_skew(posterior, prior, self.divergence, start=start, iterations=6))
        return FORMS[self.divergence](posterior, prior, self.skew())

    def project_(self) -> None:
        """Bring the parameters back to where they are allowed, after an optimiser's step."""
        if self.skew is not None:
            self.skew.clamp_()


class Trainee(nn.Module):
    """What is trained: a VAE and the objective with its own parameters."""

    def __init__(self, vae: VAE, objective: ELBO):
        super().__init__()
        self.vae, self.objective = vae, objective

    def forward(self, x: Tensor, noise: Noise, progress: Tensor, phase: str = "model") -> Terms:
        """The objective's terms for a batch."""
        return self.objective(self.vae, x, noise, progress, phase)
