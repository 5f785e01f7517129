"""Training speed on this machine: vaelib's ways beside pythae and a plain PyTorch loop, interleaved in one run.

The same architectures, 4,000 digits, batch sizes, Adam and objective (the ELBO with a Bernoulli likelihood, summed over
pixels) for all, each as a sweep: as many one-thread processes as there are cores, started anew for each contestant, and
the peers once more as their users run them, one process with all threads. Each trains a few epochs in turn, round after
round, so that a machine whose speed drifts is fair to all; what counts is the ratio of medians within this run. Where
tcmalloc is installed, vaelib's fastest runs with it as well. Run with ``make bench``.

The papers' own code trained Burgess at 0.37 to 0.42 of the pace of vaelib 0.1's sweep in one run on another machine.
"""

import glob
import itertools
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any

import pandas as pd
import torch
from torch import nn
from torch.nn import functional as F

from vaelib import MLP, Adam, Experiment, data, training
from vaelib.models import Burgess, Network, pixels

os.environ["TQDM_DISABLE"] = "1"  # pythae's bars
ROUNDS, EPOCHS = 5, 2
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
SYSTEMS: dict[str, tuple[Network, int]] = {
    "Burgess (α-VAE paper, table 2), batch 64": (Burgess(), 64),
    "FGVAE MLP (512, 256, 128), batch 128": (MLP((512, 256, 128), batch_norm=True), 128),
    "MLP 400, batch 128": (MLP(400), 128),
}


def ours(network: Network, batch: int, *, precision: str = "fp32", compiled: bool = False) -> Callable[[], int]:
    """Vaelib's own loop; a call trains for some epochs and returns how many images that were."""
    images = data.load("mnist5k").train
    e = Experiment(network=network, batch_size=batch, precision=precision)
    loop = training.Training(
        [e.build((1, 32, 32))],
        [0],
        images,
        batch_size=batch,
        epochs=10**6,
        optimiser=Adam(),
        compiled=compiled,
    )

    def run() -> int:
        for _ in range(EPOCHS):
            loop.run_epoch()
        return EPOCHS * len(images)

    return run


class PlainVAE(nn.Module):
    """The model as a tutorial writes it."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, x):
        mean, log_variance = self.encoder(x).chunk(2, 1)
        return self.decoder(mean + (log_variance / 2).exp() * torch.randn_like(mean)), mean, log_variance


def plain_bodies(network: Network) -> tuple[nn.Module, nn.Module]:
    """The same bodies with PyTorch's own layers only."""
    if isinstance(network, MLP):

        def hidden(*sizes: int) -> list[nn.Module]:
            norm = [nn.BatchNorm1d] if network.batch_norm else []
            return [
                m for a, b in itertools.pairwise(sizes) for m in (nn.Linear(a, b), *(n(b) for n in norm), nn.ReLU())
            ]

        units = network.units
        encoder = nn.Sequential(nn.Flatten(), *hidden(1024, *units), nn.Linear(units[-1], 20))
        decoder = nn.Sequential(*hidden(10, *units[::-1]), nn.Linear(units[0], 1024), nn.Unflatten(1, (1, 32, 32)))
        return encoder, decoder

    def down(channels: int) -> list[nn.Module]:
        return [nn.Conv2d(channels, 32, 4, 2, 1), nn.ReLU()]

    def up() -> list[nn.Module]:
        return [nn.ConvTranspose2d(32, 32, 4, 2, 1), nn.ReLU()]

    def full(*sizes: int) -> list[nn.Module]:
        return [layer for a, b in itertools.pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())]

    encoder = nn.Sequential(*down(1), *down(32), *down(32), nn.Flatten(), *full(512, 256, 256), nn.Linear(256, 20))
    shaped = nn.Unflatten(1, (32, 4, 4))
    decoder = nn.Sequential(*full(10, 256, 256, 512), shaped, *up(), *up(), nn.ConvTranspose2d(32, 1, 4, 2, 1))
    return encoder, decoder


def plain_loop(network: Network, batch: int) -> Callable[[], int]:
    """A DataLoader, Adam and a few lines, as in most public VAE code."""
    images = data.load("mnist5k").train.float() / 255
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images), batch, shuffle=True)
    vae = PlainVAE(*plain_bodies(network))
    adam = torch.optim.Adam(vae.parameters(), lr=1e-4)

    def run() -> int:
        for _ in range(EPOCHS):
            for (x,) in loader:
                logits, mean, log_variance = vae(x)
                distortion = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
                rate = -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum()
                loss = (distortion + rate) / len(x)
                adam.zero_grad()
                loss.backward()
                adam.step()
        return EPOCHS * len(images)

    return run


