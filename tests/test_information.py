"""The mutual information regulariser: its bound against channels of known information, and its training."""

import math

import pytest
import torch
from torch import nn

from vaelib.experiments import Experiment
from vaelib.objectives import Information
from vaelib.training import Training

IMAGES = (torch.rand(96, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 255).to(torch.uint8)


class Fixed(nn.Module):
    """Q with outputs that are given."""

    def __init__(self, outputs):
        super().__init__()
        self.outputs = nn.Parameter(outputs)

    def forward(self, x):
        return self.outputs[x.long()]


def test_the_best_q_of_a_symmetric_channel_gives_its_information():
    """A uniform category of four that is kept with probability 0.7, and else becomes any other."""
    keep, n = 0.7, 200_000
    g = torch.Generator().manual_seed(0)
    c = torch.randint(4, (n,), generator=g)
    flipped = (c + torch.randint(1, 4, (n,), generator=g)) % 4
    x = torch.where(torch.rand(n, generator=g) < keep, c, flipped)
    table = torch.full((4, 4), (1 - keep) / 3).fill_diagonal_(keep)
    exact = math.log(4) + keep * math.log(keep) + (1 - keep) * math.log((1 - keep) / 3)
    z = nn.functional.one_hot(c, 4).float()
    best = Information(Fixed(table.log()), "category", range(4))
    assert best.prior_entropy == pytest.approx(math.log(4))
    assert (best(x, z).mean() + best.prior_entropy).item() == pytest.approx(exact, abs=0.01)
    worse = Information(Fixed(torch.full((4, 4), 0.1).fill_diagonal_(2.0)), "category", range(4))
    assert (worse(x, z).mean() + worse.prior_entropy).item() < exact


def test_the_best_q_of_a_linear_gaussian_channel_gives_its_information():
    """x = z + noise: I = log(1 + 1 / s^2) / 2, and z|x is Gaussian."""
    s, g = 0.5, torch.Generator().manual_seed(0)
    z = torch.randn(100_000, 3, generator=g)
    x = z[:, 1:2] + s * torch.randn(100_000, 1, generator=g)

    class Posterior(nn.Module):
        def forward(self, x):
            return torch.cat([x / (1 + s**2), torch.full_like(x, math.log(s**2 / (1 + s**2)))], 1)

    found = Information(Posterior(), "gaussian", [1])
    bound = found(x, z).mean() + found.prior_entropy
    assert bound.item() == pytest.approx(math.log1p(1 / s**2) / 2, abs=0.01)


def experiment(**fields):
    base = {"network": "mlp", "latent": "joint", "latents": 3, "categories": 4, "information": "category"}
    return Experiment(**{**base, "information_weight": 5.0, "learning_rate": 1e-3, "batch_size": 32, **fields})


def start(*experiments, epochs=2):
    return Training(
        [e.build((1, 32, 32)) for e in experiments],
        [e.seed for e in experiments],
        IMAGES,
        batch_size=32,
        epochs=epochs,
        learning_rate=1e-3,
        skew_learning_rate=0.0,
    )


def test_the_loss_is_the_elbo_less_the_weighted_bound():
    e, x = experiment(), IMAGES[:8].float() / 255
    trainee = e.build((1, 32, 32))
    noise = trainee.objective.noise(trainee.vae, x.shape, torch.Generator().manual_seed(0))
    terms = trainee(x, noise, torch.tensor(0.5))
    torch.testing.assert_close(terms["loss"], terms["distortion"] + terms["rate"].mean() - 5 * terms["information"])
    z = trainee.vae.latent.sample(trainee.vae.posterior(x), noise["posterior"], 0.5)
    logits = trainee.objective.information.network(trainee.vae.likelihood(z).mean)
    expected = (z[:, 3:] * logits.log_softmax(1)).sum(1) + math.log(4)
    torch.testing.assert_close(terms["information"], expected)


def test_each_phase_moves_its_own_networks():
    e = experiment()
    trainee = e.build((1, 32, 32))
    x = IMAGES[:8].float() / 255
    noise = trainee.objective.noise(trainee.vae, x.shape, torch.Generator().manual_seed(0))
    for phase, moved in (("information", "objective.information"), ("model", "vae")):
        trainee.zero_grad()
        trainee(x, noise, torch.tensor(0.0), phase)["loss"].mean().backward()
        for name, p in trainee.named_parameters():
            assert (p.grad is not None) == name.startswith(moved), (phase, name)


def test_a_step_is_q_first_and_then_the_vae():
    """Algorithm 1 in a loop written out by hand."""
    from vaelib.training import derive

    e = experiment()
    training, reference = start(e), e.build((1, 32, 32))
    training.run_epoch()
    g = torch.Generator().manual_seed(derive(0, "epoch", 0))
    order = torch.randperm(96, generator=g)
    noise = reference.objective.noise(reference.vae, (96, 1, 32, 32), g)["posterior"]
    q_adam = torch.optim.Adam(reference.objective.information.parameters(), lr=1e-3)
    adam = torch.optim.Adam(reference.vae.parameters(), lr=1e-3)
    for step, first in enumerate((0, 32, 64)):
        x, part = IMAGES[order[first : first + 32]].float() / 255, {"posterior": noise[first : first + 32]}
        for phase, optimiser in (("information", q_adam), ("model", adam)):
            optimiser.zero_grad()
            reference(x, part, torch.tensor(step / 3 / 2), phase)["loss"].mean().backward()
            optimiser.step()
    for name, tensor in reference.state_dict().items():
        torch.testing.assert_close(training.member(0).state_dict()[name], tensor, rtol=1e-3, atol=1e-5)


def test_informed_runs_train_in_a_stack_as_alone():
    experiments = [experiment(seed=0, information_weight=1.0), experiment(seed=1, information_weight=9.0)]
    stack = start(*experiments)
    together = stack.run_epoch()
    for k, e in enumerate(experiments):
        alone = start(e).run_epoch()[0]
        for term in ("loss", "information", "rate"):
            assert together[k][term] == pytest.approx(alone[term], rel=1e-3), term


def test_the_regulariser_raises_the_information():
    found = {}
    for weight in (0.0, 200.0):
        training = start(experiment(information_weight=weight), epochs=30)
        found[weight] = [training.run_epoch()[0]["information"] for _ in range(30)][-1]
    assert found[200.0] > found[0.0] + 0.5


@pytest.mark.parametrize("divergence", ["learned", "mmd", "forward_kl"])
def test_it_goes_with_any_divergence(divergence):
    fields = (
        {"divergence": "geometric_js", "skew_update": "gradient"}
        if divergence == "learned"
        else {"divergence": divergence}
    )
    row = start(experiment(**fields), epochs=1).run_epoch()[0]
    assert math.isfinite(row["loss"])
    assert ("skew" in row) == (divergence == "learned")


def test_gaussian_components_can_be_informed():
    trainee = Experiment(network="mlp", information="3,7", information_weight=1.0).build((1, 32, 32))
    assert trainee.objective.information.prior_entropy == pytest.approx(1 + math.log(2 * math.pi))
    x = IMAGES[:8].float() / 255
    noise = trainee.objective.noise(trainee.vae, x.shape, torch.Generator().manual_seed(0))
    assert trainee(x, noise, torch.tensor(0.0))["information"].shape == (8,)
