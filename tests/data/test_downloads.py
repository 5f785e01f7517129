"""Published files, without the network: written by the tests or served from this machine."""

import gzip
import hashlib
import io
import pickle
import struct
import sys
import tarfile
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from vaelib import paths
from vaelib.data import DataError, fetch, load, sprites, verify
from vaelib.data import images as image_sets
from vaelib.data._torchvision import torchvision


def idx(values):
    return struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.tobytes()


@pytest.fixture
def published():
    """MNIST's four files at a tiny size: 20 and 10 images."""
    random = np.random.default_rng(0)
    files = {}
    for part, n in (("train", 20), ("t10k", 10)):
        files[f"{part}-images-idx3-ubyte"] = idx(random.integers(0, 256, (n, 28, 28), dtype=np.uint8))
        files[f"{part}-labels-idx1-ubyte"] = idx(random.integers(0, 10, n, dtype=np.uint8))
    return files


@pytest.fixture
def tiny_mnist(published, monkeypatch):
    """The table of checksums says that the tiny files are what was published."""
    checks = {file: f"md5:{hashlib.md5(content).hexdigest()}" for file, content in published.items()}
    monkeypatch.setitem(image_sets._IDX, "MNIST", checks)


@pytest.fixture
def raw(published, tiny_mnist):
    """The tiny files, where torchvision would put them."""
    folder = paths.data() / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for file, content in published.items():
        (folder / file).write_bytes(content)
    return folder


