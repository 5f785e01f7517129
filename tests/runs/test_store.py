import io
import json
import tarfile

import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vaelib import store as module
from vaelib.store import Store, key_of


def write(store, seed, **extra):
    history = pd.DataFrame({"epoch": [0, 1], "loss": [float("nan"), 0.1 + seed]})
    provenance = {"seconds": 1.0, "data": "d"}
    return store.write({"seed": seed}, history=history, metrics={"loss": 0.1}, provenance=provenance, **extra)


def test_an_entry_comes_back_as_it_was(store):
    weights = {"w": torch.randn(3, 2)}
    landscape = pd.DataFrame({"skew": [0.0, 1 / 3], "divergence": [0.1, 1e-30]})
    entry = store.get(write(store, 1, weights=weights, landscape=landscape).key)
    assert entry.experiment == {"seed": 1}
    assert entry.key == key_of({"seed": 1})
    assert entry.history["loss"][1] == 0.1 + 1
    assert torch.equal(entry.weights()["w"], weights["w"])
    pd.testing.assert_frame_equal(entry.landscape, landscape, check_exact=True)
    assert entry.provenance["schema"] == module.SCHEMA
    assert store.get("0" * 64) is None
    assert not list(store.folder.glob("tmp-*"))


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_numbers_keep_all_their_bits(store, values):
    history = pd.DataFrame({"loss": values})
    entry = store.write({"seed": 0}, history=history, metrics={}, provenance={})
    assert entry.history["loss"].tolist() == values


def test_writing_again_replaces_the_entry_whole(store):
    write(store, 1, weights={"w": torch.zeros(1)})
    entry = write(store, 1)
    assert not entry.has_weights
    assert len(store.entries()) == 1


def test_a_failed_write_leaves_what_was_there(store):
    write(store, 1)
    with pytest.raises(TypeError):
        store.write({"seed": 1}, history=pd.DataFrame(), metrics={"bad": object()}, provenance={})
    assert store.get(key_of({"seed": 1})).metrics == {"loss": 0.1}
    assert not list(store.folder.glob("tmp-*"))


def test_find_wants_one_run(store):
    keys = [write(store, seed).key for seed in range(20)]
    assert store.find(keys[3][:20]).key == keys[3]
    with pytest.raises(KeyError, match="fits 20 of the runs"):
        store.find("")
    with pytest.raises(KeyError, match="fits 0 of the runs"):
        store.find("xyz")


def test_export_and_import(store, tmp_path):
    keys = [write(store, seed).key for seed in range(3)]
    archive = tmp_path / "runs.tar.gz"
    assert store.export(archive) == 3
    other = Store(tmp_path / "other")
    write(other, 0)
    assert other.import_(archive) == (2, 1)
    assert [e.key for e in other.entries()] == sorted(keys)
    assert other.find(keys[2]).history.equals(store.find(keys[2]).history)
    assert store.export(archive, [keys[0][:10]]) == 1


def test_a_damaged_archive_adds_nothing(store, tmp_path):
    for seed in range(3):
        write(store, seed)
    archive = tmp_path / "runs.tar.gz"
    store.export(archive)
    archive.write_bytes(archive.read_bytes()[:-200])
    other = Store(tmp_path / "other")
    with pytest.raises(ValueError, match=r"runs\.tar\.gz cannot be read"):
        other.import_(archive)
    assert other.entries() == []
    with pytest.raises(ValueError, match="cannot be read"):
        other.import_(tmp_path / "missing.tar.gz")


@pytest.mark.parametrize("name", ["../evil.json", "/etc/evil.json", "a" * 64 + "/run.py", "a" * 64 + "/x/../../y.json"])
def test_an_archive_with_other_files_is_refused(store, tmp_path, name):
    archive = tmp_path / "evil.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    with pytest.raises(ValueError, match="not part of a run"):
        store.import_(archive)
    assert list(tmp_path.glob("**/evil.json")) == []


def test_a_run_under_a_false_key_is_refused(store, tmp_path):
    entry = write(store, 1)
    (entry.folder / "experiment.json").write_text(json.dumps({"seed": 2}))
    archive = tmp_path / "runs.tar.gz"
    store.export(archive)
    with pytest.raises(ValueError, match="whose experiment has another key"):
        Store(tmp_path / "other").import_(archive)


def test_prune_removes_what_is_stale(store, monkeypatch):
    write(store, 1)
    monkeypatch.setattr(module, "SCHEMA", module.SCHEMA + 1)
    current = write(store, 2)
    (store.folder / "tmp-left").mkdir()
    store.checkpoint("abc").parent.mkdir()
    store.checkpoint("abc").write_text("")
    assert store.prune() == 3
    assert [e.key for e in store.entries()] == [current.key]
    assert store.prune() == 0


def test_the_table_has_a_row_a_run(store):
    assert store.table().empty
    write(store, 1)
    write(store, 2)
    assert sorted(store.table()["seed"]) == [1, 2]
