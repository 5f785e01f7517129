"""Regularisers against truths of their own: closed forms of Gaussians, numpy, known ratios of densities."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from vaelib import (
    MLP,
    Adam,
    Adversary,
    Bits,
    Bound,
    Category,
    Covariance,
    Experiment,
    Gaussian,
    Geco,
    Information,
    Joint,
    LearnedTotalCorrelation,
    Point,
    Relaxation,
    TotalCorrelation,
)
from vaelib.errors import Invalid
from vaelib.objectives import Codes, Site, total_correlation
from vaelib.training import Training, derive

D = torch.float64
X = torch.rand(12, 1, 4, 4, generator=torch.Generator().manual_seed(5))
BASE = Experiment(network=MLP(8), latent=Gaussian(3), optimiser=Adam(1e-2), batch_size=4)
EVERY = {
    "total correlation": TotalCorrelation(weight=2.0),
    "learned total correlation": LearnedTotalCorrelation(units=8, weight=2.0),
    "means": Covariance("means", diagonal=3.0, weight=2.0),
    "codes": Covariance("codes", diagonal=3.0, weight=2.0),
    "adversary": Adversary(units=8, weight=2.0),
}
LEARNING = {name: r for name, r in EVERY.items() if "learned" in name or name == "adversary"}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def built(regulariser, draws=1, **fields):
    return BASE.replace(objective=Bound(regularisers=(regulariser,), draws=draws), **fields).build((1, 4, 4))


def noise(trainee, x=X):
    return trainee.objective.noise(trainee.vae, x.shape, generator(1))


@pytest.mark.parametrize("draws", [1, 3])
@pytest.mark.parametrize("regulariser", EVERY.values(), ids=EVERY)
def test_the_loss_is_the_bound_plus_the_weighted_value(regulariser, draws):
    trainee = built(regulariser, draws)
    terms = trainee(X, noise(trainee), torch.tensor(0.5))
    value = terms[regulariser.kind]
    assert value.shape == (12,)
    torch.testing.assert_close(terms["loss"].mean(), (terms["distortion"] + terms["rate"] + 2 * value).mean())


@pytest.mark.parametrize("regulariser", EVERY.values(), ids=EVERY)
def test_each_phase_moves_its_own_networks_and_no_other(regulariser):
    trainee, own = built(regulariser, 2), f"objective.{regulariser.kind}."
    phases = (regulariser.kind, "model") if regulariser in LEARNING.values() else ("model",)
    assert trainee.objective.phases == phases
    for phase in phases:
        trainee.zero_grad()
        trainee(X, noise(trainee), torch.tensor(0.0), phase)["loss"].mean().backward()
        moved = own if phase != "model" else "vae."
        for name, p in trainee.named_parameters():
            assert (p.grad is not None) == name.startswith(moved), (phase, name)


@pytest.mark.parametrize("regulariser", EVERY.values(), ids=EVERY)
def test_the_encoder_feels_the_value(regulariser):
    trainee = built(regulariser)
    value = trainee(X, noise(trainee), torch.tensor(0.0))[regulariser.kind].mean()
    gradients = torch.autograd.grad(value, list(trainee.vae.encoder.parameters()))
    assert all(g.isfinite().all() for g in gradients)
    assert sum(g.abs().sum() for g in gradients) > 0


def test_only_what_asks_for_the_decoder_in_its_own_phase_pays_for_it():
    trainee = built(LEARNING["adversary"])
    trainee.vae.decoder = None
    assert trainee(X, noise(trainee), torch.tensor(0.0), "adversary")["loss"].isfinite().all()


def test_several_regularisers_come_one_after_the_other():
    objective = Bound(information=Information((0,), 0.5), regularisers=(EVERY["codes"], *LEARNING.values()))
    trainee = BASE.replace(objective=objective).build((1, 4, 4))
    assert trainee.objective.phases == ("information", "learned_total_correlation", "adversary", "model")
    terms = trainee(X, noise(trainee), torch.tensor(1.0))
    expected = terms["distortion"] + terms["rate"].mean() - 0.5 * terms["information"]
    expected = expected + 2 * (terms["covariance"] + terms["learned_total_correlation"] + terms["adversary"])
    torch.testing.assert_close(terms["loss"], expected)


def test_a_discriminator_may_have_a_rate_of_its_own():
    run = built(Adversary(units=8, rate=0.25))
    groups = BASE.optimiser.build(run).param_groups
    assert [g["lr"] for g in groups] == [1e-2, 0.25]
    assert groups[1]["params"] == list(run.objective.adversary.parameters())


def start(e):
    return Training([e.build((1, 4, 4))], [0], X, batch_size=e.batch_size, epochs=3, optimiser=e.optimiser)


@pytest.mark.parametrize("regulariser", LEARNING.values(), ids=LEARNING)
def test_a_resumed_training_gives_the_same_bits(regulariser):
    e = BASE.replace(objective=Bound(regularisers=(regulariser.replace(rate=1e-3),)))
    whole, first, second = start(e), start(e), start(e)
    for training in (whole, whole, first):
        training.run_epoch()
    second.resume([first.state(0)], first.epoch)
    second.run_epoch()
    state = second.state(0)
    assert all(torch.equal(state[name], tensor) for name, tensor in whole.state(0).items())
    assert f"objective.{regulariser.kind}.network.1.weight/exp_avg" in state


def test_a_step_is_the_discriminator_first_and_then_the_model():
    """In a loop written out by hand, with an optimiser each: neither moves the other's weights or moments."""
    e = BASE.replace(objective=Bound(weight=0.0, regularisers=(LEARNING["adversary"],)), batch_size=12)
    training, reference = start(e), e.build((1, 4, 4))
    critic = torch.optim.Adam(reference.objective.parameters(), lr=1e-2)
    adam = torch.optim.Adam(reference.vae.parameters(), lr=1e-2)
    for epoch in range(3):
        row = training.run_epoch()[0]
        g = generator(derive(0, "epoch", epoch))
        x = X[torch.randperm(12, generator=g)]
        numbers = reference.objective.noise(reference.vae, x.shape, g)
        for phase, optimiser in (("adversary", critic), ("model", adam)):
            optimiser.zero_grad()
            terms = reference(x, numbers, torch.tensor(epoch / 3), phase)
            terms["loss"].mean().backward()
            optimiser.step()
        assert row["adversary"] == pytest.approx(terms["adversary"].mean().item(), rel=1e-5)
    for name, tensor in reference.state_dict().items():
        torch.testing.assert_close(training.member(0).state_dict()[name], tensor, rtol=1e-4, atol=1e-6)