@pytest.fixture
def served(tmp_path):
    """A folder and the address it is served at."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    folder = tmp_path / "served"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def left_behind():
    """What lies in the folder of data sets, but for locks."""
    found = [str(file.relative_to(paths.data())) for file in paths.data().rglob("*")]
    return sorted(file for file in found if not file.endswith(".lock"))


def test_published_files_are_read(raw, published):
    data = load("mnist")
    assert (len(data.train), len(data.test), data.shape) == (20, 10, (1, 32, 32))
    assert data.train[:, :, 2:-2, 2:-2].numpy().tobytes() == published["train-images-idx3-ubyte"][16:]
    assert data.test_labels.numpy().astype(np.uint8).tobytes() == published["t10k-labels-idx1-ubyte"][8:]
    assert "are as published" in verify("mnist")


@pytest.mark.parametrize("file", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
@pytest.mark.parametrize("damage", [lambda b: b[:-5], lambda b: b"", lambda b: b[:-1] + bytes([b[-1] ^ 1])])
def test_damaged_files_are_named_and_not_read(raw, file, damage):
    (raw / file).write_bytes(damage((raw / file).read_bytes()))
    for action in (load, fetch, verify):
        with pytest.raises(DataError, match=f"{file} is corrupt or truncated .*: delete the file"):
            action("mnist")


def test_verify_names_a_missing_file_and_fetches_nothing(raw):
    (raw / "t10k-images-idx3-ubyte").unlink()
    with pytest.raises(DataError, match="t10k-images-idx3-ubyte is missing"):
        verify("mnist")


def test_without_a_network_the_message_says_what_to_do(monkeypatch, served):
    _, address = served  # where no such file is
    monkeypatch.setattr(torchvision().datasets.MNIST, "mirrors", [f"{address}/"])
    with pytest.raises(DataError, match="mnist could not be fetched") as caught:
        load("mnist")
    message = str(caught.value)
    assert "MNIST/raw/train-images-idx3-ubyte" in message
    assert f"under {paths.data()} by hand, or use mnist5k, which needs no network." in message
    assert "\n" not in message
    assert left_behind() == []


def test_a_downloaded_mnist_is_whole_and_stays(monkeypatch, served, published, tiny_mnist):
    folder, address = served
    mnist = torchvision().datasets.MNIST
    resources = []
    for file, content in published.items():
        packed = gzip.compress(content)
        (folder / f"{file}.gz").write_bytes(packed)
        resources.append((f"{file}.gz", hashlib.md5(packed).hexdigest()))
    monkeypatch.setattr(mnist, "mirrors", [f"{address}/"])
    monkeypatch.setattr(mnist, "resources", resources)
    assert len(load("mnist").train) == 20
    assert left_behind() == ["MNIST", "MNIST/raw", *sorted(f"MNIST/raw/{file}" for file in published)]
    monkeypatch.setattr(mnist, "mirrors", [])
    assert len(load("mnist").train) == 20


@pytest.fixture
def tiny_dsprites(monkeypatch, served):
    """An archive like the official one, of 60 images, at an address on this machine."""
    folder, address = served
    frames = np.random.default_rng(0).integers(0, 2, (60, 64, 64), dtype=np.uint8)
    np.savez_compressed(folder / sprites.ARCHIVE, imgs=frames)
    sha1 = hashlib.sha1((folder / sprites.ARCHIVE).read_bytes()).hexdigest()
    monkeypatch.setattr(sprites, "URL", f"{address}/{sprites.ARCHIVE}")
    monkeypatch.setattr(sprites, "SHA1", f"sha1:{sha1}")
    monkeypatch.setattr(sprites, "COUNT", 60)
    return frames


def test_dsprites_are_downloaded_and_read(tiny_dsprites):
    data = load("dsprites")
    assert (len(data.train), len(data.test)) == (54, 6)
    # The first 60 of the grid differ only in position: y fastest, 32 values.
    for image, x, y in zip(data.train, data.factors.train["x"], data.factors.train["y"]):
        assert np.array_equal(image[0], tiny_dsprites[32 * x + y] * 255)
    assert left_behind() == [sprites.ARCHIVE]


def test_a_wrong_checksum_is_refused_and_nothing_stays(tiny_dsprites, monkeypatch):
    monkeypatch.setattr(sprites, "SHA1", "sha1:" + "0" * 40)
    with pytest.raises(DataError, match=r"dsprites could not be fetched .*hash.* by hand, or use mnist5k"):
        fetch("dsprites")
    assert left_behind() == []


def test_an_archive_of_another_shape_is_refused(tiny_dsprites, monkeypatch):
    monkeypatch.setattr(sprites, "COUNT", 61)
    with pytest.raises(DataError, match=r"is not the dSprites archive \(its images are \(60, 64, 64\)"):
        load("dsprites")


def test_celeba_without_its_downloader_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "gdown", None)
    with pytest.raises(
        DataError, match=r"gdown.* put celeba/img_align_celeba.zip, celeba/list_eval_partition.txt under"
    ):
        load("celeba")
    assert left_behind() == []


@pytest.fixture
def tiny_chairs(monkeypatch, served):
    """Three chairs of two views each, in an archive laid out as the published one."""
    folder, address = served
    with tarfile.open(folder / "rendered_chairs.tar", "w") as archive:
        for model in "abc":
            for view in range(2):
                png = io.BytesIO()
                Image.new("RGB", (600, 600), (80 * "abc".index(model),) * 3).save(png, "png")
                info = tarfile.TarInfo(f"rendered_chairs/{model}/renders/image_{view:03}.png")
                info.size = len(png.getvalue())
                archive.addfile(info, io.BytesIO(png.getvalue()))
    monkeypatch.setattr(image_sets, "CHAIRS_URL", f"{address}/rendered_chairs.tar")
    monkeypatch.setattr(image_sets, "CHAIRS", 3)
    monkeypatch.setattr(image_sets, "VIEWS", 2)
    return folder / "rendered_chairs.tar"


def test_chairs_are_downloaded_distilled_and_read(tiny_chairs):
    data = load("chairs")
    assert (len(data.train), len(data.test), data.shape) == (5, 1, (1, 64, 64))
    for image, label in zip(data.train, data.train_labels):
        assert (image == 80 * label).all()
    assert left_behind() == ["rendered_chairs.tar", "rendered_chairs_64.npz"]
    assert load("chairs").fingerprint == data.fingerprint
    small = paths.data() / "rendered_chairs_64.npz"
    small.write_bytes(small.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"rendered_chairs_64.npz cannot be read"):
        load("chairs")


def test_half_the_chairs_are_refused(tiny_chairs):
    tiny_chairs.write_bytes(tiny_chairs.read_bytes()[:7000])
    with pytest.raises(DataError, match=r"rendered_chairs.tar is corrupt or truncated"):
        load("chairs")
    assert left_behind() == []


def place(file, content):
    """Put a file where its data set belongs; returns the checksum it would have been published with."""
    (paths.data() / file).parent.mkdir(parents=True, exist_ok=True)
    (paths.data() / file).write_bytes(content)
    return hashlib.md5(content).hexdigest()


def test_cifar10_keeps_colours_and_labels(monkeypatch):
    cifar, random = torchvision().datasets.CIFAR10, np.random.default_rng(0)
    pixels = random.integers(0, 256, (5, 3, 32, 32), dtype=np.uint8)
    batch = pickle.dumps({"data": pixels.reshape(5, -1), "labels": [4, 3, 2, 1, 0]})
    meta = pickle.dumps({"label_names": list("abcde")})
    folder = cifar.base_folder
    monkeypatch.setattr(cifar, "train_list", [["train", place(f"{folder}/train", batch)]])
    monkeypatch.setattr(cifar, "test_list", [["test", place(f"{folder}/test", batch)]])
    monkeypatch.setitem(cifar.meta, "md5", place(f"{folder}/batches.meta", meta))
    data = load("cifar10")
    assert np.array_equal(data.train, pixels)
    assert data.test_labels.tolist() == [4, 3, 2, 1, 0]


def test_svhn_keeps_colours_and_labels(monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 3, 32, 32), dtype=np.uint8)
    matlab = io.BytesIO()
    savemat(matlab, {"X": pixels.transpose(2, 3, 1, 0), "y": np.array([[10], [1], [2], [3], [4]])})
    parts = {part: ["", f"{part}.mat", place(f"{part}.mat", matlab.getvalue())] for part in ("train", "test")}
    monkeypatch.setattr(torchvision().datasets.SVHN, "split_list", parts)
    data = load("svhn")
    assert np.array_equal(data.train, pixels)
    assert data.test_labels.tolist() == [0, 1, 2, 3, 4]


def test_celeba_goes_by_its_official_split(monkeypatch):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for i in range(4):
            with archive.open(f"img_align_celeba/{i}.jpg", "w") as stream:
                Image.new("RGB", (178, 218), (60 * i, 0, 0)).save(stream, "jpeg")
    partition = b"0.jpg 0\n1.jpg 1\n2.jpg 2\n3.jpg 0\n"
    files = {"img_align_celeba.zip": packed.getvalue(), "list_eval_partition.txt": partition}
    listed = [("", place(f"celeba/{file}", content), file) for file, content in files.items()]
    monkeypatch.setattr(torchvision().datasets.CelebA, "file_list", listed)
    data = load("celeba")
    assert data.shape == (3, 64, 64)
    np.testing.assert_allclose(data.train[:, 0].float().mean((1, 2)), [0, 180], atol=3)
    np.testing.assert_allclose(data.test[:, 0].float().mean((1, 2)), [120], atol=3)
