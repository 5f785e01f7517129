"""Training objectives: the bound with any divergence and regularisers, estimators of its gradient, and contracts."""

from vaelib.objectives.adversary import Adversary
from vaelib.objectives.base import Objective, ObjectiveModule, Site, Terms, Trainee, corrupt
from vaelib.objectives.bound import Bound, BoundModule
from vaelib.objectives.covariance import Covariance
from vaelib.objectives.critics import Critic, CriticModule
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
from vaelib.objectives.factor import LearnedTotalCorrelation
from vaelib.objectives.geco import Geco, GecoModule
from vaelib.objectives.information import Information, InformationModule
from vaelib.objectives.pathwise import Pathwise, PathwiseModule
from vaelib.objectives.regularisers import (
    Codes,
    LearnedRegulariserModule,
    Regulariser,
    RegulariserModule,
    outputs_of,
)
from vaelib.objectives.total_correlation import TotalCorrelation, total_correlation
