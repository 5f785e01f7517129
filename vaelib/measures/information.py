"""How much of a code a *fixed* VAE's decoder passes on: the variational bound with Q trained to convergence."""

import copy

import torch
from torch import Tensor

from vaelib.evaluation import batches, posterior
from vaelib.objectives import Information
from vaelib.training import generator, threads
from vaelib.vae import VAE


def variational_bound(
    vae: VAE,
    information: Information,
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
    score, entropies = _score(information, z, decoded), {}
    for entropy in ("aggregate", "prior"):
        information.entropy = entropy
        entropies[entropy] = float(information.code_entropy(posterior(vae, test), z))
    return {"bound": score + entropies["aggregate"], "paper": score + entropies["prior"], "epochs": epoch}


@torch.no_grad()
def _pairs(vae: VAE, samples: Tensor, draws: torch.Generator, sampled: bool) -> tuple[Tensor, Tensor]:
    """A code for each sample, and what it is decoded to."""
    codes, decoded = [], []
    with torch.random.fork_rng([draws.device] if draws.device.type == "cuda" else []):
        torch.manual_seed(int(torch.randint(2**31, (), generator=draws, device=draws.device)))
        for x in batches(vae, samples):
            z = vae.latent.draw(vae.posterior(x), vae.latent.noise(len(x), draws))
            likelihood = vae.likelihood(z)
            codes.append(z)
            decoded.append(likelihood.sample() if sampled else likelihood.mean)
    return torch.cat(codes), torch.cat(decoded)


@torch.no_grad()
def _score(information: Information, z: Tensor, decoded: Tensor) -> float:
    """Mean log Q."""
    parts = zip(z.split(500), decoded.split(500))
    return torch.cat([information(d, part) for part, d in parts]).double().mean().item()
