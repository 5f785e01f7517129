"""The variational auto-encoder: an encoder, a decoder, a latent and a likelihood."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaelib.divergences import Noise
from vaelib.models.latents import LatentModule

Precision = Literal["fp32", "bf16"]


class VAE(nn.Module):
    """A variational auto-encoder p(x|z) p(z) with the approximate posterior q(z|x).

    Parameters
    ----------
    encoder
        Maps samples ``(n, *shape)`` to ``(n, latent.outputs)``.
    decoder
        Maps codes ``(n, latent.code)`` to ``(n, *shape)``.
    latent
        Turns the encoder's numbers into a posterior.
    likelihood
        Turns the decoder's numbers into a distribution of samples.
    precision
        Of the products in the bodies while they are trained. With ``"bf16"`` they are computed in bfloat16 where
        PyTorch's autocast deems it safe; parameters, distributions, losses and evaluation stay in float32.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        latent: LatentModule,
        likelihood: Callable[[Tensor], Distribution],
        precision: Precision = "fp32",
    ):
        super().__init__()
        self.encoder, self.decoder, self.latent, self.precision = encoder, decoder, latent, precision
        self._likelihood = likelihood

    def with_bodies(self, encoder: nn.Module, decoder: nn.Module) -> "VAE":
        """The same model with other bodies, in the same mode."""
        return VAE(encoder, decoder, self.latent, self._likelihood, self.precision).train(self.training)

    @property
    def prior(self) -> Distribution:
        """p(z), batch shape ``()``."""
        return self.latent.prior()

    def noise(self, n: int, draws: int, generator: torch.Generator) -> Noise:
        """Random numbers of bodies that are random in training, for n samples and draws of codes for each."""
        found = {}
        for side, body, count in (("encoder", self.encoder, n), ("decoder", self.decoder, n * draws)):
            draw: Callable[..., Noise] | None = getattr(body, "noise", None)
            if draw:
                for name, numbers in draw(count, generator).items():
                    found[f"{side}.{name}"] = numbers.unflatten(0, (n, -1))
        return found

    def posterior(self, x: Tensor, noise: Noise | None = None) -> Distribution:
        """q(z|x) of batch shape ``(n,)`` for samples ``(n, *shape)`` in [0, 1]."""
        return self.latent.posterior(self._run("encoder", x, noise))

    def likelihood(self, z: Tensor, noise: Noise | None = None) -> Distribution:
        """p(x|z) of batch shape ``(n,)`` for codes ``(n, code)``; its ``log_prob`` is in nats an image."""
        return self._likelihood(self._run("decoder", z, noise))

    def _run(self, side: str, x: Tensor, noise: Noise | None) -> Tensor:
        """A body's outputs; one that is random gets its share of the noise, all first draws first as the codes are."""
        body = self.encoder if side == "encoder" else self.decoder
        own = {
            name.removeprefix(f"{side}."): numbers.transpose(0, 1).flatten(0, 1)
            for name, numbers in (noise or {}).items()
            if name.startswith(f"{side}.")
        }
        inputs = (x, own) if own else (x,)
        if self.precision == "fp32" or not self.training:
            outputs: Tensor = body(*inputs)
            return outputs
        with torch.autocast(x.device.type, torch.bfloat16):
            return body(*inputs).to(x.dtype)  # type: ignore[no-any-return]

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """The mean of p(x|z) at the posterior mean: ``(n, *shape)`` for samples ``(n, *shape)``."""
        return self.likelihood(self.posterior(x).mean).mean

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """The means of p(x|z) for n codes drawn from the prior: ``(n, *shape)``, on the generator's device."""
        return self.likelihood(self.latent.draw(self.prior, self.latent.noise(n, generator))).mean


def distortion_of(likelihood: Distribution, x: Tensor, draws: int) -> Tensor:
    """-log p(x|z) ``(draws, n)`` of samples ``(n, *shape)``, each with so many codes, decoded as one batch.

    Parameters
    ----------
    likelihood
        Of codes ``(draws * n, code)``, those of the first draw first.
    x, draws
        The samples, and how often each occurs.
    """
    repeated = x.expand(draws, *x.shape).flatten(0, 1)
    negative: Tensor = -likelihood.log_prob(repeated)
    rows: Tensor = negative.unflatten(0, (draws, len(x)))
    return rows


def pixels(samples: Tensor) -> Tensor:
    """Samples as the networks take them: bytes become floats in [0, 1], floats stay as they are."""
    return samples.float().div_(255) if samples.dtype == torch.uint8 else samples
