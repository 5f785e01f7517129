"""The life of a run: from an experiment, or from its checkpoint, to an entry of the run store."""

import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from vaelib import __version__, datasets, evaluation, training
from vaelib.divergences import optimal_skew
from vaelib.experiments import Experiment
from vaelib.objectives import Trainee
from vaelib.provenance import commit
from vaelib.store import SCHEMA, Store


@lru_cache(maxsize=2)
def _dataset(name: str, fingerprint: str | None) -> datasets.Dataset:
    """A loaded data set, kept for the next run of the same process."""
    return datasets.load(name)


@dataclass
class Checkpoint:
    """What a run has to show so far, and what it goes on from."""

    epoch: int
    history: list[dict[str, float]]
    landscape: pd.DataFrame | None
    seconds: float
    state: training.State

    @classmethod
    def read(cls, file: Path) -> "Checkpoint | None":
        """The checkpoint in a file; None if there is none that this version can go on from."""
        try:
            with safe_open(file, framework="pt") as opened:
                note = json.loads(opened.metadata()["run"])
                state = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        except (FileNotFoundError, SafetensorError):
            return None
        if note.pop("schema") != SCHEMA:
            return None
        landscape = note.pop("landscape")
        frame = pd.read_csv(StringIO(landscape)) if landscape else None
        return cls(state=state, landscape=frame, **note)

    def write(self, file: Path) -> None:
        """Write to a file, which is the old checkpoint or this one at any time."""
        note = {
            "schema": SCHEMA,
            "epoch": self.epoch,
            "history": self.history,
            "landscape": None if self.landscape is None else self.landscape.to_csv(index=False),
            "seconds": self.seconds,
        }
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_suffix(f".{os.getpid()}.tmp")
        save_file(self.state, draft, metadata={"run": json.dumps(note)})
        os.replace(draft, file)


def train_all(group: list[Experiment], **options: Any) -> int:
    """Train a group in a worker; how many epochs that was."""
    return len(group) * sum(1 for _ in train(group, **options))


def train(
    group: list[Experiment],
    *,
    fingerprints: dict[str, str | None],
    weights: bool,
    force: bool,
    device: str,
    threads: int,
    checkpoint_every: int,
    store: Path,
) -> Iterator[int]:
    """Train experiments of one structure to the end, and store them; yields after each epoch."""
    runs, first = Store(store), group[0]
    with ExitStack() as stack:
        stack.enter_context(training.threads(threads))
        stack.enter_context(torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False))
        data = _dataset(first.dataset, fingerprints[first.dataset])
        test = data.test.to(device)
        inputs = [_inputs(e, test) for e in group]
        process = training.Training(
            [e.build(data.shape, data.blocks) for e in group],
            [e.seed for e in group],
            data.train,
            batch_size=first.batch_size,
            epochs=first.epochs,
            learning_rate=first.learning_rate,
            skew_learning_rate=first.skew_learning_rate or 0.0,
            decay=first.decay or 0.0,
            weight_decay=first.weight_decay or 0.0,
            device=device,
        )
        saved = [None if force else Checkpoint.read(runs.checkpoint(e.key)) for e in group]
        progress: list[Checkpoint] = [s for s in saved if s is not None]
        if len(progress) == len(group):
            process.resume([p.state for p in progress], progress[0].epoch)
        else:
            progress = [Checkpoint(0, [], None, 0.0, {}) for _ in group]
            for k, e in enumerate(group):
                _measure(progress[k], e, process.member(k), inputs[k], test, 0, {})
        for _ in range(process.epoch):
            yield 0
        while process.epoch < first.epochs:
            started = time.perf_counter()
            for k, row in enumerate(process.run_epoch()):
                _measure(progress[k], group[k], process.member(k), inputs[k], test, process.epoch, row)
            due = process.epoch % checkpoint_every == 0 and process.epoch < first.epochs
            for k, e in enumerate(group):
                progress[k].seconds += (time.perf_counter() - started) / len(group)
                if due:
                    progress[k].epoch, progress[k].state = process.epoch, process.state(k)
                    progress[k].write(runs.checkpoint(e.key))
            yield process.epoch
        for k, e in enumerate(group):
            trainee, history = process.member(k), pd.DataFrame(progress[k].history)
            tensors = {name: t.cpu().contiguous() for name, t in trainee.state_dict().items()} if weights else None
            runs.write(
                e.canonical(),
                history=history,
                metrics=_final_metrics(trainee, inputs[k], history),
                provenance=_provenance(device, threads, progress[k].seconds, len(group), data),
                landscape=progress[k].landscape,
                weights=tensors,
            )


def _inputs(e: Experiment, test: torch.Tensor) -> torch.Tensor:
    """Test samples as a run's encoder gets them: the same noise at every epoch."""
    if e.corruption is None:
        return test
    return evaluation.noisy(test, e.corruption, training.generator(test.device, e.seed, "test input"))


def _measure(
    progress: Checkpoint,
    e: Experiment,
    trainee: Trainee,
    inputs: torch.Tensor,
    test: torch.Tensor,
    epoch: int,
    row: dict[str, float],
) -> None:
    """Add an epoch to a run's history: what training saw, what the test set shows, and its optimal skew."""
    trainee.eval()
    noise = training.generator(test.device, e.seed, "test")
    tested = evaluation.mean_terms(trainee, test, noise)
    tested["reconstruction"] = evaluation.reconstruction_error(trainee.vae, inputs, test).double().mean().item()
    seen = {name if name in ("skew", "seconds") else f"train_{name}": value for name, value in row.items()}
    entry = {"epoch": epoch, **seen, **{f"test_{name}": value for name, value in tested.items()}}
    posterior, prior = evaluation.posterior(trainee.vae, inputs), trainee.vae.prior
    if e.skew is not None:
        entry.setdefault("skew", e.skew)
        entry["optimal_skew"] = float(optimal_skew(posterior, prior, e.divergence))
    if (category := evaluation.category(posterior)) is not None:
        entry |= {f"category_{name}": value for name, value in evaluation.category_table(category).items()}
    progress.history.append(entry)
    if e.landscape:
        table = evaluation.landscape(posterior, prior, e.landscape).assign(epoch=epoch)
        progress.landscape = table if progress.landscape is None else pd.concat([progress.landscape, table])


def _final_metrics(trainee: Trainee, inputs: torch.Tensor, history: pd.DataFrame) -> dict[str, Any]:
    """The last row of the history and what is measured once, at the end."""
    posterior, prior = evaluation.posterior(trainee.vae, inputs), trainee.vae.prior
    rates = evaluation.latent_rates(posterior, prior)
    return {
        **history.drop(columns="seconds").iloc[-1].to_dict(),
        "latent_rates": [float(r) for r in rates],
        "active_latents": int((rates > 0.01).sum()),
        "optimal_skews": evaluation.optimal_skews(posterior, prior),
    }


def _provenance(device: str, threads: int, seconds: float, stack: int, data: datasets.Dataset) -> dict[str, Any]:
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.machine()
    return {
        "vaelib": __version__,
        "commit": commit(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": f"{device} ({name})",
        "threads": threads,
        "stack": stack,
        "seconds": seconds,
        "data": data.fingerprint,
        "shape": list(data.shape),
        "blocks": [list(block) for block in data.blocks],
    }
