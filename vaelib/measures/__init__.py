"""Measures: functions of a trained model and samples, and the observers made of them, one file a subject."""

from vaelib.measures.annealing import AnnealedEvidence, annealed_weights
from vaelib.measures.base import BATCH, Observation, Observed, Observer, batches, decode, encode, posterior
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
    each_category,
    latent_table,
    surgery,
)
from vaelib.measures.correlation import RateParts, correlation_bound, rate_parts
from vaelib.measures.disentanglement import (
    DCI,
    Disentanglement,
    attribute_predictability,
    beta_vae_score,
    dci,
    disentanglement,
    factor_vae_score,
    mutual_information_gap,
)
from vaelib.measures.evidence import Evidence, effective_draws, log_likelihood, log_weights
from vaelib.measures.gradients import GradientNoise, LossNoise
from vaelib.measures.information import InformationBound, variational_bound
from vaelib.measures.landscape import Landscape, Skews, landscape, optimal_skews
from vaelib.measures.probes import (
    CategoryClasses,
    Legibility,
    Recognised,
    Separability,
    reader,
    recognised,
    separability,
)
from vaelib.measures.rates import RateBounds, moment_mismatch
from vaelib.measures.reconstruction import (
    Denoising,
    Errors,
    PixelDistortion,
    Reconstructions,
    Samples,
    decoding_error,
    mean_terms,
    noisy,
    reconstruction_error,
    squared_error,
)
from vaelib.measures.spectrum import PrincipalVariances
from vaelib.measures.statistics import at_rate, corrected_difference, paired_interval
from vaelib.measures.survival import Relapse, predict
