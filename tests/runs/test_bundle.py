import json
import random
import re
import struct
import tracemalloc
import warnings
import zipfile
from hashlib import sha256

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vaelib.errors import UserError
from vaelib.runs import bundle
from vaelib.runs.bundle import Damaged

TABLE = f"observations/{'a' * 64}"
MEMBERS = {"metrics.json": b'{"loss": 0.1}\n', "history.csv": b"a,b\n" * 99, "weights.safetensors": bytes(range(256))}


@pytest.fixture
def file(tmp_path):
    bundle.write(tmp_path / "a.zip", MEMBERS)
    return tmp_path / "a.zip"


def outcome(file):
    """The members, which are the same where the bit says nothing, like a member's date; or the sentence."""
    try:
        return bundle.read(file)
    except Damaged as error:
        return str(error)


def zip_of(file, members, manifest=None, packing=zipfile.ZIP_DEFLATED):
    """A bundle made by hand, of pairs of names and contents."""
    stated = {n: {"sha256": sha256(c).hexdigest(), "size": len(c)} for n, c in members}
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w") as archive:
        warnings.simplefilter("ignore")
        for name, content in members:
            archive.writestr(name, content, packing)
        if manifest is not False:
            archive.writestr("manifest.json", json.dumps(stated if manifest is None else manifest))


def test_members_come_back_and_the_bytes_are_the_same_each_time(file, tmp_path):
    assert bundle.read(file) == MEMBERS
    bundle.write(tmp_path / "b.zip", dict(reversed(MEMBERS.items())))
    assert (tmp_path / "b.zip").read_bytes() == file.read_bytes() == bundle.zipped(MEMBERS)
    with zipfile.ZipFile(file) as archive:
        packing = {info.filename: info.compress_type for info in archive.infolist()}
    assert packing["weights.safetensors"] == zipfile.ZIP_STORED
    assert packing["history.csv"] == zipfile.ZIP_DEFLATED


