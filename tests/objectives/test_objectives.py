import pytest
import torch
from torch.distributions import kl_divergence

from vaelib import divergences
from vaelib.divergences import (
    FORMS,
    DualGeometricJS,
    ExtendedGeometricJS,
    Fixed,
    ForwardKL,
    GeometricJS,
    Learned,
    Newton,
    ReverseKL,
)
from vaelib.errors import Invalid
from vaelib.models import MLP, VAE, BernoulliLikelihood, Gaussian, initialise
from vaelib.objectives import Bound

X = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(5))
END = torch.ones(())
FORM = {"geometric_js": GeometricJS, "dual_geometric_js": DualGeometricJS, "extended_geometric_js": ExtendedGeometricJS}
DIVERGENCES = ["kl", "forward_kl", "resistor_average", *FORMS, "mmd", "mmd_moments"]


@pytest.fixture
def vae():
    latent, network, shape = Gaussian(3).build(), MLP(), (1, 4, 4)
    bodies = network.encoder(shape, latent.outputs), network.decoder(shape, latent.code)
    vae = VAE(*bodies, latent, BernoulliLikelihood().of)
    initialise(vae, torch.Generator().manual_seed(0))
    return vae


def build(divergence="kl", **fields):
    return Bound(divergence, **fields).build(None)


def terms(vae, objective, progress=END):
    return objective(vae, X, objective.noise(vae, X.shape, torch.Generator().manual_seed(1)), progress)


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_the_loss_is_distortion_plus_the_weighted_divergence(vae, divergence):
    found = terms(vae, build(divergence, weight=3.0))
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
        elbo = -torch.stack([terms(vae, build())["loss"]]).mean()
        z = torch.randn(20_000, 3, generator=torch.Generator().manual_seed(2))
        evidence = (
            torch.stack([vae.likelihood(z).log_prob(x).logsumexp(0) for x in X]).mean() - torch.tensor(20_000.0).log()
        )
    assert elbo < evidence


@pytest.mark.parametrize(
    ("divergence", "function"), [("kl", divergences.reverse_kl), ("forward_kl", divergences.forward_kl)]
)
def test_skewed_forms_meet_the_kls_at_their_ends(vae, divergence, function):
    expected = terms(vae, build(divergence))["divergence"]
    at = {"geometric_js": {"kl": 0.0, "forward_kl": 1.0}, "dual_geometric_js": {"kl": 1.0, "forward_kl": 0.0}}
    for form, ends in at.items():
        found = terms(vae, build(FORM[form](ends[divergence])))["divergence"]
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_the_capacity_moves_the_target_over_the_training(vae):
    objective = build(weight=7.0, capacity=5.0)
    for progress in (0.0, 0.5, 1.0):
        found = terms(vae, objective, torch.tensor(progress))
        excess = (found["rate"].mean() - 5 * progress).abs()
        torch.testing.assert_close(found["loss"].mean(), found["distortion"].mean() + 7 * excess)


def test_the_weight_warms_up_over_a_share_of_the_training(vae):
    objective = build(weight=7.0, warmup=0.4)
    for progress, weight in ((0.0, 0.0), (0.1, 1.75), (0.4, 7.0), (0.9, 7.0), (1.0, 7.0)):
        found = terms(vae, objective, torch.tensor(progress))
        torch.testing.assert_close(found["loss"].mean(), (found["distortion"] + weight * found["rate"]).mean())
    for share in (0.0, 1.1):
        with pytest.raises(Invalid, match=r"^warmup: .* it has to be a number above 0 to 1 or left out$"):
            Bound(warmup=share)


@pytest.mark.parametrize("form", FORMS)
def test_a_gradient_skew_is_learned_and_a_fixed_one_is_not(vae, form):
    for skew, learns in ((Learned, True), (Fixed, False), (Newton, False)):
        objective = build(FORM[form](skew(0.3)))
        terms(vae, objective)["loss"].mean().backward()
        assert any(p.requires_grad for p in objective.parameters()) == learns
        assert (objective.divergence.skew.value.grad is not None) == learns


@pytest.mark.parametrize("form", FORMS)
def test_newton_minimises_the_batchs_mean_divergence(vae, form):
    objective = build(FORM[form](Newton(0.9)))
    best = terms(vae, objective)["divergence"].mean()
    grid = torch.stack([terms(vae, build(FORM[form](a / 50)))["divergence"].mean() for a in range(51)])
    assert best <= grid.min() + 1e-6
    objective.eval()
    before = objective.divergence.skew.value.clone()
    terms(vae, objective)
    assert torch.equal(objective.divergence.skew.value, before), "evaluation moves the skew"


def test_projection_keeps_a_learned_skew_in_the_unit_interval(vae):
    objective = build(GeometricJS(Learned(0.0)))
    for step, expected in ((-0.5, 0.0), (2.0, 1.0)):
        with torch.no_grad():
            objective.divergence.skew.value += step
        objective.project_()
        assert objective.divergence.skew.value.item() == expected


@pytest.mark.parametrize("skew", [0.0, 1.0])
@pytest.mark.parametrize("form", FORMS)
def test_a_skew_learned_from_an_end_has_finite_gradients(vae, form, skew):
    objective = build(FORM[form](Learned(skew)))
    terms(vae, objective)["loss"].mean().backward()
    assert objective.divergence.skew.value.grad.isfinite()
    inward = 1 if skew == 0 else -1
    assert -objective.divergence.skew.value.grad * inward > 0, "the first step leads out of the unit interval"


def test_a_corrupted_sample_is_encoded_and_the_clean_one_is_the_target(vae):
    objective = build(corruption=0.7)
    noise = objective.noise(vae, X.shape, torch.Generator().manual_seed(1))
    found = objective(vae, X, noise, torch.tensor(0.0))
    posterior = vae.posterior((X + 0.7 * noise["input"]).clamp(0, 1))
    z = vae.latent.sample(posterior, noise["posterior"][:, 0])
    torch.testing.assert_close(found["distortion"], -vae.likelihood(z).log_prob(X))
    torch.testing.assert_close(found["rate"], divergences.reverse_kl(posterior, vae.prior))


def test_several_draws_are_averaged(vae):
    objective = build(draws=3)
    noise = objective.noise(vae, X.shape, torch.Generator().manual_seed(1))
    assert noise["posterior"].shape == (6, 3, 3)
    found = objective(vae, X, noise, END)
    single = build()
    each = [single(vae, X, {"posterior": noise["posterior"][:, k : k + 1]}, END) for k in range(3)]
    for name in ("distortion", "rate", "loss"):
        torch.testing.assert_close(found[name], torch.stack([e[name] for e in each]).mean(0))


def test_the_tensors_of_a_description_are_its_modules_buffers(vae):
    """What a stack may vary: every field that is named among the tensors, and no other, is in the state."""
    module = Bound(GeometricJS(0.3), weight=2.0, capacity=3.0, corruption=0.5).build(None)
    values = {name: round(t.item(), 6) for name, t in module.state_dict().items()}
    assert values == {"weight": 2.0, "capacity": 3.0, "corruption": 0.5, "divergence.skew.value": 0.3}
    assert Bound().build(None).corruption is None


def test_kinds_stand_for_parts_with_defaults():
    assert Bound("kl") == Bound() == Bound(ReverseKL())
    assert Bound("forward_kl").divergence == ForwardKL()
