"""The divergence against the skew, and where it is smallest."""

from typing import Annotated, Literal

import pandas as pd
import torch
from pydantic import Field
from torch.distributions import Distribution

from vaelib.divergences import FORMS, optimal_skew
from vaelib.measures.base import Observation, Observed, Observer, posterior
from vaelib.parts import Index


@torch.no_grad()
def landscape(q: Distribution, p: Distribution, points: int) -> pd.DataFrame:
    """Mean divergence over a batch of posteriors against the skew, for every form.

    Returns
    -------
    DataFrame
        Columns ``form``, ``skew`` (an even grid of `points` from 0 to 1) and ``divergence`` (nats).
    """
    grid = torch.linspace(0, 1, points, dtype=torch.float64).tolist()
    rows = [(name, skew, form(q, p, skew).double().mean().item()) for name, form in FORMS.items() for skew in grid]
    return pd.DataFrame(rows, columns=["form", "skew", "divergence"])


def optimal_skews(q: Distribution, p: Distribution) -> dict[str, float]:
    """The minimiser of the mean divergence over a batch of posteriors, for every form.

    Empty for a family of distributions that has no geometry (:func:`vaelib.divergences.register_geometry`).
    """
    try:
        return {name: float(optimal_skew(q, p, name)) for name in FORMS}
    except TypeError:
        return {}


class Landscape(Observer):
    """The :func:`landscape` of the test samples' posteriors, by default before and after every epoch."""

    kind = "landscape"

    points: Annotated[int, Field(ge=2, le=10_000)] = 51
    at: Literal["end", "every"] | tuple[Index, ...] = "every"

    def observe(self, run: Observed) -> Observation:
        """The table."""
        return landscape(posterior(run.vae, run.inputs), run.vae.prior, self.points)