# Total correlation


def mixture(n, covariance, sd, seed=0):
    """n Gaussian posteriors of one width whose means have a covariance, and a code from each."""
    g, size = generator(seed), len(covariance)
    means = torch.randn(n, size, generator=g, dtype=D) @ torch.linalg.cholesky(covariance).T
    q = Independent(Normal(means, torch.full_like(means, sd)), 1)
    return q, means + sd * torch.randn(n, size, generator=g, dtype=D)


def gaussian_correlation(covariance):
    """Of a Gaussian, in closed form."""
    return ((covariance.diagonal().log().sum() - covariance.logdet()) / 2).item()


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
def test_the_total_correlation_of_a_gaussian_aggregate_is_the_closed_form(correlation):
    covariance = torch.tensor([[1.0, correlation, 0], [correlation, 1.0, 0], [0, 0, 2.0]], dtype=D)
    q, z = mixture(1500, covariance, 0.6)
    exact = gaussian_correlation(covariance + 0.36 * torch.eye(3, dtype=D))
    assert total_correlation(q, z).mean().item() == pytest.approx(exact, abs=0.03)


def test_minibatch_weighted_sampling_differs_by_a_constant():
    """As the β-TCVAE's paper writes it: with log(N M) for N samples in all and M in the batch."""
    q, z = mixture(20, torch.tensor([[1.0, 0.7], [0.7, 1.0]], dtype=D), 0.3)
    scale, total = math.log(60_000 * 20), 0.0
    for code in z:
        joint = torch.stack([q.base_dist.log_prob(code)[j].sum() for j in range(20)]).logsumexp(0) - scale
        marginals = [q.base_dist.log_prob(code)[:, k].logsumexp(0) - scale for k in range(2)]
        total += (joint - sum(marginals)).item() / 20
    assert total_correlation(q, z).mean().item() == pytest.approx(total - math.log(60_000))


