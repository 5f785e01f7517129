import pytest
import torch

from vaelib import measures
from vaelib.divergences import reverse_kl


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
