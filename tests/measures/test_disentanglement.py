import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Independent, Normal

from vaelib.data import Dataset, Factors
from vaelib.errors import Invalid
from vaelib.measures import (
    DCI,
    Disentanglement,
    attribute_predictability,
    beta_vae_score,
    dci,
    disentanglement,
    factor_vae_score,
    mutual_information_gap,
)
from vaelib.measures.disentanglement import _concentrated, _sharing
from vaelib.models import VAE, Gaussian

RNG = np.random.default_rng(0)
GRID = np.array(list(np.ndindex(5, 5, 5))).repeat(6, 0)
"""Three factors of five values in every combination, six times."""
PLANE = np.array(list(np.ndindex(8, 8))).repeat(12, 0)
"""Two factors of eight values."""
NOISY = np.array(
    [(v, z, w) for v, many in ((0, 0b0001), (1, 0b0111)) for z in [many >> k & 1 for k in range(4)] for w in (0, 1)]
)
"""All of a toy world: a factor v, a latent z that is v in three cases of four, and w, both a factor and a latent."""


def turned(angle):
    """The plane's factors, turned by an angle in degrees; with a little noise, so that no two latents are tied."""
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    return (PLANE + np.random.default_rng(1).normal(0, 0.3, PLANE.shape)) @ np.array([[c, s], [-s, c]])


def test_a_code_that_is_the_factors_has_every_score():
    found = disentanglement(GRID[:, [2, 0, 1]] * [1.0, -0.1, 10.0], GRID)
    assert found.pop("mig") == pytest.approx(1)
    assert found.pop("sap") == pytest.approx(1)
    assert (found.pop("factor_vae"), found.pop("beta_vae")) == (1, 1)
    assert sorted(found) == ["completeness", "disentanglement", "informativeness"]
    assert min(found.values()) > 0.98


def test_two_factors_turned_by_45_degrees_are_told_in_all_and_by_no_latent():
    found = disentanglement(turned(45), PLANE)
    assert found["informativeness"] > 0.95
    assert max(found[score] for score in ("mig", "sap", "disentanglement", "completeness")) < 0.05
    assert found["factor_vae"] == pytest.approx(1 / 2, abs=0.1)
    assert found["beta_vae"] == pytest.approx(1 / 2, abs=0.1)


def test_turned_by_less_they_are_told_apart_by_pairs_and_not_by_single_latents():
    whole, found = disentanglement(turned(0), PLANE), disentanglement(turned(25), PLANE)
    assert (found["factor_vae"], found["beta_vae"]) == (1, 1)
    for score in ("mig", "sap", "disentanglement", "completeness"):
        assert 0.1 < found[score] < whole[score] - 0.2, score
    assert found["sap"] == pytest.approx(np.cos(np.radians(50)), abs=0.03)  # cos² - sin²: shares of their variances


@pytest.mark.parametrize("latents", [RNG.normal(size=(len(GRID), 4)), np.zeros((len(GRID), 4))], ids=["random", "none"])
def test_codes_that_know_nothing_have_no_score_or_that_of_chance(latents):
    found = disentanglement(latents, GRID, nominal=[1])
    assert max(found[score] for score in ("mig", "sap", "disentanglement", "completeness")) < 0.05
    assert found["informativeness"] < (0.2 + 0.05) / 3  # R² of two factors, and one class of five
    assert found["factor_vae"] == pytest.approx(1 / 3, abs=0.06)
    assert found["beta_vae"] == pytest.approx(1 / 3, abs=0.06)


