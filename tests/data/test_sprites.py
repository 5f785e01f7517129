from pathlib import Path

import numpy as np
import pytest
import torch

from vaelib.data import load
from vaelib.data.sprites import GRID, render

# 40 genuine frames, every eighth of the animation in the README of github.com/deepmind/dsprites-dataset (Apache-2.0),
# as packed bits, with the factors they show.
GENUINE = np.load(Path(__file__).parents[1] / "fixtures" / "dsprites_frames.npz")


def test_the_renderer_reproduces_genuine_frames():
    overlaps = []
    for frame, factors in zip(GENUINE["frames"], GENUINE["factors"]):
        drawn = render(*factors[:3])[tuple(factors[3:])]
        if factors[0] == 0:
            assert np.array_equal(drawn, frame), f"square {factors}"
        overlaps.append(np.bitwise_count(drawn & frame).sum() / np.bitwise_count(drawn | frame).sum())
    assert set(GENUINE["factors"][:, 0]) == {0, 1, 2}
    assert np.mean(overlaps) > 0.998
    assert np.mean(np.equal(overlaps, 1)) >= 0.9


@pytest.mark.parametrize("shape", range(GRID["shape"]))
def test_first_and_last_orientation_are_the_same_image(shape):
    assert np.array_equal(render(shape, 3, 0), render(shape, 3, 39))


def test_a_square_is_what_the_definition_says():
    # An independent rendering: every pixel centre, turned back, against the sides.
    scale, orientation, x, y = 4, 7, 5, 26
    angle = 2 * np.pi * orientation / 39
    row, column = np.mgrid[:64, :64] + 0.5
    dx, dy = column - 16 - 32 * x / 31, row - 16 - 32 * y / 31
    u, v = dx * np.cos(angle) - dy * np.sin(angle), dx * np.sin(angle) + dy * np.cos(angle)
    inside = np.maximum(abs(u), abs(v)) < 9.598 * 0.9
    assert np.array_equal(np.unpackbits(render(0, scale, orientation)[x, y]).reshape(64, 64), inside)


def test_a_subset_is_binary_fixed_and_labelled_with_its_factors():
    data = load("sprites:500")
    assert (len(data.train), len(data.test), data.shape) == (450, 50, (1, 64, 64))
    assert data.train.unique().tolist() == [0, 255]
    assert data.fingerprint == load("sprites:500").fingerprint
    assert data.factors.nominal == ("shape",)
    for images, factors in ((data.train, data.factors.train), (data.test, data.factors.test)):
        assert list(factors) == list(GRID)
        for image, *values in zip(images, *factors.values()):
            shape, scale, orientation, x, y = (int(v) for v in values)
            drawn = np.unpackbits(render(shape, scale, orientation)[x, y]).reshape(1, 64, 64)
            assert torch.equal(image, torch.from_numpy(drawn * 255))
