"""How much of a code a *fixed* VAE's decoder passes on: the variational bound with Q trained to convergence."""

import copy
from dataclasses import replace

import pandas as pd
import torch
from torch import Tensor

from vaelib.divergences import sample
from vaelib.measures.base import Observation, Observed, Observer, batches, posterior
from vaelib.models import VAE
from vaelib.objectives import Information, InformationModule
from vaelib.parts import Count
from vaelib.training import generator, threads


def variational_bound(
    vae: VAE,
    information: InformationModule,
    train: Tensor,
    test: Tensor,
    *,
    sampled: bool = False,
    seed: int = 0,
    learning_rate: float = 1e-3,
    batch_size: int = 128,
    patience: int = 3,
    epochs: int = 100,
) -> dict[str, float]:
    """Train Q for a VAE that stays as it is, and evaluate the bound on samples that Q has not seen.

    After each epoch Q is scored on a tenth of the training samples that is held out; it is trained until that has not
    improved for `patience` epochs, and the best Q is kept.

    Parameters
    ----------
    vae
        The model.
    information
        What to estimate, with a Q to start from; neither is changed.
    train, test
        Samples ``(n, *shape)``.
    sampled
        Whether Q sees draws from p(x|z); by default it sees their mean, the decoder's output, as in the MI-VAE paper.
    seed
        Of the codes, the draws and the order.
    learning_rate, batch_size
        Of Adam.
    patience, epochs
        When to stop.

    Returns
    -------
    dict
        ``bound`` with the aggregate posterior's entropy, which is one; ``paper`` with the prior's, which need not be;
        in nats; and ``epochs`` trained.
    """
    device = next(vae.parameters()).device
    information = copy.deepcopy(information).to(device)
    draws = generator(device, seed, "information")
    held = max(1, len(train) // 10)
    order = torch.randperm(len(train), generator=draws, device=device).to(train.device)
    fit, check = train[order[held:]], _pairs(vae, train[order[:held]], draws, sampled)
    optimiser = torch.optim.Adam(information.network.parameters(), lr=learning_rate)
    best, kept, since, epoch = -torch.inf, information.state_dict(), 0, 0
    while since < patience and epoch < epochs:
        z, decoded = _pairs(vae, fit, draws, sampled)
        information.train()
        with threads(1):  # as a run is trained
            for index in torch.randperm(len(z), generator=draws, device=device).split(batch_size):
                optimiser.zero_grad()
                (-information(decoded[index], z[index])).mean().backward()
                optimiser.step()
        score, epoch = _score(information, *check), epoch + 1
        since = 0 if score > best else since + 1
        if not since:
            best, kept = score, copy.deepcopy(information.state_dict())
    information.load_state_dict(kept)
    z, decoded = _pairs(vae, test, draws, sampled)
    score, q = _score(information, z, decoded), posterior(vae, test)
    bound, paper = (score + float(information.code_entropy(q, z, entropy)) for entropy in ("aggregate", "prior"))
    return {"bound": bound, "paper": paper, "epochs": epoch}


@torch.no_grad()
def _pairs(vae: VAE, samples: Tensor, draws: torch.Generator, sampled: bool) -> tuple[Tensor, Tensor]:
    """A code for each sample, and what it is decoded to."""
    codes, decoded = [], []
    for x in batches(vae, samples):
        z = vae.latent.draw(vae.posterior(x), vae.latent.noise(len(x), draws))
        likelihood = vae.likelihood(z)
        codes.append(z)
        decoded.append(sample(likelihood, 1, draws)[0] if sampled else likelihood.mean)
    return torch.cat(codes), torch.cat(decoded)


@torch.no_grad()
def _score(information: InformationModule, z: Tensor, decoded: Tensor) -> float:
    """Mean log Q, as Q is after training: batch normalisation by what it saw then."""
    information.eval()
    parts = zip(z.split(500), decoded.split(500))
    return torch.cat([information(d, part) for part, d in parts]).double().mean().item()


class InformationBound(Observer):
    """The :func:`variational_bound` with a fresh Q, in one row: ``bound``, ``paper``, ``epochs``.

    Parameters
    ----------
    information
        About what; its weight and entropy make no difference.
    epochs
        At most so many.
    sampled
        Whether Q sees draws from p(x|z) in place of their mean.
    """

    kind = "information_bound"

    information: Information = Information()
    epochs: Count = 100
    sampled: bool = False

    def observe(self, run: Observed) -> Observation:
        """The table."""
        site = replace(run.site, generator=lambda purpose: run.site.generator(f"fresh {purpose}"))
        found = variational_bound(
            run.vae,
            self.information.build(site),
            run.data.train,
            run.data.test,
            sampled=self.sampled,
            seed=run.seed,
            epochs=self.epochs,
        )
        return pd.DataFrame([found])
