import math
import random
import warnings

import pandas as pd
import pytest
import torch

from vaelib.runs import checkpoint as module
from vaelib.runs.bundle import read, write
from vaelib.runs.checkpoint import Checkpoint

ROWS = [{"epoch": 0, "loss": 0.1 + 0.2, "best": float("nan")}, {"epoch": 1, "loss": 1e-310, "best": float("inf")}]


@pytest.fixture
def saved():
    observations = {"a" * 64: pd.DataFrame({"skew": [0.0, 1 / 3]}), "b" * 64: {"mean": torch.randn(3)}}
    return Checkpoint(
        "f" * 64, 1, ROWS, observations, 1.5, {"model.w": torch.randn(4, 5), "noise": torch.arange(9).byte()}
    )


@pytest.fixture
def file(saved, tmp_path):
    saved.write(tmp_path / "checkpoints" / "a.zip")
    return tmp_path / "checkpoints" / "a.zip"


def test_it_comes_back_as_it_was(saved, file):
    back = Checkpoint.read(file)
    assert (back.epoch, back.seconds) == (1, 1.5)
    assert repr(back.history) == repr(ROWS)
    assert [list(row) for row in back.history] == [list(row) for row in ROWS]
    assert math.isnan(back.history[0]["best"])
    assert all(torch.equal(back.state[name], tensor) for name, tensor in saved.state.items())
    assert back.observations["a" * 64].equals(saved.observations["a" * 64])
    assert torch.equal(back.observations["b" * 64]["mean"], saved.observations["b" * 64]["mean"])
    assert [path.name for path in file.parent.iterdir()] == ["a.zip"]


def test_none_is_there_to_go_on_from(file, tmp_path, monkeypatch):
    assert Checkpoint.read(tmp_path / "missing.zip") is None
    monkeypatch.setattr(module, "SCHEMA", module.SCHEMA + 1)
    assert Checkpoint.read(file) is None


def test_no_flipped_bit_goes_on(file):
    sound, members = file.read_bytes(), read(file)
    refused = 0
    for bit in random.Random(2).sample(range(8 * len(sound)), 200):
        content = bytearray(sound)
        content[bit // 8] ^= 1 << bit % 8
        file.write_bytes(content)
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            found = Checkpoint.read(file)
        if found is None:
            assert str(warned[0].message).startswith("checkpoint a.zip cannot be read: ")
            assert str(warned[0].message).endswith("; the run starts anew")
            refused += 1
        else:
            assert read(file) == members
    assert refused > 100


@pytest.mark.parametrize("content", [b"", b"PK", b"not a zip file", b"PK\5\6" + bytes(18)])
def test_garbage_starts_anew(file, content):
    file.write_bytes(content)
    with pytest.warns(UserWarning, match=r"checkpoint a\.zip cannot be read"):
        assert Checkpoint.read(file) is None


@pytest.mark.parametrize("member", ["schema.json", "history.json", "state.safetensors"])
def test_a_part_that_lacks_starts_anew(file, member):
    members = read(file)
    del members[member]
    write(file, members)
    with pytest.warns(UserWarning, match=r"checkpoint a\.zip cannot be read"):
        assert Checkpoint.read(file) is None


def test_an_interrupted_write_leaves_the_old_one(saved, file):
    saved.state["bad"] = object()
    with pytest.raises(AttributeError):
        saved.write(file)
    assert Checkpoint.read(file).epoch == 1
    assert [path.name for path in file.parent.iterdir()] == ["a.zip"]
