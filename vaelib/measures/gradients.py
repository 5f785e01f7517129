"""The gradient laboratory: how good an estimator's gradient is at a fixed model, against the exact one."""

import time
from collections.abc import Mapping
from itertools import product

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Distribution, Independent, Normal, OneHotCategorical

from vaelib.divergences import Product, reverse_kl
from vaelib.errors import Invalid
from vaelib.measures.base import Observation, Observed, Observer, batches
from vaelib.models import VAE, distortion_of
from vaelib.objectives import Bound, Objective, ObjectiveModule
from vaelib.parts import Count, Several

Gradient = dict[str, Tensor]
"""One long vector for each group of parameters: ``"encoder"`` and ``"decoder"``."""

_CODES = 2**16  # more are not decoded one by one


def exact_elbo(vae: VAE, x: Tensor, points: int = 20) -> Tensor:
    """The evidence lower bound without any sampling: ``(n,)``, in nats, differentiable.

    Discrete codes are all decoded and weighted with their probabilities. Gaussian codes are decoded on a grid of
    Gauss-Hermite quadrature, which is exact where log p(x|z) is a polynomial of a degree below 2 `points` in z: for a
    linear decoder with a Gaussian likelihood, and in practice for every smooth one.

    Parameters
    ----------
    vae
        The model.
    x
        Samples ``(n, *shape)``.
    points
        Of the quadrature, for each latent.

    Raises
    ------
    Invalid
        If there are too many codes.
    """
    q = vae.posterior(x)
    codes, weights = _support(q, points)
    decoded = vae.likelihood(codes.expand(-1, len(x), -1).flatten(0, 1))
    return -(weights * distortion_of(decoded, x, len(codes))).sum(0) - reverse_kl(q, vae.prior)


def _support(q: Distribution, points: int) -> tuple[Tensor, Tensor]:
    """Codes ``(m, n or 1, code)`` and weights ``(m, n or 1)`` that give expectations under q."""
    if isinstance(q, Independent) and isinstance(q.base_dist, Normal):
        loc, scale = q.base_dist.loc, q.base_dist.scale
        nodes, weights = (torch.from_numpy(a).to(loc) for a in np.polynomial.hermite_e.hermegauss(points))
        _require(points ** loc.shape[-1])
        grid = _rows([nodes] * loc.shape[-1])
        weight = _rows([weights / weights.sum()] * loc.shape[-1]).prod(1)
        return loc + scale * grid[:, None], weight[:, None]
    codes = _values(q)[:, None]
    return codes, q.log_prob(codes).exp()


def _values(q: Distribution) -> Tensor:
    """All values of a discrete distribution, ``(m, code)``."""
    if isinstance(q, Product):
        parts = [_values(part) for part in q.parts]
        _require(int(np.prod([float(len(part)) for part in parts])))
        return torch.stack([torch.cat(rows) for rows in product(*parts)])
    if isinstance(q, OneHotCategorical):
        return torch.eye(q.event_shape[0]).to(q.logits)
    if isinstance(q, Independent) and isinstance(q.base_dist, Bernoulli):
        _require(2 ** q.event_shape[0])
        return _rows([torch.tensor([0.0, 1.0]).to(q.base_dist.logits)] * q.event_shape[0])
    raise Invalid("q", type(q).__name__, "a distribution that is discrete or Gaussian")


def _rows(axes: list[Tensor]) -> Tensor:
    """All combinations of the axes' values, ``(m, axes)``."""
    return torch.cartesian_prod(*axes).reshape(-1, len(axes))


def _require(codes: int) -> None:
    if codes > _CODES:
        raise Invalid("latents", codes, f"at most {_CODES} codes, as they are decoded one by one")


def gradient(vae: VAE, loss: Tensor) -> Gradient:
    """The gradient of a loss of shape ``()``: a vector for the encoder and one for the decoder."""
    groups = {"encoder": list(vae.encoder.parameters()), "decoder": list(vae.decoder.parameters())}
    slopes = iter(torch.autograd.grad(loss, [p for group in groups.values() for p in group], materialize_grads=True))
    return {name: torch.cat([next(slopes).flatten() for _ in group]) for name, group in groups.items()}


def sampled_gradient(vae: VAE, objective: ObjectiveModule, x: Tensor, generator: torch.Generator) -> Gradient:
    """One draw of an objective's gradient, of its mean loss over samples ``(n, *shape)``."""
    terms = objective(vae, x, objective.noise(vae, x.shape, generator), torch.ones((), device=x.device))
    return gradient(vae, terms["loss"].mean())


def mean_gradient(
    vae: VAE, objective: ObjectiveModule, x: Tensor, repeats: int, generator: torch.Generator
) -> Gradient:
    """The mean of many draws: a reference where nothing is exact."""
    total: Gradient = {}
    for _ in range(repeats):
        for group, g in sampled_gradient(vae, objective, x, generator).items():
            total[group] = total.get(group, 0) + g / repeats
    return total


