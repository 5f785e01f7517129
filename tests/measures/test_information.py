"""The mutual information regulariser: its bound against channels of known information, and its training."""

import math
from math import sqrt

import pytest
import torch
from torch import nn
from torch.distributions import Independent, Normal, OneHotCategorical

from vaelib.divergences import MMD, ForwardKL, GeometricJS, Learned
from vaelib.errors import Invalid
from vaelib.measures import InformationBound, variational_bound
from vaelib.models import VAE, BernoulliLikelihood, Category, Gaussian, Joint, Relaxation
from vaelib.objectives import Bound, Information, InformationModule
from vaelib.runs import Experiment, Study
from vaelib.training import Adam, Training, derive

IMAGES = (torch.rand(96, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 255).to(torch.uint8)


class Fixed(nn.Module):
    """Q with outputs that are given."""

    def __init__(self, outputs):
        super().__init__()
        self.outputs = nn.Parameter(outputs)

    def forward(self, x):
        return self.outputs[x.long()]


def module(network, kind, places, entropy="prior"):
    about = "category" if kind == "category" else tuple(places)
    return InformationModule(Information(about, entropy=entropy), network, list(places))


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
    best = module(Fixed(table.log()), "category", range(4))
    assert best.prior_entropy == pytest.approx(math.log(4))
    assert (best(x, z).mean() + best.prior_entropy).item() == pytest.approx(exact, abs=0.01)
    worse = module(Fixed(torch.full((4, 4), 0.1).fill_diagonal_(2.0)), "category", range(4))
    assert (worse(x, z).mean() + worse.prior_entropy).item() < exact


def test_the_best_q_of_a_linear_gaussian_channel_gives_its_information():
    """x = z + noise: I = log(1 + 1 / s^2) / 2, and z|x is Gaussian."""
    s, g = 0.5, torch.Generator().manual_seed(0)
    z = torch.randn(100_000, 3, generator=g)
    x = z[:, 1:2] + s * torch.randn(100_000, 1, generator=g)

    class Posterior(nn.Module):
        def forward(self, x):
            return torch.cat([x / (1 + s**2), torch.full_like(x, math.log(s**2 / (1 + s**2)))], 1)

    found = module(Posterior(), "gaussian", [1])
    bound = found(x, z).mean() + found.prior_entropy
    assert bound.item() == pytest.approx(math.log1p(1 / s**2) / 2, abs=0.01)


def experiment(weight=5.0, seed=0, **fields):
    latent = Joint((Gaussian(3), Category(4, Relaxation())))
    objective = Bound(information=Information("category", weight), **fields)
    common = {"network": "mlp", "optimiser": Adam(1e-3), "batch_size": 32}
    return Experiment(latent=latent, objective=objective, seed=seed, **common)


def start(*experiments, epochs=2):
    return Training(
        [e.build((1, 32, 32)) for e in experiments],
        [e.seed for e in experiments],
        IMAGES,
        batch_size=32,
        epochs=epochs,
        optimiser=experiments[0].optimiser,
    )


def test_the_loss_is_the_elbo_less_the_weighted_bound():
    e, x = experiment(), IMAGES[:8].float() / 255
    trainee = e.build((1, 32, 32))
    noise = trainee.objective.noise(trainee.vae, x.shape, torch.Generator().manual_seed(0))
    terms = trainee(x, noise, torch.tensor(0.5))
    torch.testing.assert_close(terms["loss"], terms["distortion"] + terms["rate"].mean() - 5 * terms["information"])
    z = trainee.vae.latent.sample(trainee.vae.posterior(x), noise["posterior"][:, 0], 0.5)
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
    experiments = [experiment(1.0, seed=0), experiment(9.0, seed=1)]
    stack = start(*experiments)
    together = stack.run_epoch()
    for k, e in enumerate(experiments):
        alone = start(e).run_epoch()[0]
        for term in ("loss", "information", "rate"):
            assert together[k][term] == pytest.approx(alone[term], rel=1e-3), term


def test_the_regulariser_raises_the_information():
    found = {}
    for weight in (0.0, 200.0):
        training = start(experiment(weight), epochs=30)
        found[weight] = [training.run_epoch()[0]["information"] for _ in range(30)][-1]
    assert found[200.0] > found[0.0] + 0.5


@pytest.mark.parametrize("divergence", ["learned", "mmd", "forward_kl"])
def test_it_goes_with_any_divergence(divergence):
    part = {"learned": GeometricJS(Learned()), "mmd": MMD(), "forward_kl": ForwardKL()}[divergence]
    row = start(experiment(divergence=part), epochs=1).run_epoch()[0]
    assert math.isfinite(row["loss"])
    assert ("skew" in row) == (divergence == "learned")


def test_gaussian_components_can_be_informed():
    trainee = Experiment(network="mlp", objective=Bound(information=Information((3, 7)))).build((1, 32, 32))
    assert trainee.objective.information.prior_entropy == pytest.approx(1 + math.log(2 * math.pi))
    x = IMAGES[:8].float() / 255
    noise = trainee.objective.noise(trainee.vae, x.shape, torch.Generator().manual_seed(0))
    assert trainee(x, noise, torch.tensor(0.0))["information"].shape == (8,)


def test_the_aggregates_entropy_of_a_category_is_that_of_the_batchs_average():
    q = OneHotCategorical(logits=torch.randn(50, 4, generator=torch.Generator().manual_seed(0)))
    found = module(nn.Identity(), "category", range(4), "aggregate").code_entropy(q, q.mean)
    assert found.item() == pytest.approx(OneHotCategorical(q.probs.mean(0)).entropy().item(), abs=1e-5)
    assert found < math.log(4)


def test_the_aggregates_entropy_of_a_gaussian_part():
    """Posteriors whose mixture is a standard normal: N(sqrt(1-s^2) u, s^2) with normal u."""
    g, s, n = torch.Generator().manual_seed(0), 0.5, 4000
    mean = math.sqrt(1 - s**2) * torch.randn(n, 3, generator=g)
    q = Independent(Normal(mean, torch.full_like(mean, s)), 1)
    z = mean + s * torch.randn(n, 3, generator=g)
    found = module(nn.Identity(), "gaussian", [0, 2], "aggregate").code_entropy(q, z)
    assert found.item() == pytest.approx(1 + math.log(2 * math.pi), abs=0.05)


def test_a_constant_category_pays_with_the_priors_entropy_alone():
    """Fact 10: no information at all, and a bound of log K with the prior's entropy; zero with the aggregate's."""
    z = torch.tensor([[1.0, 0, 0, 0]]).expand(20, 4)
    q = OneHotCategorical(z.clone())
    certain = Fixed(torch.tensor([[50.0, 0, 0, 0]]))
    bounds = {}
    for entropy in ("prior", "aggregate"):
        information = module(certain, "category", range(4), entropy)
        bounds[entropy] = (information(torch.zeros(20), z) + information.code_entropy(q, z)).mean().item()
    assert bounds == {"prior": pytest.approx(math.log(4)), "aggregate": pytest.approx(0, abs=1e-6)}


def category_channel(keep):
    """A VAE whose encoder knows the class of x (one pixel a class), and whose decoder shows it flipped now and then.

    The decoded pixel pair (class, no class) is drawn from independent Bernoullis, so the information is a finite sum.
    """

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.sharpness = nn.Parameter(torch.tensor(40.0))

        def forward(self, x):
            return x * self.sharpness

    decoder = nn.Linear(4, 4)
    with torch.no_grad():
        decoder.weight.copy_(2 * torch.logit(torch.tensor(keep)) * torch.eye(4))
        decoder.bias.fill_(-torch.logit(torch.tensor(keep)))
    return VAE(Encoder(), decoder, Category(4).build(), BernoulliLikelihood().of)


def exact_information(keep):
    """I(c; x') by summing over all 16 x' of four Bernoulli pixels, of which pixel c is on with probability `keep`."""
    pixels = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 4).double()
    on = torch.full((4, 4), 1 - keep).fill_diagonal_(keep).double()
    joint = (pixels[None] * on[:, None] + (1 - pixels[None]) * (1 - on[:, None])).prod(-1) / 4
    return (joint * (joint / (joint.sum(0) / 4)).log()).sum().item()


