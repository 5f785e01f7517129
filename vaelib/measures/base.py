"""What measures share, and the contract of an observer: a measure that is taken of a run and kept with it.

Samples are bytes or floats in [0, 1], wherever they lie; they are taken in batches, so a whole test set can be handed
over. What comes back lies where the model does.
"""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

import pandas as pd
import torch
from torch import Tensor
from torch.distributions import Distribution

from vaelib.data import Dataset
from vaelib.errors import Invalid
from vaelib.models import VAE, Category, Latent, pixels
from vaelib.objectives import Objective, ObjectiveModule, Site, Trainee
from vaelib.parts import Family, Index

Observation: TypeAlias = pd.DataFrame | dict[str, Tensor]
"""What an observer saw: a table, or tensors by name."""

Split = Literal["train", "test"]

BATCH = 500
"""Samples that are encoded or decoded at a time."""


def batches(model: torch.nn.Module, samples: Tensor, size: int = BATCH) -> Iterator[Tensor]:
    """Samples in parts, on the model's device, as the networks take them."""
    device = next(model.parameters()).device
    return (pixels(batch.to(device)) for batch in samples.split(size))


@torch.no_grad()
def encode(vae: VAE, samples: Tensor) -> Tensor:
    """What the encoder makes of all samples: ``(n, outputs)``."""
    return torch.cat([vae.encoder(x) for x in batches(vae, samples)])


def posterior(vae: VAE, samples: Tensor) -> Distribution:
    """q(z|x) of all samples: batch shape ``(n,)``."""
    return vae.latent.posterior(encode(vae, samples))


@torch.no_grad()
def decode(vae: VAE, z: Tensor) -> Tensor:
    """The means of p(x|z) for codes ``(*n, code)``: ``(*n, *shape)``."""
    codes = z.to(next(vae.parameters()).device)
    means: Tensor = torch.cat([vae.likelihood(part).mean for part in codes.flatten(0, -2).split(BATCH)])
    rows: Tensor = means.unflatten(0, codes.shape[:-1])
    return rows


@dataclass(frozen=True)
class Observed:
    """What an observer sees of a run.

    Attributes
    ----------
    trainee
        The model and its objective, in evaluation mode.
    data
        What it was trained on.
    inputs
        Test samples as its encoder gets them: with noise on them, where it is trained so.
    site
        What its objective was built with.
    seed
        The run's.
    generator
        On the model's device, seeded by the run's seed and the observer.
    """

    trainee: Trainee
    data: Dataset
    inputs: Tensor
    site: Site
    seed: int
    generator: torch.Generator

    @property
    def vae(self) -> VAE:
        """The model."""
        return self.trainee.vae

    def build(self, objective: Objective) -> ObjectiveModule:
        """Another objective for the run's model."""
        return objective.build(self.site).to(self.generator.device)

    def samples(self, split: Split) -> Tensor:
        """The training samples, or the test samples without noise."""
        return self.data.train if split == "train" else self.data.test


class Observer(Family):
    """The family of observers: frozen descriptions of what is measured of a run, and kept with it under their key.

    Parameters
    ----------
    at
        When: at the ``"end"`` of training, before it and after ``"every"`` epoch, or after the epochs named, 0 being
        before training. Tables of several times are put together, with a column ``epoch``.
    """

    at: Literal["end", "every"] | tuple[Index, ...] = "end"

    needs: ClassVar[tuple[Literal["labels", "classes", "months", "factors", "category"], ...]] = ()
    """What the data, or the latent, must have."""

    def check(self, latent: Latent, data: Dataset) -> None:
        """Refuse a run that it cannot be of, before that is trained: by what it needs, and by its numbers of images.

        Raises
        ------
        Invalid
            The sentence names the field ``observe``.
        """
        has = {
            "labels": data.train_labels is not None and data.test_labels is not None,
            "classes": data.classes is not None,
            "months": data.months is not None,
            "factors": data.factors is not None,
            "category": sum(isinstance(leaf, Category) for leaf in latent.leaves) == 1,
        }
        if lacking := [need for need in self.needs if not has[need]]:
            raise Invalid("observe", self.kind, f"one that does without {' and '.join(lacking)}, as this run has none")
        fields = dict(self.fields())
        images, samples = fields.get("images"), data.train if fields.get("split") == "train" else data.test
        if isinstance(images, tuple) and max(images, default=0) >= len(samples):
            raise Invalid("observe", self.kind, f"of images below {len(samples)}, and not of image {max(images)}")

    def cost(self) -> int:
        """How many images one could train with in the time that it takes, about; none, by default: a few seconds."""
        return 0

    @abstractmethod
    def observe(self, run: Observed) -> Observation:
        """A small tidy table, or tensors by name."""

    def due(self, epoch: int, epochs: int) -> bool:
        """Whether it is taken after this epoch of so many."""
        return self.at == "every" or (epoch == epochs if self.at == "end" else epoch in self.at)
