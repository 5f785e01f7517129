import os
import shutil

import numpy as np
import pytest
import torch
from hypothesis import settings

from vaelib import data
from vaelib.runs import Store

# Timings are never asserted; a check before landing must not depend on luck, while a run by hand goes on searching.
settings.register_profile("default", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("default")
torch.set_num_threads(1)  # as a run is trained; more threads only get into each other's way on small tensors


@pytest.fixture(autouse=True)
def _own_folders(tmp_path, monkeypatch):
    """No test reads or writes the user's folders."""
    for name in ("DATA", "RUNS", "FIGURES"):
        monkeypatch.setenv(f"VAELIB_{name}", str(tmp_path / name.lower()))


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "runs")


@pytest.fixture(scope="session")
def squares(tmp_path_factory):
    """A data set small enough to train on in a test: 200 images of bright squares, as the name of a file of arrays."""
    generator = torch.Generator().manual_seed(0)
    images = torch.zeros(240, 1, 32, 32, dtype=torch.uint8)
    for image, (x, y, size) in zip(images, torch.randint(4, 16, (240, 3), generator=generator).tolist()):
        image[0, y : y + size, x : x + size] = 255
    file = tmp_path_factory.mktemp("squares") / "squares.npz"
    np.savez(file, train=images[:200].numpy(), test=images[200:].numpy())
    name = f"npz:{file}"
    assert data.load(name).shape == (1, 32, 32)
    return name


@pytest.fixture
def tiny(squares, tmp_path):
    """The same in a file of the test's own."""
    return f"npz:{shutil.copy(squares.removeprefix('npz:'), tmp_path)}"
