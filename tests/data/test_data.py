"""The Dataset itself, a user's own data, what is made on the spot, and the table of names."""

import dataclasses
import hashlib
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import EpsImagePlugin, Image

from vaelib import paths
from vaelib.data import (
    DataError,
    Dataset,
    available,
    check,
    downloads,
    fetch,
    fingerprint,
    load,
    mixture,
    names,
    verify,
)
from vaelib.errors import Invalid, UserError


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
        (
            {"train": GOOD, "train_labels": np.array([0, 1, 2, 2**63], np.uint64)},
            "train_labels holds 9223372036854775808",
        ),
        ({"train": GOOD, "test_labels": [0, 1, 2, 3]}, "test_labels was given without test"),
        ({"train": GOOD, "test": GOOD, "test_labels": [0]}, "test_labels has shape"),
        ({"train": GOOD, "test": GOOD[:, :4]}, "test has samples"),
        ({"train": GOOD, "test": images(4, 8, 8)}, "test has samples"),
        ({"train": GOOD[:1]}, "test_fraction: 0.1 is not allowed; it has to be a fraction of 1 samples"),
        ({"train": GOOD, "test_fraction": 1.5}, "test_fraction: 1.5 is not allowed"),
    ],
)
def test_what_is_not_allowed_is_named(arguments, says):
    with pytest.raises(UserError, match=f"^mine: {says}|^{says}"):
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
    with pytest.raises(
        DataError, match=r"a/3.png is not an image that can be read as BMP, GIF, JPEG, PNG, TIFF, WEBP \("
    ):
        load(f"folder:{tmp_path}")


def test_the_classes_are_those_that_have_images(tmp_path):
    write_images(tmp_path, "ac", count=5)
    (tmp_path / "b").mkdir()
    (tmp_path / ".hidden.png").touch()
    data = load(f"folder:{tmp_path}")
    assert set(torch.cat([data.train_labels, data.test_labels]).tolist()) == {0, 1}


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_images_of_16_bits_are_scaled_to_8(tmp_path, suffix):
    """Pillow cuts off at 255, so that nearly all of them would be white."""
    deep = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    for part in ("train", "test"):
        (tmp_path / part / "a").mkdir(parents=True)
        Image.fromarray(deep).save(tmp_path / part / "a" / f"0.{suffix}")
    assert np.array_equal(load(f"folder:{tmp_path}").train[0, 0], np.round(deep / 257))


def test_images_of_floats_are_refused(tmp_path):
    (tmp_path / "a").mkdir()
    Image.fromarray(np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)).save(tmp_path / "a" / "0.tif")
    with pytest.raises(DataError, match=r"a/0.tif is not an image .* mode F; they have to be of 8 or 16 bits"):
        load(f"folder:{tmp_path}")


@pytest.mark.parametrize("allowed", [40, 10])  # pixels; Pillow warns of more, and from twice as many raises
def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch, allowed):
    write_images(tmp_path, "a", count=5)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", allowed)
    with pytest.raises(DataError, match=r"a/0.png is not an image .*decompression bomb"):
        load(f"folder:{tmp_path}")


