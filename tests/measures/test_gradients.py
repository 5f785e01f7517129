"""Estimators against exact gradients.

False alarms: an estimator is tested by the share of the exact gradient that its mean has along it, and along fixed
random directions, each compared with its standard error. With the seeds fixed the outcome is always the same; with
others, 5 standard errors in (at most) 12 directions would be exceeded by chance once in 100,000 tests.
"""

from math import pi, sqrt
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.distributions import Distribution, Independent, Normal

from vaelib.errors import Invalid
from vaelib.measures import gradients
from vaelib.measures.gradients import exact_elbo, gradient, laboratory, mean_gradient, sampled_gradient
from vaelib.models import MLP, VAE, BernoulliLikelihood, Bits, Category, Gaussian, Joint, Point, Relaxation
from vaelib.objectives import Bound, Hybrid, LeaveOneOut, SampledRate, Score, VarianceLoss
from vaelib.runs import Experiment
from vaelib.training import Adam, Training

SIGMAS, DIRECTIONS = 5.0, 10
FEATURES = 6
BERNOULLI = BernoulliLikelihood().of


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def linear_gaussian(outputs: torch.Tensor) -> Distribution:
    return Independent(Normal(outputs, 0.7), 1)


def small(part, likelihood=BERNOULLI, *, hidden=False) -> tuple[VAE, torch.Tensor]:
    """A VAE in double precision that can be enumerated, and three samples."""
    latent = part.build()
    with torch.random.fork_rng():
        torch.manual_seed(3)
        bodies = [
            nn.Sequential(nn.Linear(a, 4), nn.Tanh(), nn.Linear(4, b)) if hidden else nn.Linear(a, b)
            for a, b in ((FEATURES, latent.outputs), (latent.code, FEATURES))
        ]
        x = torch.rand(3, FEATURES).round()
    return VAE(*bodies, latent, likelihood).double(), x.double()


MODELS = {
    "bits": lambda: small(Bits(5, Relaxation()), hidden=True),
    "category": lambda: small(Category(4, Relaxation())),
    "categories": lambda: small(Joint((Category(3, Relaxation()),) * 2), hidden=True),
    "gaussian": lambda: small(Gaussian(2), linear_gaussian),
}
DISCRETE = [name for name in MODELS if name != "gaussian"]


def z_scores(vae, objective, x, reference, group, repeats=400, seed=0):
    """How many standard errors the mean gradient is off, along the reference and along random directions."""
    exact = reference[group]
    directions = torch.randn(DIRECTIONS, len(exact), generator=generator(9), dtype=exact.dtype)
    directions = torch.cat([exact[None], directions])
    g = generator(seed)
    drawn = torch.stack([directions @ sampled_gradient(vae, objective, x, g)[group] for _ in range(repeats)])
    return (drawn.mean(0) - directions @ exact) / (drawn.std(0) / sqrt(repeats))


def exact_gradient(vae, x):
    return gradient(vae, -exact_elbo(vae, x).mean())


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("estimator", [Score, LeaveOneOut, Hybrid])
def test_an_estimator_is_unbiased(model, estimator):
    vae, x = MODELS[model]()
    objective = estimator(draws=3).build(None)
    for group in ("encoder", "decoder"):
        assert z_scores(vae, objective, x, exact_gradient(vae, x), group).abs().max() < SIGMAS


@pytest.mark.parametrize("estimator", [Bound, SampledRate])
def test_a_pathwise_estimator_is_unbiased_for_gaussian_codes(estimator):
    vae, x = MODELS["gaussian"]()
    for group in ("encoder", "decoder"):
        z = z_scores(vae, estimator(draws=2).build(None), x, exact_gradient(vae, x), group)
        assert z.abs().max() < SIGMAS


@pytest.mark.parametrize("model", DISCRETE)
def test_the_relaxed_gradient_is_found_to_be_biased(model):
    """The test has to be able to fail: Gumbel-softmax at a high temperature is not the gradient of the bound."""
    vae, x = MODELS[model]()
    z = z_scores(vae, Bound(draws=3).build(None), x, exact_gradient(vae, x), "encoder")
    assert z.abs().max() > SIGMAS


