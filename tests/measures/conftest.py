"""A model whose truth is known: probabilistic PCA, with its own posterior or a wrong one."""

import pytest
import torch
from torch import nn
from torch.distributions import Independent, MultivariateNormal, Normal

from vaelib.measures import Observed
from vaelib.models import VAE, Gaussian, pixels
from vaelib.objectives import Bound, Trainee

NOISE = 0.5
WEIGHTS = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))


class Exact(nn.Module):
    """The encoder of probabilistic PCA x = W z + noise: the true posterior's mean and log-variances.

    W has orthogonal columns, so that the true posterior is diagonal. `shift` and `widen` make it a wrong one.
    """

    def __init__(self, weights, shift=0.0, widen=1.0):
        super().__init__()
        self.weights = nn.Parameter(weights)
        self.shift, self.widen = shift, widen

    def forward(self, x):
        precision = 1 + self.weights.square().sum(0) / NOISE**2
        mean = (x @ self.weights) / NOISE**2 / precision + self.shift
        return torch.cat([mean, (self.widen**2 / precision).log().expand_as(mean)], 1)


@pytest.fixture
def ppca():
    """A linear-Gaussian VAE, and the distribution of its x."""

    def make(**wrong):
        weights = torch.linalg.qr(WEIGHTS).Q * torch.tensor([1.5, 0.7])
        decoder = nn.Linear(2, 6, bias=False)
        decoder.weight = nn.Parameter(weights)
        vae = VAE(Exact(weights, **wrong), decoder, Gaussian(2).build(), lambda o: Independent(Normal(o, NOISE), 1))
        return vae, MultivariateNormal(torch.zeros(6), weights @ weights.T + NOISE**2 * torch.eye(6))

    return make


@pytest.fixture
def encoded():
    """A model with an aggregate posterior that is known."""

    def make(means, sd):
        """One whose encoder gives these means ``(n, code)`` for samples that are their numbers, with one width."""
        n, code = means.shape
        encoder = nn.Linear(1, 2 * code)

        def outputs(x):
            return torch.cat([means[x.flatten().long()], torch.full((len(x), code), 2 * torch.tensor(sd).log())], 1)

        encoder.forward = outputs
        vae = VAE(encoder, nn.Linear(code, 1), Gaussian(code).build(), lambda o: Independent(Normal(o, 1.0), 1))
        return vae.eval(), torch.arange(n, dtype=torch.float32)[:, None]

    return make


@pytest.fixture
def observed():
    """What an observer sees of a model that is made by hand, with data of its own."""

    def make(vae, data, seed=0):
        objective = Bound().build(None)
        noise, inputs = torch.Generator().manual_seed(seed), pixels(data.test)
        return Observed(Trainee(vae.eval(), objective.eval()), data, inputs, None, seed, noise)

    return make


@pytest.fixture
def enumerable():
    """Small VAEs with discrete codes, with all of their codes: everything about them is a finite sum."""

    def make(part, features=5):
        """The model in double precision, and its codes ``(m, code)``."""
        latent, g = part.build(), torch.Generator().manual_seed(3)
        bodies = nn.Linear(features, latent.outputs), nn.Linear(latent.code, features)
        for body in bodies:
            for parameter in body.parameters():
                parameter.data = torch.randn(parameter.shape, generator=g)
        vae = VAE(*bodies, latent, lambda o: Independent(Normal(o, 0.8, validate_args=False), 1))
        return vae.double().eval(), codes(part)

    return make


def codes(part):
    if part.kind == "bits":
        return torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * part.size).reshape(-1, part.size)
    if part.kind == "category":
        return torch.eye(part.size, dtype=torch.float64)
    rows = [torch.zeros(1, 0, dtype=torch.float64)]
    for leaf in part.leaves:
        rows = [torch.cat([row, own[None]], 1) for row in rows for own in codes(leaf)]
    return torch.cat(rows)
