"""The linear-Gaussian auto-encoder: probabilistic PCA, as the VAE whose posterior is exact."""

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from vaelib.divergences import predicted_skew
from vaelib.errors import Invalid
from vaelib.models.latents import Gaussian
from vaelib.models.vae import VAE, pixels


def ppca(samples: Tensor, size: int) -> VAE:
    r"""Probabilistic PCA by maximum likelihood (Tipping and Bishop, 1999; FGVAE thesis, section 2.1).

    .. math:: x = W z + \mu + e,\quad z \sim N(0, I),\; e \sim N(0, \sigma^2 I),\quad W = U (\Lambda - \sigma^2 I)^{1/2}

    with the leading eigenvalues Λ and eigenvectors U of the covariance, and σ² the mean of the others. The columns of W
    are orthogonal, so the true posterior N(Λ^-½ (I - σ² Λ^-1)^½ U^T (x - μ), σ² Λ^-1) is diagonal: one that a linear
    encoder of a :class:`~vaelib.latents.Gaussian` gives. As σ² goes to zero the codes become those of PCA, each
    divided by its standard deviation.

    Parameters
    ----------
    samples
        What it is fitted to, ``(n, *shape)``, bytes or floats in [0, 1].
    size
        Number of latent dimensions.

    Raises
    ------
    Invalid
        If the size leaves no direction, or none with any variance, to estimate the noise from.
    """
    from sklearn.decomposition import PCA

    shape, flat = samples.shape[1:], pixels(samples).flatten(1).double().numpy()
    if not 1 <= size < min(flat.shape):
        raise Invalid("size", size, f"a whole number from 1 to {min(flat.shape) - 1}")
    # The eigenvectors of the covariance are exact, and for many samples far cheaper than singular vectors of them all.
    pca = PCA(size, svd_solver="covariance_eigh").fit(flat)
    noise, variances = pca.noise_variance_, pca.explained_variance_
    if noise <= 1e-12 * variances[0]:
        raise Invalid("size", size, "less than the number of directions in which the samples vary")
    gain = np.sqrt(variances - noise)
    inverse = pca.components_ * (gain / variances)[:, None]  # (size, features), as is the transpose of W
    encoder = _affine(
        np.concatenate([inverse, np.zeros_like(inverse)]),
        np.concatenate([-inverse @ pca.mean_, np.log(noise / variances)]),
    )
    decoder = _affine((pca.components_ * gain[:, None]).T, pca.mean_)
    return VAE(
        nn.Sequential(nn.Flatten(), encoder),
        nn.Sequential(decoder, nn.Unflatten(1, shape)),
        Gaussian(size=size).build(),
        lambda outputs: Independent(Normal(outputs, math.sqrt(noise), validate_args=False), len(shape)),
    ).eval()


def principal_variances(samples: Tensor, size: int) -> list[float]:
    """The largest eigenvalues of the covariance of samples, in falling order.

    Parameters
    ----------
    samples
        ``(n, *shape)``, bytes or floats in [0, 1].
    size
        How many.
    """
    flat = pixels(samples).flatten(1).double().numpy()
    flat -= flat.mean(0)
    products = flat @ flat.T if len(flat) < flat.shape[1] else flat.T @ flat  # both have the same eigenvalues but zero
    spectrum: list[float] = (np.linalg.eigvalsh(products)[::-1][:size] / (len(flat) - 1)).tolist()
    return spectrum


class Equilibrium(NamedTuple):
    """Where a linear β-VAE ends that chooses its β: the weight, the rate in nats, and how many latents are in use."""

    weight: float
    rate: float
    used: int


def equilibrium(variances: list[float], *, noise: float = 0.5) -> Equilibrium:
    r"""The weight that a linear dual α-VAE chooses, from the spectrum of the data alone.

    A linear β-VAE whose likelihood has the variance s² is probabilistic PCA with the noise β s²: the latent of the
    eigenvalue l is in use if l > β s², has the rate ½ log(l / (β s²)), and mean square and variance that add up to one.
    With β = :func:`~vaelib.divergences.predicted_skew` of the mean rate this is one equation,

    .. math:: 1/\beta^2 - 1/\beta - 1 = \tfrac1k \sum_{i \le k} \log \frac{l_i}{\beta s^2},

    with at most one solution for each number k of used latents; the largest k whose latents all stay in use is taken.

    Parameters
    ----------
    variances
        Eigenvalues of the data's covariance in falling order, one a latent.
    noise
        s²; the squared error as a loss is one half.

    Raises
    ------
    Invalid
        If no latent stays in use.

    Examples
    --------
    >>> equilibrium([5.0, 4.0, 3.0, 0.001]).used
    3
    """
    for used in range(len(variances), 0, -1):
        signal, weight = np.log(np.asarray(variances[:used]) / noise).mean(), 0.5
        for _ in range(60):  # a contraction: its slope at the solution is β² / (2 - β), below 0.3
            weight = predicted_skew(max(0.0, float(signal - math.log(weight)) / 2))
        if variances[used - 1] > weight * noise:
            return Equilibrium(weight, used * float(signal - math.log(weight)) / 2, used)
    raise Invalid("variances", variances, f"eigenvalues of which one is well above the noise, {noise:g}")


def _affine(weight: ArrayLike, bias: ArrayLike) -> nn.Linear:
    """A layer with these numbers, in single precision."""
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, np.shape(weight)[1], np.shape(weight)[0])
    with torch.no_grad():
        layer.weight.copy_(torch.as_tensor(weight))
        layer.bias.copy_(torch.as_tensor(bias))
    return layer
