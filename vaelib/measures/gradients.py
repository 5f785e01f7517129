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
from vaelib.objectives import ELBO
from vaelib.vae import VAE, distortion_of

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
    ValueError
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
    raise ValueError(f"q: the values of a {type(q).__name__} cannot be enumerated; it has to be discrete or Gaussian")


def _rows(axes: list[Tensor]) -> Tensor:
    """All combinations of the axes' values, ``(m, axes)``."""
    return torch.cartesian_prod(*axes).reshape(-1, len(axes))


def _require(codes: int) -> None:
    if codes > _CODES:
        raise ValueError(f"latents: {codes} codes are not allowed; to be decoded one by one there can be {_CODES}")


def gradient(vae: VAE, loss: Tensor) -> Gradient:
    """The gradient of a loss of shape ``()``: a vector for the encoder and one for the decoder."""
    groups = {"encoder": list(vae.encoder.parameters()), "decoder": list(vae.decoder.parameters())}
    slopes = iter(torch.autograd.grad(loss, [p for group in groups.values() for p in group], materialize_grads=True))
    return {name: torch.cat([next(slopes).flatten() for _ in group]) for name, group in groups.items()}


def sampled_gradient(vae: VAE, objective: ELBO, x: Tensor, generator: torch.Generator) -> Gradient:
    """One draw of an objective's gradient, of its mean loss over samples ``(n, *shape)``."""
    terms = objective(vae, x, objective.noise(vae, x.shape, generator), torch.ones((), device=x.device))
    return gradient(vae, terms["loss"].mean())


def mean_gradient(vae: VAE, objective: ELBO, x: Tensor, repeats: int, generator: torch.Generator) -> Gradient:
    """The mean of many draws: a reference where nothing is exact."""
    total: Gradient = {}
    for _ in range(repeats):
        for group, g in sampled_gradient(vae, objective, x, generator).items():
            total[group] = total.get(group, 0) + g / repeats
    return total


def laboratory(
    vae: VAE,
    objectives: Mapping[str, ELBO],
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
            started = time.perf_counter()
            drawn = sampled_gradient(vae, objective, x, generator)
            seconds.append(time.perf_counter() - started)
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
