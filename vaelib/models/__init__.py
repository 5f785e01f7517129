"""Models: networks, latents, likelihoods, the VAE made of them, and probabilistic PCA as one."""

from vaelib.models.latents import (
    Bits,
    Category,
    Discrete,
    Gaussian,
    Joint,
    Latent,
    LatentModule,
    Point,
    Relaxation,
)
from vaelib.models.likelihoods import BalancedLikelihood, BernoulliLikelihood, GaussianLikelihood, Likelihood
from vaelib.models.networks import CNC, MLP, XVAE, Body, Burgess, Dropout, Network, NormalisedConvolutions, initialise
from vaelib.models.ppca import ppca
from vaelib.models.vae import VAE, distortion_of, pixels

__all__ = [
    "CNC",
    "MLP",
    "VAE",
    "XVAE",
    "BalancedLikelihood",
    "BernoulliLikelihood",
    "Bits",
    "Body",
    "Burgess",
    "Category",
    "Discrete",
    "Dropout",
    "Gaussian",
    "GaussianLikelihood",
    "Joint",
    "Latent",
    "LatentModule",
    "Likelihood",
    "Network",
    "NormalisedConvolutions",
    "Point",
    "Relaxation",
    "distortion_of",
    "initialise",
    "pixels",
    "ppca",
]
