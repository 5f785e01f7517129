"""The variational bound of mutual information that the MI-VAE adds to the evidence lower bound."""

from math import log, pi
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.distributions import Distribution, Normal

from vaelib.errors import Invalid
from vaelib.models.latents import Category, Gaussian, Latent
from vaelib.objectives.base import Site
from vaelib.objectives.regularisers import Codes, LearnedRegulariserModule, outputs_of
from vaelib.parts import Index, NotNegative, Part

Entropy = Literal["prior", "aggregate"]


class Information(Part):
    """What is kept in the code: a part of it, λ, and whose entropy counts.

    Parameters
    ----------
    about
        ``"category"``, the one that the latent has; or the numbers of Gaussian latents.
    weight
        λ.
    entropy
        The prior's, as in the paper, or the aggregate posterior's, with which the bound is one.

    Examples
    --------
    >>> Information((3, 7), weight=0.1, entropy="aggregate").about
    (3, 7)
    """

    about: Literal["category"] | Annotated[tuple[Index, ...], Field(min_length=1)] = "category"
    weight: NotNegative = 1.0
    entropy: Entropy = "prior"

    tensors = ("weight",)

    def places(self, latent: Latent) -> list[int]:
        """Which numbers of the code the part is.

        Raises
        ------
        Invalid
            If the latent has no such part.
        """
        starts, start = [], 0
        for leaf in latent.leaves:
            starts.append((start, leaf))
            start += leaf.width
        if self.about == "category":
            found = [(first, leaf) for first, leaf in starts if isinstance(leaf, Category)]
            if len(found) != 1:
                raise Invalid("information.about", self.about, f"left out for a latent with {len(found)} categories")
            (first, category), *_ = found
            return list(range(first, first + category.width))
        gaussian = {first + k for first, leaf in starts if isinstance(leaf, Gaussian) for k in range(leaf.width)}
        if not set(self.about) <= gaussian or len(set(self.about)) < len(self.about):
            allowed = f"'category' or different numbers of Gaussian latents, of which there are {len(gaussian)}"
            raise Invalid("information.about", self.about, allowed)
        return [int(place) for place in self.about]

    def check(self, latent: Latent) -> None:
        """Refuse a latent without such a part."""
        self.places(latent)

    def build(self, site: Site) -> "InformationModule":
        """The regulariser with its own network Q, whose start leaves the VAE's as it is."""
        places = self.places(site.latent)
        outputs = len(places) * (1 if self.about == "category" else 2)
        return InformationModule(self, site.body(outputs, "information"), places)


class InformationModule(LearnedRegulariserModule):
    r"""The variational bound of the mutual information between a part of the code and the decoder's output.

    .. math:: E_{z \sim q(z|x),\, x' = \mathrm{decoder}(z)}[\log Q(\hat z|x')] + H(\hat z) \le I(\hat z; x')

    MI-VAE paper, eqs. 4.9 and 4.21. The bound holds with the entropy of the aggregate posterior q(ẑ), here that of the
    batch. The paper takes the prior's, which is larger: then a category that is the same for all images reaches log K
    with no information at all, and with λ > 1 it pays to go there.

    Parameters
    ----------
    part
        The description.
    network
        Q: from samples ``(n, *shape)`` to logits, or to means and log-variances.
    places
        Which numbers of the code the part is.
    """

    sign: ClassVar[int] = -1

    def __init__(self, part: Information, network: nn.Module, places: list[int]):
        super().__init__(part)
        self.network, self.places, self.entropy = network, places, part.entropy
        self.categorical = part.about == "category"
        size = len(places)
        self.prior_entropy = log(size) if self.categorical else size * (1 + log(2 * pi)) / 2

    def forward(self, samples: Tensor, z: Tensor, *, frozen: bool = False) -> Tensor:
        """Return log Q of the part of z ``(n, code)`` given samples ``(n, *shape)``: ``(n,)``, in nats.

        A relaxed category counts as the mixture of categories that it is. With `frozen` no gradient reaches Q.
        """
        outputs = outputs_of(self.network, samples, frozen=frozen)
        part = z[:, self.places]
        if self.categorical:
            return (part * outputs.log_softmax(-1)).sum(-1)
        mean, log_variance = outputs.chunk(2, dim=-1)
        density: Tensor = Normal(mean, (log_variance / 2).exp(), validate_args=False).log_prob(part)
        return density.sum(-1)

    def value(self, codes: Codes) -> Tensor:
        """The bound of each sample, averaged over its draws."""
        z = codes.z.flatten(0, 1)
        entropy = self.code_entropy(codes.posterior, z)
        informed: Tensor = self(codes.likelihood.mean, z, frozen=True).unflatten(0, codes.z.shape[:2])
        return informed.mean(0) + entropy

    def learn(self, codes: Codes) -> Tensor:
        """-log Q of each code."""
        loss: Tensor = -self(codes.likelihood.mean, codes.z.flatten(0, 1))
        return loss

    def code_entropy(self, posterior: Distribution, z: Tensor, entropy: Entropy | None = None) -> Tensor:
        """H of the part, in nats: the prior's, or the aggregate's by a batch of n posteriors.

        Parameters
        ----------
        posterior
            Batch shape ``(n,)``.
        z
            Codes drawn from them, ``(draws * n, code)``.
        entropy
            Whose; by default the description's.
        """
        if (entropy or self.entropy) == "prior":
            return torch.tensor(self.prior_entropy, device=z.device)
        mean: Tensor = posterior.mean[:, self.places]
        if self.categorical:
            average = mean.mean(0)
            entropies: Tensor = torch.special.entr(average)
            return entropies.sum()
        spread = Normal(mean, posterior.stddev[:, self.places], validate_args=False)
        densities: Tensor = spread.log_prob(z[:, None, self.places]).sum(-1)
        # The aggregate is a mixture of n posteriors, however many codes were drawn from each.
        return log(len(mean)) - densities.logsumexp(1).mean()