def test_no_other_program_is_started_for_an_image(tmp_path, monkeypatch):
    """Pillow gives PostScript to Ghostscript, whatever the file is called."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "0.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n")
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_: pytest.fail("Ghostscript was started"))
    with pytest.raises(DataError, match=r"a/0.png is not an image that can be read as BMP, GIF, JPEG, PNG, TIFF, WEBP"):
        load(f"folder:{tmp_path}")


def test_a_file_is_no_folder_and_a_folder_is_no_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file is not a folder; it has to be a folder"):
        load(f"folder:{tmp_path / 'file'}")
    with pytest.raises(DataError, match=r" is not a file; it has to be a file"):
        load(f"npz:{tmp_path}")
    with pytest.raises(DataError, match="File name too long"):
        load(f"folder:{tmp_path / ('x' * 5000)}")


@pytest.mark.parametrize("keys", [("train", "test", "train_labels"), ("x_train", "x_test", "y_train")])
def test_a_file_of_arrays(tmp_path, keys):
    x = images(6, 8, 8)
    np.savez(tmp_path / "mine.npz", **dict(zip(keys, (x[:4], x[4:], np.arange(4)))))
    data = load(f"npz:{tmp_path / 'mine.npz'}")
    assert np.array_equal(data.train[:, 0], x[:4])
    assert data.train_labels.tolist() == [0, 1, 2, 3]
    assert data.test_labels is None
    assert "4 and 2 samples" in verify(f"npz:{tmp_path / 'mine.npz'}")


@pytest.mark.parametrize("key", ["train", "test", "train_labels", "test_labels"])
def test_two_spellings_of_one_array_are_refused(tmp_path, key):
    other = {"train": "x_train", "test": "x_test", "train_labels": "y_train", "test_labels": "y_test"}[key]
    np.savez(tmp_path / "mine.npz", **{"train": GOOD, key: GOOD, other: GOOD})
    with pytest.raises(DataError, match=rf"mine.npz holds both {key} and {other}; one of the two is allowed"):
        load(f"npz:{tmp_path / 'mine.npz'}")


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
    np.savez_compressed(tmp_path / "packed.npz", train=images(50, 8, 8))
    packed = bytearray((tmp_path / "packed.npz").read_bytes())
    packed[200:210] = bytes(10)
    np.save(tmp_path / "one.npy", GOOD)
    encrypted = whole.replace(b"PK\3\4-\0\0", b"PK\3\4-\0\1").replace(b"PK\1\2-\3-\0\0", b"PK\1\2-\3-\0\1")
    assert encrypted != whole
    for content in (
        *(whole[:500], bytes(damaged), bytes(packed), encrypted),
        *(b"", b"hello", pickle.dumps(Harm()), objects, (tmp_path / "one.npy").read_bytes()),
    ):
        file.write_bytes(content)
        with pytest.raises(DataError, match=r"mine.npz cannot be read"):
            load(f"npz:{file}")


def test_arrays_that_would_take_all_memory_are_not_unpacked(tmp_path):
    """An archive of a few bytes that claims a petabyte."""
    file = tmp_path / "mine.npz"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("train.npy", b"")
        archive.infolist()[0].file_size = 2**50
    with pytest.raises(DataError, match=r"mine.npz cannot be read .*its arrays take 1,125,899,906,842,624 bytes"):
        load(f"npz:{file}")


def test_the_sizes_of_all_arrays_count(tmp_path, monkeypatch):
    file = tmp_path / "mine.npz"
    np.savez_compressed(file, train=np.zeros((1000, 64)), test=np.zeros((1000, 64)))
    monkeypatch.setattr(downloads, "LIMIT", 1_000_000)
    with pytest.raises(DataError, match="allowed are 1,000,000"):
        load(f"npz:{file}")
    monkeypatch.setattr(downloads, "LIMIT", 1_100_000)
    assert len(load(f"npz:{file}").train) == 1000


# -- fingerprints


def test_the_fingerprint_of_a_file_is_of_what_it_holds_now(tmp_path):
    file, name = tmp_path / "mine.npz", f"npz:{tmp_path / 'mine.npz'}"
    with pytest.raises(DataError, match=r"mine.npz cannot be read \(No such file"):
        fingerprint(name)
    prints = []
    for seed in (0, 1, 0):
        np.savez(file, train=images(50, 8, 8, seed=seed))
        prints.append(fingerprint(name))
    assert prints[0] == prints[2] != prints[1]


def test_the_fingerprint_of_a_folder_is_of_images_and_their_classes(tmp_path):
    root, name = tmp_path / "images", f"folder:{tmp_path / 'images'}"
    write_images(root, "ab")
    first = fingerprint(name)
    (root / "a" / "notes.txt").write_text("not an image")
    assert fingerprint(name) == first
    (root / "b" / "2.png").rename(root / "a" / "9.png")
    moved = fingerprint(name)
    Image.fromarray(images(8, 8, seed=7)).save(root / "a" / "9.png")
    changed = fingerprint(name)
    (root / "a" / "9.png").unlink()
    assert len({first, moved, changed, fingerprint(name)}) == 4
    root.rename(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "a" / "9.png").touch()
    assert fingerprint(f"folder:{tmp_path / 'elsewhere'}") not in (first, moved, changed)
    with pytest.raises(DataError, match="does not exist; it has to be a folder"):
        fingerprint(name)


def test_a_file_that_does_not_change_is_read_once(tmp_path, monkeypatch):
    name = f"npz:{tmp_path / 'mine.npz'}"
    np.savez(tmp_path / "mine.npz", train=GOOD)
    first = fingerprint(name)
    monkeypatch.setattr(hashlib, "file_digest", lambda *_: pytest.fail("the file was read again"))
    assert fingerprint(name) == first


@pytest.mark.parametrize(
    "name", ["mnist5k", "mnist", "celeba", "sprites:20000", "dsprites", "mixture", "gse7390:rna/1"]
)
def test_a_name_that_fixes_the_content_has_no_fingerprint(name):
    assert fingerprint(name) is None
    assert not paths.data().exists()


# -- embedded and made on the spot


def test_images_of_28x28_are_padded_unless_the_name_says_no():
    padded, plain = load("mnist5k"), load("mnist5k:28")
    assert plain.shape == (1, 28, 28)
    assert torch.equal(padded.train[..., 2:-2, 2:-2], plain.train)
    assert padded.train.sum() == plain.train.sum()


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
    truth = mixture(3, 2, seed=4)
    data = load("mixture:components=3,seed=4")
    assert (len(data.train), len(data.test), data.shape) == (9000, 1000, (2,))
    samples = torch.cat([data.train, data.test])
    torch.testing.assert_close(samples.mean(0), truth.mean, atol=0.1, rtol=0)
    torch.testing.assert_close(samples.var(0), truth.variance, atol=0.25, rtol=0.05)
    counts = torch.cat([data.train_labels, data.test_labels]).bincount(minlength=3) / 10_000
    torch.testing.assert_close(counts, truth.mixture_distribution.probs, atol=0.02, rtol=0)


def test_a_mixture_depends_on_its_seed_alone():
    state = torch.get_rng_state()
    one, two, other = (load(f"mixture:dimension=7,seed={s}") for s in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert one.fingerprint == two.fingerprint != other.fingerprint
    assert one.shape == (7,)


# -- the table


def test_every_data_set_is_listed_without_a_network():
    listed = {line.name.partition(":")[0]: line.present for line in available()}
    assert list(listed) == names()
    assert {name for name, present in listed.items() if not present} == {
        "mnist", "fashion_mnist", "cifar10", "svhn", "celeba", "chairs", "dsprites", "metabric",
    }  # fmt: skip
    assert verify("mnist5k") == "mnist5k needs no files."


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("mnist6k", "one of mnist5k, mnist, .*, sprites:N, .*, npz:PATH"),
        ("", "one of mnist5k"),
        (5, "one of mnist5k"),
        (None, "one of mnist5k"),
        (["mnist"], "one of mnist5k"),
        ("mnist:3", "mnist without an argument"),
        ("mnist5k:", "mnist5k without an argument, zero-padded to 32x32, or with 28"),
        ("sprites:many", "sprites:N with a whole number N from 10 to 737,280"),
        ("sprites:", "sprites:N with a whole number"),
        ("sprites:9", "sprites:N with a whole number"),
        ("sprites:-20", "sprites:N with a whole number"),
        ("sprites:20.0", "sprites:N with a whole number"),
        ("sprites:٢٠", "sprites:N with a whole number"),
        ("sprites:737281", "sprites:N with a whole number"),
        ("dsprites:" + "9" * 5000, "dsprites:N with a whole number"),
        ("mixture:components=0", "mixture:components=5,dimension=2,seed=0 with one or more of these, each once"),
        ("mixture:dimension=1001", "mixture:components=5,dimension=2,seed=0 with"),
        ("mixture:seed=4294967296", "mixture:components=5,dimension=2,seed=0 with"),
        ("mixture:seed=1,seed=2", "mixture:components=5,dimension=2,seed=0 with"),
        ("mixture:colour=3", "mixture:components=5,dimension=2,seed=0 with"),
        ("mixture:seed=-1", "mixture:components=5,dimension=2,seed=0 with"),
        ("mixture:seed", "mixture:components=5,dimension=2,seed=0 with"),
        ("mixture:", "mixture:components=5,dimension=2,seed=0 with"),
        ("folder", "folder:PATH with a path after the colon"),
        ("folder:", "folder:PATH with a path after the colon"),
        ("npz:", "npz:PATH with a path after the colon"),
        ("npz:a\0b", "npz:PATH with a path after the colon"),
    ],
)
def test_a_wrong_name_is_answered_with_the_right_ones(name, allowed):
    for action in (check, load, fingerprint, verify, fetch):
        with pytest.raises(Invalid, match=f"^data: .* is not allowed; it has to be {allowed}") as error:
            action(name)
        assert (error.value.field, error.value.value) == ("data", name)


@pytest.mark.parametrize(
    "name",
    [
        *("mnist5k", "mnist", "sprites", "sprites:10", "dsprites:737280", "mixture", "mixture:seed=3,components=1000"),
        *("metabric", "metabric:cna+rna/4", "metabric:clin", "gse7390:rna/0", "folder:~nobody/nowhere", "npz:a:b"),
    ],
)
def test_a_right_name_is_let_through_and_nothing_is_looked_up(name, monkeypatch):
    monkeypatch.setattr(Path, "stat", lambda *_, **__: pytest.fail("the disk was asked"))
    check(name)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [({"components": 0}, "components"), ({"dimension": 1001}, "dimension"), ({"seed": -1}, "seed")],
)
def test_a_mixture_has_a_size_and_a_seed(arguments, field):
    with pytest.raises(Invalid, match=f"{field}: .* is not allowed; it has to be a whole number from"):
        mixture(**arguments)
