import gzip
import io
import json
import multiprocessing
import os
import random
import re
import tarfile
import threading
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import pandas as pd
import pytest
import torch

from vaelib.errors import UserError
from vaelib.parts import key_of
from vaelib.runs import bundle
from vaelib.runs import store as module
from vaelib.runs.store import Busy, Entry, Store

ONE, TWO = "1" * 64, "2" * 64  # keys of observers
TABLE = pd.DataFrame({"skew": [0.0, 1 / 3], "label": ["", "1"]})
TENSORS = {"mean": torch.arange(6.0).reshape(2, 3)}
WEIGHTS = {"w": torch.arange(6.0).reshape(3, 2)}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "runs")


def write(store, seed, *, provenance=None, **extra):
    history = pd.DataFrame({"epoch": [0, 1], "loss": [float("nan"), 0.1 + seed]})
    stamp = {"seconds": 1.26, "data": "d"} | (provenance or {})
    return store.write({"seed": seed}, history=history, metrics={"loss": 0.1}, provenance=stamp, **extra)


def contents(store):
    return {file.name: file.read_bytes() for file in store.folder.glob("??/*.zip")}


def members(store):
    return {entry.key: bundle.read(entry.file) for entry in store.entries()}


def archive_of(file, *parts):
    """An archive made by hand: of names with bytes, or of whole headers."""
    with tarfile.open(file, "w:gz") as tar:
        for name, content in parts:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file


def outcome(store, archive):
    try:
        return store.import_(archive)
    except UserError as error:
        return str(error)


# Entries


def test_an_entry_comes_back_as_it_was(store):
    written = write(store, 1, weights=WEIGHTS, observations={ONE: TABLE, TWO: TENSORS})
    entry = store.get(written.key)
    assert entry.experiment == {"seed": 1}
    assert entry.key == key_of({"seed": 1})
    assert entry.file == store.folder / entry.key[:2] / f"{entry.key}.zip"
    assert entry.history["loss"][1] == 0.1 + 1
    assert entry.history["epoch"].dtype == "int64"
    assert entry.has_weights
    assert torch.equal(entry.weights()["w"], WEIGHTS["w"])
    assert entry.observed == {ONE, TWO}
    pd.testing.assert_frame_equal(entry.observation(ONE), TABLE, check_exact=True)
    assert torch.equal(entry.observation(TWO)["mean"], TENSORS["mean"])
    assert entry.observation("3" * 64) is None
    assert entry.provenance["schema"] == module.SCHEMA
    assert entry.provenance["data"] == "d"
    assert store.get("0" * 64) is None
    assert not list(store.folder.glob("**/.draft-*"))


def test_writing_again_replaces_the_entry_whole(store):
    write(store, 1, weights=WEIGHTS)
    store.checkpoint(key_of({"seed": 1})).parent.mkdir()
    store.checkpoint(key_of({"seed": 1})).write_text("")
    entry = write(store, 1)
    assert not entry.has_weights
    with pytest.raises(UserError, match=f"run {entry.key[:12]} was stored without its weights"):
        entry.weights()
    assert len(store.entries()) == 1
    assert not store.checkpoint(entry.key).exists()


@pytest.mark.parametrize("raised", [KeyboardInterrupt, OSError("disk full")])
def test_an_interrupted_write_leaves_what_was_there(store, monkeypatch, raised):
    before = (write(store, 1), contents(store))[1]

    def interrupted(*_):
        raise raised

    monkeypatch.setattr(bundle, "read", interrupted)
    with pytest.raises((KeyboardInterrupt, OSError)):
        write(store, 1, weights=WEIGHTS)
    monkeypatch.undo()
    with pytest.raises(TypeError):
        store.write({"seed": 1}, history=TABLE, metrics={"bad": object()}, provenance={"seconds": 1})
    assert contents(store) == before
    assert not list(store.folder.glob("**/.draft-*"))


def test_observations_are_added_and_the_rest_is_kept(store):
    entry = write(store, 1, weights=WEIGHTS, observations={ONE: TABLE})
    before = bundle.read(entry.file)
    more = store.add(entry, {TWO: TENSORS})
    assert more.observed == {ONE, TWO}
    after = bundle.read(entry.file)
    assert {name: after[name] for name in before} == before
    assert isinstance(store.add(more, {ONE: TENSORS}).observation(ONE), dict)
    assert store.get(entry.key).observed == {ONE, TWO}


