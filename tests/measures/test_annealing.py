import pytest
import torch

from vaelib import measures
from vaelib.data import Dataset
from vaelib.errors import Invalid
from vaelib.measures import AnnealedEvidence
from vaelib.models import Category, Gaussian


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def narrow(ppca):
    """A linear-Gaussian model whose posterior is off, and three times too narrow; images, and their exact log p(x)."""
    vae, truth = ppca(shift=0.4, widen=0.3)
    torch.manual_seed(0)
    x = truth.sample((30,))
    return vae, x, truth.log_prob(x).double()


@pytest.mark.parametrize("start", ["fitted", "posterior", "prior"])
def test_the_exact_value_from_any_start(narrow, start):
    """log p(x) of a linear-Gaussian model is known; its log-weights alone would be off by nats."""
    vae, x, exact = narrow
    found = measures.annealed_weights(vae, x, 100, generator(), steps=30, leapfrog=4, start=start)
    assert found.weights.shape == (30, 100)
    error = (measures.log_likelihood(found.weights) - exact).abs()
    assert error.max() < (0.15 if start == "fitted" else 0.6)
    assert error.mean() < (0.04 if start == "fitted" else 0.15)
    assert 0.4 < found.accepted.mean() < 0.95


def test_few_steps_leave_the_estimate_of_p_unbiased(narrow):
    """The mean weight itself is p(x) within its own standard error: the kernels leave each pi_t as it is."""
    vae, x, exact = narrow
    for steps in (1, 2, 4):
        weights = measures.annealed_weights(vae, x[:6], 20_000, generator(1), steps=steps, leapfrog=2).weights
        relative = (weights - exact[:6, None]).exp()
        deviations = (relative.mean(1) - 1) / (relative.std(1) / 20_000**0.5)
        assert deviations.abs().max() < 4.5


def test_weights_are_more_even_than_plain_ones(narrow):
    vae, x, _ = narrow
    plain = measures.effective_draws(measures.log_weights(vae, x, 100, generator())).median()
    posterior, fitted = (
        measures.effective_draws(measures.annealed_weights(vae, x, 100, generator(), start=start).weights).median()
        for start in ("posterior", "fitted")
    )
    assert plain < posterior < fitted
    assert fitted > 60


def test_the_same_seed_gives_the_same_weights(narrow):
    vae, x, _ = narrow
    first, second = (measures.annealed_weights(vae, x[:4], 8, generator(3), steps=3).weights for _ in range(2))
    assert torch.equal(first, second)


def test_only_a_gaussian_code_is_taken(enumerable):
    vae, _ = enumerable(Category(3))
    with pytest.raises(Invalid, match="Gaussian"):
        measures.annealed_weights(vae, torch.zeros(2, 5), 3, generator())
    data = Dataset.from_arrays(torch.zeros(2, 5), torch.zeros(2, 5))
    with pytest.raises(Invalid, match="Gaussian"):
        AnnealedEvidence().check(Category(3), data)
    AnnealedEvidence().check(Gaussian(3), data)


def test_the_observer_gives_a_row_a_sample(narrow, observed):
    vae, x, _ = narrow
    observer = AnnealedEvidence(images=5, chains=10, steps=4)
    table = observer.observe(observed(vae, Dataset.from_arrays(x, x)))
    found = measures.annealed_weights(vae, x[:5], 10, generator(), steps=4)
    assert list(table) == ["image", "log_p", "effective", "accepted"]
    assert table["log_p"].tolist() == measures.log_likelihood(found.weights).tolist()
    assert table["effective"].tolist() == measures.effective_draws(found.weights).tolist()