def test_scores_of_a_toy_world_by_hand():
    """I(z; v) = log 2 - H(1/4); the correlation of z and v is 1/2; a threshold finds three of four; w is itself."""
    codes, factors = NOISY[:, 1:], NOISY[:, [0, 2]]
    share = 1 - (-0.25 * np.log(0.25) - 0.75 * np.log(0.75)) / np.log(2)
    assert mutual_information_gap(codes, factors, bins=2) == pytest.approx((share + 1) / 2)
    assert attribute_predictability(codes, factors) == pytest.approx((1 / 4 + 1) / 2)
    assert attribute_predictability(codes, factors, nominal=[0]) == pytest.approx((3 / 4 - 1 / 2 + 1) / 2)
    assert attribute_predictability(codes, factors, nominal=[0, 1]) == pytest.approx((3 / 4 - 1 / 2 + 1 - 1 / 2) / 2)


def test_disentanglement_and_completeness_of_importances_by_hand():
    """Entropies to base 2: of (3/4, 1/4) 0.811278, of (1/5, 4/5) 0.721928; both latents weigh half."""
    assert _concentrated(np.array([[3.0, 1.0], [0.0, 4.0]])) == pytest.approx(
        ((1 - 0.811278 + 1) / 2, (1 + 1 - 0.721928) / 2), abs=1e-6
    )
    assert _concentrated(np.array([[0.0, 0.0], [1.0, 1.0]])) == pytest.approx((0, 1))
    assert _concentrated(np.eye(4)[:, [2, 0, 1, 3]]) == pytest.approx((1, 1))
    assert _concentrated(np.zeros((3, 2))) == (0, 0)


def test_a_factor_with_two_latents_is_disentangled_and_not_complete():
    """The two share the importance of their factor about evenly: an entropy of one bit, to base 4."""
    twice = np.concatenate([GRID, GRID[:, :1]], 1) + RNG.normal(0, 0.1, (len(GRID), 4))
    found = dci(twice, GRID)
    assert isinstance(found, DCI)
    assert found.disentanglement > 0.95
    assert found.completeness == pytest.approx((1 - 0.5 + 1 + 1) / 3, abs=0.07)
    assert mutual_information_gap(twice, GRID) == pytest.approx(2 / 3, abs=0.05)


def test_the_order_and_direction_of_latents_do_not_matter():
    codes = np.concatenate([GRID @ RNG.normal(size=(3, 3)), RNG.normal(size=(len(GRID), 1))], 1)
    one, other = (disentanglement(z, GRID, nominal=[2]) for z in (codes, codes[:, [3, 1, 0, 2]]))
    assert one == pytest.approx(other, abs=0.03)
    assert [one[score] for score in ("mig", "sap")] == pytest.approx([other[score] for score in ("mig", "sap")])
    assert disentanglement(-codes, GRID, nominal=[2]) == pytest.approx(one, abs=0.03)


def test_numbers_are_the_seeds_alone():
    codes = GRID + RNG.normal(size=GRID.shape)
    first = disentanglement(codes, GRID, seed=3)
    assert disentanglement(torch.from_numpy(codes), torch.from_numpy(GRID), seed=3) == first
    assert disentanglement(codes, GRID, seed=4) == pytest.approx(first, abs=0.05)
    assert disentanglement(codes, GRID, seed=4) != first


def test_partners_agree_in_the_fixed_factor_and_are_random_in_the_others():
    factors = np.array(list(np.ndindex(2, 3, 4)))
    fixed, of = np.array([0, 1, 2]), np.tile(np.arange(24), (3, 500))
    found = _sharing(factors, fixed, of, np.random.default_rng(0))
    for k in range(3):
        pairs = factors[of[k]], factors[found[k]]
        assert (pairs[0][:, k] == pairs[1][:, k]).all()
        assert (of[k] != found[k]).all()
        others = np.unique(of[k] * 24 + found[k], return_counts=True)[1]
        group = 24 // len(np.unique(factors[:, k])) - 1  # all that agree but itself, and each as often
        assert len(others) == 24 * group
        assert (abs(others - 500 / group) < 5 * (500 / group) ** 0.5).all()