def test_find_wants_one_run(store):
    keys = [write(store, seed).key for seed in range(20)]
    assert store.find(keys[3][:20]).key == keys[3]
    with pytest.raises(UserError, match="fits 20 of the runs"):
        store.find("")
    with pytest.raises(UserError, match="fits 0 of the runs"):
        store.find("xyz")


def test_the_table_has_a_row_a_run(store):
    assert store.table().empty
    for created, skew in (("2026-01-02", 0.5), ("2026-01-01", 0.25)):
        experiment = {"objective": {"divergence": {"kind": "skew", "skew": skew}}, "seed": 1}
        stamp = {"seconds": 1.26, "created": created}
        store.write(experiment, history=TABLE, metrics={}, provenance=stamp, observations={ONE: TABLE})
    table = store.table()
    assert [*table.columns[:6]] == ["key", "created", "seconds", "schema", "weights", "observations"]
    assert table["objective.divergence.skew"].tolist() == [0.25, 0.5]
    assert table["seconds"].tolist() == [1.3, 1.3]
    assert table["observations"].tolist() == [1, 1]


# Damage


def without(name):
    return lambda members: {n: c for n, c in members.items() if n != name}


def instead(name, content):
    return lambda members: members | {name: content}


UNSOUND = [
    without("experiment.json"),
    without("history.csv"),
    without("metrics.json"),
    without("provenance.json"),
    instead("experiment.json", b"{"),
    instead("experiment.json", b'{"seed": 2}'),
    instead("experiment.json", b"[" * 100_000),
    instead("experiment.json", b'{"seed": NaN}'),
    instead("history.csv", b""),
    instead("history.csv", b'# {"loss": "float64"}\nloss\nfast\n'),
    instead("history.csv", b'# {"loss": "no such"}\nloss\n1\n'),
    instead("metrics.json", b"3"),
    instead("provenance.json", b"garbage"),
    instead("provenance.json", b"[]"),
    instead("provenance.json", b'"schema"'),
    instead("provenance.json", b'{"schema": "2", "created": "c", "seconds": 1}'),
    instead("provenance.json", b'{"schema": true, "created": "c", "seconds": 1}'),
    instead("provenance.json", b'{"schema": 2, "created": {}, "seconds": 1}'),
    instead("provenance.json", b'{"schema": 2, "created": "c", "seconds": null}'),
    instead("more.json", b"{}"),
    instead("state.safetensors", b""),
]


@pytest.mark.parametrize("change", UNSOUND)
def test_what_is_not_a_run_is_neither_served_nor_taken(store, tmp_path, change):
    entry, other = write(store, 1), write(store, 2)
    bundle.write(entry.file, change(bundle.read(entry.file)))
    with pytest.warns(UserWarning, match=f"run {entry.file.name} cannot be read: .*will be made anew"):
        assert store.get(entry.key) is None
    archive = archive_of(tmp_path / "a.tar.gz", *((file.name, file.read_bytes()) for file in (other.file, entry.file)))
    target = Store(tmp_path / "target")
    with pytest.raises(UserError, match=r"^a\.tar\.gz cannot be read: "):
        target.import_(archive)
    assert target.entries() == []


def test_one_damaged_entry_stops_nothing(store):
    damaged, sound = write(store, 1), write(store, 2)
    old = write(store, 3, provenance={"schema": module.SCHEMA - 1})
    damaged.file.write_bytes(damaged.file.read_bytes()[:-30])
    with pytest.warns(UserWarning, match=damaged.key):
        assert sorted(e.key for e in store.entries()) == sorted([sound.key, old.key])
    with pytest.warns(UserWarning, match=damaged.key):
        assert len(store.table()) == 2
    with pytest.warns(UserWarning, match=damaged.key):
        assert store.prune() == 1
    with pytest.warns(UserWarning, match=damaged.key), pytest.raises(UserError, match="fits 0"):
        store.find(damaged.key)
    write(store, 1)  # no warning
    assert len(store.entries()) == 2


