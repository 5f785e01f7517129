"""The divergence against the skew, and where it is smallest: for all samples, for each, for each latent."""

from typing import Annotated, Literal

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch.distributions import Distribution

from vaelib.divergences import FORMS, Per, coordinates, optimal_skew, reverse_kl
from vaelib.measures.base import Observation, Observed, Observer, Split, posterior
from vaelib.parts import Count, Index


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


class Skews(Observer):
    """The best skews of samples' posteriors, a row each, with the rates that they are for.

    Columns ``image`` and ``latent``, as far as a skew is for one; ``rate``, KL(q‖p) of a latent, and ``divergence``, at
    the skew, of all latents that it is for: both averaged over the samples that it is for (nats); ``skew``.

    Parameters
    ----------
    form
        The divergence.
    per
        What has a skew of its own: see :data:`vaelib.divergences.Per`.
    split, samples
        So many of the samples, from the first; as the encoder gets them, where they are test samples.
    """

    kind = "skews"

    form: Literal["geometric_js", "dual_geometric_js", "extended_geometric_js"] = "dual_geometric_js"
    per: Per = "datum"
    split: Split = "test"
    samples: Count = 200

    def observe(self, run: Observed) -> Observation:
        """The table."""
        samples = run.inputs if self.split == "test" else run.data.train
        q, p = posterior(run.vae, samples[: self.samples]), run.vae.prior
        skews = optimal_skew(q, p, self.form, per=self.per)
        alone = self.per in ("latent", "both")
        members = (coordinates(q), coordinates(p)) if alone else (q, p)
        rates, values = reverse_kl(*members), FORMS[self.form](*members, skews)
        if self.per in ("batch", "latent"):
            rates, values = rates.mean(0), values.mean(0)
        rates = rates / (1 if alone else q.event_shape.numel())
        names = [name for name, whose in (("image", "datum"), ("latent", "latent")) if self.per in (whose, "both")]
        places = {name: place.flatten() for name, place in zip(names, np.indices(tuple(skews.shape)))}
        columns = {"rate": rates, "skew": skews, "divergence": values}
        return pd.DataFrame(places | {n: v.double().flatten().tolist() for n, v in columns.items()})
