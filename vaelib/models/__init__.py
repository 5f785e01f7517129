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
from vaelib.models.layers import Body, Dropout, initialise
from vaelib.models.likelihoods import (
    BalancedLikelihood,
    BernoulliLikelihood,
    GaussianLikelihood,
    Likelihood,
    ScaledGaussianLikelihood,
    SharedGaussianLikelihood,
)
from vaelib.models.networks import CNC, MLP, XVAE, Burgess, Network, NormalisedConvolutions
from vaelib.models.ppca import Equilibrium, equilibrium, ppca, principal_variances
from vaelib.models.vae import VAE, distortion_of, pixels
