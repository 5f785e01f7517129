"""vaelib: a companion that makes five papers on variational auto-encoders checkable.

The way of the data is one line: an :class:`~vaelib.runs.experiment.Experiment` describes a run, a
:class:`~vaelib.runs.study.Study` labels many, ``Study.run`` trains each once and keeps it in the run store; tables,
figures and verdicts are drawn from there. The names below are imported when they are first used, so that
``import vaelib`` costs nothing.
"""

from importlib import import_module
from typing import Any

__version__ = "0.3.0"

_ROOMS = {
    "divergences": (
        "Divergence DivergenceModule DualGeometricJS ExtendedGeometricJS Fixed ForwardKL FreeBits GeometricJS Learned "
        "MMD MomentsMMD Newton ResistorAverage ReverseKL SelfWeightedKL SplitKL dual_geometric_js "
        "extended_geometric_js forward_kl geometric_js geometric_mean optimal_skew predicted_skew rate_of_skew "
        "register_geometry resistor_average reverse_kl skew_of_rates"
    ),
    "models": (
        "BalancedLikelihood BernoulliLikelihood Bits Burgess CNC Category Gaussian GaussianLikelihood Joint Latent "
        "LatentModule Likelihood MLP Network NormalisedConvolutions Point Relaxation ScaledGaussianLikelihood "
        "SharedGaussianLikelihood VAE XVAE ppca"
    ),
    "objectives": (
        "Adversary Bound Covariance Estimator Geco Hybrid Information LearnedRegulariserModule LearnedTotalCorrelation "
        "LeaveOneOut Objective ObjectiveModule Regulariser RegulariserModule SampledRate Score TotalCorrelation "
        "VarianceLoss"
    ),
    "training": "Adam",
    "measures": "Observed Observer",
    "runs": "COMPARED Entry Experiment Results Store Study trained",
}
_ROOM = {name: room for room, names in _ROOMS.items() for name in names.split()}

__all__ = sorted(_ROOM)


def __getattr__(name: str) -> Any:
    if name not in _ROOM:
        raise AttributeError(f"module 'vaelib' has no attribute {name!r}")
    return getattr(import_module(f"vaelib.{_ROOM[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_ROOM})