def test_one_latent_depends_on_no_other():
    q, z = mixture(30, torch.ones(1, 1, dtype=D), 0.5)
    torch.testing.assert_close(total_correlation(q, z), torch.zeros(30, dtype=D))


# Covariance


@pytest.mark.parametrize("of", ["means", "codes"])
def test_the_covariance_is_numpys(of):
    mean, sd = torch.randn(9, 3, generator=generator(), dtype=D), torch.rand(9, 3, generator=generator(1), dtype=D)
    q, prior = Independent(Normal(mean, sd), 1), Independent(Normal(torch.zeros(3, dtype=D), 1.0), 1)
    module = Covariance(of, diagonal=5.0).build(None).double()
    found = module.value(Codes(SimpleNamespace(prior=prior), q, mean[None], {}, torch.ones(())))
    c = np.cov(mean.numpy().T, bias=True) + (np.diag((sd**2).mean(0)) if of == "codes" else 0)
    expected = sum(c[i, j] ** 2 for i in range(3) for j in range(3) if i != j) + 5 * ((np.diag(c) - 1) ** 2).sum()
    assert found.item() == pytest.approx(expected)


def test_the_covariance_is_measured_from_the_priors():
    """Fair coins have a variance of a quarter."""
    latent = Bits(2, Relaxation()).build()
    logits = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]]) * 20
    codes = Codes(SimpleNamespace(prior=latent.prior()), latent.posterior(logits), None, {}, torch.ones(()))
    assert Covariance("codes").build(None).value(codes).item() == pytest.approx(0, abs=1e-6)


# Discriminators


def trained(regulariser, draw, latent, steps=400):
    """The module after some steps on codes that a function of a generator draws, and fresh codes."""
    site = Site(MLP(8), latent, (1, 4, 4), (), lambda purpose: generator(3))
    module, g, vae = regulariser.build(site), generator(4), SimpleNamespace(latent=latent.build())
    adam = torch.optim.Adam(module.parameters(), lr=3e-3)

    def codes(n):
        return Codes(vae, None, draw(n, g)[None], module.noise(vae.latent, n, 1, g), torch.ones(()), True)

    for _ in range(steps):
        adam.zero_grad()
        module.learn(codes(500)).mean().backward()
        adam.step()
    return module, codes(20_000)


def test_the_adversary_learns_the_ratio_of_a_known_pair():
    q = Independent(Normal(torch.tensor([1.0, 0.0]), torch.tensor([0.8, 1.0])), 1)
    p = Independent(Normal(torch.zeros(2), torch.ones(2)), 1)
    module, codes = trained(
        Adversary(units=64), lambda n, g: q.mean + q.stddev * torch.randn(n, 2, generator=g), Gaussian(2)
    )
    z = codes.z[0]
    exact = q.log_prob(z) - p.log_prob(z)
    with torch.no_grad():
        assert (module.log_ratio(codes.z)[0] - exact).abs().mean() < 0.15
        assert module.log_ratio(codes.z).mean().item() == pytest.approx(kl_divergence(q, p).item(), abs=0.06)
        best = torch.nn.functional.softplus(exact).mean().item()  # -log p / (p + q)
        assert module.value(codes).mean().item() == pytest.approx(best, abs=0.03)


