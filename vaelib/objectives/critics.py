"""What the regularisers share that learn to tell codes from others."""

from abc import abstractmethod

from torch import Tensor, nn
from torch.nn.functional import softplus

from vaelib.models.layers import initialise
from vaelib.models.networks import MLP, Units
from vaelib.objectives.base import Site
from vaelib.objectives.regularisers import Codes, LearnedRegulariserModule, Regulariser, outputs_of
from vaelib.parts import NotNegative


class Critic(Regulariser):
    """Regularisers with a discriminator between the batch's codes and others: a description.

    Parameters
    ----------
    units
        Of its hidden layers, one after the other.
    rate
        Of Adam, for its weights; by default that of the run.
    """

    units: Units = (256, 256)
    rate: NotNegative | None = None

    def network(self, site: Site) -> nn.Module:
        """The discriminator, from codes to a logit, with a start of its own."""
        network = MLP(units=self.units).encoder((site.latent.width,), 1)
        initialise(network, site.generator(self.kind))
        return network


class CriticModule(LearnedRegulariserModule):
    r"""A discriminator D between codes from q(z) and others from r(z), whose logit estimates :math:`\log q(z) / r(z)`.

    In its own phase it minimises :math:`-E_q[\log D] - E_r[\log(1 - D)]`, whose minimum is where the logit is that
    logarithm (the density-ratio trick, as the MI-VAE paper calls it in section 5.1).

    Parameters
    ----------
    part
        The description.
    network
        From codes ``(m, code)`` to logits ``(m, 1)``.
    """

    def __init__(self, part: Critic, network: nn.Module):
        super().__init__(part)
        self.network = network
        self.rate = part.rate  # what training gives the parameters of a module that has one

    @abstractmethod
    def others(self, codes: Codes) -> Tensor:
        """What the codes are told from, ``(draws, n, code)``."""

    def log_ratio(self, z: Tensor, *, frozen: bool = False) -> Tensor:
        """The logit of codes ``(draws, n, code)``: ``(draws, n)``; with `frozen` the network gets no gradient."""
        logits = outputs_of(self.network, z.flatten(0, 1), frozen=frozen)
        rows: Tensor = logits.squeeze(-1).unflatten(0, z.shape[:2])
        return rows

    def learn(self, codes: Codes) -> Tensor:
        """The logistic loss of each sample, ``(n,)``, averaged over the draws."""
        return (softplus(-self.log_ratio(codes.z)) + softplus(self.log_ratio(self.others(codes)))).mean(0)