@pytest.mark.parametrize("model", MODELS)
def test_the_variance_is_right_for_the_encoder_and_wrong_for_the_decoder(model):
    """Its gradient in the encoder is twice that of the bound: eq. 18 has no half. In the decoder it is another one."""
    vae, x = MODELS[model]()
    objective, exact = VarianceLoss(draws=3).build(None), exact_gradient(vae, x)
    doubled = {"encoder": 2 * exact["encoder"], "decoder": exact["decoder"]}
    assert z_scores(vae, objective, x, doubled, "encoder").abs().max() < SIGMAS
    assert z_scores(vae, objective, x, doubled, "decoder").abs().max() > SIGMAS


@pytest.mark.parametrize("model", MODELS)
def test_hybrid_and_leave_one_out_are_the_same_draw_by_draw(model):
    vae, x = MODELS[model]()
    a, b = (sampled_gradient(vae, part(draws=4).build(None), x, generator()) for part in (Hybrid, LeaveOneOut))
    for group in a:
        torch.testing.assert_close(a[group], b[group])


@pytest.mark.parametrize("model", MODELS)
def test_at_an_exact_posterior_the_variance_vanishes_with_its_gradient(model):
    """Where q = p(z|x), f is log p(x) for every z: here a decoder that ignores the code, and q = p(z)."""
    vae, x = MODELS[model]()
    for body in (vae.encoder, vae.decoder):
        last = body[-1] if isinstance(body, nn.Sequential) else body
        nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    encoder = vae.encoder[-1] if isinstance(vae.encoder, nn.Sequential) else vae.encoder
    nn.init.zeros_(encoder.bias)
    objective = VarianceLoss(draws=4).build(None)
    terms = objective(vae, x, objective.noise(vae, x.shape, generator()), torch.tensor(1.0))
    torch.testing.assert_close(terms["loss"], torch.zeros_like(terms["loss"]))
    slope = gradient(vae, terms["loss"].mean())
    for group in slope:
        torch.testing.assert_close(slope[group], torch.zeros_like(slope[group]))
    assert exact_gradient(vae, x)["decoder"].norm() > 0.1, "the bound itself would go on learning"


@pytest.mark.parametrize("model", DISCRETE)
@pytest.mark.parametrize("r", [0.0, 0.5])
def test_codes_from_elsewhere_leave_the_decoder_as_it_is(model, r):
    vae, x = MODELS[model]()
    objective = Hybrid(draws=3, proposal=r).build(None)
    assert z_scores(vae, objective, x, exact_gradient(vae, x), "decoder").abs().max() < SIGMAS


def test_the_variance_over_a_proposal_is_the_one_over_its_codes():
    """With the prior as proposal, against the variance summed over all codes with the prior's probabilities."""
    vae, x = MODELS["bits"]()
    objective = VarianceLoss(draws=3, proposal=0.0).build(None)
    codes = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 5)[:, None]
    q = vae.posterior(x)
    fit = torch.stack([vae.likelihood(code.expand(3, -1)).log_prob(x) for code in codes])
    f = fit + vae.prior.log_prob(codes) - q.log_prob(codes)
    reference = gradient(vae, f.var(0, correction=0).mean())
    for group in reference:
        assert z_scores(vae, objective, x, reference, group).abs().max() < SIGMAS


def test_the_exact_bound_of_a_linear_gaussian_model():
    """Quadrature against the closed form."""
    vae, x = MODELS["gaussian"]()
    q = vae.posterior(x).base_dist
    residual = x - q.loc @ vae.decoder.weight.T - vae.decoder.bias
    spread = q.variance @ vae.decoder.weight.square().T
    fit = -((residual.square() + spread) / 0.49 / 2).sum(1) - FEATURES / 2 * torch.tensor(2 * pi * 0.49).log()
    kl = (q.loc.square() + q.variance - 1 - q.variance.log()).sum(1) / 2
    torch.testing.assert_close(exact_elbo(vae, x, points=3), fit - kl)


