import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.distributions import Independent, MultivariateNormal, Normal, OneHotCategorical

from vaelib import evaluation
from vaelib.divergences import FORMS, reverse_kl
from vaelib.experiments import Experiment
from vaelib.latents import Gaussian
from vaelib.vae import VAE

NOISE = 0.5
WEIGHTS = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


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


def ppca(**wrong):
    """A linear-Gaussian VAE, and the distribution of its x."""
    weights = torch.linalg.qr(WEIGHTS).Q * torch.tensor([1.5, 0.7])
    decoder = nn.Linear(2, 6, bias=False)
    decoder.weight = nn.Parameter(weights)
    vae = VAE(Exact(weights, **wrong), decoder, Gaussian(2), lambda o: Independent(Normal(o, NOISE), 1))
    return vae, MultivariateNormal(torch.zeros(6), weights @ weights.T + NOISE**2 * torch.eye(6))


def test_with_the_true_posterior_one_draw_is_exact():
    vae, truth = ppca()
    x = truth.sample((20,))
    weights = evaluation.log_weights(vae, x, 7, generator())
    torch.testing.assert_close(weights, truth.log_prob(x).double()[:, None].expand(20, 7), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(evaluation.effective_draws(weights), torch.full((20,), 7.0, dtype=torch.float64))


@pytest.mark.parametrize("proposal", ["wrong posterior", "prior"])
def test_with_a_wrong_proposal_the_estimate_rises_to_the_exact_value(proposal):
    vae, truth = ppca(shift=0.3, widen=1.3)
    torch.manual_seed(0)
    x = truth.sample((100,))
    r = None if proposal == "wrong posterior" else lambda x: vae.prior
    weights = evaluation.log_weights(vae, x, 20_000, generator(), proposal=r)
    exact = truth.log_prob(x).double()
    means = [evaluation.log_likelihood(weights, k).mean().item() for k in (1, 10, 100, 20_000)]
    assert means == sorted(means)
    assert means[0] < exact.mean() - 0.3
    torch.testing.assert_close(evaluation.log_likelihood(weights), exact, rtol=0, atol=0.1)
    assert (evaluation.effective_draws(weights) < 15_000).all()


def test_one_draw_is_the_evidence_lower_bound():
    """Its mean is distortion plus rate, with the sign turned."""
    vae, truth = ppca(shift=0.3, widen=0.8)
    torch.manual_seed(1)
    x = truth.sample((50,))
    q = vae.posterior(x)
    distortion = -torch.stack([vae.likelihood(q.rsample()).log_prob(x) for _ in range(4000)]).mean(0)
    weights = evaluation.log_weights(vae, x, 4000, generator())
    bound = -(distortion + reverse_kl(q, vae.prior)).double()
    torch.testing.assert_close(weights.mean(1), bound, rtol=0, atol=0.25)
    assert (bound < truth.log_prob(x)).all()


def test_draws_in_parts_are_as_many_as_asked_for():
    vae, truth = ppca()
    assert evaluation.log_weights(vae, truth.sample((2,)), 1203, generator()).shape == (2, 1203)


def test_surgery_adds_up_to_the_rate_and_stays_below_its_limit():
    vae, truth = ppca(shift=0.2)
    torch.manual_seed(2)
    parts = evaluation.surgery(vae, truth.sample((400,)), generator(), draws=400)
    assert parts["limit"] == pytest.approx(math.log(400))
    assert 0 < parts["mutual_information"] < parts["limit"]
    assert parts["mutual_information"] + parts["marginal_kl"] == pytest.approx(parts["rate"], abs=0.15)


def test_surgery_finds_the_exact_information_of_a_linear_channel():
    """With the true posteriors of many x the aggregate is the prior, and I(x; z) = log(1 + w^2 / noise^2) / 2 each."""
    vae, truth = ppca()
    torch.manual_seed(3)
    parts = evaluation.surgery(vae, truth.sample((5000,)), generator(), draws=5000)
    exact = sum(math.log1p((w / NOISE) ** 2) / 2 for w in (1.5, 0.7))
    assert parts["mutual_information"] == pytest.approx(exact, abs=0.06)
    assert parts["marginal_kl"] == pytest.approx(0, abs=0.06)


def test_surgery_of_posteriors_far_apart_gives_the_limit():
    vae, _ = ppca()
    x = torch.linspace(-500, 500, 30)[:, None] * torch.ones(30, 6) @ WEIGHTS @ WEIGHTS.T
    assert evaluation.surgery(vae, x, generator())["mutual_information"] == pytest.approx(math.log(30))


def test_latents_one_by_one():
    q = Independent(Normal(torch.tensor([[0.0, 1.0, 0.1]] * 4), torch.tensor([[1.0, 0.2, 0.9]] * 4)), 1)
    p = Independent(Normal(torch.zeros(3), torch.ones(3)), 1)
    table = evaluation.latent_table(q, p)
    assert table["latent"].tolist() == [1, 2, 0]
    assert table["rate"].sum() == pytest.approx(reverse_kl(q, p).mean().item())
    grid = torch.linspace(0, 1, 2001)
    for form in ("geometric_js", "dual_geometric_js"):
        alone = Normal(torch.tensor(1.0), torch.tensor(0.2)), Normal(torch.tensor(0.0), torch.tensor(1.0))
        assert table[form][0] == pytest.approx(grid[FORMS[form](*alone, grid).argmin()].item(), abs=1e-3)


def test_noise_on_samples():
    clean = torch.full((2000, 1, 4, 4), 128, dtype=torch.uint8)
    noisy = evaluation.noisy(clean, 0.1, generator())
    assert noisy.mean() == pytest.approx(128 / 255, abs=3e-3)
    assert noisy.std() == pytest.approx(0.1, abs=3e-3)
    loud = evaluation.noisy(clean, 3.0, generator())
    assert (loud.min(), loud.max()) == (0, 1)
    assert torch.equal(loud, evaluation.noisy(clean, 3.0, generator()))


def test_a_reconstruction_is_compared_with_its_target():
    vae, truth = ppca()
    torch.manual_seed(4)
    x, y = truth.sample((7,)), truth.sample((7,))
    expected = (vae.decoder(vae.posterior(x).mean) - y).square().sum(1)
    torch.testing.assert_close(evaluation.reconstruction_error(vae, x, y), expected)


def test_the_paired_interval_covers_as_often_as_it_says():
    rng, hits = np.random.default_rng(0), 0
    for trial in range(200):
        seed_effect, image_effect = rng.normal(size=(8, 1)), rng.normal(size=60)
        second = rng.normal(size=(8, 60)) + 5 * image_effect  # shared difficulty of the images cancels in the pairs
        first = second + 0.3 + rng.normal(size=(8, 60)) + 0.5 * seed_effect
        low, high = evaluation.paired_interval(first, second, seed=trial)
        hits += low < 0.3 < high
    assert 0.85 < hits / 200 < 0.99  # percentile intervals of 8 seeds are a little short


def test_the_paired_interval_of_equals_is_a_point():
    errors = np.random.default_rng(0).random((3, 10))
    assert evaluation.paired_interval(errors + 1, errors) == pytest.approx((1, 1))


def test_between_the_members_of_a_family():
    family = pd.DataFrame({"rate": [1.0, 4.0, 4.0, 16.0], "error": [30.0, 19.0, 21.0, 10.0]})
    assert evaluation.at_rate(family, 2.0, "error") == pytest.approx(25)
    assert evaluation.at_rate(family, 8.0, "error") == pytest.approx(15)
    assert math.isnan(evaluation.at_rate(family, 0.9, "error"))
    assert math.isnan(evaluation.at_rate(family, 17, "error"))


def test_the_noisy_run_is_tested_on_noisy_inputs_and_clean_targets(tiny, store):
    from vaelib import data as datasets
    from vaelib.experiments import trained
    from vaelib.sweeps import run

    entry = run(Experiment(dataset=tiny, network="mlp", epochs=2, corruption=1.0), weights=True, store=store)
    vae, test = trained(entry).vae, datasets.load(tiny).test
    error = entry.history["test_reconstruction"].iloc[-1]
    clean = evaluation.reconstruction_error(vae, test).mean().item()
    again = [evaluation.reconstruction_error(vae, evaluation.noisy(test, 1.0, generator(s)), test) for s in range(5)]
    noisy = torch.stack(again).mean().item()
    assert error == pytest.approx(noisy, rel=0.05)
    assert abs(error - clean) > abs(error - noisy)


def test_what_a_category_says():
    """Three samples that are told apart, one that is not: H(average) - mean H."""
    q = OneHotCategorical(torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1 / 3, 1 / 3, 1 / 3]]))
    assert evaluation.category(q) is q
    found = evaluation.category_table(q)
    assert found["entropy"] == pytest.approx(math.log(3))
    assert found["information"] == pytest.approx(3 / 4 * math.log(3), abs=1e-5)
    assert found["rate"] == pytest.approx(3 / 4 * math.log(3), abs=1e-5)
    shares = [found[f"probability_{k}"] for k in range(10)]
    assert shares == pytest.approx([6 / 12, 0, 0, 3 / 12, 0, 0, 0, 0, 0, 3 / 12])


def test_a_gaussian_has_no_category():
    assert evaluation.category(Independent(Normal(torch.zeros(2, 3), torch.ones(2, 3)), 1)) is None


def test_clusters_and_classes():
    labels = [0, 0, 0, 1, 1, 2]
    perfect = evaluation.cluster_scores([5, 5, 5, 0, 0, 9], labels)
    assert perfect == {"accuracy": 1, "majority": 1, "nmi": pytest.approx(1), "ari": pytest.approx(1)}
    split = evaluation.cluster_scores([0, 1, 2, 3, 3, 3], labels)  # a cluster for each image is pure, but no classes
    assert (split["accuracy"], split["majority"]) == (pytest.approx(3 / 6), pytest.approx(5 / 6))
