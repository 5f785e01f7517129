"""Faults on purpose: a toy training is harmed, and what is there in the end is compared with an undisturbed one.

A trial ends in one of five ways:

- identical: the same command carried on, and everything that an experiment determines has the same bits;
- sentence: one sentence said what was wrong, and the same command gave the same bits once that was mended;
- other data: tables without checksums were trained on as they were, with the sha256 of their files, and trained anew
  once they were mended;
- too late: a training that was to be struck at a random moment had ended before;
- wrong: anything else, such as other bits, a traceback, or something left behind that stays for ever.

Run with ``python benchmarks/faults.py --kills 100 --others 10``. A full disk and a read-only
store are mounted, which needs root; without, they are left out.
"""

import argparse
import hashlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any, NamedTuple
from unittest import mock

import nbformat
import numpy as np
import pandas as pd
import psutil
from click.testing import CliRunner
from nbformat.v4 import new_code_cell, new_notebook

from vaelib import cli, data, paths
from vaelib.data import images
from vaelib.data.simulated import simulate
from vaelib.runs import Store, bundle, execution
from vaelib.runs import store as store_module

CELLS = [
    (
        "parameters",
        """dataset: str = "npz:FOLDER/data/toy.npz"  # what is trained on
batch_size: int = 10  # samples in a step: with fewer, training takes longer
profile: str = "quick"  # where results go""",
    ),
    (
        "imports",
        """from vaelib import MLP, Adam, Bound, DualGeometricJS, Experiment, Gaussian, Learned, Study
from vaelib.measures import Errors, Samples""",
    ),
    (
        "study",
        """base = Experiment(
    data=dataset,
    network=MLP((32,)),
    latent=Gaussian(3),
    likelihood="balanced" if "cohort" in dataset else "bernoulli",
    objective=Bound(DualGeometricJS(Learned())),
    optimiser=Adam(1e-3),
    epochs=12,
    batch_size=batch_size,
)
runs = {seed: base.replace(seed=seed) for seed in range(3)}
first = Study(runs, names=["seed"], observe=[Errors(at=(1, 6, 11)), Samples(2)])""",
    ),
    (
        "study",
        """best = int(first.stored().final.sort_values("test_loss")["seed"].iloc[0])
second = Study({best: base.replace(seed=best + 10)}, names=["seed"], observe=[Samples(2)])""",
    ),
]
COMMAND = "from pathlib import Path; from vaelib import cli, paths; paths.project = Path.cwd; cli.main()"
SLOW, NPZ = (), ("-p", "batch_size", "40")
MNIST, COHORT = (*NPZ, "-p", "dataset", "mnist"), (*NPZ, "-p", "dataset", "simulated_cohort:clin+rna/0")

Bits = dict[str, dict[str, bytes]]


class Ended(NamedTuple):
    """How a command ended: its exit code, and what it wrote to stderr, warnings apart."""

    code: int | None
    said: str

    def sentence(self, code: int = 1) -> bool:
        """Whether one sentence was all that it said."""
        return self.code == code and bool(re.fullmatch(r"(Error|stopped): [^\n]+\n", self.said))


