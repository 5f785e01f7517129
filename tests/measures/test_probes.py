import numpy as np
import pytest

from vaelib.measures.probes import separability

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
