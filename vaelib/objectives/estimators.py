r"""Monte Carlo estimators of the gradient of the evidence lower bound, as objectives.

With :math:`f(z) = \log p(x|z) + \log p(z) - \log q(z|x)` the bound is the mean of f over codes z from the posterior.
Its gradient in the decoder is easy: that of the mean of f over draws. Its gradient in the encoder is not, as the draws
themselves depend on the encoder. The estimators differ in how they deal with that; those that do not differentiate
through a draw serve discrete codes as well. The pathwise one, with the rate in closed form (FGVAE thesis, eq. 3.3),
works with every divergence and is :class:`~vaelib.objectives.bound.Bound`.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from vaelib.divergences import Noise, geometric_mean, reverse_kl
from vaelib.errors import Invalid
from vaelib.models.latents import Gaussian, Latent
from vaelib.models.vae import VAE, distortion_of
from vaelib.objectives.base import Objective, ObjectiveModule, Site, Terms
from vaelib.parts import Several, Share


class Draws(NamedTuple):
    """Log-densities at the codes that were drawn for each sample: each ``(draws, n)``, in nats."""

    log_likelihood: Tensor
    log_prior: Tensor
    log_posterior: Tensor

    @property
    def log_weight(self) -> Tensor:
        """f, ``(draws, n)``."""
        return self.log_likelihood + self.log_prior - self.log_posterior


class Estimator(Objective):
    """The family of estimators: what is minimised is the negative evidence lower bound, however it is estimated.

    To write another, give :meth:`loss`.
    """

    differentiated: ClassVar[bool] = False

    @abstractmethod
    def loss(self, own: Draws, proposed: Draws) -> Tensor:
        """The loss of each sample ``(n,)``, in nats (nats squared for a variance).

        Parameters
        ----------
        own, proposed
            Log-densities at codes from the posterior, and at codes from the proposal where it is another.
        """

    def build(self, site: Site) -> "EstimatorModule":
        """The module."""
        return EstimatorModule(self, self.loss)


class EstimatorModule(ObjectiveModule):
    """The module of every estimator."""

    def __init__(self, part: Estimator, loss: Callable[[Draws, Draws], Tensor]):
        super().__init__(part)
        self._loss, self._differentiated, self._proposal = loss, part.differentiated, getattr(part, "proposal", None)

    def more_noise(self, vae: VAE, n: int, generator: torch.Generator) -> Noise:
        """Of the codes from the proposal, where it is not the posterior."""
        return {} if self._proposal is None else {"proposal": self.code_noise(vae, n, generator)}

    def forward(self, vae: VAE, x: Tensor, noise: Noise, progress: Tensor, phase: str = "model") -> Terms:
        """Loss, distortion, rate and divergence, which is the rate."""
        posterior, prior = vae.posterior(self.seen(x, noise), noise), vae.prior
        numbers = noise["posterior"].transpose(0, 1)  # (draws, n, code)
        if self._differentiated:
            z = vae.latent.sample(posterior, numbers, progress)
        else:
            z = vae.latent.draw(posterior, numbers).detach()

        def drawn(z: Tensor) -> Draws:
            distortions = distortion_of(vae.likelihood(z.flatten(0, 1), noise), x, self.draws)
            return Draws(-distortions, prior.log_prob(z), posterior.log_prob(z))

        own = proposed = drawn(z)
        if self._proposal is not None:
            with torch.no_grad():
                wide, _ = geometric_mean(posterior, prior, self._proposal)
                z = vae.latent.draw(wide, noise["proposal"].transpose(0, 1))
            proposed = drawn(z)
        rate = reverse_kl(posterior, prior)
        terms = {"distortion": -own.log_likelihood.mean(0), "rate": rate, "divergence": rate}
        return {"loss": self._loss(own, proposed), **terms}


def _with_gradient_of(surrogate: Tensor, value: Tensor) -> Tensor:
    """A loss with the value of one tensor and the gradient of another."""
    return value.detach() + surrogate - surrogate.detach()


def _score(own: Draws, coefficient: Tensor) -> Tensor:
    """Minus the bound; the encoder's gradient is that of log q, each draw times a coefficient ``(draws, n)``."""
    surrogate = coefficient * own.log_posterior + own.log_likelihood
    return _with_gradient_of(-surrogate.mean(0), -own.log_weight.mean(0))


class SampledRate(Estimator):
    """The mean of -f at reparameterised codes, with the rate sampled as well: FGVAE thesis, eq. 3.2.

    What is relaxed has no density under q, so it is for Gaussian latents.
    """

    kind = "sampled_rate"

    differentiated: ClassVar[bool] = True

    def check(self, latent: Latent) -> None:
        """Refuse what is not Gaussian."""
        if not all(isinstance(leaf, Gaussian) for leaf in latent.leaves):
            raise Invalid("latent", latent.kind, "gaussian for the objective 'sampled_rate', which needs densities")

    def loss(self, own: Draws, proposed: Draws) -> Tensor:
        """-f, averaged over the draws."""
        return -own.log_weight.mean(0)


class Score(Estimator):
    """The score function estimator: the encoder's gradient is the mean of f times that of log q (its sec. 3.3)."""

    kind = "score"

    def loss(self, own: Draws, proposed: Draws) -> Tensor:
        """-f, with that gradient."""
        return _score(own, own.log_weight.detach())


class _Comparing(Estimator):
    """Estimators that compare a sample's draws with each other, and need two or more."""

    draws: Several = 2


class LeaveOneOut(_Comparing):
    """The score function estimator with a baseline for each draw: the mean of f over the other draws (Kool et al.)."""

    kind = "leave_one_out"

    def loss(self, own: Draws, proposed: Draws) -> Tensor:
        """-f, with that gradient."""
        f = own.log_weight.detach()
        return _score(own, f - (f.sum(0) - f) / (len(f) - 1))


class VarianceLoss(_Comparing):
    """The sample variance of f, for encoder and decoder alike: Algorithm 1 of the variance-loss paper, its eq. 19.

    Zero wherever the posterior is exact, whatever the decoder does: one that ignores the code is as good as any.

    Parameters
    ----------
    proposal
        Where the codes that the variance is taken over come from: the geometric mean q^r p^(1-r) of posterior and
        prior, normalised, for this r; by default the posterior.
    """

    kind = "variance"

    proposal: Share | None = None

    def loss(self, own: Draws, proposed: Draws) -> Tensor:
        """The variance over the draws."""
        return proposed.log_weight.var(0)


class Hybrid(_Comparing):
    """Half the variance of f for the encoder, the evidence lower bound for the decoder.

    With codes from the posterior itself the encoder's gradient is that of :class:`LeaveOneOut`, draw by draw.

    Parameters
    ----------
    proposal
        As for :class:`VarianceLoss`.
    """

    kind = "hybrid"

    proposal: Share | None = None

    def loss(self, own: Draws, proposed: Draws) -> Tensor:
        """-f, with those gradients."""
        encoder = proposed._replace(log_likelihood=proposed.log_likelihood.detach()).log_weight.var(0) / 2
        return _with_gradient_of(encoder - own.log_likelihood.mean(0), -own.log_weight.mean(0))
