"""How long jobs take on this machine: from what the store's runs took, or by trying for a second."""

import json
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from vaelib import training
from vaelib.data import Dataset
from vaelib.measures import Observer
from vaelib.runs.experiment import Experiment
from vaelib.runs.store import Store

_GUESS = 5_000  # images a second, where nothing is known
_LATEST = 5  # of a kind's runs; the machine may have been another before


class Pace:
    """Images that a worker trains with in a second.

    Runs of the same structure say it best, then those of the same network on samples of the same shape.

    Parameters
    ----------
    store
        Whose runs' times count.
    device
        A torch device; runs on another kind of device do not count.
    """

    def __init__(self, store: Store, device: str):
        self.device = device
        self._known: dict[str, list[float]] = defaultdict(list)
        for entry in sorted(store.summaries(), key=lambda entry: str(entry["provenance"]["created"])):
            experiment, made = entry["experiment"], entry["provenance"]
            if made.get("images") and made["seconds"] and made["device"].startswith(device.split(":")[0]):
                for kind in self._kinds(experiment, made["shape"]):
                    epochs = experiment.get("epochs", Experiment.model_fields["epochs"].default)
                    self._known[kind].append(made["images"] * epochs / made["seconds"])

    @staticmethod
    def _kinds(experiment: Mapping[str, Any], shape: Sequence[int]) -> list[str]:
        """What a run's pace depends on, the most telling first."""
        body = [experiment.get(name) for name in ("network", "precision", "batch_size")]
        same = {name: value for name, value in experiment.items() if name not in ("data", "seed", "epochs")}
        return [json.dumps([what, list(shape)]) for what in (same, body)]

    def seconds(
        self,
        e: Experiment,
        data: Dataset,
        observers: Iterable[Observer] = (),
        *,
        train: bool = True,
        calibrate: bool = False,
    ) -> float:
        """How long a run takes, or only what is observed of it.

        Parameters
        ----------
        e, data
            The run, and its data.
        observers
            What is observed of it at its end.
        train
            Whether it has to be trained.
        calibrate
            Whether to try what nothing is known of; otherwise it is guessed.
        """
        kinds = self._kinds(e.canonical(), data.shape)
        if calibrate and not any(kind in self._known for kind in kinds):
            self._known[kinds[-1]].append(self._tried(e, data))
        known = next((self._known[kind] for kind in kinds if kind in self._known), [_GUESS])
        images = len(data.train) * e.epochs * train + sum(observer.cost() for observer in observers)
        return images / median(known[-_LATEST:])

    def _tried(self, e: Experiment, data: Dataset) -> float:
        """Images a second in a few steps of training, after as many to warm up."""
        some = data.train[: 10 * e.batch_size]
        trainee = e.build(data.shape, data.blocks)
        with training.threads(1):
            process = training.Training(
                [trainee],
                [e.seed],
                some,
                batch_size=e.batch_size,
                epochs=e.epochs,
                optimiser=e.optimiser,
                device=self.device,
            )
            process.run_epoch()
            started = time.perf_counter()
            process.run_epoch()
            return len(some) / (time.perf_counter() - started)