class Toy:
    """A project whose notebook plans three runs, and a fourth once these are stored.

    Parameters
    ----------
    folder
        Where it is made.
    """

    def __init__(self, folder: Path):
        self.folder, self.data, self._undisturbed = folder, folder / "data", dict[Sequence[str], Bits]()
        (folder / "notebooks" / "profiles").mkdir(parents=True)
        (folder / "notebooks" / "profiles" / "quick.yaml").write_text("order: [01_toy.second]\n")
        cells = [new_code_cell(s.replace("FOLDER", str(folder)), metadata={"tags": [tag]}) for tag, s in CELLS]
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        nbformat.write(new_notebook(cells=cells, metadata=kernel), folder / "notebooks" / "01_toy.ipynb")
        random = np.random.default_rng(0)
        simulate(self.data / "simulated_cohort", patients=100, genes=20, features=20)
        train, test = (random.integers(0, 256, (n, 8, 8), "u1") for n in (200, 50))
        np.savez(self.data / "toy.npz", train=train, test=test)
        raw = self.data / "MNIST" / "raw"  # in torchvision's layout
        raw.mkdir(parents=True)
        for name in images._IDX["MNIST"]:
            shape = (200 if "train" in name else 50, *((28, 28) if "images" in name else ()))
            head = bytes([0, 0, 8, len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape)
            (raw / name).write_bytes(head + random.integers(0, 10, shape, "u1").tobytes())
        self._published = {f.name: f"md5:{hashlib.md5(f.read_bytes()).hexdigest()}" for f in raw.iterdir()}

    def start(self, store: Path) -> subprocess.Popen[str]:
        """Train with two workers, in a process group of its own."""
        folders = {"VAELIB_RUNS": str(store), "VAELIB_DATA": str(self.data), "PYTHONUNBUFFERED": "1"}
        return subprocess.Popen(
            [sys.executable, "-c", COMMAND, "train", "--workers", "2"],
            cwd=self.folder,
            env={**os.environ, **folders},
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def train(self, store: Path, options: Sequence[str] = NPZ) -> Ended:
        """Train in this process, as a new one would, and without a network."""
        execution.dataset.cache_clear()
        folders = {"VAELIB_RUNS": str(store), "VAELIB_DATA": str(self.data)}
        with (
            mock.patch.dict(os.environ, folders),
            mock.patch.dict(images._IDX, MNIST=self._published),
            mock.patch.object(paths, "project", return_value=self.folder),
            data.offline(),
        ):
            result = CliRunner().invoke(cli.main, ["train", "--workers", "1", *options])
        if result.exception and not isinstance(result.exception, SystemExit):
            return Ended(None, repr(result.exception))
        return Ended(result.exit_code, without_warnings(result.stderr))

    def undisturbed(self, options: Sequence[str] = NPZ) -> Bits:
        """What training gives without any fault."""
        if options not in self._undisturbed:
            with tempfile.TemporaryDirectory() as folder:
                ended = self.train(Path(folder), options)
                assert ended.code == 0, ended
                self._undisturbed[options] = bits(Path(folder))
        return self._undisturbed[options]

    def right(self, store: Path, options: Sequence[str] = NPZ) -> bool:
        """Whether a store holds what it should, and nothing that stays for ever."""
        if bits(store) != self.undisturbed(options):
            return False
        Store(store).prune()
        left = [file for file in store.rglob("*") if file.is_file()]
        return len(left) == len(self.undisturbed(options))

    def mended(self, ended: Ended, store: Path, options: Sequence[str] = NPZ, code: int = 1) -> str:
        """How a trial ended, whose fault is no more: the command is called once more where it did not end well."""
        if ended.code == 0:
            return "identical" if self.right(store, options) else f"wrong: other bits, {ended}"
        again = self.train(store, options)
        if again.code != 0 or not self.right(store, options):
            return f"wrong: {ended}, and then {again}"
        return "sentence" if ended.sentence(code) else f"wrong: {ended}"


def bits(folder: Path) -> Bits:
    """All that an experiment determines of each stored run: everything but times."""
    found = {}
    for entry in Store(folder).entries():
        members = bundle.read(entry.file)
        del members["provenance.json"]
        found[entry.key] = members | {"history.csv": entry.history.drop(columns="seconds").to_csv().encode()}
    return found


def without_warnings(text: str) -> str:
    """What was written to stderr but for warnings, each of which has a line of code below it."""
    return re.sub(r"^.*Warning: .*\n(  .*\n)?", "", text, flags=re.MULTILINE)


# Killed


def signalled(number: int, *, all_of_them: bool) -> Callable[[subprocess.Popen[str], list[psutil.Process]], None]:
    """A blow: a signal to the command, or to its process group."""
    return lambda command, workers: (os.killpg if all_of_them else os.kill)(command.pid, number)


def kill_worker(command: subprocess.Popen[str], workers: list[psutil.Process]) -> None:
    """A blow: the end of one worker, as when the memory does not suffice."""
    if workers:
        workers[0].kill()


BLOWS = {
    "kill -9 of the process group": (signalled(signal.SIGKILL, all_of_them=True), -signal.SIGKILL),
    "kill -9 of the command": (signalled(signal.SIGKILL, all_of_them=False), -signal.SIGKILL),
    "kill -9 of a worker": (kill_worker, 1),
    "Ctrl-C": (signalled(signal.SIGINT, all_of_them=True), 130),
    "SIGTERM to the process group": (signalled(signal.SIGTERM, all_of_them=True), 130),
    "SIGTERM to the command": (signalled(signal.SIGTERM, all_of_them=False), 130),
}
"""What is done to a training with two workers, and the exit code that should follow."""


def struck(toy: Toy, store: Path, blow: str, seconds: float | None = None) -> str:
    """How a training took a blow, so many seconds after its runs were planned; by default after a first checkpoint."""
    command = toy.start(store)
    assert command.stdout is not None
    command.stdout.readline()  # the runs are planned
    before, deadline = Store(store).under_way(), time.monotonic() + (60 if seconds is None else seconds)
    while command.poll() is None and time.monotonic() < deadline:
        epochs = Store(store).under_way()
        if seconds is None and any(done > 5 and done != before.get(key) for key, done in epochs.items()):
            break
        time.sleep(0.01)
    everybody, (strike, code) = list[psutil.Process](), BLOWS[blow]
    with suppress(psutil.NoSuchProcess):
        everybody = psutil.Process(command.pid).children(recursive=True)
        workers = [child for child in everybody if "popen_loky" in " ".join(child.cmdline())]
        strike(command, workers)
    said = without_warnings(command.communicate(timeout=120)[1])
    if psutil.wait_procs(everybody, timeout=20)[1]:
        return "wrong: workers that do not end"
    if command.returncode == 0 and not said:
        return "too late"
    if command.returncode != code or (code > 0 and not Ended(code, said).sentence(code)):
        return f"wrong: {Ended(command.returncode, said)}"
    return "sentence" if code > 0 else "identical"


def struck_often(toy: Toy, store: Path, blows: Sequence[tuple[str, float | None]]) -> list[str]:
    """How the trainings of one store took one blow after another, if the last command then makes all right."""
    took = [struck(toy, store, *blow) for blow in blows]
    end = toy.mended(toy.train(store, SLOW), store, SLOW)
    return took if end == "identical" else [end for _ in took]


def two_at_once(toy: Toy, store: Path, random: Random | None = None) -> str:
    """Two trainings share a store, and one of them may be killed at a random moment."""
    one, other = toy.start(store), toy.start(store)
    if random and random.random() < 0.5:
        with suppress(subprocess.TimeoutExpired):
            one.wait(random.uniform(3, 12))
        os.killpg(one.pid, signal.SIGKILL)
    for command in (one, other):
        said = without_warnings(command.communicate(timeout=120)[1])
        if command.returncode not in (0, -signal.SIGKILL) or said:
            return f"wrong: {Ended(command.returncode, said)}"
    return "identical" if other.returncode == 0 and toy.right(store, SLOW) else "wrong: other bits"


# Files that are damaged

Harm = Callable[[Path, Random], None]


def truncate(file: Path, random: Random) -> None:
    file.write_bytes(file.read_bytes()[: random.randrange(max(file.stat().st_size, 1))])


def flip(file: Path, random: Random) -> None:
    if content := bytearray(file.read_bytes()):
        content[random.randrange(len(content))] ^= 1 << random.randrange(8)
        file.write_bytes(content)


def remove(file: Path, random: Random) -> None:
    file.unlink()


def replace(file: Path, random: Random) -> None:
    file.unlink()
    file.mkdir()


HARMS: tuple[Harm, ...] = (truncate, flip, remove, replace)


def halfway(toy: Toy, store: Path) -> None:
    """Make a store of a training that was interrupted: a finished run, a checkpoint, how far that is, and locks."""
    mark = Store.mark

    def interrupted(self: Store, key: str, epochs: int | None) -> None:
        mark(self, key, epochs)
        if epochs == 7 and any(self.folder.glob("??/*.zip")):
            raise KeyboardInterrupt

    with mock.patch.object(Store, "mark", interrupted):
        ended = toy.train(store)
    assert ended.sentence(130), ended


def damaged_store(pattern: str) -> Callable[[Toy, Path, Random], str]:
    """A trial: a file of a store that is half-way is harmed."""

    def trial(toy: Toy, store: Path, random: Random, harm: Harm | None = None) -> str:
        halfway(toy, store)
        file = random.choice(sorted(store.glob(pattern)))
        (harm or random.choice(HARMS))(file, random)
        ended = toy.train(store)
        if file.is_dir():
            file.rmdir()
        return toy.mended(ended, store)

    return trial


def damaged_data(pattern: str, options: Sequence[str]) -> Callable[[Toy, Path, Random], str]:
    """A trial: a file of the data is harmed."""

    def trial(toy: Toy, store: Path, random: Random, harm: Harm | None = None) -> str:
        toy.undisturbed(options)
        file = random.choice(sorted(toy.data.glob(pattern)))
        content = file.read_bytes()
        try:
            (harm or random.choice(HARMS))(file, random)
            ended = toy.train(store, options)
        finally:
            if file.is_dir():
                file.rmdir()
            file.write_bytes(content)
        if ended.code == 0 and bits(store) != toy.undisturbed(options):
            files = {entry.provenance["files"] for entry in Store(store).entries()}
            for entry in Store(store).entries():
                if entry.key not in toy.undisturbed(options):  # the fourth run was another, after other results
                    entry.file.unlink()
            end = toy.mended(toy.train(store, options), store, options)
            known = {entry.provenance["files"] for entry in Store(store).entries()}
            return "other data" if end == "identical" and not files & known else f"wrong: {end}"
        return toy.mended(ended, store, options)

    return trial


# Folders and disks


def blocked_folder(toy: Toy, store: Path, random: Random) -> str:
    """A file lies where a folder should be."""
    place = random.choice(["", "checkpoints", "locks", *{key[:2] for key in toy.undisturbed()}])
    (store / place).parent.mkdir(parents=True, exist_ok=True)
    (store / place).write_text("in the way")
    ended = toy.train(store)
    (store / place).unlink()
    return toy.mended(ended, store)


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


@contextmanager
def disk(folder: Path, kilobytes: int) -> Iterator[None]:
    """A small disk of its own under a folder."""
    folder.mkdir(parents=True)
    mount("-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder))
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def can_mount() -> bool:
    """Whether there are small disks to be had."""
    with (
        tempfile.TemporaryDirectory() as folder,
        suppress(OSError, subprocess.CalledProcessError),
        disk(Path(folder) / "disk", 16),
    ):
        return True
    return False


def full_disk(toy: Toy, store: Path, random: Random) -> str:
    """The disk of the store is full at a random moment."""
    with disk(store, random.randrange(4, 160, 4)):
        ended = toy.train(store)
        mount("-o", "remount,size=64m", str(store))
        return toy.mended(ended, store)


def read_only(toy: Toy, store: Path, random: Random) -> str:
    """The store can be read and not written."""
    with disk(store, 64_000):
        halfway(toy, store)
        mount("-o", "remount,ro", str(store))
        ended = toy.train(store)
        mount("-o", "remount,rw", str(store))
        return toy.mended(ended, store)


# Time


def wrong_clock(toy: Toy, store: Path, random: Random) -> str:
    """The clock jumps by years between any two looks at it, and so do the times of the files; there is a time limit."""
    halfway(toy, store)
    now, years = time.time, 365.25 * 24 * 3600

    class Jumping(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.fromtimestamp(time.time(), UTC)

    def jumping() -> float:
        return now() + random.uniform(-20, 20) * years

    for file in store.rglob("*.*"):
        os.utime(file, (jumping(), jumping()))
    with mock.patch.object(time, "time", jumping), mock.patch.object(store_module, "datetime", Jumping):
        ended = toy.train(store, [*NPZ, "--max-hours", str(random.choice([1, 1e6]))])
    return toy.mended(ended, store, code=130)


FAULTS: dict[str, Callable[..., str]] = {
    "two trainings at once, one killed or not": two_at_once,
    "store: a finished run is damaged": damaged_store("??/*.zip"),
    "store: a checkpoint is damaged": damaged_store("checkpoints/*.zip"),
    "store: the mark of a run under way is damaged": damaged_store("checkpoints/*.epochs"),
    "store: a lock is damaged": damaged_store("locks/*.lock"),
    "data: the file of arrays is damaged": damaged_data("toy.npz", NPZ),
    "data: a file of MNIST is damaged": damaged_data("MNIST/raw/*", MNIST),
    "data: a table of the cohort is damaged": damaged_data("simulated_cohort/*", COHORT),
    "a file in the place of a folder": blocked_folder,
    "a full disk": full_disk,
    "a read-only store": read_only,
    "a clock that jumps": wrong_clock,
}
"""Trials: of a toy, an empty folder for the store, and what chooses at random."""

DISKS = full_disk, read_only


def main() -> None:
    """Print how all trials ended."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="trainings that are struck")
    parser.add_argument("--others", type=int, default=10, help="trials of each other fault")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    random, ends = Random(given.seed), list[tuple[str, str]]()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for what runs in the background

    def count(fault: str, end: str) -> None:
        ends.append((fault, end.partition(":")[0]))
        if end.startswith("wrong"):
            print(f"{fault}: {end}", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        toy = Toy(Path(folder) / "toy")
        while (hits := sum(end != "too late" for _, end in ends)) < given.kills:
            blows = [(random.choice([*BLOWS]), random.uniform(0, 4)) for _ in range(min(3, given.kills - hits))]
            for (blow, _), end in zip(blows, struck_often(toy, Path(folder) / f"struck {len(ends)}", blows)):
                count(blow, end)
        for fault, trial in FAULTS.items():
            if trial in DISKS and not can_mount():
                continue
            for number in range(given.others):
                count(fault, trial(toy, Path(folder) / f"{fault} {number}", random))
    table = pd.DataFrame(ends, columns=["fault", "end"])
    columns = ["identical", "sentence", "other data", "too late", "wrong"]
    counts = pd.crosstab(table["fault"], table["end"]).reindex(columns=columns, fill_value=0)
    counts = counts.reindex([fault for fault in (*BLOWS, *FAULTS) if fault in counts.index])
    counts.insert(0, "trials", counts.sum(axis=1))
    print(counts.rename_axis(index=None, columns=None).to_string())


if __name__ == "__main__":
    main()
