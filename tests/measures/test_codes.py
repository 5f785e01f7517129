import math

import pytest
import torch
from torch.distributions import Independent, Normal, OneHotCategorical

from vaelib import measures
from vaelib.divergences import FORMS, reverse_kl

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
