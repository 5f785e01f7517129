import math

import pytest
import torch
from torch import nn
from torch.distributions import Independent, Normal, OneHotCategorical

from vaelib import measures
from vaelib.data import Dataset
from vaelib.divergences import FORMS, latent_kls, reverse_kl
from vaelib.models import VAE, Bits, Category, Gaussian, Joint

NOISE = 0.5  # of the model that the fixture makes, with these weights
WEIGHTS = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_surgery_adds_up_to_the_rate_and_stays_below_its_limit(ppca):
    vae, truth = ppca(shift=0.2)
    torch.manual_seed(2)
    parts = measures.surgery(vae, truth.sample((400,)), generator(), draws=400)
    assert parts["limit"] == pytest.approx(math.log(400))
    assert 0 < parts["mutual_information"] < parts["limit"]
    assert parts["mutual_information"] + parts["marginal_kl"] == pytest.approx(parts["rate"], abs=0.15)


def test_surgery_finds_the_exact_information_of_a_linear_channel(ppca):
    """With the true posteriors of many x the aggregate is the prior, and I(x; z) = log(1 + w^2 / noise^2) / 2 each."""
    vae, truth = ppca()
    torch.manual_seed(3)
    parts = measures.surgery(vae, truth.sample((5000,)), generator(), draws=5000)
    exact = sum(math.log1p((w / NOISE) ** 2) / 2 for w in (1.5, 0.7))
    assert parts["mutual_information"] == pytest.approx(exact, abs=0.06)
    assert parts["marginal_kl"] == pytest.approx(0, abs=0.06)


def test_surgery_of_posteriors_far_apart_gives_the_limit(ppca):
    vae, _ = ppca()
    x = torch.linspace(-500, 500, 30)[:, None] * torch.ones(30, 6) @ WEIGHTS @ WEIGHTS.T
    assert measures.surgery(vae, x, generator())["mutual_information"] == pytest.approx(math.log(30))


def test_latents_one_by_one():
    q = Independent(Normal(torch.tensor([[0.0, 1.0, 0.1]] * 4), torch.tensor([[1.0, 0.2, 0.9]] * 4)), 1)
    p = Independent(Normal(torch.zeros(3), torch.ones(3)), 1)
    table = measures.latent_table(q, p)
    assert table["latent"].tolist() == [1, 2, 0]
    assert table["rate"].sum() == pytest.approx(reverse_kl(q, p).mean().item())
    grid = torch.linspace(0, 1, 2001)
    for form in ("geometric_js", "dual_geometric_js"):
        alone = Normal(torch.tensor(1.0), torch.tensor(0.2)), Normal(torch.tensor(0.0), torch.tensor(1.0))
        assert table[form][0] == pytest.approx(grid[FORMS[form](*alone, grid).argmin()].item(), abs=1e-3)


def test_what_a_category_says():
    """Three samples that are told apart, one that is not: H(average) - mean H."""
    q = OneHotCategorical(torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1 / 3, 1 / 3, 1 / 3]]))
    assert measures.category(q) is q
    found = measures.category_table(q)
    assert found["entropy"] == pytest.approx(math.log(3))
    assert found["information"] == pytest.approx(3 / 4 * math.log(3), abs=1e-5)
    assert found["rate"] == pytest.approx(3 / 4 * math.log(3), abs=1e-5)
    shares = [found[f"probability_{k}"] for k in range(10)]
    assert shares == pytest.approx([6 / 12, 0, 0, 3 / 12, 0, 0, 0, 0, 0, 3 / 12])


def test_a_gaussian_has_no_category():
    assert measures.category(Independent(Normal(torch.zeros(2, 3), torch.ones(2, 3)), 1)) is None


def test_clusters_and_classes():
    labels = [0, 0, 0, 1, 1, 2]
    perfect = measures.cluster_scores([5, 5, 5, 0, 0, 9], labels)
    assert perfect == {"accuracy": 1, "majority": 1, "nmi": pytest.approx(1), "ari": pytest.approx(1)}
    split = measures.cluster_scores([0, 1, 2, 3, 3, 3], labels)  # a cluster for each image is pure, but no classes
    assert (split["accuracy"], split["majority"]) == (pytest.approx(3 / 6), pytest.approx(5 / 6))


