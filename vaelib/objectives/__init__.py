"""Training objectives: the bound with any divergence, estimators of its gradient, and the contract for more."""

from vaelib.objectives.base import Objective, ObjectiveModule, Site, Terms, Trainee, corrupt
from vaelib.objectives.bound import Bound, BoundModule
from vaelib.objectives.estimators import (
    Draws,
    Estimator,
    EstimatorModule,
    Hybrid,
    LeaveOneOut,
    SampledRate,
    Score,
    VarianceLoss,
)
from vaelib.objectives.information import Information, InformationModule