@pytest.mark.parametrize("keep", [0.6, 0.8, 0.95])
def test_a_trained_q_finds_the_information_of_a_known_channel(keep):
    classes = torch.randint(4, (12_000,), generator=torch.Generator().manual_seed(0))
    x = nn.functional.one_hot(classes, 4).float()
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 4))
    start = module(network, "category", range(4))
    before = [p.clone() for p in network.parameters()]
    found = variational_bound(category_channel(keep), start, x[:8000], x[8000:], sampled=True, learning_rate=3e-3)
    exact = exact_information(keep)
    error = 3 * 1.0 / math.sqrt(4000)  # log Q varies by about a nat
    assert exact - 0.05 - error < found["bound"] < exact + error
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters())), "the start was changed"


def test_a_trained_q_finds_the_information_of_a_linear_gaussian_channel():
    """z ~ N(0, 1) as the aggregate of exact posteriors, x' = W z + noise: I(z_1; x') = log(1 + w^2 / s^2) / 2."""
    w, s = torch.tensor([1.5, 0.7]), 0.5
    weights = torch.linalg.qr(torch.randn(6, 2, generator=torch.Generator().manual_seed(0))).Q * w

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.weights = nn.Parameter(weights)

        def forward(self, x):
            precision = 1 + w**2 / s**2
            mean = x @ self.weights / s**2 / precision
            return torch.cat([mean, (-precision.log()).expand_as(mean)], 1)

    decoder = nn.Linear(2, 6, bias=False)
    decoder.weight = nn.Parameter(weights)
    vae = VAE(Encoder(), decoder, Gaussian(2).build(), lambda o: Independent(Normal(o, s), 1))
    g = torch.Generator().manual_seed(1)
    x = torch.randn(12_000, 2, generator=g) @ weights.T + s * torch.randn(12_000, 6, generator=g)
    torch.manual_seed(0)
    start = module(nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 2)), "gaussian", [0])
    found = variational_bound(vae, start, x[:8000], x[8000:], sampled=True, learning_rate=3e-3)
    exact = math.log1p((w[0].item() / s) ** 2) / 2
    assert exact - 0.08 < found["bound"] < exact + 0.05


