r"""Divergences between a posterior q and a prior p, one number a sample, in nats.

Every function takes :mod:`torch.distributions` objects and returns what
:func:`torch.distributions.kl_divergence` would: a tensor of their batch shape, summed over event dimensions. The
convention is that of the thesis (its eqs. 36 to 38), throughout:

.. math::

    G_a = q^a p^{1-a} / Z(a), \qquad
    JS^G_a = (1-a) KL(q‖G_a) + a KL(p‖G_a), \qquad
    JS^G_{*a} = (1-a) KL(G_a‖q) + a KL(G_a‖p),

so that a = 0 gives KL(q‖p) for the first and KL(p‖q) for the dual, and a = 1 the other. Supported are pairs of Normal,
MultivariateNormal, Categorical, OneHotCategorical or Bernoulli, Independent of these, a Product of any, and every
family whose geometry is registered (:func:`register_geometry`).
"""

from vaelib.divergences import gaussian
from vaelib.divergences.base import Divergence, DivergenceModule, Noise, Sampler
from vaelib.divergences.families import (
    Geometry,
    Product,
    SkewLike,
    coordinates,
    forward_kl,
    geometric_mean,
    latent_kls,
    register_geometry,
    reverse_kl,
)
from vaelib.divergences.forms import (
    FORMS,
    DualGeometricJS,
    ExtendedGeometricJS,
    ForwardKL,
    GeometricJS,
    ResistorAverage,
    ReverseKL,
    SkewForm,
    dual_geometric_js,
    extended_geometric_js,
    geometric_js,
    resistor_average,
)
from vaelib.divergences.free_bits import FreeBits
from vaelib.divergences.mmd import MMD, MomentsMMD, mmd, moment_rows
from vaelib.divergences.sampling import sample
from vaelib.divergences.skew import (
    Fixed,
    Learned,
    Newton,
    Per,
    Skew,
    SkewModule,
    optimal_skew,
    predicted_skew,
    rate_of_skew,
    skew_of_rates,
)
from vaelib.divergences.weighted import SelfWeightedKL, SplitKL, split_weights
