"""The Dataset itself, a user's own data, what is made on the spot, and the table of names."""

import dataclasses
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vaelib import data as datasets
from vaelib.data import DataError, Dataset, load


def images(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


# -- from_arrays


@settings(deadline=None, max_examples=60)
@given(
    n=st.integers(1, 6),
    h=st.integers(4, 9),
    w=st.integers(4, 9),
    layout=st.sampled_from(["NHW", "NCHW", "NHWC"]),
    channels=st.sampled_from([1, 3]),
    floats=st.booleans(),
    tensor=st.booleans(),
)
def test_every_layout_gives_the_same_images(n, h, w, layout, channels, floats, tensor):
    channels = 1 if layout == "NHW" else channels
    truth = images(n, channels, h, w)
    given_ = {"NHW": truth[:, 0], "NCHW": truth, "NHWC": truth.transpose(0, 2, 3, 1)}[layout]
    given_ = given_ / 255 if floats else given_
    given_ = torch.from_numpy(np.ascontiguousarray(given_)) if tensor else given_
    data = Dataset.from_arrays(given_, given_)
    assert data.shape == (channels, h, w)
    assert data.train.dtype == (torch.float32 if floats else torch.uint8)
    torch.testing.assert_close(data.train * data.scale, torch.from_numpy(truth) / 255)


@settings(deadline=None, max_examples=40)
@given(n=st.integers(2, 40), fraction=st.floats(0.01, 0.99), seed=st.integers(0, 9))
def test_a_split_loses_and_doubles_nothing(n, fraction, seed):
    values = torch.arange(n, dtype=torch.float32)[:, None]
    arguments = {"train_labels": torch.arange(n), "test_fraction": fraction, "seed": seed}
    if not 0 < round(n * fraction) < n:
        with pytest.raises(ValueError, match="test_fraction"):
            Dataset.from_arrays(values, **arguments)
        return
    data, again = (Dataset.from_arrays(values, **arguments) for _ in range(2))
    assert sorted(torch.cat([data.train, data.test]).ravel().tolist()) == list(range(n))
    assert torch.equal(data.train.ravel().long(), data.train_labels)
    assert torch.equal(data.test.ravel().long(), data.test_labels)
    assert len(data.test) == round(n * fraction)
    assert data.fingerprint == again.fingerprint


def test_images_of_28_are_padded_with_zeros():
    x = images(3, 28, 28)
    data = Dataset.from_arrays(x, x)
    assert data.shape == (1, 32, 32)
    assert np.array_equal(data.train[:, 0, 2:-2, 2:-2], x)
    assert data.train.long().sum() == x.sum()


def test_vectors_are_float32_and_may_hold_any_finite_value():
    data = Dataset.from_arrays(np.array([[-5.0, 7.0], [1e9, 0.0]]), np.zeros((1, 2)))
    assert (data.train.dtype, data.shape, data.scale) == (torch.float32, (2,), 1.0)


GOOD = np.full((4, 8, 8), 0.5)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"train": GOOD * np.nan}, "train holds NaN"),
        ({"train": np.full((4, 2), np.inf)}, "train holds NaN or infinite"),
        ({"train": np.full((4, 2), 1e300)}, "train holds NaN or infinite"),
        ({"train": GOOD, "test": GOOD + 1}, r"test holds values from 1.5 to 1.5; .* within \[0, 1\]"),
        ({"train": GOOD - 1}, "train holds values from -0.5"),
        ({"train": GOOD[:0]}, "train has shape .* empty"),
        ({"train": np.zeros((4, 0))}, "train has shape .* empty"),
        ({"train": np.zeros(4)}, r"train has shape \(4,\)"),
        ({"train": np.zeros((4, 5, 8, 8))}, r"train has shape \(4, 5, 8, 8\)"),
        ({"train": np.zeros((4, 8, 8), int)}, "train has type int64; allowed are uint8"),
        ({"train": [["a", "b"]]}, "train has type <U1"),
        ({"train": GOOD, "train_labels": [0, 1]}, r"train_labels has shape \(2,\); .* each of the 4 samples"),
        ({"train": GOOD, "train_labels": [[0, 1, 2, 3]]}, r"train_labels has shape \(1, 4\)"),
        ({"train": GOOD, "train_labels": np.zeros(4)}, "train_labels has type float64; allowed are whole numbers"),
        ({"train": GOOD, "test_labels": [0, 1, 2, 3]}, "test_labels was given without test"),
        ({"train": GOOD, "test": GOOD, "test_labels": [0]}, "test_labels has shape"),
        ({"train": GOOD, "test": GOOD[:, :4]}, "test has samples"),
        ({"train": GOOD, "test": images(4, 8, 8)}, "test has samples"),
        ({"train": GOOD[:1]}, "test_fraction is 0.1"),
        ({"train": GOOD, "test_fraction": 1.5}, "test_fraction is 1.5"),
    ],
)
def test_what_is_not_allowed_is_named(arguments, says):
    with pytest.raises(ValueError, match=f"^mine: {says}|^{says}"):
        Dataset.from_arrays(**arguments, name="mine")


