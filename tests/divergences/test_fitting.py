import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, MultivariateNormal, Normal

from vaelib import divergences
from vaelib.divergences.fitting import FITTED, divergence, draws, fit, grid

D = torch.float64
GRID = grid(-9, 9, 121, 2)
CLOSED = {"kl": divergences.reverse_kl, "forward_kl": divergences.forward_kl, **divergences.FORMS}


def gaussian(mean, covariance):
    return MultivariateNormal(torch.tensor(mean, dtype=D), torch.tensor(covariance, dtype=D))


P = gaussian([0.5, -0.5], [[1.0, 0.3], [0.3, 0.8]])
Q = gaussian([-0.3, 0.4], [[0.7, -0.2], [-0.2, 1.1]])


def mixture(weights=(0.7, 0.3)):
    means = torch.tensor([[-2.5, 0.0], [2.5, 1.0]], dtype=D)
    return MixtureSameFamily(
        Categorical(torch.tensor(weights, dtype=D)), Independent(Normal(means, 0.7 * torch.ones_like(means)), 1)
    )


@pytest.mark.parametrize("form", FITTED)
@pytest.mark.parametrize(("points", "rel"), [(GRID, 1e-6), (draws(P, 60_000, 0), 0.05)], ids=["grid", "draws"])
def test_sums_over_points_are_the_closed_forms(form, points, rel):
    expected = CLOSED[form](Q, P) if "kl" in form else CLOSED[form](Q, P, 0.3)
    found = divergence(Q.log_prob(points.x), P.log_prob(points.x), points.weight, form, 0.3)
    assert found.item() == pytest.approx(expected.item(), rel=rel)


@pytest.mark.parametrize("form", FITTED)
def test_a_gaussian_is_fitted_by_itself(form):
    fitted = fit(P, form, GRID, skew=0.4)
    torch.testing.assert_close(fitted.gaussian.loc, P.loc, atol=1e-3, rtol=0)
    torch.testing.assert_close(fitted.gaussian.covariance_matrix, P.covariance_matrix, atol=2e-3, rtol=0)
    assert fitted.divergence < 1e-6


def test_forward_kl_matches_moments_and_reverse_kl_a_mode():
    target = mixture()
    forward = fit(target, "forward_kl", GRID).gaussian
    torch.testing.assert_close(forward.loc, target.mean, atol=1e-2, rtol=0)
    torch.testing.assert_close(forward.variance, target.variance, atol=1e-2, rtol=1e-2)
    reverse = fit(target, "kl", GRID, mean=torch.tensor([-2.0, 0.0])).gaussian
    torch.testing.assert_close(reverse.loc, torch.tensor([-2.5, 0.0], dtype=D), atol=0.1, rtol=0)
    assert reverse.variance.max() < 0.7


def test_a_learned_skew_is_the_best_of_all_fixed_ones():
    target = mixture((0.5, 0.5))
    learned = fit(target, "dual_geometric_js", GRID)
    assert 0 < learned.skew < 1
    for skew in (learned.skew - 0.05, learned.skew + 0.05):
        at = divergence(
            learned.gaussian.log_prob(GRID.x), target.log_prob(GRID.x), GRID.weight, "dual_geometric_js", skew
        )
        assert at > learned.divergence


def test_a_ball_is_a_ball_and_draws_agree_with_the_grid():
    target = mixture()
    by_grid = fit(target, "dual_geometric_js", GRID, ball=True)
    covariance = by_grid.gaussian.covariance_matrix
    torch.testing.assert_close(covariance, covariance[0, 0] * torch.eye(2, dtype=D))
    by_draws = fit(target, "dual_geometric_js", draws(target, 40_000, 1), ball=True)
    assert by_draws.skew == pytest.approx(by_grid.skew, abs=0.01)
    torch.testing.assert_close(by_draws.gaussian.loc, by_grid.gaussian.loc, atol=0.1, rtol=0)


def test_draws_are_seeded_and_leave_the_global_generator_alone():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    first, second = draws(P, 100, 3), draws(P, 100, 3)
    assert torch.equal(first.x, second.x)
    assert torch.equal(torch.rand(1), expected)
    assert not torch.equal(first.x, draws(P, 100, 4).x)


def test_an_unknown_form_is_refused():
    with pytest.raises(ValueError, match="form: 'mmd' is not allowed; it has to be one of kl, forward_kl"):
        fit(P, "mmd", GRID)