@pytest.mark.parametrize("model", DISCRETE)
def test_the_exact_bound_is_below_the_evidence_by_the_divergence_of_the_posteriors(model):
    vae, x = MODELS[model]()
    q, prior = vae.posterior(x), vae.prior
    sizes = {"bits": [2] * 5, "category": [4], "categories": [3, 3]}[model]
    grid = torch.cartesian_prod(*map(torch.arange, sizes)).reshape(-1, len(sizes))
    codes = (
        grid.double() if model == "bits" else torch.cat([torch.eye(k).double()[c] for k, c in zip(sizes, grid.T)], 1)
    )
    joint = torch.stack([vae.likelihood(c.expand(3, -1)).log_prob(x) + prior.log_prob(c) for c in codes])
    log_q = torch.stack([q.log_prob(c) for c in codes])
    evidence = joint.logsumexp(0)
    gap = (log_q.exp() * (log_q - joint + evidence)).sum(0)
    torch.testing.assert_close(exact_elbo(vae, x), evidence - gap)


def test_too_many_codes_are_refused():
    vae, x = small(Bits(17))
    with pytest.raises(ValueError, match=r"latents: 131072 is not allowed; it has to be at most 65536 codes"):
        exact_elbo(vae, x)


def test_the_laboratory_finds_bias_variance_and_the_order_of_the_estimators():
    vae, x = MODELS["gaussian"]()
    exact = exact_gradient(vae, x)
    parts = {"pathwise": Bound, "score": Score, "leave_one_out": LeaveOneOut, "variance": VarianceLoss}
    objectives = {name: part(draws=4).build(None) for name, part in parts.items()}
    table = laboratory(vae, objectives, x, exact, repeats=400, generator=generator()).set_index(["estimator", "group"])
    for name in ("pathwise", "score", "leave_one_out"):
        row = table.loc[(name, "encoder")]
        assert abs(row["along"] - 1) < SIGMAS * row["along_error"]
    assert table.loc[("variance", "encoder"), "along"] == pytest.approx(2, abs=0.2)
    assert table.loc[("variance", "decoder"), "bias"] > 0.5
    noise = table["noise"].xs("encoder", level="group")
    assert noise["pathwise"] < noise["leave_one_out"] < noise["score"]


def test_the_laboratorys_variance_is_that_of_the_draws():
    vae, x = MODELS["bits"]()
    objective, g = LeaveOneOut(draws=3).build(None), generator(1)
    drawn = torch.stack([sampled_gradient(vae, objective, x, g)["encoder"] for _ in range(50)])
    exact = exact_gradient(vae, x)
    table = laboratory(vae, {"a": objective}, x, exact, repeats=50, generator=generator(1)).set_index("group")
    assert table.loc["encoder", "variance"] == pytest.approx(float(drawn.var(0).sum()))
    excess = float((drawn.mean(0) - exact["encoder"]).square().sum() - drawn.var(0).sum() / 50)
    assert table.loc["encoder", "bias"] == pytest.approx(sqrt(max(excess, 0)) / float(exact["encoder"].norm()))


def test_a_mean_of_draws_tends_to_the_exact_gradient():
    vae, x = MODELS["gaussian"]()
    mean, exact = mean_gradient(vae, Bound(draws=64).build(None), x, 200, generator()), exact_gradient(vae, x)
    for group in exact:
        torch.testing.assert_close(mean[group], exact[group], rtol=0.02, atol=0.02 * float(exact[group].norm()))


ESTIMATORS = [Bound, SampledRate, Score, LeaveOneOut, VarianceLoss, Hybrid]


