"""Do pythae's models and ours agree? The same objectives, networks, starts and data, trained by either, seed by seed.

Five methods on the 4,000 embedded digits: VAE, β-TCVAE, FactorVAE, WAE-MMD and the adversarial auto-encoder. The
libraries draw their numbers in other orders, so what is compared is the mean over seeds of what test images show: the
squared error of decoded means, the rate KL(q‖p), and the variance of the codes' means. A difference whose 95 % interval
(Welch) holds zero is agreement as far as so many seeds tell. Written to ``peers.csv`` beside this file. Run with
``python benchmarks/peers.py``; it takes half an hour.

All discriminators have our layers. Pythae's FactorVAE differs from ours in two more things, with rows of their own. It
takes one half of each batch for the bound and the other for the permuted codes (it then gets batches twice as large
and twice the epochs); ours permutes the codes of the same images. And in its trainer's step the discriminator's loss
also moves the encoder, which then helps the discriminator; ours moves the discriminator alone.
"""

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import torch
from scipy import stats
from training import plain_bodies, pythae_bodies

from vaelib import (
    MLP,
    MMD,
    Adam,
    Adversary,
    Bound,
    Experiment,
    Gaussian,
    LearnedTotalCorrelation,
    Point,
    Study,
    TotalCorrelation,
    data,
)
from vaelib.measures import Means
from vaelib.models import initialise, pixels

BATCH, RATE, LATENTS, NETWORK = 64, 1e-3, 10, MLP(400)
BASE = Experiment(network=NETWORK, latent=Gaussian(LATENTS), optimiser=Adam(RATE), batch_size=BATCH)
OURS = {
    "VAE": BASE,
    "β-TCVAE, β = 4": BASE.replace(objective=Bound(regularisers=(TotalCorrelation(weight=3.0),))),
    "FactorVAE, γ = 3": BASE.replace(objective=Bound(regularisers=(LearnedTotalCorrelation(weight=3.0),))),
    "WAE-MMD, λ = 100": BASE.replace(
        likelihood="gaussian",
        latent=Point(LATENTS),
        objective=Bound(MMD("inverse_multiquadratic"), weight=100.0),
    ),
    "adversarial auto-encoder, λ = 1": BASE.replace(
        objective=Bound(weight=0.0, regularisers=(Adversary(weight=1.0),)),
    ),
}
PEERS: dict[str, tuple[str, dict[str, Any], str]] = {
    "VAE": ("VAE", {"reconstruction_loss": "bce"}, "BaseTrainer"),
    "β-TCVAE, β = 4": ("BetaTCVAE", {"reconstruction_loss": "bce", "beta": 4.0, "use_mss": False}, "BaseTrainer"),
    "FactorVAE, γ = 3": ("FactorVAE", {"reconstruction_loss": "bce", "gamma": 3.0}, "AdversarialTrainer"),
    "WAE-MMD, λ = 100": ("WAE_MMD", {"reg_weight": 100.0, "kernel_choice": "imq", "scales": [1.0]}, "BaseTrainer"),
    "adversarial auto-encoder, λ = 1": (
        "Adversarial_AE",
        {"reconstruction_loss": "bce", "adversarial_loss_scale": 1.0},
        "AdversarialTrainer",
    ),
}
FACTOR = "FactorVAE, γ = 3"
OTHERS, RELEASED = f"{FACTOR}, other images permuted", f"{FACTOR}, pythae's as released"


def measured(mean: torch.Tensor, log_variance: torch.Tensor | None, decoded: torch.Tensor) -> dict[str, float]:
    """Of test images: squared error, rate in nats where posteriors have a width, variance of the codes' means."""
    images = pixels(data.load("mnist5k").test)
    found = {"squared error": float((decoded - images).square().flatten(1).sum(1).mean())}
    if log_variance is not None:
        found["rate, nats"] = float((mean**2 + log_variance.exp() - 1 - log_variance).sum(1).mean() / 2)
    return found | {"variance of codes": float(mean.var(0).mean())}


def peer(method: str, seed: int, epochs: int) -> dict[str, float]:
    """Pythae's model, trained by its own trainer."""
    import logging

    import pythae.models
    import pythae.trainers
    from pythae.data.datasets import BaseDataset

    logging.disable(logging.INFO)
    torch.manual_seed(seed)
    name, settings, trainer = PEERS[FACTOR if method in (OTHERS, RELEASED) else method]
    halved = 2 if method in (OTHERS, RELEASED) else 1
    bodies, generator = plain_bodies(NETWORK), torch.Generator().manual_seed(seed)
    for body in bodies:
        initialise(body, generator)

    config = getattr(pythae.models, f"{name}_Config" if "_" in name else f"{name}Config")
    model = getattr(pythae.models, name)(
        config(input_dim=(1, 32, 32), latent_dim=LATENTS, **settings), **pythae_bodies(*bodies)
    )
    images = pixels(data.load("mnist5k").train)
    trains, rates = getattr(pythae.trainers, trainer), {"learning_rate": RATE}
    if trainer == "AdversarialTrainer":
        with_discriminator(model, generator)
        trains = trains if method == RELEASED else apart(trains)
        if method == FACTOR:
            model.forward = partial(same_images, model)
        rates = {"autoencoder_learning_rate": RATE, "discriminator_learning_rate": RATE}
    training = trains(
        model,
        train_dataset=BaseDataset(images, torch.zeros(len(images))),
        training_config=getattr(pythae.trainers, f"{trainer}Config")(
            output_dir=tempfile.mkdtemp(prefix="peers-"),
            per_device_train_batch_size=BATCH * halved,
            num_epochs=epochs * halved,
            no_cuda=True,
            seed=seed,
            **rates,
        ),
    )
    training.prepare_training()
    for epoch in range(1, epochs * halved + 1):
        training.train_step(epoch)
    model.eval()
    with torch.no_grad():
        mean, log_variance = model.encoder.body(pixels(data.load("mnist5k").test)).chunk(2, 1)
        decoded = model.decoder.body(mean).sigmoid()
    return measured(mean, None if name == "WAE_MMD" else log_variance, decoded)