@pytest.mark.parametrize("latent", [Gaussian(2), Point(2)], ids=lambda latent: latent.kind)
def test_where_the_aggregate_is_the_prior_the_adversary_is_at_log_2(latent):
    module, codes = trained(Adversary(units=64), lambda n, g: torch.randn(n, 2, generator=g), latent, steps=100)
    with torch.no_grad():
        assert module.value(codes).mean().item() == pytest.approx(math.log(2), abs=0.03)


def test_a_discriminator_learns_the_total_correlation_of_a_gaussian():
    covariance = torch.tensor([[1.0, 0.8], [0.8, 1.0]])
    root = torch.linalg.cholesky(covariance)
    regulariser = LearnedTotalCorrelation(units=64)
    module, codes = trained(regulariser, lambda n, g: torch.randn(n, 2, generator=g) @ root.T, Gaussian(2))
    z = codes.z[0]
    exact = MultivariateNormal(torch.zeros(2), covariance).log_prob(z) - Normal(0.0, 1.0).log_prob(z).sum(-1)
    with torch.no_grad():
        assert (module.value(codes) - exact).abs().mean() < 0.15
        assert module.value(codes).mean().item() == pytest.approx(-math.log(1 - 0.64) / 2, abs=0.06)


def test_the_permuted_codes_are_those_of_the_batch_each_number_by_itself():
    module = LearnedTotalCorrelation(units=8).build(Site(MLP(8), Gaussian(3), (1, 4, 4), (), lambda p: generator()))
    z, numbers = torch.randn(2, 200, 3, generator=generator()), module.noise(Gaussian(3).build(), 200, 2, generator(1))
    others = module.others(Codes(None, None, z, numbers, torch.ones(())))
    for k in range(3):
        torch.testing.assert_close(others[..., k].sort(1).values, z[..., k].sort(1).values)
    moved = (others[0] == z[0]).double().mean(0)
    assert (moved < 0.05).all()
    assert not torch.equal(others[0, :, 0].argsort(), others[0, :, 1].argsort())


# What fits together


@pytest.mark.parametrize(
    ("regulariser", "latent", "says"),
    [
        (TotalCorrelation(), Bits(3, Relaxation()), "Gaussian latents"),
        (TotalCorrelation(), Point(3), "Gaussian latents"),
        (LearnedTotalCorrelation(), Joint((Gaussian(2), Category(3, Relaxation()))), "a category's cannot"),
        (Covariance(), Category(3, Relaxation()), "a category's cannot"),
        (Covariance("codes"), Point(3), "'means'"),
    ],
)
def test_a_latent_that_it_is_not_for_is_refused(regulariser, latent, says):
    with pytest.raises(Invalid, match=rf"^objective\.regularisers: '{regulariser.kind}' is not allowed; .*{says}"):
        BASE.replace(latent=latent, objective=Bound(regularisers=(regulariser,)))
    Experiment(network="mlp", latent=Point(3), objective=Bound(weight=0.0, regularisers=(Covariance("means"),)))


def test_two_of_a_kind_are_refused():
    for kind in (Bound, lambda **fields: Geco(80.0, **fields)):
        with pytest.raises(Invalid, match=r"^regularisers: \('covariance', 'covariance'\) is not allowed; .* kinds$"):
            kind(regularisers=(Covariance("means"), Covariance("codes")))
    with pytest.raises(Invalid, match=r"^regularisers: .* adversary, covariance"):
        Bound(regularisers=(Information(),))


def test_a_run_without_regularisers_has_the_key_that_it_had():
    assert Bound().canonical() == {"kind": "bound"}
    informed = Bound(information=Information((0, 1), 0.5)).canonical()
    assert informed == {"kind": "bound", "information": {"about": [0, 1], "weight": 0.5}}
    key = "85d2eeac"
    assert Experiment(objective=Bound(information=Information((0, 1), 0.5))).key[:8] == key
