from types import SimpleNamespace

import pytest
import torch
from torch.distributions import Independent, Normal

from vaelib import Gaussian
from vaelib.divergences import FORMS, DualGeometricJS, optimal_skew, reverse_kl
from vaelib.errors import Invalid
from vaelib.measures import Landscape, Skews, landscape, optimal_skews, posterior
from vaelib.objectives import Bound
from vaelib.runs import Experiment, Study


@pytest.fixture
def pair():
    g = torch.Generator().manual_seed(0)
    loc, scale = torch.randn(20, 3, generator=g), torch.rand(20, 3, generator=g) + 0.1
    return Independent(Normal(loc, scale), 1), Independent(Normal(torch.zeros(3), torch.ones(3)), 1)


def test_it_is_the_mean_divergence_at_each_skew(pair):
    table = landscape(*pair, 5)
    assert table["form"].tolist() == [form for form in FORMS for _ in range(5)]
    assert table["skew"].tolist() == [0.0, 0.25, 0.5, 0.75, 1.0] * len(FORMS)
    expected = [FORMS[form](*pair, skew).mean().item() for form, skew in zip(table["form"], table["skew"])]
    assert table["divergence"].tolist() == pytest.approx(expected, rel=1e-6)


def test_the_optimal_skews_are_its_minima(pair):
    table, best = landscape(*pair, 1001), optimal_skews(*pair)
    lowest = table.loc[table.groupby("form")["divergence"].idxmin()].set_index("form")["skew"]
    assert best.keys() == set(FORMS)
    for form, skew in best.items():
        assert skew == pytest.approx(lowest[form], abs=2e-3)


def test_it_is_taken_before_and_after_every_epoch(tiny, store):
    every, last, second = Landscape(3), Landscape(3, at="end"), Landscape(3, at=(2,))
    e = Experiment(data=tiny, network="mlp", epochs=3, objective=Bound(DualGeometricJS()))
    runs = Study({0: e}, observe=(every, last, second)).run(store=store, device="cpu")
    whole = runs.observed(every)
    assert whole["epoch"].tolist() == [epoch for epoch in range(4) for _ in range(9)]
    alone = runs.observed(second)
    assert alone["epoch"].unique().tolist() == [2]
    assert alone["divergence"].tolist() == whole[whole["epoch"] == 2]["divergence"].tolist()
    end = runs.observed(last)
    assert "epoch" not in end
    assert end["divergence"].tolist() == whole[whole["epoch"] == 3]["divergence"].tolist()
    at_half = whole[(whole["form"] == "dual_geometric_js") & (whole["skew"] == 0.5)]["divergence"]
    assert at_half.tolist() == pytest.approx(runs.history["test_divergence"].tolist(), rel=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_skews_of_one_model(form):
    vae = Experiment(network="mlp", latent=Gaussian(3), seed=1).build((1, 8, 8)).vae.eval()
    x = torch.rand(9, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    run = SimpleNamespace(vae=vae, inputs=x, data=SimpleNamespace(train=x[6:]))
    seen = {per: Skews(form, per, samples=6).observe(run) for per in ("batch", "datum", "latent", "both")}
    q, p = posterior(vae, x[:6]), vae.prior
    assert [len(table) for table in seen.values()] == [1, 6, 3, 18]
    assert [list(t.columns[:-3]) for t in seen.values()] == [[], ["image"], ["latent"], ["image", "latent"]]
    for per, table in seen.items():
        assert table["skew"].tolist() == pytest.approx(optimal_skew(q, p, form, per=per).flatten().tolist())
        assert table["rate"].mean() == pytest.approx(reverse_kl(q, p).mean().item() / 3, rel=1e-5)
    (other,) = Skews(form, "batch", "train").observe(run)["skew"]
    assert other == pytest.approx(optimal_skew(posterior(vae, x[6:]), p, form).item())
    third = seen["both"].query("image == 2 and latent == 1")
    assert third["rate"].item() == pytest.approx(reverse_kl(q.base_dist, p.base_dist)[2, 1].item(), rel=1e-5)
    lowest = {per: t["divergence"].mean() * (3 if per in ("latent", "both") else 1) for per, t in seen.items()}
    assert lowest["batch"] == pytest.approx(FORMS[form](q, p, optimal_skew(q, p, form)).mean().item(), rel=1e-5)
    assert lowest["both"] < min(lowest["datum"], lowest["latent"])
    assert max(lowest["datum"], lowest["latent"]) < lowest["batch"]


@pytest.mark.parametrize("points", [0, 1, 10_001, 2.5, None])
def test_a_grid_has_two_ends(points):
    with pytest.raises(Invalid, match=r"points: .* it has to be a whole number from 2 to 10000"):
        Landscape(points)


@pytest.mark.parametrize(
    ("at", "due"),
    [("end", [5]), ("every", [0, 1, 2, 3, 4, 5]), ((1, 4), [1, 4]), ((0, 5), [0, 5]), ((9,), []), ([2], [2])],
)
def test_when_it_is_due(at, due):
    assert [epoch for epoch in range(6) if Landscape(at=at).due(epoch, 5)] == due