def with_discriminator(model: Any, generator: torch.Generator) -> None:
    """Give an adversarial model of pythae a discriminator of our layers."""
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDiscriminator

    two_logits = model.model_name == "FactorVAE"

    class Discriminator(BaseDiscriminator):
        def __init__(self):
            super().__init__()
            self.body = MLP(Adversary().units).encoder((LATENTS,), 1)
            initialise(self.body, generator)

        def forward(self, z):
            logit = self.body(z)
            if two_logits:  # of codes and of permuted codes
                return torch.cat([logit, torch.zeros_like(logit)], 1)
            return ModelOutput(embedding=1 - logit.sigmoid())  # how likely it is a draw of the prior

    model.discriminator = Discriminator()


def same_images(model: Any, inputs: Any, **_: Any) -> Any:
    """The forward pass of pythae's FactorVAE with the codes of the same images permuted, not those of others."""
    from pythae.models.base.base_utils import ModelOutput

    x = inputs["data"]
    found = model.encoder(x)
    mean, log_variance = found.embedding, found.log_covariance
    z, _ = model._sample_gauss(mean, (log_variance / 2).exp())
    permuted = model._permute_dims(z).detach()
    decoded = model.decoder(z)["reconstruction"]
    _, bound, told = model.loss_function(decoded, x, mean, log_variance, z, permuted)
    return ModelOutput(loss=bound + told, autoencoder_loss=bound, discriminator_loss=told)


def apart(trainer: type) -> type:
    """A trainer of pythae whose discriminator's loss moves the discriminator alone."""

    class Apart(trainer):
        def _optimizers_step(self, found):
            learning = list(self.model.discriminator.parameters())
            gradients = torch.autograd.grad(found.discriminator_loss, learning, retain_graph=True)
            self.autoencoder_optimizer.zero_grad()
            found.autoencoder_loss.backward()
            for parameter, gradient in zip(learning, gradients, strict=True):
                parameter.grad = gradient
            self.autoencoder_optimizer.step()
            self.discriminator_optimizer.step()

    return Apart


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds of both, and their difference with its 95 % interval."""
    found = []
    for (method, measure), part in rows.groupby(["method", "measure"], sort=False):
        ours, theirs = (part[part["library"] == which]["value"] for which in ("vaelib", "pythae"))
        interval = stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval()
        found.append(
            {
                "method": method,
                "measure": measure,
                "seeds": len(ours),
                "vaelib": ours.mean(),
                "pythae": theirs.mean(),
                "difference": ours.mean() - theirs.mean(),
                "from": interval.low,
                "to": interval.high,
                "agree": interval.low <= 0 <= interval.high,
            }
        )
    return pd.DataFrame(found)


@click.command()
@click.option("--seeds", default=10, show_default=True)
@click.option("--epochs", default=10, show_default=True)
def main(seeds: int, epochs: int) -> None:
    """Train both and write their table."""
    study = Study(
        {(m, s): e.replace(seed=s, epochs=epochs) for m, e in OURS.items() for s in range(seeds)},
        names=("method", "seed"),
        observe=[Means()],
    )
    results, rows = study.run(), []
    means = results.tensors(Means())
    for _, run in results.final.iterrows():
        ours = {"squared error": run["test_reconstruction"], "rate, nats": run["test_rate"]}
        ours["variance of codes"] = float(means[run["method"], run["seed"]]["mean"].var(0).mean())
        if run["method"].startswith("WAE"):
            del ours["rate, nats"]
        rows += [(run["method"], "vaelib", run["seed"], *item) for item in ours.items()]
    for seed in range(seeds):
        for method in (*PEERS, OTHERS, RELEASED):
            rows += [(method, "pythae", seed, *item) for item in peer(method, seed, epochs).items()]
    for other in (OTHERS, RELEASED):
        rows += [(other, *row[1:]) for row in rows if row[:2] == (FACTOR, "vaelib")]
    found = table(pd.DataFrame(rows, columns=["method", "library", "seed", "measure", "value"]))
    found.to_csv(Path(__file__).with_suffix(".csv"), index=False, float_format="%.4g")
    click.echo(found.to_string(index=False, float_format=lambda x: f"{x:.3g}"))


if __name__ == "__main__":
    np.seterr(all="raise", under="ignore")
    main()