def test_who_is_alone_with_a_value_is_its_own_partner():
    factors = np.array([[0, 0], [1, 0], [2, 1]])
    found = _sharing(factors, np.array([0, 1]), np.tile(np.arange(3), (2, 1)), np.random.default_rng(0))
    assert found.tolist() == [[0, 1, 2], [1, 0, 2]]


def test_an_unused_latent_does_not_vote():
    """The third factor is known by a latent that hardly moves, and by no other."""
    codes = GRID * [1.0, 1.0, 0.01] + RNG.normal(0, 1e-3, GRID.shape)
    assert factor_vae_score(codes, GRID, unused=0) == 1
    assert factor_vae_score(codes, GRID) == pytest.approx(2 / 3, abs=0.05)
    assert beta_vae_score(codes, GRID) == 1


@pytest.mark.parametrize(
    ("codes", "factors", "says"),
    [
        (GRID[:, :1], GRID, "codes: .* with two latents or more"),
        (GRID[:, 0], GRID, "codes: .* with two latents or more"),
        (GRID * np.nan, GRID, "codes: .* finite numbers"),
        (GRID, GRID[:, :1], "factors: .* with two factors or more"),
        (GRID, GRID / 2, "factors: .* whole numbers"),
        (GRID[1:], GRID, "factors: 'those of 750 samples' .* of the 749 samples whose codes are given"),
        (GRID, GRID * [1, 0, 1], "factors: .* of two values or more each; column 1 has one"),
    ],
)
def test_what_has_no_score_is_refused(codes, factors, says):
    with pytest.raises(Invalid, match=says):
        disentanglement(codes, factors)


class Means(nn.Module):
    """An encoder whose posterior means are the samples themselves."""

    def __init__(self):
        super().__init__()
        self.width = nn.Parameter(torch.tensor(-4.0))

    def forward(self, x):
        return torch.cat([x, self.width.expand_as(x)], 1)


def known(train, test, **factors):
    names = "first", "second", "third"
    by_name = (dict(zip(names, torch.from_numpy(v.T.copy()))) for v in (train, test))
    x = (torch.from_numpy(v).float() for v in (train, test))
    return Dataset("known", *x, factors=Factors(*by_name, **factors))


def test_the_observer_gives_each_score_beside_chance(observed):
    vae = VAE(Means(), nn.Linear(3, 3), Gaussian(3).build(), lambda o: Independent(Normal(o, 1.0), 1))
    data = known(GRID, RNG.permutation(GRID), nominal=("second",))
    table = Disentanglement().observe(observed(vae, data))
    assert table["score"].tolist() == [
        "mig", "sap", "disentanglement", "completeness", "informativeness", "factor_vae", "beta_vae",
    ]  # fmt: skip
    scores = table.set_index("score")
    assert scores["value"]["sap"] == pytest.approx((1 + 0.8 + 1) / 3)
    assert scores["value"].drop("sap").min() > 0.97
    assert (scores["chance"] < 0.45).all()
    assert scores["chance"]["beta_vae"] == pytest.approx(1 / 3, abs=0.06)
    again, other = (Disentanglement(images=500).observe(observed(vae, data, seed)) for seed in (0, 1))
    assert again["value"].tolist() != table["value"].tolist()
    assert again["chance"].tolist() != other["chance"].tolist()


def test_the_observer_refuses_before_training_what_it_cannot_be_of():
    data = known(GRID, GRID[:40])
    Disentanglement("train").check(Gaussian(3), data)
    with pytest.raises(Invalid, match=r"latent: 'gaussian' .* two numbers or more, where disentanglement is observed"):
        Disentanglement("train").check(Gaussian(1), data)
    with pytest.raises(Invalid, match="of two values or more each; column 0 has one"):
        Disentanglement().check(Gaussian(3), data)
    with pytest.raises(Invalid, match="'disentanglement' is not allowed; it has to be one that does without factors"):
        Disentanglement().check(Gaussian(3), Dataset.from_arrays(GRID.astype("f4")))
