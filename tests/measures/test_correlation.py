import math

import pytest
import torch

from vaelib.data import Dataset
from vaelib.errors import Invalid
from vaelib.measures import RateParts, Surgery, correlation_bound, rate_parts
from vaelib.models import Category


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def test_of_a_gaussian_aggregate_every_part_is_exact_and_so_is_the_bound(encoded):
    """Means with correlation and posteriors of width 0.5: the aggregate is Gaussian, and so are its marginals."""
    factor = torch.tensor([[1.0, 0.0], [0.8, 0.6]])
    normal = torch.randn(2000, 2, generator=seeded(0))
    exactly = torch.linalg.qr(normal - normal.mean(0)).Q * 2000**0.5  # of mean 0, and of covariance 1
    vae, x = encoded(0.5 + exactly @ factor.T, 0.5)
    covariance = factor @ factor.T + 0.25 * torch.eye(2)
    marginals = covariance.diagonal()
    exact = (marginals.log().sum() - torch.logdet(covariance)).item() / 2
    apart = (marginals + 0.5**2 - 1 - marginals.log()).sum().item() / 2
    rate = ((1 + 0.5**2) + 0.25 - 1 - math.log(0.25)) * 2 / 2
    found = rate_parts(vae, x, seeded(1), draws=2000)
    assert found["total_correlation"] == pytest.approx(exact, abs=0.04)
    assert found["dimension_kl"] == pytest.approx(apart, abs=0.06)
    assert found["rate"] == pytest.approx(rate, abs=1e-3)
    assert found["information"] == pytest.approx(rate - exact - apart, abs=0.06)
    assert exact - 0.08 < correlation_bound(vae, x, x, seeded(1), epochs=10) < exact + 0.03


@pytest.mark.parametrize(("which", "exact"), [([0, 1, 2, 3], 0.0), ([0, 3], math.log(2))], ids=["four", "diagonal"])
def test_four_lumps_in_a_square_have_none_and_two_on_the_diagonal_have_one_bit(which, exact, encoded):
    corners = torch.tensor([[-2.0, -2.0], [-2.0, 2.0], [2.0, -2.0], [2.0, 2.0]])
    vae, x = encoded(corners[which].repeat(200, 1), 0.3)
    assert rate_parts(vae, x, seeded(1), draws=500)["total_correlation"] == pytest.approx(exact, abs=0.02)
    assert exact - 0.06 < correlation_bound(vae, x, x, seeded(1)) < exact + 0.02


def test_the_three_parts_are_the_rate_and_the_last_two_the_mismatch(encoded, observed):
    means = torch.randn(300, 3, generator=seeded(1))
    vae, x = encoded(means, 0.2)
    data = Dataset.from_arrays(x, x)
    (row,) = RateParts(draws=300).observe(observed(vae, data)).to_dict("records")
    parts = row["information"] + row["total_correlation"] + row["dimension_kl"]
    assert parts == pytest.approx(row["rate"], abs=0.1)  # the parts of 300 draws, the rate without any
    (cut,) = Surgery("train", 300).observe(observed(vae, data)).to_dict("records")
    assert row["information"] == pytest.approx(cut["mutual_information"])
    assert row["total_correlation"] + row["dimension_kl"] == pytest.approx(cut["marginal_kl"], rel=1e-5)


def test_what_few_samples_find_too_little_of_information_they_find_too_much_of_correlation(encoded):
    means = torch.randn(2000, 3, generator=seeded(1))
    vae, x = encoded(means, 0.1)
    found = rate_parts(vae, x, seeded(1))
    lacking = 3 * math.log(1.01 / 0.01) / 2 - found["information"]
    assert lacking > 0.4
    assert found["total_correlation"] == pytest.approx(lacking, abs=0.15)
    new = torch.randn(2000, 3, generator=seeded(2))
    both, y = encoded(torch.cat([means, new]), 0.1)
    assert correlation_bound(both, y[:2000], y[2000:], seeded(1)) < 0.02


def test_the_bound_is_one_of_samples_that_the_classifier_has_not_seen(encoded):
    """Of as many samples as a classifier can learn by heart, it is below the truth, and the seed's alone."""
    vae, x = encoded(torch.randn(200, 6, generator=seeded(0)), 0.01)
    found = [correlation_bound(vae, x[:150], x[150:], seeded(seed), epochs=4) for seed in (1, 1, 2)]
    assert max(found) < 0.05
    assert found[0] == found[1] != found[2]


def test_a_latent_that_is_not_gaussian_is_refused():
    with pytest.raises(Invalid, match="latent: 'category' is not allowed; it has to be a Gaussian one"):
        RateParts().check(Category(3), Dataset.from_arrays(torch.zeros(20, 2)))