def test_no_flipped_bit_of_an_entry_is_served(store):
    entry = write(store, 1, weights=WEIGHTS, observations={ONE: TABLE})
    sound, before = entry.file.read_bytes(), bundle.read(entry.file)
    refused = 0
    for bit in random.Random(3).sample(range(8 * len(sound)), 150):
        content = bytearray(sound)
        content[bit // 8] ^= 1 << bit % 8
        entry.file.write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = store.get(entry.key)
        refused += found is None
        assert found is None or bundle.read(found.file) == before
    assert refused > 75


# Archives


def test_export_and_import(store, tmp_path):
    keys = [write(store, seed, weights=WEIGHTS, observations={ONE: TABLE}).key for seed in range(3)]
    archive = tmp_path / "runs.tar.gz"
    assert store.export(archive) == 3
    other = Store(tmp_path / "other")
    os.makedirs(other._file(keys[0]).parent)
    other._file(keys[0]).write_bytes(store.find(keys[0]).file.read_bytes())
    assert other.import_(archive) == (2, 0, 1)
    assert members(other) == members(store)
    assert other.import_(archive) == (0, 0, 3)
    assert store.export(archive, [keys[0][:10], keys[0]]) == 1


def test_an_unchanged_export_is_an_unchanged_file(store, tmp_path):
    for seed in range(3):
        write(store, seed, weights=WEIGHTS)
    store.export(tmp_path / "a.tar.gz")
    for file in store.folder.glob("??/*.zip"):
        os.utime(file, (1, 1))
    store.export(tmp_path / "b.tar.gz", [entry.key for entry in reversed(store.entries())])
    assert (tmp_path / "a.tar.gz").read_bytes() == (tmp_path / "b.tar.gz").read_bytes()


def test_an_export_can_leave_out_weights(store, tmp_path):
    entry = write(store, 1, weights=WEIGHTS, observations={ONE: TABLE})
    store.export(tmp_path / "a.tar.gz", weights=False)
    other = Store(tmp_path / "other")
    assert other.import_(tmp_path / "a.tar.gz") == (1, 0, 0)
    here = other.find(entry.key)
    assert not here.has_weights
    assert here.observed == {ONE}
    store.export(tmp_path / "b.tar.gz")
    assert other.import_(tmp_path / "b.tar.gz") == (0, 1, 0)
    assert other.find(entry.key).has_weights
    assert store.import_(tmp_path / "a.tar.gz") == (0, 0, 1)


def test_an_import_adds_what_lacks_and_replaces_nothing(store, tmp_path):
    mine = write(store, 1, provenance={"data": "mine"}, observations={ONE: TABLE})
    other = Store(tmp_path / "other")
    write(other, 1, provenance={"data": "theirs"}, weights=WEIGHTS, observations={ONE: TENSORS, TWO: TENSORS})
    other.export(tmp_path / "a.tar.gz")
    before = bundle.read(mine.file)
    assert store.import_(tmp_path / "a.tar.gz") == (0, 1, 0)
    after = bundle.read(mine.file)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {"weights.safetensors", f"observations/{TWO}.safetensors"}


@pytest.mark.parametrize(("mine", "theirs", "counts"), [(0, -1, (0, 0, 1)), (-1, 0, (0, 1, 0)), (1, 0, (0, 0, 1))])
def test_the_newer_schema_wins(store, tmp_path, mine, theirs, counts):
    key = write(store, 1, provenance={"schema": module.SCHEMA + mine, "data": "mine"}, weights=WEIGHTS).key
    other = Store(tmp_path / "other")
    write(other, 1, provenance={"schema": module.SCHEMA + theirs, "data": "theirs"}, observations={ONE: TABLE})
    other.export(tmp_path / "a.tar.gz")
    assert store.import_(tmp_path / "a.tar.gz") == counts
    newer = store.get(key)
    assert newer.provenance["data"] == ("mine" if mine > theirs else "theirs")
    assert newer.has_weights == (mine > theirs)


def test_a_run_of_a_newer_version_is_refused(store, tmp_path):
    write(store, 1, provenance={"schema": module.SCHEMA + 1})
    store.export(tmp_path / "a.tar.gz")
    other = Store(tmp_path / "other")
    with pytest.raises(UserError, match="made by a newer version of vaelib"):
        other.import_(tmp_path / "a.tar.gz")
    assert other.entries() == []


def test_no_flipped_bit_of_an_export_is_taken(store, tmp_path):
    for seed in range(3):
        write(store, seed, weights=WEIGHTS, observations={ONE: TABLE})
    archive = tmp_path / "a.tar.gz"
    store.export(archive)
    sound, before = archive.read_bytes(), members(store)
    bits = random.Random(4).sample(range(8 * len(sound)), 80)
    for number, bit in enumerate([*range(80), *bits]):  # the header's bits, and others
        content = bytearray(sound)
        content[bit // 8] ^= 1 << bit % 8
        archive.write_bytes(content)
        other = Store(tmp_path / str(number))
        if (found := outcome(other, archive)) == (3, 0, 0):
            assert members(other) == before  # it was a bit that says nothing, or says the same
        else:
            assert re.fullmatch(r"a\.tar\.gz cannot be read: .+", found)
            assert contents(other) == {}
        assert not list(other.folder.glob(".draft-*"))


def test_no_truncated_export_is_taken(store, tmp_path):
    for seed in range(3):
        write(store, seed)
    archive = tmp_path / "a.tar.gz"
    store.export(archive)
    sound = archive.read_bytes()
    for length in (0, 5, 12, len(sound) // 2, *range(len(sound) - 12, len(sound))):
        archive.write_bytes(sound[:length])
        with pytest.raises(UserError, match=r"a\.tar\.gz cannot be read"):
            Store(tmp_path / "other").import_(archive)
    with pytest.raises(UserError, match=r"missing\.tar\.gz cannot be read: .*No such file"):
        Store(tmp_path / "other").import_(tmp_path / "missing.tar.gz")
    assert Store(tmp_path / "other").entries() == []


def test_damage_below_the_compression_is_noticed(store, tmp_path):
    for seed in range(2):
        write(store, seed)
    archive = tmp_path / "a.tar.gz"
    store.export(archive)
    plain = bytearray(gzip.decompress(archive.read_bytes()))
    second = bytes(plain).index(store.entries()[1].key.encode(), 600)
    plain[second] ^= 1  # a header that does not fit its checksum looks like the end
    archive.write_bytes(gzip.compress(plain))
    with pytest.raises(UserError, match="goes on after its end"):
        Store(tmp_path / "other").import_(archive)


NAMES = ["../evil.zip", "/etc/evil.zip", "a" * 64, "a" * 64 + "/run.py", "A" * 64 + ".zip", "x/" + "a" * 64 + ".zip"]


@pytest.mark.parametrize("name", NAMES)
def test_an_archive_with_other_files_is_refused(store, tmp_path, name):
    sound = write(store, 1).file
    archive = archive_of(tmp_path / "evil.tar.gz", (sound.name, sound.read_bytes()), (name, b""))
    other = Store(tmp_path / "other")
    with pytest.raises(UserError, match="which is not the bundle of a run"):
        other.import_(archive)
    assert other.entries() == []
    assert not list(tmp_path.glob("**/evil.zip"))


KINDS = [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.GNUTYPE_SPARSE]


@pytest.mark.parametrize("kind", KINDS)
def test_links_and_the_like_are_refused(store, tmp_path, kind):
    sound = write(store, 1).file
    info = tarfile.TarInfo("a" * 64 + ".zip")
    info.type, info.linkname = kind, sound.name
    archive = archive_of(tmp_path / "evil.tar.gz", (sound.name, sound.read_bytes()), (info, b""))
    other = Store(tmp_path / "other")
    with pytest.raises(UserError, match=r"^evil\.tar\.gz cannot be read"):
        other.import_(archive)
    assert other.entries() == []


def test_a_false_safetensors_file_is_refused(store, tmp_path):
    entry = write(store, 1)
    for name in ("weights.safetensors", f"observations/{ONE}.safetensors", f"observations/{ONE}.csv"):
        file = tmp_path / entry.file.name
        bundle.write(file, bundle.read(entry.file) | {name: b"\xff" * 16})
        with pytest.raises(UserError, match=f"{entry.file.name} cannot be read"):
            Store(tmp_path / "other").import_(archive_of(tmp_path / "a.tar.gz", (file.name, file.read_bytes())))


def zeros(file, size, header=b""):
    """So many zeros, compressed twice as fast as they can be counted."""
    with gzip.open(file, "wb", compresslevel=1) as packed:
        packed.write(header)
        for _ in range(size // 2**24):
            packed.write(bytes(2**24))


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_an_absurdly_large_member_is_refused(store, tmp_path, kind):
    info = tarfile.TarInfo("a" * 64 + ".zip")
    info.size, info.type = 2**30, kind
    zeros(tmp_path / "a.tar.gz", 2**30 if kind == tarfile.REGTYPE else 2**28, info.tobuf())
    assert_refused_in_small_memory(store, tmp_path / "a.tar.gz")


def test_an_absurdly_large_member_of_a_bundle_is_refused(store, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as bomb:
        bomb.writestr("manifest.json", "{}")
        with bomb.open("weights.safetensors", "w") as member:
            for _ in range(2**28 // 2**24):
                member.write(bytes(2**24))
    archive_of(tmp_path / "a.tar.gz", ("a" * 64 + ".zip", (tmp_path / "a.zip").read_bytes()))
    assert_refused_in_small_memory(store, tmp_path / "a.tar.gz")


def assert_refused_in_small_memory(store, archive):
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match="would unpack to absurdly much"):
            store.import_(archive)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()
    assert store.entries() == []
    assert not list(store.folder.glob(".draft-*"))


# Locks, and several at once


def test_somebody_who_holds_the_lock_keeps_others_out(store):
    with store.lock(ONE):
        with store.lock(ONE), store.lock(TWO, wait=0):  # a thread may take its own again
            pass
        with pytest.raises(Busy, match=f"run {ONE[:12]} is under way"), store.lock(ONE, wait=0):
            pass
        raised = []

        def other():
            try:
                with store.lock(ONE, wait=0):
                    pass
            except Busy as error:
                raised.append(error)

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert len(raised) == 1
    with store.lock(ONE, wait=0):
        assert (store.folder / "locks" / f"{ONE}.lock").exists()


def test_prune_removes_what_is_stale(store):
    old = write(store, 1, provenance={"schema": module.SCHEMA - 1})
    kept = [write(store, 2), write(store, 3, provenance={"schema": module.SCHEMA + 1})]
    first = store.folder / ONE[:2] / ONE  # how the first schema kept a run
    left = [
        old.file.parent / f".draft-{old.file.name}.abc",
        store.folder / ".draft-import.abc",
        store.folder / "checkpoints" / f".draft-{ONE}.zip.abc",
        first,
    ]
    for folder in left:
        folder.mkdir(parents=True)
        (folder / "content").write_text("")
    for name in (f"{ONE}.zip", f"{ONE}.safetensors", f"{ONE}.123.tmp"):
        (store.folder / "checkpoints" / name).write_text("")
    assert store.prune() == 8
    assert sorted(e.key for e in store.entries()) == sorted(e.key for e in kept)
    assert {p.name for p in store.folder.rglob("*") if p.is_file()} == {e.file.name for e in kept}
    assert store.prune() == 0


def test_prune_leaves_what_somebody_holds(store):
    old = write(store, 1, provenance={"schema": module.SCHEMA - 1})
    store.checkpoint(old.key).parent.mkdir()
    store.checkpoint(old.key).write_text("")
    draft = old.file.parent / f".draft-{old.file.name}.abc"
    draft.mkdir()
    with store.lock(old.key):
        assert store.prune() == 0
        assert draft.exists()
        assert store.checkpoint(old.key).exists()
        assert store.get(old.key)
        assert (store.folder / "locks" / f"{old.key}.lock").exists()
    assert store.prune() == 3


def _write_often(folder: Path, number: int, rounds: int) -> None:
    store, history = Store(folder), pd.DataFrame({"number": [number] * 50})
    weights = {"w": torch.full((50,), float(number))}
    for _ in range(rounds):
        store.write(
            {"seed": 0}, history=history, metrics={"number": number}, provenance={"seconds": 1}, weights=weights
        )


def _add_often(folder: Path, number: int, rounds: int) -> None:
    store = Store(folder)
    for k in range(rounds):
        store.add(store.get(key_of({"seed": 0})), {f"{number}{k:063}": TABLE})


def together(function, folder, rounds):
    """Two processes that do something, and what this one sees in the meantime."""
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=function, args=(folder, number, rounds)) for number in (1, 2)]
    for process in processes:
        process.start()
    while any(process.is_alive() for process in processes):
        yield
    for process in processes:
        process.join()
        assert process.exitcode == 0


@pytest.mark.filterwarnings("error")
def test_two_that_write_the_same_run_leave_no_moment_without_one(store):
    key = write(store, 0).key
    numbers = set()
    for _ in together(_write_often, store.folder, 150):
        entry = store.get(key)
        assert entry is not None
        numbers.add(entry.metrics.get("number"))
    assert {1, 2} & numbers
    entry = store.get(key)
    assert set(entry.history["number"]) == {entry.metrics["number"]} == set(entry.weights()["w"].tolist())
    assert not list(store.folder.glob("**/.draft-*"))


@pytest.mark.filterwarnings("error")
def test_two_that_add_to_the_same_run_lose_nothing(store):
    key = write(store, 0).key
    for _ in together(_add_often, store.folder, 15):
        assert store.get(key) is not None
        store.prune()  # takes nothing away from under them
    assert len(store.get(key).observed) == 30


def test_an_entry_is_read_from_anywhere(store, tmp_path):
    entry = write(store, 1)
    copy = tmp_path / entry.file.name
    copy.write_bytes(entry.file.read_bytes())
    assert json.dumps(Entry.read(copy).experiment) == '{"seed": 1}'
