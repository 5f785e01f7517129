"""The short campaign of faults; the long one is ``python benchmarks/faults.py``, which says what counts as right."""

import importlib.util
import os
import signal
from pathlib import Path
from random import Random
from unittest import mock

import pytest

from vaelib import Store

_FILE = Path(__file__).parents[2] / "benchmarks" / "faults.py"
_spec = importlib.util.spec_from_file_location("faults", _FILE)
faults = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(faults)


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return faults.Toy(tmp_path_factory.mktemp("faults") / "toy")


def test_what_is_struck_again_and_again_gives_the_same_bits(toy, tmp_path):
    blows = [(blow, None) for blow in ("kill -9 of a worker", "kill -9 of the command")]  # and more in benchmarks/
    assert faults.struck_often(toy, tmp_path / "runs", blows) == ["sentence", "identical"]


def test_to_be_told_to_end_is_to_be_interrupted(toy, tmp_path):
    with mock.patch.object(Store, "mark", side_effect=lambda *_: os.kill(os.getpid(), signal.SIGTERM)):
        ended = toy.train(tmp_path)
    assert ended == (130, "stopped: what was finished is stored; the same command goes on from there\n")
    assert toy.mended(ended, tmp_path, code=130) == "sentence"


@pytest.mark.parametrize(
    ("fault", "harm", "end"),
    [
        ("store: a finished run is damaged", faults.flip, "identical"),
        ("store: a checkpoint is damaged", faults.truncate, "identical"),
        ("store: a checkpoint is damaged", faults.replace, "sentence"),
        ("store: the mark of a run under way is damaged", faults.flip, "identical"),
        ("store: a lock is damaged", faults.remove, "identical"),
        ("data: the file of arrays is damaged", faults.truncate, "sentence"),
        ("data: a file of MNIST is damaged", faults.flip, "sentence"),
        ("data: a file of MNIST is damaged", faults.remove, "sentence"),
        ("data: a table of the cohort is damaged", faults.remove, "sentence"),
    ],
)
def test_a_damaged_file_is_made_anew_or_named(toy, tmp_path, fault, harm, end):
    assert faults.FAULTS[fault](toy, tmp_path / "runs", Random(0), harm) == end


@pytest.mark.parametrize("fault", ["a file in the place of a folder", "a full disk", "a read-only store"])
def test_a_store_that_cannot_be_written_is_one_sentence(toy, tmp_path, fault):
    trial = faults.FAULTS[fault]
    if trial in faults.DISKS and not faults.can_mount():
        pytest.skip("to mount a small disk needs root")
    assert trial(toy, tmp_path / "runs", Random(1)) == "sentence"


def test_a_clock_that_jumps_costs_nothing(toy, tmp_path):
    assert faults.wrong_clock(toy, tmp_path / "runs", Random(0)) in ("identical", "sentence")