DISCRETE = {"bits": Bits(4), "category": Category(5), "joint": Joint((Bits(2), Category(3)))}


@pytest.mark.parametrize("model", DISCRETE)
@torch.no_grad()
def test_surgery_of_discrete_codes_against_enumeration(enumerable, model):
    """The information and the marginal KL are finite sums over samples and codes; one code a sample estimates them."""
    vae, codes = enumerable(DISCRETE[model])
    x = torch.randn(3000, 5, dtype=torch.float64, generator=generator(1))
    log_q = torch.stack([vae.posterior(x).log_prob(c) for c in codes])  # (codes, n)
    log_p = vae.prior.log_prob(codes)
    aggregate = log_q.logsumexp(1) - math.log(len(x))
    information = (log_q.exp() * (log_q - aggregate[:, None])).sum(0).mean().item()
    marginal = (aggregate.exp() * (aggregate - log_p)).sum().item()
    rate = (log_q.exp() * (log_q - log_p[:, None])).sum(0).mean().item()
    assert information + marginal == pytest.approx(rate)
    found = measures.surgery(vae, x, generator(), draws=3000)
    assert found["rate"] == pytest.approx(rate, rel=1e-6)
    spread = (log_q.exp() * (log_q - aggregate[:, None]).square()).sum(0).mean().sqrt().item()
    assert found["mutual_information"] == pytest.approx(information, abs=5 * spread / math.sqrt(3000))
    spread = (aggregate.exp() * (aggregate - log_p).square()).sum().sqrt().item()
    assert found["marginal_kl"] == pytest.approx(marginal, abs=5 * spread / math.sqrt(3000))
    assert information > 0.3, "there has to be something to find"


@torch.no_grad()
def test_a_category_says_as_much_as_surgery_finds(enumerable):
    vae, _ = enumerable(Category(5))
    x = torch.randn(2000, 5, dtype=torch.float64, generator=generator(1))
    exact = measures.category_table(measures.category(vae.posterior(x)))["information"]
    assert measures.surgery(vae, x, generator(), draws=2000)["mutual_information"] == pytest.approx(exact, abs=0.08)


def test_rates_of_a_joint_latent_are_those_of_its_parts_one_by_one():
    latent = Joint((Gaussian(2), Category(3), Bits(2))).build()
    q, p = latent.posterior(torch.randn(7, 9, generator=generator())), latent.prior()
    rates = latent_kls(q, p)
    assert rates.shape == (5,)
    torch.testing.assert_close(rates.sum(), reverse_kl(q, p).mean())
    torch.testing.assert_close(rates[2], reverse_kl(q.parts[1], p.parts[1]).mean())
    assert measures.category(q) is q.parts[1]
    assert measures.category(Joint((Category(3),) * 2).build().prior()) is None


class Tenfold(nn.Module):
    """A decoder that shows the code itself, ten times as large."""

    def forward(self, z):
        return 10 * z


@pytest.fixture
def transparent(observed):
    """What an observer sees of a VAE whose outputs show its code: five samples of eight numbers."""

    def make(part):
        latent = part.build()
        encoder = nn.Linear(8, latent.outputs)
        nn.init.normal_(encoder.weight, generator=generator(1))
        vae = VAE(encoder, Tenfold(), latent, lambda o: Independent(Normal(o, 1.0), 1))
        x = torch.randn(5, 8, generator=generator(2))
        return observed(vae, Dataset.from_arrays(x, x, train_labels=torch.arange(5), test_labels=torch.arange(5)))

    return make


@torch.no_grad()
def test_a_traversal_varies_one_number_of_the_code(transparent):
    run = transparent(Gaussian(3))
    found = measures.Traversal(latent=1, reach=2.0, steps=5, images=4, shown=3).observe(run)
    mean = run.vae.posterior(run.data.test).mean
    assert found["decoded"].shape == (3, 5, 3)
    steps = torch.linspace(-2, 2, 5)
    torch.testing.assert_close(found["decoded"][..., 1], 10 * steps.expand(3, 5))
    torch.testing.assert_close(found["decoded"][..., [0, 2]], 10 * mean[:3, None, [0, 2]].expand(3, 5, 2))
    torch.testing.assert_close(found["change"], torch.full((4,), 100 * steps.var(correction=0).item()))


