"""Training speed on this machine: vaelib beside pythae and a plain PyTorch loop, interleaved in one run.

The same architecture (α-VAE paper, table 2), the same 4,000 digits, batch size, Adam and objective (the ELBO with a
Bernoulli likelihood, summed over pixels) for all. Each contestant trains a few epochs in turn, round after round, so
that a machine whose speed drifts is fair to all; the best round counts. Run with ``make bench``.
"""

import itertools
import os
import platform
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pandas as pd
import torch
from torch import nn
from torch.nn import functional as F

from vaelib import Adam, Experiment, data, training
from vaelib.models import pixels

ROUNDS, EPOCHS, BATCH = 5, 2, 64
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def ours(network: str, batch: int, seed: int = 0) -> Callable[[], int]:
    """Vaelib's own loop; a call trains for some epochs and returns how many images that were."""
    images = data.load("mnist5k").train
    e = Experiment(network=network, batch_size=batch, seed=seed)
    loop = training.Training(
        [e.build((1, 32, 32))],
        [seed],
        images,
        batch_size=batch,
        epochs=10**6,
        optimiser=Adam(),
    )

    def run() -> int:
        for _ in range(EPOCHS):
            loop.run_epoch()
        return EPOCHS * len(images)

    return run


_worker: Callable[[], int] | None = None


def _prepare(network: str, batch: int) -> None:
    global _worker
    torch.set_num_threads(1)
    _worker = ours(network, batch)


def _work(_: int) -> int:
    return _worker()


def our_sweep(network: str, batch: int) -> Callable[[], int]:
    """As many one-thread processes as there are cores, as a sweep runs them; the sum of their images."""
    pool = ProcessPoolExecutor(CORES, mp_context=get_context("spawn"), initializer=_prepare, initargs=(network, batch))
    list(pool.map(_work, range(CORES)))
    return lambda: sum(pool.map(_work, range(CORES)))


class PlainVAE(nn.Module):
    """The model as a tutorial writes it."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, x):
        mean, log_variance = self.encoder(x).chunk(2, 1)
        return self.decoder(mean + (log_variance / 2).exp() * torch.randn_like(mean)), mean, log_variance


def plain_bodies(network: str) -> tuple[nn.Module, nn.Module]:
    """The same bodies with PyTorch's own layers only."""
    if network == "mlp":
        encoder = nn.Sequential(nn.Flatten(), nn.Linear(1024, 400), nn.ReLU(), nn.Linear(400, 20))
        decoder = nn.Sequential(nn.Linear(10, 400), nn.ReLU(), nn.Linear(400, 1024), nn.Unflatten(1, (1, 32, 32)))
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


def plain_loop(network: str, batch: int) -> Callable[[], int]:
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


def pythae(network: str, batch: int) -> Callable[[], int]:
    """The pythae package, by its public trainer."""
    import logging

    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    logging.disable(logging.INFO)
    bodies = plain_bodies(network)

    class Encoder(BaseEncoder):
        def __init__(self):
            super().__init__()
            self.body = bodies[0]

        def forward(self, x):
            mean, log_variance = self.body(x).chunk(2, 1)
            return ModelOutput(embedding=mean, log_covariance=log_variance)

    class Decoder(BaseDecoder):
        def __init__(self):
            super().__init__()
            self.body = bodies[1]

        def forward(self, z):
            return ModelOutput(reconstruction=self.body(z).sigmoid())

    images = pixels(data.load("mnist5k").train)
    config = VAEConfig(input_dim=(1, 32, 32), latent_dim=10, reconstruction_loss="bce")
    folder = tempfile.mkdtemp(prefix="bench-")
    trainer = BaseTrainer(
        VAE(config, encoder=Encoder(), decoder=Decoder()),
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


def main() -> None:
    """Print one table for each network."""
    print(f"{platform.machine()}, {CORES} cores, torch {torch.__version__}; images a second, best of {ROUNDS} rounds\n")
    for network, batch in (("burgess", BATCH), ("mlp", 128)):
        # Contestants that do not tune the allocator come first: vaelib tunes it for the whole process.
        makers = {
            "plain DataLoader loop": plain_loop,
            "pythae 0.1.2": pythae,
            "vaelib, one run": ours,
            "vaelib, a sweep": our_sweep,
        }
        rates: dict[str, list[float]] = {name: [] for name in makers}
        pools = {
            name: ProcessPoolExecutor(1, mp_context=get_context("spawn"))
            for name in makers
            if name != "vaelib, a sweep"
        }
        sweep = our_sweep(network, batch)
        for _ in range(ROUNDS):
            for name, make in makers.items():
                if name in pools:
                    rates[name].append(pools[name].submit(_round, make.__name__, network, batch).result())
                else:
                    started = time.perf_counter()
                    rates[name].append(sweep() / (time.perf_counter() - started))
        for pool in pools.values():
            pool.shutdown()
        table = pd.DataFrame({name: {"images/s": max(r)} for name, r in rates.items()}).T
        table["ratio to the plain loop"] = table["images/s"] / table["images/s"].iloc[0]
        print(f"{network}, batch {batch}\n{table.round({'images/s': -1, 'ratio to the plain loop': 2}).to_string()}\n")


_contestant: Callable[[], int] | None = None


def _round(maker: str, network: str, batch: int) -> float:
    """One round in a contestant's own process, with all cores; its set-up and first epochs do not count."""
    global _contestant
    if _contestant is None:
        torch.set_num_threads(CORES)
        _contestant = globals()[maker](network, batch)
        _contestant()
    started = time.perf_counter()
    return _contestant() / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
