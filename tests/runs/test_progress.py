import io
import os
import re
import select
import sys
import termios
import time

import pytest

from vaelib import Experiment
from vaelib.runs import Job, progress
from vaelib.runs.progress import Progress

JOBS = [Job(Experiment(seed=seed, epochs=10)) for seed in range(4)]
ABOUT = dict(zip(JOBS, ["a · one", "a · one", "a · two", "b · one"]))
SECONDS = dict.fromkeys(JOBS, 60.0)


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still unless it is set forward."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def shown(store, clock, monkeypatch):
    """A progress of the four jobs, two at a time, that shows nothing by itself."""
    monkeypatch.setattr(Progress, "_show", lambda self: None)

    def look(done=()):
        with Progress(store, SECONDS, 2, ABOUT.__getitem__) as bar:
            bar.finished(done)
            return bar

    return look


def test_it_tells_what_is_under_way_and_the_time_that_is_thought_to_be_left(shown):
    assert shown().text() == "a · one 0/2 runs · 02:00 left"
    assert shown(JOBS[:1]).text().startswith("a · one 1/2 runs · ")
    assert shown(JOBS[:2]).text().startswith("a · two 0/1 runs · ")
    assert shown([JOBS[0], JOBS[2]]).text().startswith("a · one 1/2 runs · "), "the first that is not done"
    assert shown(JOBS).text() == "b · one 1/1 runs · 00:00 left"


def test_the_time_that_was_needed_tells_the_time_that_is_left(shown, clock):
    bar = shown()
    clock[0] += 30
    bar.finished(JOBS[:1])
    assert bar.text() == "a · one 1/2 runs · 01:30 left", "a quarter took 30 seconds"
    clock[0] += 30
    bar.finished(JOBS[1:3])
    assert bar.text() == "b · one 0/1 runs · 00:20 left"


def test_runs_under_way_count_by_their_epochs(store, shown, clock):
    store.mark(JOBS[0].experiment.key, 5)
    bar = shown()  # what was done before says nothing about the pace
    assert bar.text() == "a · one 0/2 runs · 01:45 left"
    clock[0] += 12
    store.mark(JOBS[0].experiment.key, 9)
    store.mark(JOBS[3].experiment.key, 4)
    store.mark("0" * 64, 9)  # of somebody else
    assert bar.text() == "a · one 0/2 runs · 00:40 left", "48 of 210 in 12 seconds"
    store.mark(JOBS[0].experiment.key, None)
    assert bar.text() == "a · one 0/2 runs · 00:40 left", "it is not undone"


@pytest.mark.parametrize("content", [b"", b"many", b"\xff\xfe", b"1e3", b"-5", b"99999"])
def test_what_does_not_tell_how_far_a_run_is_does_no_harm(store, shown, content):
    store.mark(JOBS[0].experiment.key, 5)
    (file,) = store.folder.glob("checkpoints/*.epochs")
    file.write_bytes(content)
    assert re.fullmatch(r"a · one 0/2 runs · 0\d:\d\d left", shown().text())


def test_jobs_that_belong_to_nothing_are_counted_together(store, clock, monkeypatch):
    monkeypatch.setattr(Progress, "_show", lambda self: None)
    with Progress(store, SECONDS, 1, lambda job: "") as bar:
        bar.finished(JOBS[:3])
        assert bar.text().startswith("3/4 runs · ")


def test_elsewhere_than_on_a_terminal_it_is_one_plain_line_at_a_time(store, monkeypatch, capsys):
    monkeypatch.setattr(progress, "_LINE", 0.1)
    with Progress(store, SECONDS, 2, ABOUT.__getitem__):
        time.sleep(0.35)
    lines = capsys.readouterr().err.splitlines()
    assert 2 <= len(lines) <= 3
    assert lines[0] == "a · one 0/2 runs · 02:00 left"
    assert all(re.fullmatch(r"a · one 0/2 runs · \d\d:\d\d left", line) for line in lines)


def test_what_is_done_within_a_minute_says_nothing(store, capsys):
    with Progress(store, SECONDS, 2, ABOUT.__getitem__) as bar:
        bar.finished(JOBS)
    assert capsys.readouterr().err == ""


def test_on_a_terminal_it_is_one_bar_that_goes(store, monkeypatch):
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, 90))
    monkeypatch.setattr(progress, "_LOOK", 0.05)
    with open(theirs, "w") as terminal, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", terminal)
        with Progress(store, SECONDS, 2, ABOUT.__getitem__) as bar:
            time.sleep(0.2)
            store.mark(JOBS[2].experiment.key, 5)
            bar.finished(JOBS[:2])
            time.sleep(0.3)
        shown = b""
        while select.select([ours], [], [], 0.2)[0]:
            shown += os.read(ours, 4096)
    os.close(ours)
    shown = shown.decode()
    assert "\n" not in shown.strip("\r\n"), "one line"
    assert re.search(r"a · one 0/2 runs · 0\d:\d\d left +.* +0 %", shown)
    assert re.search(r"a · two 0/1 runs · 0\d:\d\d left .*█+.* 62 %", shown)
    assert shown.endswith("\r"), "it goes when all is done"
    assert shown.split("\r")[-2].strip() == ""


def test_in_a_notebook_it_is_one_bar_of_text(store, monkeypatch):
    """A kernel's stderr is no terminal, but what stands there can be written over."""
    stream = type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream"})()
    monkeypatch.setattr(progress, "_LOOK", 0.05)
    monkeypatch.setattr(sys, "stderr", stream)
    with Progress(store, SECONDS, 2, ABOUT.__getitem__) as bar:
        bar.finished(JOBS[:2])
        time.sleep(0.3)
    assert "\n" not in stream.getvalue()
    assert re.search(r"a · two 0/1 runs · \d\d:\d\d left .*[█#]+.* 50 %", stream.getvalue())
