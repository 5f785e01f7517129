import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Independent, Normal

from vaelib import MLP, Bound, Experiment, measures
from vaelib.data import Dataset, Factors, load
from vaelib.measures import Observed
from vaelib.measures.probes import separability
from vaelib.models import VAE, Category, Gaussian, Joint
from vaelib.objectives import Trainee

RNG = np.random.default_rng(0)


def blobs(n, apart):
    """Three Gaussians at the corners of a triangle with sides of `apart`, beside one latent of noise."""
    labels = RNG.integers(0, 3, n)
    corners = apart * np.array([[0, 0, 0], [1, 0, 0], [0.5, 0.75**0.5, 0]])
    return corners[labels] + RNG.normal(size=(n, 3)), labels


def test_what_lies_apart_is_separable_by_any_measure():
    assert min(separability(*blobs(300, 20.0), *blobs(200, 20.0)).values()) == 1


def test_the_linear_probe_of_three_gaussians_reaches_the_best_there_is():
    """Hyperplanes between equal balls are optimal: the best accuracy is that of the nearest corner."""
    train, (test, labels) = blobs(4000, 2.5), blobs(6000, 2.5)
    corners = 2.5 * np.array([[0, 0], [1, 0], [0.5, 0.75**0.5]])
    best = (np.linalg.norm(test[:, None, :2] - corners, axis=-1).argmin(1) == labels).mean()
    found = separability(*train, test, labels)
    assert found["linear"] == pytest.approx(best, abs=0.01)
    assert best - 0.03 < found["neighbours"] < best + 0.005
    assert 0.4 < found["ari"] < 0.8


def test_a_ring_around_a_ball_is_left_to_the_neighbours():
    angle, labels = RNG.uniform(0, 2 * np.pi, 1000), np.arange(1000) % 2
    codes = labels[:, None] * 5 * np.stack([np.cos(angle), np.sin(angle)], 1) + RNG.normal(size=(1000, 2)) / 2
    found = separability(codes[:600], labels[:600], codes[600:], labels[600:])
    assert found["neighbours"] == 1
    assert found["linear"] < 0.7
    assert found["ari"] < 0.3


def test_what_is_not_apart_is_not_separable():
    found = separability(*blobs(1000, 0.0), *blobs(2000, 0.0))
    assert max(found["linear"], found["neighbours"]) < 0.38
    assert max(found["nmi"], found["ari"]) < 0.02


def test_recognised_sample_by_sample_as_often_as_separability_says():
    train, test = blobs(300, 3.0), blobs(200, 3.0)
    right, found = measures.recognised(*train, *test), separability(*train, *test)
    assert len(right) == 200
    assert right.mean().to_dict() == pytest.approx({name: found[name] for name in right})


class Bars(nn.Module):
    """A decoder whose images have one bright column: that of the category, the last three numbers of the code."""

    def forward(self, z):
        return z[:, None, -3:].expand(-1, 3, 3)[:, None]


@pytest.fixture
def bars(observed):
    """What an observer sees of a VAE of bars, of which the decoder draws the first always, or what the code says."""

    def make(decoder, latent):
        labels = torch.arange(60) % 3
        x = torch.eye(3)[labels][:, None, None].expand(-1, 1, 3, 3).contiguous()
        latent = latent.build()
        encoder = nn.Sequential(nn.Flatten(), nn.Linear(9, latent.outputs))
        vae = VAE(encoder, decoder, latent, lambda o: Independent(Normal(o, 1.0), 3))
        return observed(vae, Dataset.from_arrays(x, x, train_labels=labels, test_labels=labels))

    return make


@torch.no_grad()
def test_the_class_of_what_each_category_is_decoded_to(bars):
    table = measures.CategoryClasses(images=4).observe(bars(Bars(), Joint((Gaussian(2), Category(3)))))
    assert table["image"].tolist() == [k for k in range(4) for _ in range(3)]
    assert table["label"].tolist() == [k % 3 for k in range(4) for _ in range(3)]
    assert (table["decoded"] == table["category"]).all()
    np.testing.assert_allclose(table["distance"], 3 * 2 / 3, rtol=1e-5)


@torch.no_grad()
def test_legible_is_what_is_read_as_before(bars):
    class Same(nn.Module):
        def forward(self, z):
            return torch.eye(3)[0].expand(len(z), 1, 3, 3)

    table = measures.Legibility(images=6).observe(bars(Same(), Gaussian(2)))
    assert table["read"].tolist() == table["label"].tolist() == [0, 1, 2] * 2
    assert table["decoded"].tolist() == [0] * 6


def test_without_labels_the_first_nominal_factor_is_the_class():
    sprites = load("sprites:100")
    assert sprites.train_labels is None
    for classes, shapes in zip(sprites.classes, (sprites.factors.train["shape"], sprites.factors.test["shape"])):
        assert classes is shapes
    labelled = load("mnist5k")
    assert labelled.classes == (labelled.train_labels, labelled.test_labels)
    x = torch.zeros(4, 2)
    ordered = Factors({"size": torch.arange(4)}, {"size": torch.arange(4)})
    assert Dataset("ordered", x, x, factors=ordered).classes is None


def test_codes_are_probed_for_the_shape_of_a_sprite():
    """Of codes that are the shape's number, linearly: every hyperplane's accuracy is one."""
    sprites = load("sprites:100")
    shapes = torch.cat([sprites.factors.train["shape"], sprites.factors.test["shape"]])
    assert set(shapes.tolist()) == {0, 1, 2}
    e = Experiment(data="sprites:100", network=MLP(4), latent=Gaussian(2), objective=Bound())
    trainee = e.build(sprites.shape).eval()

    class Knows(nn.Module):
        def forward(self, x):
            known = {a.numpy().tobytes(): float(s) for a, s in zip((*sprites.train, *sprites.test), shapes)}
            found = [known[(255 * image).round().to(torch.uint8).numpy().tobytes()] for image in x]
            return torch.tensor([[s, s, 0.0, 0.0] for s in found])

    vae = trainee.vae.with_bodies(Knows(), trainee.vae.decoder)
    run = Observed(
        Trainee(vae, trainee.objective), sprites, sprites.test, e.site(sprites.shape, ()), 0, torch.Generator()
    )
    assert measures.Separability(neighbours=3).observe(run)["linear"].item() == 1
