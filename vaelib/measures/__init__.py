"""Measures: functions of a trained model and samples, and the observers made of them, one file a subject."""

from vaelib.measures.base import Observation, Observed, Observer, batches, decode, posterior
from vaelib.measures.codes import (
    Categories,
    CategoryTraversal,
    Latents,
    Manifold,
    Means,
    Surgery,
    Traversal,
    category,
    category_table,
    cluster_scores,
    latent_rates,
    latent_table,
    surgery,
)
from vaelib.measures.evidence import Evidence, effective_draws, log_likelihood, log_weights
from vaelib.measures.gradients import GradientNoise, LossNoise
from vaelib.measures.information import InformationBound, variational_bound
from vaelib.measures.landscape import Landscape, landscape, optimal_skews
from vaelib.measures.probes import Separability, separability
from vaelib.measures.reconstruction import (
    Denoising,
    Errors,
    PixelDistortion,
    Reconstructions,
    Samples,
    mean_terms,
    noisy,
    reconstruction_error,
)
from vaelib.measures.statistics import at_rate, corrected_difference, paired_interval
from vaelib.measures.survival import Relapse, predict

__all__ = [
    "Categories",
    "CategoryTraversal",
    "Denoising",
    "Errors",
    "Evidence",
    "GradientNoise",
    "InformationBound",
    "Landscape",
    "Latents",
    "LossNoise",
    "Manifold",
    "Means",
    "Observation",
    "Observed",
    "Observer",
    "PixelDistortion",
    "Reconstructions",
    "Relapse",
    "Samples",
    "Separability",
    "Surgery",
    "Traversal",
    "at_rate",
    "batches",
    "category",
    "category_table",
    "cluster_scores",
    "corrected_difference",
    "decode",
    "effective_draws",
    "landscape",
    "latent_rates",
    "latent_table",
    "log_likelihood",
    "log_weights",
    "mean_terms",
    "noisy",
    "optimal_skews",
    "paired_interval",
    "posterior",
    "predict",
    "reconstruction_error",
    "separability",
    "surgery",
    "variational_bound",
]
