import pytest
import torch
from torch.distributions import kl_divergence

from vaelib import divergences
from vaelib.divergences import FORMS
from vaelib.latents import Gaussian
from vaelib.networks import mlp
from vaelib.objectives import DIVERGENCES, ELBO
from vaelib.vae import VAE, bernoulli

X = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(5))
END = torch.ones(())


@pytest.fixture
def vae():
    latent = Gaussian(3)
    torch.manual_seed(0)
    return VAE(*mlp((1, 4, 4), latent.outputs, latent.code), latent, bernoulli)


def terms(vae, objective, progress=END):
    return objective(vae, X, objective.noise(vae, X.shape, torch.Generator().manual_seed(1)), progress)


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_the_loss_is_distortion_plus_the_weighted_divergence(vae, divergence):
    found = terms(vae, ELBO(divergence, weight=3.0))
    assert {name: tuple(t.shape) for name, t in found.items()} == dict.fromkeys(
        ("loss", "distortion", "rate", "divergence"), (6,)
    )
    assert (found["divergence"] >= 0).all()
    torch.testing.assert_close(found["loss"].mean(), (found["distortion"] + 3 * found["divergence"]).mean())
    torch.testing.assert_close(found["rate"], kl_divergence(vae.posterior(X), vae.prior))
    found["loss"].mean().backward()
    assert all(p.grad.isfinite().all() and p.grad.abs().sum() > 0 for p in vae.parameters())


def test_the_negative_elbo_bounds_minus_log_evidence(vae):
    """log p(x) by importance weighting with many samples from the prior is above the ELBO, and not by a hair."""
    with torch.no_grad():
        elbo = -torch.stack([terms(vae, ELBO())["loss"]]).mean()
        z = torch.randn(20_000, 3, generator=torch.Generator().manual_seed(2))
        evidence = (
            torch.stack([vae.likelihood(z).log_prob(x).logsumexp(0) for x in X]).mean() - torch.tensor(20_000.0).log()
        )
    assert elbo < evidence


@pytest.mark.parametrize(
    ("divergence", "function"), [("kl", divergences.reverse_kl), ("forward_kl", divergences.forward_kl)]
)
def test_skewed_forms_meet_the_kls_at_their_ends(vae, divergence, function):
    expected = terms(vae, ELBO(divergence))["divergence"]
    at = {"geometric_js": {"kl": 0.0, "forward_kl": 1.0}, "dual_geometric_js": {"kl": 1.0, "forward_kl": 0.0}}
    for form, ends in at.items():
        found = terms(vae, ELBO(form, skew=ends[divergence]))["divergence"]
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_the_capacity_moves_the_target_over_the_training(vae):
    objective = ELBO(weight=7.0, capacity=5.0)
    for progress in (0.0, 0.5, 1.0):
        found = terms(vae, objective, torch.tensor(progress))
        excess = (found["rate"].mean() - 5 * progress).abs()
        torch.testing.assert_close(found["loss"].mean(), found["distortion"].mean() + 7 * excess)


@pytest.mark.parametrize("form", FORMS)
def test_a_gradient_skew_is_learned_and_a_fixed_one_is_not(vae, form):
    for update, learns in (("gradient", True), ("fixed", False), ("newton", False)):
        objective = ELBO(form, skew=0.3, skew_update=update)
        terms(vae, objective)["loss"].mean().backward()
        assert any(p.requires_grad for p in objective.parameters()) == learns
        assert (objective.skew.value.grad is not None) == learns


@pytest.mark.parametrize("form", FORMS)
def test_newton_minimises_the_batchs_mean_divergence(vae, form):
    objective = ELBO(form, skew=0.9, skew_update="newton")
    best = terms(vae, objective)["divergence"].mean()
    grid = torch.stack([terms(vae, ELBO(form, skew=a / 50))["divergence"].mean() for a in range(51)])
    assert best <= grid.min() + 1e-6
    objective.eval()
    before = objective.skew.value.clone()
    terms(vae, objective)
    assert torch.equal(objective.skew.value, before), "evaluation moves the skew"


def test_projection_keeps_a_learned_skew_in_the_unit_interval(vae):
    objective = ELBO("geometric_js", skew=0.0, skew_update="gradient")
    for step, expected in ((-0.5, 0.0), (2.0, 1.0)):
        with torch.no_grad():
            objective.skew.value += step
        objective.project_()
        assert objective.skew.value.item() == expected


@pytest.mark.parametrize("skew", [0.0, 1.0])
@pytest.mark.parametrize("form", FORMS)
def test_a_skew_learned_from_an_end_has_finite_gradients(vae, form, skew):
    objective = ELBO(form, skew=skew, skew_update="gradient")
    terms(vae, objective)["loss"].mean().backward()
    assert objective.skew.value.grad.isfinite()
    inward = 1 if skew == 0 else -1
    assert -objective.skew.value.grad * inward > 0, "the first step leads out of the unit interval"


def test_a_corrupted_sample_is_encoded_and_the_clean_one_is_the_target(vae):
    objective = ELBO("kl", corruption=0.7)
    noise = objective.noise(vae, X.shape, torch.Generator().manual_seed(1))
    terms = objective(vae, X, noise, torch.tensor(0.0))
    posterior = vae.posterior((X + 0.7 * noise["input"]).clamp(0, 1))
    z = vae.latent.sample(posterior, noise["posterior"][:, 0])
    torch.testing.assert_close(terms["distortion"], -vae.likelihood(z).log_prob(X))
    torch.testing.assert_close(terms["rate"], divergences.reverse_kl(posterior, vae.prior))
