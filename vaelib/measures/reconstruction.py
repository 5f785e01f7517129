"""How well samples are reconstructed, clean and noisy, and what is seen of it."""

from itertools import repeat

import pandas as pd
import torch
from torch import Tensor, nn
from torch.distributions import Independent

from vaelib.divergences import reverse_kl
from vaelib.measures.base import BATCH, Observation, Observed, Observer, Split, batches, decode, posterior
from vaelib.models import VAE, pixels
from vaelib.objectives import Trainee, corrupt
from vaelib.parts import Count, Index, NotNegative


def squared_error(decoded: Tensor, targets: Tensor) -> Tensor:
    """Squared error summed over the pixels of each sample, ``(n,)``."""
    return (decoded - targets).square().flatten(1).sum(1)


def reconstruction_error(vae: VAE, samples: Tensor, targets: Tensor | None = None) -> Tensor:
    """Squared error summed over the pixels of each sample, ``(n,)``, with the posterior mean decoded.

    The number in the papers' reconstruction tables.

    Parameters
    ----------
    vae
        The model.
    samples
        What is encoded, ``(n, *shape)``.
    targets
        What is compared with, `samples` themselves by default (clean images, when `samples` are noisy).
    """
    codes = posterior(vae, samples).mean
    return decoding_error(vae, codes, samples if targets is None else targets)


@torch.no_grad()
def decoding_error(vae: VAE, codes: Tensor, targets: Tensor) -> Tensor:
    """Squared error summed over the pixels of each sample, ``(n,)``, with codes that are known decoded.

    Batch by batch, so that the decoded samples are compared while they are in the processor's cache.

    Parameters
    ----------
    vae
        The model.
    codes
        ``(n, code)``, on its device.
    targets
        What is compared with, ``(n, *shape)``.
    """
    parts = (vae.likelihood(z).mean for z in codes.split(BATCH))
    return torch.cat([squared_error(decoded, target) for decoded, target in zip(parts, batches(vae, targets))])


def noisy(samples: Tensor, sd: float, generator: torch.Generator) -> Tensor:
    """Samples with Gaussian noise of this standard deviation on them, clipped to [0, 1]."""
    clean = pixels(samples)
    return corrupt(clean, torch.randn(clean.shape, generator=generator, device=generator.device), sd)


class _Known(nn.Module):
    """An encoder that is not asked again for what it is known to make of one batch."""

    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.encoder = encoder
        self.known: tuple[Tensor, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Of the batch, what is known; of any other, what the encoder makes of it."""
        batch, outputs = self.known or (None, x)
        encoded: Tensor = outputs if x is batch else self.encoder(x)
        return encoded


@torch.no_grad()
def mean_terms(
    trainee: Trainee, samples: Tensor, generator: torch.Generator, batch_size: int, encoded: Tensor | None = None
) -> dict[str, float]:
    """The objective's terms on samples, averaged: what it minimises, as it stands.

    Parameters
    ----------
    trainee
        The model and its objective.
    samples
        ``(n, *shape)``.
    generator
        On the model's device.
    batch_size
        That of the training: a biased MMD or the entropy of a batch's aggregate depend on it, and could not be compared
        with the training's otherwise.
    encoded
        What the encoder makes of the samples as they are, ``(n, outputs)``, where that is known: it is not asked again.
    """
    totals: dict[str, float] = {}
    done = torch.ones((), device=generator.device)
    encoder = _Known(trainee.vae.encoder)
    vae = trainee.vae.with_bodies(encoder, trainee.vae.decoder)
    known = repeat(None) if encoded is None else encoded.split(batch_size)
    for x, outputs in zip(batches(trainee, samples, batch_size), known):
        encoder.known = None if outputs is None else (x, outputs)
        terms = trainee.objective(vae, x, trainee.objective.noise(vae, x.shape, generator), done)
        for name, term in terms.items():
            totals[name] = totals.get(name, 0.0) + term.double().sum().item()
    return {name: total / len(samples) for name, total in totals.items()}


class Errors(Observer):
    """The :func:`reconstruction_error` of each sample: columns ``image``, ``error``."""

    kind = "errors"

    split: Split = "test"

    def observe(self, run: Observed) -> Observation:
        """The table."""
        errors = reconstruction_error(run.vae, run.samples(self.split)).cpu()
        return pd.DataFrame({"image": range(len(errors)), "error": errors.numpy()})


class Reconstructions(Observer):
    """Some test samples, and what they are decoded to: ``input``, ``decoded``, ``error``, a row each.

    Parameters
    ----------
    images
        Their numbers in the test set.
    noise
        Standard deviation of noise on what is encoded: the same noise for every model.
    drawn
        Decode one exact draw of the code in place of the posterior mean.
    """

    kind = "reconstructions"

    images: tuple[Index, ...] = tuple(range(12))
    noise: NotNegative = 0.0
    drawn: bool = False

    def observe(self, run: Observed) -> Observation:
        """The tensors."""
        clean = pixels(run.data.test[list(self.images)])
        inputs = noisy(clean, self.noise, torch.Generator().manual_seed(0))
        q = posterior(run.vae, inputs)
        z = run.vae.latent.draw(q, run.vae.latent.noise(len(clean), run.generator)) if self.drawn else q.mean
        decoded = decode(run.vae, z).cpu()
        return {"input": inputs, "decoded": decoded, "error": squared_error(decoded, clean)}


class PixelDistortion(Observer):
    """-log p of each pixel at the posterior mean, averaged over the test samples: ``distortion``, of their shape.

    In nats; the likelihood's pixels are independent.
    """

    kind = "pixel_distortion"

    @torch.no_grad()
    def observe(self, run: Observed) -> Observation:
        """The tensors."""
        total = torch.zeros(())
        for x in batches(run.vae, run.data.test):
            likelihood = run.vae.likelihood(run.vae.posterior(x).mean)
            if not isinstance(likelihood, Independent):
                raise TypeError("pixel_distortion: the likelihood needs independent pixels")
            total = total - likelihood.base_dist.log_prob(x).double().sum(0).cpu()
        return {"distortion": total / len(run.data.test)}


class Denoising(Observer):
    """The mean error between the reconstructions of noisy test samples and the clean ones (α-VAE figure 5).

    Columns ``noise``, ``error``. The noise is the same for every model.

    Parameters
    ----------
    noises
        Standard deviations.
    rated
        Give the mean KL(q‖p) of the noisy samples' posteriors as well, ``rate`` (nats).
    """

    kind = "denoising"

    noises: tuple[NotNegative, ...] = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
    rated: bool = False

    def observe(self, run: Observed) -> Observation:
        """The table."""
        rows = []
        for sd in self.noises:
            inputs = noisy(run.data.test, sd, torch.Generator().manual_seed(0))
            error = reconstruction_error(run.vae, inputs, run.data.test).double().mean().item()
            rows.append({"noise": sd, "error": error})
            if self.rated:
                rows[-1]["rate"] = reverse_kl(posterior(run.vae, inputs), run.vae.prior).double().mean().item()
        return pd.DataFrame(rows)


class Samples(Observer):
    """Decoded codes from the prior: ``decoded``."""

    kind = "samples"

    count: Count = 12

    def observe(self, run: Observed) -> Observation:
        """The tensors."""
        return {"decoded": run.vae.sample(self.count, run.generator).cpu()}