def test_the_fingerprint_is_of_bytes_shapes_types_and_labels():
    x = images(4, 8, 8)
    flat = x.reshape(4, 64)
    prints = [
        Dataset.from_arrays(a, a, train_labels=labels).fingerprint
        for a, labels in [(x, None), (x, [0, 0, 0, 1]), (x, [0, 0, 1, 1]), (x ^ 1, None), (flat, None)]
    ]
    assert len(set(prints)) == 5
    assert prints[0] == Dataset.from_arrays(x.copy(), x.copy(), name="another").fingerprint


def test_a_data_set_cannot_be_changed():
    data = load("mixture")
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.train = data.test


# -- a user's own files


def write_images(root, classes, count=3, size=(8, 8), mode="L", suffix="png"):
    for c in classes:
        (root / c).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(images(*size, *([3] if mode == "RGB" else []), seed=i)).save(root / c / f"{i}.{suffix}")


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3)])
def test_a_folder_of_classes(tmp_path, mode, channels):
    write_images(tmp_path, "ab", count=10, mode=mode)
    data = load(f"folder:{tmp_path}")
    assert (len(data.train), len(data.test), data.shape) == (18, 2, (channels, 8, 8))
    assert sorted(torch.cat([data.train_labels, data.test_labels]).tolist()) == [0] * 10 + [1] * 10
    pixels = images(8, 8, *([3] if mode == "RGB" else []), seed=0)
    first = torch.from_numpy(pixels.reshape(8, 8, -1)).permute(2, 0, 1)
    assert any(torch.equal(x, first) for x in torch.cat([data.train, data.test]))


def test_a_folder_with_its_own_split(tmp_path):
    write_images(tmp_path / "train", "ab", count=4)
    write_images(tmp_path / "test", "ab", count=2)
    data = load(f"folder:{tmp_path}")
    assert data.train_labels.tolist() == [0] * 4 + [1] * 4
    assert data.test_labels.tolist() == [0, 0, 1, 1]
    write_images(tmp_path / "test", "c")
    with pytest.raises(DataError, match="has the classes"):
        load(f"folder:{tmp_path}")


def test_grey_among_coloured_images_is_taken_as_coloured(tmp_path):
    write_images(tmp_path, "a", count=5)
    write_images(tmp_path, "b", count=5, mode="RGB")
    assert load(f"folder:{tmp_path}").shape == (3, 8, 8)


