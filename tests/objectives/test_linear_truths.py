"""Linear models of Gaussian data, where the best there is is known in closed form.

A linear β-VAE whose likelihood has the variance s² fills its latents by reverse water-filling: the latent of the
eigenvalue l of the data's covariance has the rate log(l / (β s²)) / 2 and leaves the squared error β s², which is what
Shannon's rate-distortion function allows. Probabilistic PCA is β = 1 with the best s².
"""

import math

import pytest
import torch
from torch import nn

from vaelib import Adam, Bound, Experiment, Gaussian, GaussianLikelihood, Geco, Network, SharedGaussianLikelihood
from vaelib.models import ppca
from vaelib.training import Training

VARIANCES = torch.tensor([4.0, 2.0, 0.3, 0.2, 0.1])
LATENTS = 2


def white(n, size):
    """Numbers whose sample covariance is the identity, to rounding."""
    x = torch.randn(n, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return torch.linalg.qr(x - x.mean(0)).Q.float() * math.sqrt(n)


DATA = white(512, 5) * VARIANCES.sqrt()


class Linear(Network):
    """Affine maps."""

    kind = "linear"

    def encoder(self, shape, outputs, sizes=()):
        return nn.Sequential(nn.Flatten(), nn.utils.skip_init(nn.Linear, math.prod(shape), outputs))

    def decoder(self, shape, code, sizes=()):
        return nn.Sequential(nn.utils.skip_init(nn.Linear, code, math.prod(shape)), nn.Unflatten(1, tuple(shape)))


def experiment(objective, likelihood=None):
    likelihood = likelihood or GaussianLikelihood(sigmoid=False)
    optimiser = Adam(2e-2, decay=1e-3)  # the rate falls, so that little is left of the gradients' noise at the end
    return Experiment(
        network=Linear(), latent=Gaussian(LATENTS), likelihood=likelihood, objective=objective, optimiser=optimiser
    )


def start(*experiments, epochs=300):
    return Training(
        [e.build((5,)) for e in experiments],
        [e.seed for e in experiments],
        DATA,
        batch_size=128,
        epochs=epochs,
        optimiser=experiments[0].optimiser,
    )


def rows(training, count):
    return [{n: v for n, v in training.run_epoch()[0].items() if n != "seconds"} for _ in range(count)]


def nats(squared_error, variance=0.5):
    """The distortion of a Gaussian likelihood."""
    return squared_error / (2 * variance) + 5 * math.log(2 * math.pi * variance) / 2


def last(found, term, count=20):
    return sum(row[term] for row in found[-count:]) / count


def test_geco_meets_its_tolerance_at_the_smallest_rate_there_is():
    """Shannon's: half the logarithm of variance over water level, a latent; one over the multiplier is β."""
    level = 0.25
    tolerance = nats(LATENTS * level + VARIANCES[LATENTS:].sum().item())
    found = rows(start(experiment(Geco(tolerance, rate=3e-2))), 300)
    assert last(found, "distortion") == pytest.approx(tolerance, abs=0.02)
    shannon = sum(math.log(v / level) / 2 for v in VARIANCES[:LATENTS].tolist())
    assert last(found, "rate") == pytest.approx(shannon, abs=0.03)
    assert 1 / last(found, "multiplier") == pytest.approx(level / 0.5, rel=0.06)


def test_the_multiplier_rises_while_the_tolerance_is_exceeded_and_falls_below_it():
    tight, loose = (rows(start(experiment(Geco(tolerance))), 3) for tolerance in (nats(0.0), nats(1e3)))
    assert 1 < tight[0]["multiplier"] < tight[1]["multiplier"] < tight[2]["multiplier"]
    assert 1 > loose[0]["multiplier"] > loose[1]["multiplier"] > loose[2]["multiplier"]


def test_a_step_of_the_multiplier_is_adams_ascent_of_the_excess():
    e = experiment(Geco(3.0, rate=0.1))
    trainee = e.build((5,))
    noise = trainee.objective.noise(trainee.vae, DATA.shape, torch.Generator().manual_seed(0))
    terms = trainee(DATA, noise, torch.tensor(0.0))
    excess = terms["distortion"] - 3.0
    torch.testing.assert_close(terms["loss"], terms["rate"].mean() + excess)  # the multiplier starts at one
    terms["loss"].mean().backward()
    torch.testing.assert_close(trainee.objective.multiplier.log.grad, -excess.mean() / (1 + excess.mean().abs()))
    model = trainee.vae.decoder[0].weight.grad.clone()
    trainee.zero_grad()
    trainee(DATA, noise, torch.tensor(0.0))["distortion"].mean().backward()  # the rate is none of the decoder's
    torch.testing.assert_close(trainee.vae.decoder[0].weight.grad, model)


def test_the_multiplier_stays_finite():
    objective = experiment(Geco(3.0)).build((5,)).objective
    for far, expected in ((1e2, 1e3), (-1e2, 1e-3)):
        with torch.no_grad():
            objective.multiplier.log.fill_(far)
        objective.project_()
        assert objective.report()["multiplier"].item() == pytest.approx(expected, rel=1e-4)


def test_a_resumed_geco_gives_the_same_bits():
    e = experiment(Geco(5.0))
    whole, first, second = start(e), start(e), start(e)
    expected = rows(whole, 4)
    rows(first, 2)
    second.resume([first.state(0)], first.epoch)
    assert rows(second, 2) == expected[2:]
    assert all(torch.equal(second.state(0)[name], tensor) for name, tensor in whole.state(0).items())


def test_a_learned_variance_is_that_of_probabilistic_pca():
    """And the evidence lower bound is its log-likelihood, as the posterior is exact."""
    training = start(experiment(Bound(), SharedGaussianLikelihood(sigmoid=False)))
    found = rows(training, 300)
    truth, vae = ppca(DATA, LATENTS), training.member(0).vae.eval()
    noise = truth.likelihood(torch.zeros(1, LATENTS)).stddev.mean().item()
    assert vae.likelihood(torch.zeros(1, LATENTS)).stddev.mean().item() == pytest.approx(noise, rel=0.03)
    noise, signal = noise**2, VARIANCES[:LATENTS].log().sum().item()
    minus_log_p = (5 * math.log(2 * math.pi) + signal + (5 - LATENTS) * math.log(noise) + 5) / 2
    assert last(found, "loss") == pytest.approx(minus_log_p, abs=0.02)
