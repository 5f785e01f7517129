import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, Normal

from vaelib import measures
from vaelib.data import Dataset
from vaelib.measures import RateBounds


def test_of_a_gaussian_aggregate_the_mismatch_is_exact(encoded):
    """Means from N(1, 0.9²) with posteriors of width 0.4: the aggregate is N(1, 0.97) in each of two latents."""
    means = 1 + 0.9 * torch.randn(20_000, 2, generator=torch.Generator().manual_seed(0))
    vae, x = encoded(means, 0.4)
    variance = 0.9**2 + 0.4**2
    exact = (variance + 1 - 1 - torch.tensor(variance).log()).item()
    assert measures.moment_mismatch(vae, x) == pytest.approx(exact, abs=0.03)


def test_of_two_lumps_it_is_a_lower_bound(encoded):
    means = torch.tensor([[-2.0], [2.0]])
    vae, x = encoded(means, 0.3)
    aggregate = MixtureSameFamily(Categorical(torch.ones(2)), Normal(means[:, 0], 0.3))
    z = torch.linspace(-5, 5, 20_001)
    log_q = aggregate.log_prob(z)
    exact = (log_q.exp() * (log_q - Normal(0.0, 1.0).log_prob(z))).sum().item() * 10 / 20_000
    assert 0 < measures.moment_mismatch(vae, x) < exact


def test_the_parts_stay_below_the_rate(encoded, observed):
    means = torch.randn(300, 3, generator=torch.Generator().manual_seed(1))
    vae, x = encoded(means, 0.2)
    (row,) = RateBounds(draws=200).observe(observed(vae, Dataset.from_arrays(x, x))).to_dict("records")
    assert row["limit"] == pytest.approx(torch.tensor(300.0).log().item())
    assert row["information"] <= row["limit"]
    assert row["information"] + row["mismatch"] < row["rate"]
