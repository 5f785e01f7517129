"""Checkpoints: what a run under way has to show so far, and what it goes on from."""

import warnings
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from vaelib.measures.base import Observation
from vaelib.runs import bundle
from vaelib.runs.bundle import Damaged
from vaelib.runs.store import SCHEMA


@dataclass
class Checkpoint:
    """A run after an epoch.

    Parameters
    ----------
    data
        The fingerprint of what it is trained on.
    epoch
        The last epoch that is done.
    history
        What was measured, one row an epoch.
    observations
        What was observed so far, by the keys of the observers.
    seconds
        How long it took so far.
    state
        Everything that training goes on from, as tensors by name.
    """

    data: str
    epoch: int
    history: list[dict[str, float]]
    observations: dict[str, Observation]
    seconds: float
    state: dict[str, Tensor]

    @classmethod
    def read(cls, file: Path) -> "Checkpoint | None":
        """The checkpoint in a file; None, so that the run starts anew, if there is none that this version can use.

        A damaged one is warned about.
        """
        if not file.exists():
            return None
        try:
            members = bundle.read(file)
            with bundle.checking(file):
                values = bundle.unpack(members)
                return cls(**values) if values.pop("schema") == SCHEMA else None
        except Damaged as error:
            warnings.warn(f"checkpoint {error}; the run starts anew", stacklevel=2)
            return None

    def write(self, file: Path) -> None:
        """Write to a file, which is the old checkpoint or this one at any time."""
        bundle.write(file, bundle.pack(**vars(self), schema=SCHEMA))