def test_a_code_that_is_ignored_has_no_information():
    vae = category_channel(0.5)
    x = nn.functional.one_hot(torch.arange(2000) % 4, 4).float()
    torch.manual_seed(0)
    start = module(nn.Linear(4, 4), "category", range(4))
    assert abs(variational_bound(vae, start, x, x, sampled=True)["bound"]) < 0.02


def mixture_entropy(mean, sd):
    """Of the equal mixture of these Gaussians in one dimension, by integration on a grid."""
    grid = torch.linspace(-8, 8, 20_001, dtype=torch.float64)
    log_p = Normal(mean, sd).log_prob(grid[:, None]).logsumexp(1) - math.log(len(mean))
    return -torch.trapezoid(log_p.exp() * log_p, grid).item()


@pytest.mark.parametrize("draws", [1, 2, 8])
def test_the_aggregates_entropy_is_the_same_with_any_number_of_draws(draws):
    """Against the entropy of the mixture of the batch's posteriors, within five standard errors."""
    n, g = 300, torch.Generator().manual_seed(0)
    mean, sd = torch.randn(n, 3, generator=g), 0.1 + 0.3 * torch.rand(n, 3, generator=g)
    q = Independent(Normal(mean, sd), 1)
    z = (mean + sd * torch.randn(draws, n, 3, generator=g)).flatten(0, 1)
    found = module(nn.Identity(), "gaussian", [1], entropy="aggregate").code_entropy(q, z).item()
    assert found == pytest.approx(
        mixture_entropy(mean[:, 1].double(), sd[:, 1].double()), abs=5 * 0.8 / sqrt(n * draws)
    )


