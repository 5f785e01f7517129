"""What the objectives share that differentiate through the draw: distortion, any divergence, any regularisers."""

from abc import abstractmethod
from typing import Annotated

import torch
from pydantic import AfterValidator
from torch import Tensor
from torch.distributions import Distribution

from vaelib.divergences import Divergence, DivergenceModule, Noise, ReverseKL, reverse_kl
from vaelib.errors import Invalid
from vaelib.models.latents import Latent
from vaelib.models.vae import VAE, distortion_of
from vaelib.objectives.base import Objective, ObjectiveModule, Site, Terms
from vaelib.objectives.information import Information
from vaelib.objectives.regularisers import Codes, LearnedRegulariserModule, Regulariser, RegulariserModule


def _one_of_a_kind(regularisers: tuple[Regulariser, ...]) -> tuple[Regulariser, ...]:
    """Refuse two of one kind: their terms would have one name."""
    kinds = [r.kind for r in regularisers]
    if len(set(kinds)) < len(kinds):
        raise Invalid("", tuple(kinds), "a list of regularisers of different kinds")
    return regularisers


class Pathwise(Objective):
    """The objectives that differentiate through the draw: a description.

    To write another, give its module :meth:`PathwiseModule.combined`.

    Parameters
    ----------
    divergence
        Of posterior and prior.
    information
        The regulariser of the MI-VAE. It has a field of its own, as it had before there were others: so the keys of
        stored runs stay.
    regularisers
        What else is added to the loss, of a kind at most one.
    """

    divergence: Divergence = ReverseKL()
    information: Information | None = None
    regularisers: Annotated[tuple[Regulariser, ...], AfterValidator(_one_of_a_kind)] = ()

    @property
    def terms(self) -> dict[str, Regulariser | Information]:
        """All regularisers, by the names of their terms."""
        informed = {"information": self.information} if self.information else {}
        return informed | {r.kind: r for r in self.regularisers}

    def check(self, latent: Latent) -> None:
        """Refuse a latent that the divergence or a regulariser cannot take."""
        super().check(latent)
        for regulariser in self.terms.values():
            regulariser.check(latent)
        self.divergence.check(latent.build())


class PathwiseModule(ObjectiveModule):
    """The module of an objective that differentiates through the draw.

    Its phases are those of the regularisers that have networks of their own, and then the model's. Regularisers are
    submodules of the names of their terms.
    """

    def __init__(self, part: Pathwise, site: Site):
        super().__init__(part)
        self.divergence: DivergenceModule = part.divergence.build()
        for name, regulariser in part.terms.items():
            self.add_module(name, regulariser.build(site))
        self.phases = (*self._learned, "model")

    @property
    def regularisers(self) -> dict[str, RegulariserModule]:
        """By the names of their terms."""
        return {name: m for name, m in self.named_children() if isinstance(m, RegulariserModule)}

    @property
    def _learned(self) -> dict[str, LearnedRegulariserModule]:
        return {name: m for name, m in self.regularisers.items() if isinstance(m, LearnedRegulariserModule)}

    def more_noise(self, vae: VAE, n: int, generator: torch.Generator) -> Noise:
        """The divergence's and the regularisers'."""
        noise = self.divergence.noise(vae.latent, n, generator)
        for regulariser in self.regularisers.values():
            noise = noise | regulariser.noise(vae.latent, n, self.draws, generator)
        return noise

    @abstractmethod
    def combined(self, distortion: Tensor, divergence: Tensor, progress: Tensor) -> Tensor:
        """The loss but for the regularisers, ``(n,)``, in nats, of distortion and divergence ``(n,)`` each."""

    def forward(self, vae: VAE, x: Tensor, noise: Noise, progress: Tensor, phase: str = "model") -> Terms:
        """Loss, distortion, rate, divergence, and the regularisers' values; in a phase of theirs its loss alone."""
        learning = phase != "model"
        with torch.set_grad_enabled(torch.is_grad_enabled() and not learning):
            posterior = vae.posterior(self.seen(x, noise), noise)
            z = vae.latent.sample(posterior, noise["posterior"].transpose(0, 1), progress)  # (draws, n, code)
        codes = Codes(vae, posterior, z, noise, progress, learning)
        if learning:
            return {"loss": self._learned[phase].learn(codes)}
        distortion, prior = distortion_of(codes.likelihood, x, self.draws).mean(0), vae.prior
        divergence = self.divergence(posterior, prior, z.flatten(0, 1), vae.latent, noise, progress)
        terms = {"distortion": distortion, "rate": reverse_kl(posterior, prior), "divergence": divergence}
        loss = self.combined(distortion, divergence, progress)
        for name, regulariser in self.regularisers.items():
            terms[name] = regulariser.value(codes).expand(len(x))
            loss = loss + regulariser.sign * regulariser.weight * terms[name]
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
