"""log p(x) by annealed importance sampling: where the posterior fits too badly for plain importance weights."""

import math
from itertools import pairwise
from typing import Literal, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from vaelib.data import Dataset
from vaelib.errors import Invalid
from vaelib.measures.base import Observation, Observed, Observer, batches
from vaelib.measures.evidence import effective_draws, log_likelihood
from vaelib.models import VAE, Latent
from vaelib.models.latents import GaussianLatent
from vaelib.parts import Count

Start = Literal["fitted", "posterior", "prior"]

_ROWS = 2048  # how many chains move together
_PILOTS, _SIZING, _ROUNDS = 32, 8, 2  # chains that find a start, chains that find step sizes, and rounds of the former
_ACCEPTED = 0.65  # about the best share for Hamiltonian Monte Carlo (Beskos et al., 2013)
_WIDER = 1.1  # a start that is wider than what it has to cover costs little, a narrower one much


class Annealed(NamedTuple):
    """What :func:`annealed_weights` gives.

    Attributes
    ----------
    weights
        Log importance weights ``(n, chains)``, in nats, double precision.
    accepted
        Share of the proposals that were accepted, ``(n,)``.
    """

    weights: Tensor
    accepted: Tensor


def annealed_weights(
    vae: VAE,
    samples: Tensor,
    chains: int,
    generator: torch.Generator,
    *,
    steps: int = 20,
    leapfrog: int = 3,
    start: Start = "fitted",
) -> Annealed:
    r"""Log importance weights of annealed chains (Neal, 2001; for decoders: Wu et al., 2017).

    Each chain starts at a draw from a Gaussian r(z) and moves towards the true posterior along the geometric path

    .. math:: \pi_t(z) \propto r(z)^{1 - t}\, [p(x|z)\, p(z)]^{t}, \quad t = 0, \dots, 1,

    by one transition of Hamiltonian Monte Carlo at each t. The exponential of a weight has the expectation p(x),
    however badly r fits and however few the steps; more steps make the weights more even. What is adapted, the size of
    the leapfrog steps for each sample and t, is adapted by pilot chains whose states are thrown away: the chains that
    count move by fixed kernels.

    Parameters
    ----------
    vae
        A model with a Gaussian code.
    samples
        ``(n, *shape)``, bytes or floats in [0, 1].
    chains
        How many for each sample.
    generator
        On the model's device.
    steps
        How many values of t after 0, evenly spaced. One is plain importance sampling from r.
    leapfrog
        Leapfrog steps of a transition, each of them a gradient of the decoder.
    start
        r: a Gaussian with the mean and covariance at which pilot chains from the encoder's posterior end; the encoder's
        posterior itself; or the prior.

    Raises
    ------
    Invalid
        If the code is not Gaussian.

    Examples
    --------
    >>> from vaelib.models.ppca import ppca
    >>> x = torch.rand(50, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    >>> annealed_weights(ppca(x, 2), x[:3], 5, torch.Generator().manual_seed(0)).weights.shape
    torch.Size([3, 5])
    """
    _check(type(vae.latent).__name__, isinstance(vae.latent, GaussianLatent))
    path = torch.linspace(0, 1, steps + 1).tolist()
    found = []
    for x in (part for batch in batches(vae, samples) for part in batch.split(max(1, _ROWS // chains))):
        r = _start(vae, x, start, path, leapfrog, generator)
        sizes = _Chains(vae, x, r, _SIZING, generator).run(path, leapfrog).sizes
        moved = _Chains(vae, x, r, chains, generator).run(path, leapfrog, sizes)
        found.append(Annealed(moved.weights.T.double(), moved.accepted))
    return Annealed(*(torch.cat(parts) for parts in zip(*found)))


def _check(latent: str, gaussian: bool) -> None:
    if not gaussian:
        raise Invalid("latent", latent, "a Gaussian one for annealed importance sampling")


class _Gaussian(NamedTuple):
    """r(z) of each sample: z = loc + factor u with a standard normal u; ``(n, code)`` and ``(n, code, code)``."""

    loc: Tensor
    factor: Tensor

    def at(self, u: Tensor) -> Tensor:
        """The codes z for u, both ``(chains, n, code)``."""
        return self.loc + torch.einsum("nij,cnj->cni", self.factor, u)


@torch.no_grad()
def _start(
    vae: VAE, x: Tensor, start: Start, path: list[float], leapfrog: int, generator: torch.Generator
) -> _Gaussian:
    """The Gaussian that chains start from."""
    if start == "prior":
        identity = torch.eye(vae.latent.code, device=x.device)
        return _Gaussian(x.new_zeros(len(x), vae.latent.code), identity.expand(len(x), -1, -1))
    q = vae.posterior(x)
    if start == "posterior":
        return _Gaussian(q.mean, torch.diag_embed(q.stddev))
    # A posterior may be far too narrow: half-way to the prior's width all of what it misses can be reached.
    r = _Gaussian(q.mean, torch.diag_embed(q.stddev.sqrt()))
    for _ in range(_ROUNDS):
        ends = r.at(_Chains(vae, x, r, _PILOTS, generator).run(path, leapfrog).u)
        away = ends - ends.mean(0)
        covariance = torch.einsum("cni,cnj->nij", away, away) / (_PILOTS - 1)
        # Few chains overstate how the codes depend on each other.
        shrunk = 0.8 * covariance + 0.2 * torch.diag_embed(covariance.diagonal(dim1=1, dim2=2) + 1e-6)
        r = _Gaussian(ends.mean(0), _WIDER * torch.linalg.cholesky(shrunk))
    return r


class _Moved(NamedTuple):
    """Where chains ended ``(chains, n, code)``, their weights ``(chains, n)``, acceptance, and step sizes by t."""

    u: Tensor
    weights: Tensor
    accepted: Tensor
    sizes: Tensor


class _Place(NamedTuple):
    """Where chains are: u ``(chains, n, code)``, log r and log p(x, z) ``(chains, n)``, the gradient of the latter."""

    u: Tensor
    start: Tensor
    joint: Tensor
    gradient: Tensor

    def log_density(self, t: float) -> Tensor:
        """The logarithm of pi_t, up to a constant."""
        return (1 - t) * self.start + t * self.joint

    def slope(self, t: float) -> Tensor:
        """Its gradient: that of a standard normal is -u."""
        return t * self.gradient - (1 - t) * self.u


class _Chains:
    """Chains of all samples at once, in the coordinates u in which r is the standard normal."""

    def __init__(self, vae: VAE, x: Tensor, r: _Gaussian, count: int, generator: torch.Generator):
        self.vae, self.r, self.generator = vae, r, generator
        self.x = x.expand(count, *x.shape).flatten(0, 1)
        self.u = self._normal(count, *r.loc.shape)

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, device=self.generator.device)

    def terms(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """The densities log r and log p(x, z), of u: ``(chains, n)``."""
        z = self.r.at(u).flatten(0, 1)
        joint = self.vae.likelihood(z).log_prob(self.x) + self.vae.prior.log_prob(z)
        volume = self.r.factor.diagonal(dim1=1, dim2=2).log().sum(1)
        start = -(u.square() + math.log(2 * math.pi)).sum(-1) / 2
        return start, joint.unflatten(0, u.shape[:2]) + volume

    def at(self, u: Tensor) -> _Place:
        """What the transitions have to know of u."""
        with torch.enable_grad():
            moving = u.detach().requires_grad_()
            start, joint = self.terms(moving)
            (gradient,) = torch.autograd.grad(joint.sum(), moving)
        return _Place(u, start.detach(), joint.detach(), gradient)

    @torch.no_grad()
    def run(self, path: list[float], leapfrog: int, sizes: Tensor | None = None) -> _Moved:
        """Move along the path; without step sizes ``(steps, n)`` they are adapted on the way, as only a pilot may."""
        weights, here = torch.zeros_like(self.u[..., 0]), self.at(self.u)
        size, used = self.u.new_full(self.u.shape[1:2], 0.5), []
        accepted = torch.zeros_like(size)
        for k, (before, t) in enumerate(pairwise(path)):
            weights += (t - before) * (here.joint - here.start)
            size = size if sizes is None else sizes[k]
            used.append(size)
            chance, here = self._transition(here, t, size, leapfrog)
            accepted += chance.mean(0) / (len(path) - 1)
            if sizes is None:
                size = (size * (1.5 * (chance.mean(0) - _ACCEPTED)).exp()).clamp(1e-3, 2)
        return _Moved(here.u, weights, accepted, torch.stack(used))

    def _transition(self, here: _Place, t: float, size: Tensor, leapfrog: int) -> tuple[Tensor, _Place]:
        """A step of Hamiltonian Monte Carlo that leaves pi_t as it is: the chance of acceptance, and where it leads."""
        step, momentum, there = size[:, None], self._normal(*here.u.shape), here
        v = momentum
        for _ in range(leapfrog):
            v = v + step / 2 * there.slope(t)
            there = self.at(there.u + step * v)
            v = v + step / 2 * there.slope(t)
        kinetic = (momentum.square() - v.square()).sum(-1) / 2
        chance = (there.log_density(t) - here.log_density(t) + kinetic).exp().clamp(max=1).nan_to_num(0)
        take = torch.rand(chance.shape, generator=self.generator, device=self.generator.device) < chance
        return chance, _Place(
            *(torch.where(take if a.ndim == 2 else take[..., None], a, b) for a, b in zip(there, here))
        )


class AnnealedEvidence(Observer):
    """log p(x) of the first test samples by :func:`annealed_weights`: a row a sample.

    Columns ``image``, ``log_p``, ``effective`` (how many of the chains the weights are worth) and ``accepted``.

    Parameters
    ----------
    images
        How many samples.
    chains, steps, leapfrog, start
        As in :func:`annealed_weights`.
    """

    kind = "annealed_evidence"

    images: Count = 100
    chains: Count = 64
    steps: Count = 20
    leapfrog: Count = 3
    start: Start = "fitted"

    def check(self, latent: Latent, data: Dataset) -> None:
        """Refuse a latent that is not Gaussian."""
        super().check(latent, data)
        _check(latent.kind, isinstance(latent.build(), GaussianLatent))

    def cost(self) -> int:
        """Gradients of the decoder, of which two take about as long as the training with an image."""
        pilots = _SIZING + (_ROUNDS * _PILOTS if self.start == "fitted" else 0)
        return self.images * (self.chains + pilots) * self.steps * self.leapfrog // 2

    def observe(self, run: Observed) -> Observation:
        """The table."""
        found = annealed_weights(
            run.vae,
            run.data.test[: self.images],
            self.chains,
            run.generator,
            steps=self.steps,
            leapfrog=self.leapfrog,
            start=self.start,
        )
        return pd.DataFrame(
            {
                "image": range(len(found.weights)),
                "log_p": log_likelihood(found.weights).cpu().numpy(),
                "effective": effective_draws(found.weights).cpu().numpy(),
                "accepted": found.accepted.cpu().numpy(),
            }
        )