def test_what_is_wrong_in_a_folder_is_named(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        load(f"folder:{tmp_path / 'nothing'}")
    with pytest.raises(DataError, match="holds no images"):
        load(f"folder:{tmp_path}")
    write_images(tmp_path, "a", count=5)
    write_images(tmp_path, "b", size=(8, 9))
    with pytest.raises(DataError, match=r"b/0.png has \(8, 9\) pixels"):
        load(f"folder:{tmp_path}")
    broken = tmp_path / "a" / "3.png"
    broken.write_bytes(broken.read_bytes()[:60])
    with pytest.raises(DataError, match=r"a/3.png is not an image"):
        load(f"folder:{tmp_path}")


@pytest.mark.parametrize("keys", [("train", "test", "train_labels"), ("x_train", "x_test", "y_train")])
def test_a_file_of_arrays(tmp_path, keys):
    x = images(6, 8, 8)
    np.savez(tmp_path / "mine.npz", **dict(zip(keys, (x[:4], x[4:], np.arange(4)))))
    data = load(f"npz:{tmp_path / 'mine.npz'}")
    assert np.array_equal(data.train[:, 0], x[:4])
    assert data.train_labels.tolist() == [0, 1, 2, 3]
    assert data.test_labels is None
    assert "4 and 2 samples" in datasets.verify(f"npz:{tmp_path / 'mine.npz'}")


class Harm:
    def __reduce__(self):
        return (pytest.fail, ("a file of arrays was unpickled",))


def test_what_is_wrong_with_a_file_of_arrays_is_named(tmp_path):
    file = tmp_path / "mine.npz"
    with pytest.raises(DataError, match="does not exist"):
        load(f"npz:{file}")
    np.savez(file, other=GOOD)
    with pytest.raises(DataError, match=r"mine.npz holds the arrays \['other'\]"):
        load(f"npz:{file}")
    np.savez(file, train=images(50, 8, 8))
    whole = file.read_bytes()
    damaged = bytearray(whole)
    damaged[1000] ^= 255
    np.savez(tmp_path / "objects.npz", train=np.array([Harm()], dtype=object))
    objects = (tmp_path / "objects.npz").read_bytes()
    for content in (whole[:500], bytes(damaged), b"", b"hello", pickle.dumps(Harm()), objects):
        file.write_bytes(content)
        with pytest.raises(DataError, match=r"mine.npz cannot be read"):
            load(f"npz:{file}")


# -- embedded and made on the spot


def test_mnist5k_holds_real_digits():
    data = load("mnist5k")
    assert (len(data.train), len(data.test), data.shape) == (4000, 1000, (1, 32, 32))
    assert data.train_labels.bincount().tolist() == [400] * 10
    assert data.test_labels.bincount().tolist() == [100] * 10
    # Nearest class mean gets about 80 % of real digits right.
    means = torch.stack([data.train[data.train_labels == c].float().mean(0).ravel() for c in range(10)])
    guess = torch.cdist(data.test.float().flatten(1), means).argmin(1)
    assert 0.75 < (guess == data.test_labels).float().mean() < 0.9


def test_a_mixture_is_a_distribution_and_its_samples_are_of_it():
    mixture = datasets.mixture(3, 2, seed=4)
    data = load("mixture:components=3,seed=4")
    assert (len(data.train), len(data.test), data.shape) == (9000, 1000, (2,))
    samples = torch.cat([data.train, data.test])
    torch.testing.assert_close(samples.mean(0), mixture.mean, atol=0.1, rtol=0)
    torch.testing.assert_close(samples.var(0), mixture.variance, atol=0.25, rtol=0.05)
    counts = torch.cat([data.train_labels, data.test_labels]).bincount(minlength=3) / 10_000
    torch.testing.assert_close(counts, mixture.mixture_distribution.probs, atol=0.02, rtol=0)


def test_a_mixture_depends_on_its_seed_alone():
    state = torch.get_rng_state()
    one, two, other = (load(f"mixture:dimension=7,seed={s}") for s in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert one.fingerprint == two.fingerprint != other.fingerprint
    assert one.shape == (7,)


# -- the table


def test_every_data_set_is_listed_without_a_network():
    listed = {line.name.partition(":")[0]: line.present for line in datasets.available()}
    assert list(listed) == datasets.names()
    assert {name for name, present in listed.items() if not present} == {
        "mnist", "fashion_mnist", "cifar10", "svhn", "celeba", "chairs", "dsprites", "metabric",
    }  # fmt: skip
    assert datasets.verify("mnist5k") == "mnist5k needs no files."


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("mnist6k", "There is no data set 'mnist6k'; there are mnist5k, mnist,"),
        ("mnist:3", "mnist takes none"),
        ("sprites:many", "'many'; allowed are whole numbers from 10 to 737280"),
        ("sprites:737281", "allowed are whole numbers"),
        ("mixture:components=0", "components is 0"),
        ("mixture:colour=3", "'colour=3' is not allowed"),
    ],
)
def test_a_wrong_name_is_answered_with_the_right_ones(name, says):
    with pytest.raises(ValueError, match=says):
        load(name)
