"""Progress: one bar on a terminal and in a notebook, one plain line a minute elsewhere."""

import sys
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Self

from tqdm import tqdm

from vaelib.runs.execution import Job
from vaelib.runs.store import Store

_LINE = 60.0  # seconds between two lines
_LOOK = 1.0  # seconds between two looks


class Shown(ABC):
    """Something under way, and how far it is; that is shown while it is used as a context manager."""

    def __init__(self) -> None:
        self._end = threading.Event()
        self._watch = threading.Thread(target=self._show, daemon=True)

    @abstractmethod
    def text(self) -> str:
        """What is under way, and the time left."""

    @abstractmethod
    def share(self) -> float:
        """How much is done, in [0, 1]."""

    def __enter__(self) -> Self:
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._watch.join()

    def _show(self) -> None:
        notebook = type(sys.stderr).__module__ == "ipykernel.iostream"
        if not sys.stderr.isatty() and not notebook:
            while not self._end.wait(_LINE):
                print(self.text(), file=sys.stderr, flush=True)
            return
        with tqdm(total=1, leave=False, bar_format="{desc} {bar:20} {percentage:3.0f} %") as bar:
            while not self._end.wait(_LOOK):
                bar.set_description_str(self.text(), refresh=False)
                bar.n = self.share()
                bar.refresh()


class Progress(Shown):
    """How far jobs are, wherever they are done, by what the runs under way write into the store.

    Parameters
    ----------
    store
        Where the runs are under way.
    seconds
        How long each job is thought to take; once some are done only their ratios matter.
    workers
        How many jobs are done at a time.
    about
        What a job belongs to, by which jobs are counted.
    """

    def __init__(self, store: Store, seconds: Mapping[Job, float], workers: int, about: Callable[[Job], str]):
        super().__init__()
        self._store, self._seconds, self._workers, self._about = store, seconds, workers, about
        self._share = dict.fromkeys(seconds, 0.0)
        self._runs, self._finished = Counter(map(about, seconds)), Counter[str]()
        self._total = sum(seconds.values())
        self._started, self._there = time.monotonic(), self.share()

    def finished(self, jobs: Sequence[Job]) -> None:
        """Count jobs that are done."""
        for job in jobs:
            self._share[job] = 1.0
            self._finished[self._about(job)] += 1

    def text(self) -> str:
        """What is under way, how many of its runs are done, and the time left for all."""
        share, elapsed = self.share(), time.monotonic() - self._started
        first = next((job for job, share in self._share.items() if share < 1), [*self._share][-1])
        name, new = self._about(first), share - self._there
        left = (1 - share) * (elapsed / new if new > 0.01 else self._total / self._workers)
        return f"{name} {self._finished[name]}/{self._runs[name]} runs · {tqdm.format_interval(left)} left".strip()

    def share(self) -> float:
        """Of the seconds that all jobs are thought to take, those that are done."""
        epochs = self._store.under_way()
        for job, share in self._share.items():
            self._share[job] = max(share, min(epochs.get(job.experiment.key, 0) / job.experiment.epochs, 1.0))
        return sum(self._seconds[job] * share for job, share in self._share.items()) / self._total