@torch.no_grad()
def test_a_traversal_varies_two_numbers_on_a_grid(transparent):
    found = measures.Traversal(latent=2, reach=2.0, steps=3, images=4, shown=2, across=0).observe(
        transparent(Gaussian(3))
    )
    rows, columns = torch.meshgrid(*[torch.tensor([-2.0, 0.0, 2.0])] * 2, indexing="ij")
    assert found["decoded"].shape == (2, 3, 3, 3)
    torch.testing.assert_close(found["decoded"][..., 2], 10 * rows.expand(2, 3, 3))
    torch.testing.assert_close(found["decoded"][..., 0], 10 * columns.expand(2, 3, 3))
    torch.testing.assert_close(found["change"], torch.full((4,), 200 * 8 / 3))


@torch.no_grad()
def test_the_manifold_goes_from_the_top_left(transparent):
    found = measures.Manifold(3, 2.0).observe(transparent(Gaussian(3)))
    expected = [[x, y] for y in (2, 0, -2) for x in (-2, 0, 2)]
    assert found["codes"].tolist() == expected
    torch.testing.assert_close(found["decoded"], 10 * nn.functional.pad(found["codes"], (0, 1)))
    ends = measures.Manifold(5).observe(transparent(Gaussian(2)))["codes"]
    assert Normal(0.0, 1.0).cdf(ends[:5, 0]).tolist() == pytest.approx(torch.linspace(0.03, 0.97, 5).tolist(), abs=1e-6)


@torch.no_grad()
def test_each_category_takes_the_place_of_the_own(transparent):
    run = transparent(Joint((Gaussian(2), Category(3), Bits(1))))
    found = measures.CategoryTraversal((4, 1)).observe(run)["decoded"]
    mean = run.vae.posterior(run.data.test[[4, 1]]).mean
    torch.testing.assert_close(found[:, :, 2:5], 10 * torch.eye(3).expand(2, 3, 3))
    torch.testing.assert_close(found[:, :, [0, 1, 5]], 10 * mean[:, None, [0, 1, 5]].expand(2, 3, 3))
    with pytest.raises(TypeError, match="category_traversal: the latent needs one category"):
        measures.CategoryTraversal((0,)).observe(transparent(Gaussian(2)))


@torch.no_grad()
def test_categories_are_the_most_probable_ones_with_the_labels(transparent):
    run = transparent(Category(4))
    table = measures.Categories().observe(run)
    assert table["category"].tolist() == run.vae.encoder(run.data.test).argmax(1).tolist()
    assert table["label"].tolist() == table["image"].tolist() == list(range(5))
    with pytest.raises(TypeError, match="categories: the latent needs one category, and the data labels"):
        measures.Categories().observe(transparent(Gaussian(2)))


@torch.no_grad()
def test_means_are_those_of_the_images_asked_for(transparent):
    run = transparent(Gaussian(2))
    whole = run.vae.posterior(run.data.test).mean
    torch.testing.assert_close(measures.Means().observe(run)["mean"], whole)
    torch.testing.assert_close(measures.Means(images=(3, 0)).observe(run)["mean"], whole[[3, 0]])


@torch.no_grad()
def test_drawn_codes_are_draws_of_the_posteriors(transparent):
    run = transparent(Gaussian(400))
    q, found = run.vae.posterior(run.data.test), measures.Means(drawn=True).observe(run)
    torch.testing.assert_close(found["mean"], q.mean)
    assert ((found["code"] - q.mean) / q.stddev).var().item() == pytest.approx(1, abs=0.1)


def test_the_observed_surgery_has_the_error_beside_it(transparent):
    run = transparent(Gaussian(8))
    row = measures.Surgery(draws=5).observe(run).iloc[0]
    parts = measures.surgery(run.vae, run.data.test, generator(), draws=5)
    assert {name: row[name] for name in parts} == parts
    assert row["error"] == pytest.approx(measures.reconstruction_error(run.vae, run.data.test).mean().item(), rel=1e-6)
