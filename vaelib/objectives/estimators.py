r"""Monte Carlo estimators of the gradient of the evidence lower bound, as losses that automatic differentiation takes.

With :math:`f(z) = \log p(x|z) + \log p(z) - \log q(z|x)` the bound is the mean of f over codes z from the posterior.
Its gradient in the decoder is easy: that of the mean of f over draws. Its gradient in the encoder is not, as the draws
themselves depend on the encoder. The estimators differ in how they deal with that; those that do not differentiate
through a draw serve discrete codes as well.
"""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor


class Draws(NamedTuple):
    """Log-densities at the codes that were drawn for each sample: each ``(draws, n)``, in nats."""

    log_likelihood: Tensor
    log_prior: Tensor
    log_posterior: Tensor

    @property
    def log_weight(self) -> Tensor:
        """f, ``(draws, n)``."""
        return self.log_likelihood + self.log_prior - self.log_posterior


def _with_gradient_of(surrogate: Tensor, value: Tensor) -> Tensor:
    """A loss with the value of one tensor and the gradient of another."""
    return value.detach() + surrogate - surrogate.detach()


def pathwise_sampled(own: Draws, proposed: Draws) -> Tensor:
    """The mean of -f at reparameterised codes, with the rate sampled as well: FGVAE thesis, eq. 3.2."""
    return -own.log_weight.mean(0)


def _score(own: Draws, coefficient: Tensor) -> Tensor:
    """Minus the bound; the encoder's gradient is that of log q, each draw times a coefficient ``(draws, n)``."""
    surrogate = coefficient * own.log_posterior + own.log_likelihood
    return _with_gradient_of(-surrogate.mean(0), -own.log_weight.mean(0))


def score(own: Draws, proposed: Draws) -> Tensor:
    """The score function estimator: the encoder's gradient is the mean of f times that of log q (its sec. 3.3)."""
    return _score(own, own.log_weight.detach())


def leave_one_out(own: Draws, proposed: Draws) -> Tensor:
    """The score function estimator with a baseline for each draw: the mean of f over the other draws of the sample."""
    f = own.log_weight.detach()
    return _score(own, f - (f.sum(0) - f) / (len(f) - 1))


def variance(own: Draws, proposed: Draws) -> Tensor:
    """The sample variance of f, for encoder and decoder alike: Algorithm 1 of the variance-loss paper, its eq. 19.

    Zero wherever the posterior is exact, whatever the decoder does: one that ignores the code is as good as any.
    """
    return proposed.log_weight.var(0)


def hybrid(own: Draws, proposed: Draws) -> Tensor:
    """Half the variance of f for the encoder, the evidence lower bound for the decoder.

    With codes from the posterior itself the encoder's gradient is that of :func:`leave_one_out`, draw by draw.
    """
    encoder = proposed._replace(log_likelihood=proposed.log_likelihood.detach()).log_weight.var(0) / 2
    return _with_gradient_of(encoder - own.log_likelihood.mean(0), -own.log_weight.mean(0))


ESTIMATORS: dict[str, Callable[[Draws, Draws], Tensor]] = {
    "pathwise_sampled": pathwise_sampled,
    "score": score,
    "leave_one_out": leave_one_out,
    "variance": variance,
    "hybrid": hybrid,
}
"""From log-densities at codes from the posterior, and at codes from the proposal where it is another, to the loss of
each sample ``(n,)``, in nats (nats squared for the variance).

Beside them ``"pathwise"``, the one with the rate in closed form (FGVAE thesis, eq. 3.3), works with every divergence
and is :class:`vaelib.objectives.ELBO`'s own.
"""

REPARAMETERISED = ("pathwise", "pathwise_sampled")
"""The estimators that differentiate through the draw: discrete codes are relaxed for them."""

COMPARING = ("leave_one_out", "variance", "hybrid")
"""The estimators that compare a sample's draws with each other, and need two or more."""

PROPOSING = ("variance", "hybrid")
"""The estimators whose draws may come from another distribution than the posterior."""