def test_no_flipped_bit_is_served(file):
    sound = file.read_bytes()
    for bit in random.Random(1).sample(range(8 * len(sound)), 400):
        content = bytearray(sound)
        content[bit // 8] ^= 1 << bit % 8
        file.write_bytes(content)
        found = outcome(file)
        assert found == MEMBERS or re.fullmatch(r"a\.zip cannot be read: .+", found), bit


def test_no_truncated_file_is_served(file):
    sound = file.read_bytes()
    for length in range(0, len(sound), 7):
        file.write_bytes(sound[:length])
        with pytest.raises(Damaged):
            bundle.read(file)


def test_other_files_are_refused(tmp_path):
    for name in ("missing.zip", "folder.zip"):
        (tmp_path / "folder.zip").mkdir(exist_ok=True)
        with pytest.raises(Damaged, match=f"{name} cannot be read"):
            bundle.read(tmp_path / name)


@pytest.mark.parametrize(
    ("members", "manifest", "why"),
    [
        ([], False, "manifest.json"),
        ([("metrics.json", b"{}")], False, "manifest.json"),
        ([("metrics.json", b"{}")], {}, "'metrics.json' is missing, or not what"),
        ([("metrics.json", b"{}")], {"metrics.json": {"sha256": "0", "size": 2}}, "'metrics.json' is missing, or not"),
        ([], {"history.csv": {}}, "'history.csv' is missing"),
        ([], [["history.csv"]], "unhashable"),
        ([], 3, "not iterable"),
        ([("metrics.json", b"{}"), ("metrics.json", b"{}")], None, "'metrics.json', which is not allowed, or twice"),
        ([("run.py", b"")], None, "'run.py', which is not allowed"),
        ([("../metrics.json", b"")], None, "not allowed"),
        ([("observations/", b"")], None, "not allowed"),
        ([("observations/metrics.json", b"")], None, "not allowed"),
        ([("metrics.json\n", b"")], None, "not allowed"),
    ],
)
def test_members_and_manifest_have_to_agree(tmp_path, members, manifest, why):
    zip_of(tmp_path / "a.zip", members, manifest)
    with pytest.raises(Damaged, match=why):
        bundle.read(tmp_path / "a.zip")


def test_names_that_could_not_be_read_again_are_not_written(file):
    with pytest.raises(UserError, match=r"run\.py"):
        bundle.write(file, {"run.py": b""})
    assert bundle.read(file) == MEMBERS


@pytest.mark.parametrize("packing", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_only_what_can_be_unpacked_in_bounds_is(tmp_path, packing):
    zip_of(tmp_path / "a.zip", [("metrics.json", b"{}")], packing=packing)
    with pytest.raises(Damaged, match="packed in a way"):
        bundle.read(tmp_path / "a.zip")


def test_encrypted_members_are_refused(file):
    content = bytearray(file.read_bytes())
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(signature) + offset] |= 1
    file.write_bytes(content)
    with pytest.raises(Damaged, match="encrypted"):
        bundle.read(file)


def test_a_bomb_is_not_unpacked(tmp_path, monkeypatch):
    file = tmp_path / "a.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("manifest.json", "{}")
        with archive.open("weights.safetensors", "w") as member:
            for _ in range(100):
                member.write(bytes(2**20))
    monkeypatch.setattr(bundle, "_unpacked", None)  # that would be called to unpack
    with pytest.raises(Damaged, match="absurdly much"):
        bundle.read(file)


def test_a_member_that_is_more_than_it_says_is_not_unpacked_to_its_end(tmp_path):
    file = tmp_path / "a.zip"
    zip_of(file, [("metrics.json", bytes(2**24))])
    content = file.read_bytes()
    file.write_bytes(content.replace(struct.pack("<L", 2**24), struct.pack("<L", 8)))
    tracemalloc.start()
    try:
        with pytest.raises(Damaged):
            bundle.read(file)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def round_trip(**values):
    observations = values.pop("observations", {})
    return bundle.unpack(bundle.pack(observations=observations, **values))


@given(st.lists(st.floats(), min_size=1))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_numbers_keep_all_their_bits(values):
    back = round_trip(history=pd.DataFrame({"x": values}), metrics=values)
    np.testing.assert_array_equal(back["history"]["x"].to_numpy(), np.array(values))
    np.testing.assert_array_equal(np.array(back["metrics"]), np.array(values))


def test_tables_keep_their_types():
    table = pd.DataFrame(
        {
            "count": [1, -(2**62), 3],
            "value": [0.1, np.nan, np.inf],
            "whole": [1.0, 2.0, 3.0],
            "half": np.array([0.1, 1 / 3, -0.0], dtype="float32"),
            "yes": [True, False, True],
            "digit": ["1", "02", "3.0"],
            "text": ["", 'a,"b"\nc', "NA"],
            "gap": ["", None, "x"],
            "empty": ["", "", ""],
            "nothing": [np.nan] * 3,
        }
    )
    pd.testing.assert_frame_equal(round_trip(history=table)["history"], table, check_exact=True)
    pd.testing.assert_frame_equal(round_trip(history=table[:0])["history"], table[:0])
    pd.testing.assert_frame_equal(round_trip(history=table[["empty"]])["history"], table[["empty"]])
    assert round_trip(history=pd.DataFrame())["history"].empty


def test_tensors_and_observations_come_back():
    shared = torch.arange(6.0).reshape(2, 3)
    tensors = {"a": shared, "b": shared.T, "c": torch.tensor(3), "d": torch.zeros(0, 2), "e": torch.ones(2).bool()}
    table = pd.DataFrame({"x": [0.1]})
    back = round_trip(state=tensors, weights=None, observations={"a" * 64: table, "b" * 64: tensors})
    assert set(back) == {"state", "observations"}
    assert back["observations"]["a" * 64].equals(table)
    for found in (back["state"], back["observations"]["b" * 64]):
        assert all(
            torch.equal(found[name], tensor) and found[name].dtype == tensor.dtype for name, tensor in tensors.items()
        )
    assert round_trip(state={}) == {"state": {}, "observations": {}}