def pythae_bodies(encoder: nn.Module, decoder: nn.Module) -> dict[str, nn.Module]:
    """Bodies as pythae's models take them, by the names of their arguments."""
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder

    class Encoder(BaseEncoder):
        def __init__(self):
            super().__init__()
            self.body = encoder

        def forward(self, x):
            mean, log_variance = self.body(x).chunk(2, 1)
            return ModelOutput(embedding=mean, log_covariance=log_variance)

    class Decoder(BaseDecoder):
        def __init__(self):
            super().__init__()
            self.body = decoder

        def forward(self, z):
            return ModelOutput(reconstruction=self.body(z).sigmoid())

    return {"encoder": Encoder(), "decoder": Decoder()}


def pythae(network: Network, batch: int) -> Callable[[], int]:
    """The pythae package, by its public trainer."""
    import logging

    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE, VAEConfig
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    logging.disable(logging.INFO)
    images = pixels(data.load("mnist5k").train)
    config = VAEConfig(input_dim=(1, 32, 32), latent_dim=10, reconstruction_loss="bce")
    folder = tempfile.mkdtemp(prefix="bench-")
    trainer = BaseTrainer(
        VAE(config, **pythae_bodies(*plain_bodies(network))),
        train_dataset=BaseDataset(images, torch.zeros(len(images))),
        training_config=BaseTrainerConfig(
            output_dir=folder, per_device_train_batch_size=batch, learning_rate=1e-4, no_cuda=True, num_epochs=EPOCHS
        ),
    )
    trainer.prepare_training()

    def run() -> int:
        for epoch in range(1, EPOCHS + 1):
            trainer.train_step(epoch)
        return EPOCHS * len(images)

    return run


@dataclass(frozen=True)
class Contestant:
    """Who trains, with what settings, in how many processes of how many threads, and what they load before all else."""

    make: Callable[..., Callable[[], int]]
    settings: dict[str, Any] = field(default_factory=dict)
    processes: int = CORES
    threads: int = 1
    preload: str = ""


TCMALLOC = next(iter(sorted(glob.glob("/usr/lib/*/libtcmalloc_minimal.so.*"))), "")
BEST = {"precision": "bf16", "compiled": True}
CONTESTANTS = {
    "plain DataLoader loop, one process": Contestant(plain_loop, processes=1, threads=CORES),
    "plain DataLoader loop": Contestant(plain_loop),
    "pythae 0.1.2, one process": Contestant(pythae, processes=1, threads=CORES),
    "pythae 0.1.2": Contestant(pythae),
    "vaelib": Contestant(ours),
    "vaelib, compiled": Contestant(ours, {"compiled": True}),
    "vaelib, bf16": Contestant(ours, {"precision": "bf16"}),
    "vaelib, bf16, compiled": Contestant(ours, BEST),
}
if TCMALLOC:
    CONTESTANTS["vaelib, bf16, compiled, tcmalloc"] = Contestant(ours, BEST, preload=TCMALLOC)

_trains: Callable[[], int] | None = None


def _prepare(contestant: Contestant, network: Network, batch: int) -> None:
    """Set up a contestant in a process of its own; its first epochs, and what it compiles, do not count."""
    global _trains
    torch.set_num_threads(contestant.threads)
    _trains = contestant.make(network, batch, **contestant.settings)
    _trains()


def _train(_: int) -> int:
    return _trains()


def started(contestant: Contestant, network: Network, batch: int) -> tuple[ProcessPoolExecutor, float]:
    """A contestant's processes, ready to train, and the seconds until they were."""
    before, began = dict(os.environ), time.perf_counter()
    os.environ["LD_PRELOAD"] = ":".join(filter(None, (before.get("LD_PRELOAD"), contestant.preload)))
    pool = ProcessPoolExecutor(
        contestant.processes,
        mp_context=get_context("spawn"),
        initializer=_prepare,
        initargs=(contestant, network, batch),
    )
    list(pool.map(_train, range(contestant.processes)))
    os.environ.clear()
    os.environ.update(before)
    return pool, time.perf_counter() - began


def main() -> None:
    """Print one table for each system."""
    print(
        f"{platform.machine()}, {CORES} cores, torch {torch.__version__}; images a second, median of {ROUNDS} rounds\n"
    )
    for title, (network, batch) in SYSTEMS.items():
        pools = {name: started(contestant, network, batch) for name, contestant in CONTESTANTS.items()}
        rates: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
        for _ in range(ROUNDS):
            for name, (pool, _seconds) in pools.items():
                began = time.perf_counter()
                images = sum(pool.map(_train, range(CONTESTANTS[name].processes)))
                rates[name].append(images / (time.perf_counter() - began))
        table = pd.DataFrame({"images/s": {name: statistics.median(r) for name, r in rates.items()}})
        table["ratio to vaelib"] = table["images/s"] / table.loc["vaelib", "images/s"]
        table["start, s"] = {name: seconds for name, (_, seconds) in pools.items()}
        for pool, _seconds in pools.values():
            pool.shutdown()
        digits = {"images/s": -1, "ratio to vaelib": 2, "start, s": 0}
        print(f"{title}\n{table.round(digits).to_string()}\n", flush=True)


if __name__ == "__main__":
    main()
