import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, MultivariateNormal, Normal

from vaelib import measures
from vaelib.data import Dataset
from vaelib.divergences import reverse_kl
from vaelib.measures import Evidence
from vaelib.models import VAE, Bits, Category, Gaussian, Joint


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_with_the_true_posterior_one_draw_is_exact(ppca):
    vae, truth = ppca()
    x = truth.sample((20,))
    weights = measures.log_weights(vae, x, 7, generator())
    torch.testing.assert_close(weights, truth.log_prob(x).double()[:, None].expand(20, 7), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(measures.effective_draws(weights), torch.full((20,), 7.0, dtype=torch.float64))


@pytest.mark.parametrize("proposal", ["wrong posterior", "prior"])
def test_with_a_wrong_proposal_the_estimate_rises_to_the_exact_value(ppca, proposal):
    vae, truth = ppca(shift=0.3, widen=1.3)
    torch.manual_seed(0)
    x = truth.sample((100,))
    r = None if proposal == "wrong posterior" else lambda x: vae.prior
    weights = measures.log_weights(vae, x, 20_000, generator(), proposal=r)
    exact = truth.log_prob(x).double()
    means = [measures.log_likelihood(weights, k).mean().item() for k in (1, 10, 100, 20_000)]
    assert means == sorted(means)
    assert means[0] < exact.mean() - 0.3
    torch.testing.assert_close(measures.log_likelihood(weights), exact, rtol=0, atol=0.1)
    assert (measures.effective_draws(weights) < 15_000).all()


def test_one_draw_is_the_evidence_lower_bound(ppca):
    """Its mean is distortion plus rate, with the sign turned."""
    vae, truth = ppca(shift=0.3, widen=0.8)
    torch.manual_seed(1)
    x = truth.sample((50,))
    q = vae.posterior(x)
    distortion = -torch.stack([vae.likelihood(q.rsample()).log_prob(x) for _ in range(4000)]).mean(0)
    weights = measures.log_weights(vae, x, 4000, generator())
    bound = -(distortion + reverse_kl(q, vae.prior)).double()
    torch.testing.assert_close(weights.mean(1), bound, rtol=0, atol=0.25)
    assert (bound < truth.log_prob(x)).all()


def test_draws_in_parts_are_as_many_as_asked_for(ppca):
    vae, truth = ppca()
    assert measures.log_weights(vae, truth.sample((2,)), 1203, generator()).shape == (2, 1203)


DISCRETE = {
    "bits": Bits(4),
    "category": Category(5),
    "joint": Joint((Bits(2), Category(3))),
    "nested": Joint((Category(2), Joint((Category(3), Bits(1))))),
}


def enumerated(vae, codes, x):
    """log p(x|z) p(z) and log q(z|x) of every code, each ``(codes, n)``."""
    joint = torch.stack([vae.likelihood(c.expand(len(x), -1)).log_prob(x) + vae.prior.log_prob(c) for c in codes])
    return joint, torch.stack([vae.posterior(x).log_prob(c) for c in codes])


@pytest.mark.parametrize("model", DISCRETE)
@pytest.mark.parametrize("proposal", ["posterior", "prior"])
@torch.no_grad()
def test_discrete_codes_against_enumeration(enumerable, model, proposal):
    """Every weight is that of a code, as often as the proposal has it; their mean is the exact evidence."""
    vae, codes = enumerable(DISCRETE[model])
    x, draws = torch.randn(3, 5, dtype=torch.float64, generator=generator(1)), 20_000
    joint, log_q = enumerated(vae, codes, x)
    if proposal == "prior":
        log_q = vae.prior.log_prob(codes)[:, None].expand(-1, 3)
    torch.testing.assert_close(log_q.logsumexp(0), torch.zeros(3, dtype=torch.float64))
    r = None if proposal == "posterior" else lambda x: vae.prior
    weights = measures.log_weights(vae, x, draws, generator(), proposal=r)
    exact = joint - log_q  # (codes, n)
    for k in range(3):
        distance, code = (weights[k][:, None] - exact[:, k]).abs().min(1)
        assert distance.max() < 1e-6
        shares, p = code.bincount(minlength=len(codes)) / draws, log_q[:, k].exp()
        assert ((shares - p).abs() < 6 * (p * (1 - p) / draws).sqrt() + 1e-9).all()
    error = (2 * exact + log_q).logsumexp(0).exp() / joint.logsumexp(0).exp() ** 2 - 1  # of one relative weight
    found = measures.log_likelihood(weights)
    assert ((found - joint.logsumexp(0)).abs() < 6 * (error / draws).sqrt() + 1e-3).all()


@torch.no_grad()
def test_a_gaussian_beside_a_category_against_the_mixture_that_it_is():
    """With a linear decoder p(x) is a mixture of Gaussians, one for each category."""
    latent = Joint((Gaussian(2), Category(3))).build()
    g = generator(4)
    encoder, decoder = torch.nn.Linear(5, latent.outputs).double(), torch.nn.Linear(5, 5).double()
    for p in (*encoder.parameters(), *decoder.parameters()):
        p.copy_(0.5 * torch.randn(p.shape, generator=g, dtype=torch.float64))
    vae = VAE(encoder, decoder, latent.double(), lambda o: Independent(Normal(o, 0.8), 1))
    w = decoder.weight[:, :2]
    covariance = w @ w.T + 0.64 * torch.eye(5, dtype=torch.float64)
    truth = MixtureSameFamily(
        Categorical(torch.ones(3, dtype=torch.float64)),
        MultivariateNormal(decoder.bias + decoder.weight[:, 2:].T, covariance),
    )
    x = torch.randn(4, 5, dtype=torch.float64, generator=g)
    weights = measures.log_weights(vae, x, 20_000, generator(), proposal=lambda x: vae.prior)
    torch.testing.assert_close(measures.log_likelihood(weights), truth.log_prob(x), rtol=0, atol=0.15)
    longer = measures.log_weights(vae, x, 100_000, generator(), proposal=lambda x: vae.prior)
    torch.testing.assert_close(measures.log_likelihood(longer), truth.log_prob(x), rtol=0, atol=0.07)


@torch.no_grad()
def test_the_observer_gives_a_row_a_sample_and_number_of_draws(ppca, observed):
    vae, truth = ppca(shift=0.3)
    x = truth.sample((6,))
    data = Dataset.from_arrays(x, x)
    table = Evidence(4, (3, 50)).observe(observed(vae, data))
    assert table[["image", "draws"]].values.tolist() == [[i, k] for k in (3, 50) for i in range(4)]
    weights = measures.log_weights(vae, x[:4], 50, generator())
    for k in (3, 50):
        rows = table[table["draws"] == k]
        assert rows["log_p"].tolist() == measures.log_likelihood(weights, k).tolist()
        assert rows["effective"].tolist() == measures.effective_draws(weights).tolist()
        assert rows["bound"].tolist() == weights.mean(1).tolist()
    expected = -vae.likelihood(vae.posterior(x[:4]).mean).log_prob(x[:4])
    assert table["cross_entropy"][:4].tolist() == pytest.approx(expected.tolist(), rel=1e-6)
