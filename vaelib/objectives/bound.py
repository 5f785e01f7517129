"""The evidence lower bound with any divergence: VAE, β-VAE, InfoVAE, α-VAE, MI-VAE."""

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaelib.divergences import Divergence, DivergenceModule, Noise, ReverseKL, reverse_kl
from vaelib.models.latents import Latent
from vaelib.models.vae import VAE, distortion_of
from vaelib.objectives.base import Objective, ObjectiveModule, Site, Terms
from vaelib.objectives.information import Information, InformationModule
from vaelib.parts import NotNegative


class Bound(Objective):
    r"""Distortion plus a weighted divergence of posterior and prior.

    .. math:: E_{q(z|x)}[-\log p(x|z)] + \lambda\, |D(q(z|x), p(z)) - C t|

    With D = KL(q‖p), λ = 1 and C = 0 this is the negative evidence lower bound; with λ > 1 the β-VAE; with
    C > 0 the β-VAE of controlled capacity (MI-VAE paper, eq. 3.19), where t goes from 0 to 1 over the training; with
    a skew geometric JS the α-VAE (its eq. 14); with λ = 500 and D the MMD the papers' InfoVAE; with information the
    MI-VAE (eq. 4.9).

    Parameters
    ----------
    divergence
        D.
    weight
        λ.
    capacity
        C, in nats.
    information
        A regulariser that keeps information in the code: its bound times its weight is subtracted from the loss.

    Examples
    --------
    >>> Bound(divergence="geometric_js").divergence
    GeometricJS(skew=Fixed(start=0.5))
    """

    kind = "bound"

    divergence: Divergence = ReverseKL()
    weight: NotNegative = 1.0
    capacity: NotNegative = 0.0
    information: Information | None = None

    tensors = ("corruption", "weight", "capacity")

    def check(self, latent: Latent) -> None:
        """Refuse a latent that the divergence cannot take, or that has no such information."""
        super().check(latent)
        if self.information:
            self.information.places(latent)
        self.divergence.check(latent.build())

    def build(self, site: Site) -> "BoundModule":
        """The module."""
        information = self.information.build(site) if self.information else None
        return BoundModule(self, self.divergence.build(), information)


class BoundModule(ObjectiveModule):
    """The module of :class:`Bound`; its terms hold ``information``, the bound, where it is asked for.

    In the phase ``"information"`` the loss is -log Q, a function of Q alone.
    """

    weight: Tensor
    capacity: Tensor

    def __init__(self, part: Bound, divergence: DivergenceModule, information: InformationModule | None):
        super().__init__(part)
        self.divergence, self.information = divergence, information
        self.phases = ("model",) if information is None else ("information", "model")

    def more_noise(self, vae: VAE, n: int, generator: torch.Generator) -> Noise:
        """The divergence's."""
        return self.divergence.noise(vae.latent, n, generator)

    def forward(self, vae: VAE, x: Tensor, noise: Noise, progress: Tensor, phase: str = "model") -> Terms:
        """Loss, distortion, rate, divergence, and information where it is asked for."""
        posterior, prior = vae.posterior(self.seen(x, noise), noise), vae.prior
        z = vae.latent.sample(posterior, noise["posterior"].transpose(0, 1), progress)  # (draws, n, code)
        flat = z.flatten(0, 1)
        if self.information is not None and phase == "information":
            with torch.no_grad():
                decoded = vae.likelihood(flat, noise).mean
            return {"loss": -self.information(decoded, flat.detach())}
        likelihood = vae.likelihood(flat, noise)
        distortion = distortion_of(likelihood, x, self.draws).mean(0)
        divergence = self.divergence(posterior, prior, flat, vae.latent, noise, progress)
        loss = distortion + self.weight * (divergence.mean() - self.capacity * progress).abs()
        terms = {"distortion": distortion, "rate": reverse_kl(posterior, prior), "divergence": divergence}
        if self.information is not None:
            entropy = self.information.code_entropy(posterior, flat)
            informed = self.information(likelihood.mean, flat, frozen=True).unflatten(0, z.shape[:2]).mean(0)
            terms["information"] = informed + entropy
            loss = loss - self.information.weight * terms["information"]
        return {"loss": loss, **terms}

    def report(self) -> dict[str, Tensor]:
        """The divergence's."""
        return self.divergence.report()

    def measured(self, q: Distribution, p: Distribution) -> dict[str, float]:
        """The divergence's."""
        return self.divergence.measured(q, p)

    def project_(self) -> None:
        """Project the divergence's parameters."""
        self.divergence.project_()
