"""What a run's data are before anything is trained: their principal variances."""

import pandas as pd

from vaelib.measures.base import Observation, Observed, Observer
from vaelib.models import principal_variances
from vaelib.parts import Count


class PrincipalVariances(Observer):
    """The largest eigenvalues of the covariance of the training samples: columns ``rank``, from 1, and ``variance``.

    No model is looked at, but kept with a run they need no data any more.

    Parameters
    ----------
    size
        How many.
    """

    kind = "principal_variances"

    size: Count = 10

    def observe(self, run: Observed) -> Observation:
        """The table."""
        variances = principal_variances(run.samples("train"), self.size)
        return pd.DataFrame({"rank": range(1, len(variances) + 1), "variance": variances})