def latents(relaxation):
    return {
        "gaussian": Gaussian(4),
        "bits": Bits(4, relaxation),
        "categories": Joint((Category(relaxation=relaxation),) * 4),
        "category": Category(4, relaxation),
    }


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("latent", latents(None))
def test_every_combination_that_is_allowed_trains(latent, estimator):
    part = latents(Relaxation() if estimator.differentiated else None)[latent]
    fields = {"latent": part, "network": "mlp", "objective": estimator()}
    if estimator is SampledRate and latent != "gaussian":
        with pytest.raises(Invalid, match="latent"):
            Experiment(**fields)
        return
    trainee, x = Experiment(**fields).build((1, 4, 4)), torch.rand(5, 1, 4, 4)
    noise = trainee.objective.noise(trainee.vae, x.shape, generator())
    terms = trainee(x, noise, torch.tensor(0.5))
    terms["loss"].mean().backward()
    assert terms["loss"].shape == (5,)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trainee.vae.parameters())
    elbo = terms["distortion"] + terms["rate"]
    if estimator not in (Bound, VarianceLoss):
        assert (terms["loss"] - elbo).abs().mean() < 30, "the value of the loss is a sampled negative bound"


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("latent", [n for n in latents(None) if n != "gaussian"])
def test_a_relaxation_is_there_just_where_it_is_needed(latent, estimator):
    wrong = latents(None if estimator.differentiated else Relaxation())[latent]
    with pytest.raises(Invalid, match=r"^latent(.relaxation)?: ") as caught:
        Experiment(network="mlp", latent=wrong, objective=estimator())
    assert "\n" not in str(caught.value)


STACKED = {
    "hybrid-bits": {"latent": Bits(4), "objective": Hybrid(draws=3, proposal=0.5)},
    "pathwise-bits": {"latent": Bits(4, Relaxation()), "objective": Bound(draws=2)},
    "score-categories": {"latent": Joint((Category(3),) * 4), "objective": Score()},
    "pathwise-point": {"latent": Point(4), "objective": Bound(weight=0.0)},
    "leave_one_out-gaussian": {
        "network": MLP((512, 256, 128), batch_norm=True),
        "objective": LeaveOneOut(draws=2),
        "optimiser": Adam(1e-3, weight_decay=1e-3),
    },
}


@pytest.mark.parametrize("name", STACKED)
def test_a_stack_is_trained_as_its_members_alone(name):
    images = torch.rand(64, 1, 8, 8, generator=generator())
    e = Experiment(**{"network": "mlp", "latent": Gaussian(4), "optimiser": Adam(1e-3), **STACKED[name]})

    def start(*seeds):
        members = [e.replace(seed=seed).build((1, 8, 8)) for seed in seeds]
        return Training(members, seeds, images, batch_size=32, epochs=2, optimiser=e.optimiser)

    together = start(0, 1).run_epoch()
    for k in (0, 1):
        alone = start(k).run_epoch()[0]
        for term in ("loss", "distortion", "rate"):
            assert together[k][term] == pytest.approx(alone[term], rel=1e-3, abs=1e-4), term


def test_the_time_is_taken_when_an_accelerator_is_done(monkeypatch):
    """What runs on a GPU is only asked for when a call comes back: the clock has to wait."""
    happened = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: happened.append(str(device)))
    monkeypatch.setattr(gradients.time, "perf_counter", lambda: happened.append("clock") or 7.0)
    assert gradients._now(SimpleNamespace(device=torch.device("cuda:1"))) == 7.0
    assert happened == ["cuda:1", "clock"]
    happened.clear()
    gradients._now(torch.zeros(1))
    assert happened == ["clock"], "there is nothing to wait for on a CPU"


def test_the_laboratory_times_each_gradient_and_nothing_else(monkeypatch):
    vae, x = MODELS["bits"]()
    clock = iter([0.0, 2.0, 10.0, 13.0, 20.0, 27.0])
    monkeypatch.setattr(gradients, "_now", lambda x: next(clock))
    table = laboratory(vae, {"a": Score().build(None)}, x, exact_gradient(vae, x), repeats=3, generator=generator())
    assert table["seconds"].tolist() == [3.0, 3.0]