def _now(x: Tensor) -> float:
    """The time when what was asked of the device of a tensor is done."""
    if x.device.type == "cuda":
        torch.cuda.synchronize(x.device)
    return time.perf_counter()


def laboratory(
    vae: VAE,
    objectives: Mapping[str, ObjectiveModule],
    x: Tensor,
    reference: Gradient,
    *,
    repeats: int = 200,
    generator: torch.Generator,
) -> pd.DataFrame:
    """Bias, variance and time of estimators' gradients at a fixed model.

    Parameters
    ----------
    vae
        The model.
    objectives
        The estimators, by name.
    x
        Samples ``(n, *shape)``, as the networks take them.
    reference
        The gradient of the mean negative bound: of :func:`exact_elbo`, or a :func:`mean_gradient`.
    repeats
        How many draws of each gradient.
    generator
        On the model's device.

    Returns
    -------
    DataFrame
        For each estimator and group of parameters: ``along``, the mean component along the reference as a share of
        its length (1 without bias), and its standard error ``along_error``; ``bias``, the length of mean less
        reference as a share of the reference's, less what chance adds; ``variance``, the trace of the covariance, and
        ``noise`` = its root as a share of the reference's length; ``seconds`` a gradient, the median.
    """
    rows = []
    for name, objective in objectives.items():
        total = {group: torch.zeros_like(g) for group, g in reference.items()}
        squares = {group: torch.zeros_like(g) for group, g in reference.items()}
        shares: dict[str, list[float]] = {group: [] for group in reference}
        seconds = []
        for _ in range(repeats):
            started = _now(x)
            drawn = sampled_gradient(vae, objective, x, generator)
            seconds.append(_now(x) - started)
            for group, g in drawn.items():
                total[group] += g
                squares[group] += g.square()
                shares[group].append(float(g @ reference[group] / reference[group].square().sum()))
        for group, r in reference.items():
            mean, length = total[group] / repeats, float(r.norm())
            variance = float((squares[group] / repeats - mean.square()).sum()) * repeats / (repeats - 1)
            excess = float((mean - r).square().sum()) - variance / repeats
            rows.append(
                {
                    "estimator": name,
                    "group": group,
                    "along": np.mean(shares[group]),
                    "along_error": np.std(shares[group], ddof=1) / repeats**0.5,
                    "bias": max(excess, 0.0) ** 0.5 / length,
                    "variance": variance,
                    "noise": variance**0.5 / length,
                    "seconds": np.median(seconds),
                }
            )
    return pd.DataFrame(rows)


class GradientNoise(Observer):
    """The :func:`laboratory` at a run's model, on its first test samples: a row an objective and group of parameters.

    Parameters
    ----------
    objectives
        Whose gradients; the reference is the mean gradient of a pathwise bound of 32 draws. The column ``estimator`` is
        an objective's kind, ``draws`` its number of draws.
    samples
        In the batch.
    repeats
        How many draws of each gradient; half as many of the reference.
    """

    kind = "gradient_noise"

    objectives: tuple[Objective, ...] = (Bound(),)
    samples: Count = 64
    repeats: Several = 100

    def observe(self, run: Observed) -> Observation:
        """The table."""
        x = next(batches(run.vae, run.data.test[: self.samples], self.samples))
        reference = mean_gradient(run.vae, run.build(Bound(draws=32)), x, max(1, self.repeats // 2), run.generator)
        tables = []
        for part in self.objectives:
            objectives = {part.kind: run.build(part)}
            found = laboratory(run.vae, objectives, x, reference, repeats=self.repeats, generator=run.generator)
            tables.append(found.assign(draws=part.draws))
        return pd.concat(tables, ignore_index=True)


class LossNoise(Observer):
    """How far a sample's loss varies from one set of random numbers to the next, on a run's first test samples.

    One row an objective: ``estimator`` and ``draws`` as :class:`GradientNoise` has them, ``mean``, that of all losses,
    and ``sd``, the root of their variance over the repeats, averaged over the samples; in nats.

    Parameters
    ----------
    objectives
        Whose losses.
    samples
        How many.
    repeats
        How often the loss of each is taken.
    """

    kind = "loss_noise"

    objectives: tuple[Objective, ...] = (Bound(),)
    samples: Count = 64
    repeats: Several = 100

    @torch.no_grad()
    def observe(self, run: Observed) -> Observation:
        """The table."""
        x = next(batches(run.vae, run.data.test[: self.samples], self.samples))
        done, rows = torch.ones((), device=x.device), []
        for part in self.objectives:
            objective = run.build(part)
            noises = (objective.noise(run.vae, x.shape, run.generator) for _ in range(self.repeats))
            losses = torch.stack([objective(run.vae, x, noise, done)["loss"] for noise in noises])
            spread = {"mean": losses.mean().item(), "sd": losses.var(0).mean().sqrt().item()}
            rows.append({"estimator": part.kind, "draws": part.draws, **spread})
        return pd.DataFrame(rows)