@pytest.mark.parametrize("entropy", ["prior", "aggregate"])
@pytest.mark.parametrize("about", ["category", (0, 2)])
def test_the_information_of_a_batch_does_not_grow_with_the_draws(about, entropy):
    """Of a whole objective; the old code's log(draws) would add 0.69 and 2.08 nats."""
    latent = Joint((Gaussian(3), Category(4, Relaxation())))
    x, found = IMAGES.float() / 255, {}
    for draws in (1, 2, 8):
        objective = Bound(draws=draws, information=Information(about, entropy=entropy))
        trainee = Experiment(network="mlp", latent=latent, objective=objective).build((1, 32, 32))
        noise = trainee.objective.noise(trainee.vae, x.shape, torch.Generator().manual_seed(0))
        found[draws] = trainee(x, noise, torch.tensor(0.0))["information"].mean().item()
    assert found[2] == pytest.approx(found[1], abs=0.4)
    assert found[8] == pytest.approx(found[2], abs=0.4)


@pytest.mark.parametrize("categorical", [True, False])
def test_q_is_scored_in_evaluation_mode(categorical):
    """Batch normalisation must not look at the test set: the score of two parts is the mean of their scores.

    The codes are certain, so that nothing else changes with the order of the samples.
    """
    classes = torch.arange(400) % 4
    x = nn.functional.one_hot(classes, 4).float()
    if categorical:
        vae, part, places, width = category_channel(0.8), Information(), range(4), 4
    else:
        vae, part, places, width = certain_channel(), Information((0, 1)), range(2), 4
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, width))
    start = InformationModule(part, network, list(places))

    def paper(test):
        return variational_bound(vae, start, x, test, epochs=2)["paper"]

    first, second = x[classes < 1], x[classes >= 1]
    whole = paper(torch.cat([first, second]))
    assert whole == pytest.approx((paper(first) + 3 * paper(second)) / 4, abs=1e-4)
    assert paper(first) == pytest.approx(paper(first[:1]), abs=1e-4), "one sample alone is scored as beside its like"


def certain_channel():
    """A VAE whose Gaussian codes are as good as without noise: the first two numbers of x."""
    encoder, decoder = nn.Linear(4, 4), nn.Linear(2, 4)
    with torch.no_grad():
        encoder.weight.copy_(torch.eye(4)[:, :4] * torch.tensor([1.0, 1.0, 0.0, 0.0]))
        encoder.bias.copy_(torch.tensor([0.0, 0.0, -30.0, -30.0]))
        decoder.weight.copy_(torch.eye(4)[:, :2])
        decoder.bias.zero_()
    return VAE(encoder, decoder, Gaussian(2).build(), lambda o: Independent(Normal(o, 1.0), 1))


LATENT = Joint((Gaussian(3), Category(4, Relaxation()), Gaussian(2)))


def test_places_are_those_of_the_part_in_the_code():
    assert Information().places(LATENT) == [3, 4, 5, 6]
    assert Information((0, 7)).places(LATENT) == [0, 7]
    assert Information().places(Category(5)) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("about", "latent"),
    [
        ((3,), LATENT),
        ((9,), LATENT),
        ((0, 0), LATENT),
        ("category", Gaussian(3)),
        ("category", Joint((Category(3), Category(3)))),
        ((0,), Category(3)),
    ],
)
def test_a_part_that_the_latent_does_not_have_is_refused(about, latent):
    with pytest.raises(Invalid, match=r"information\.about: ") as caught:
        Information(about).places(latent)
    assert "\n" not in str(caught.value)
    with pytest.raises(Invalid, match=r"about|relaxation"):
        Experiment(network="mlp", latent=latent, objective=Bound(information=Information(about)))


def test_the_observer_starts_a_q_of_its_own(tiny, store):
    e = Experiment(data=tiny, network="mlp", latent=Gaussian(2), epochs=1)
    observer = InformationBound(Information((0,)), epochs=2)
    row = Study({0: e}, observe=[observer]).run(store=store, device="cpu").observed(observer).iloc[0]
    assert row["epochs"] <= 2
    assert math.isfinite(row["bound"])
    assert row["paper"] >= row["bound"] - 0.2, "the prior's entropy is about the larger one"
