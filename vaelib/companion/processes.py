"""Processes that run notebooks: they are there at once, do not hear Ctrl-C, and end with the one that started them."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from multiprocessing import connection, forkserver
from multiprocessing.process import BaseProcess, parent_process
from typing import Any

from vaelib.runs import execution

FORKED = sys.platform == "linux"
"""Whether they are forked from one that has imported what notebooks need; elsewhere not every library bears that."""

CONTEXT: Any = multiprocessing.get_context("forkserver" if FORKED else "spawn")


def prepare() -> None:
    """Begin to import what notebooks need, aside, so that it is there when the first is run."""
    if FORKED:
        CONTEXT.set_forkserver_preload(["vaelib.companion.preloaded"])
        with execution.spawning():
            forkserver.ensure_running()


def start(function: Callable[..., None], *arguments: Any) -> BaseProcess:
    """Call a function in a process of its own, whose first act, but for forking, should be to :func:`lead`."""
    prepare()
    process: BaseProcess = CONTEXT.Process(target=function, args=arguments)
    with execution.spawning():
        process.start()
    return process


def lead() -> None:
    """Make this process the first of a group that does not hear Ctrl-C, and is killed when the parent is gone."""
    if hasattr(os, "setsid"):
        os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process and its group when the parent is gone, which holds the other end of the sentinel."""
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    if hasattr(os, "killpg"):
        os.killpg(0, signal.SIGKILL)
    os._exit(1)
