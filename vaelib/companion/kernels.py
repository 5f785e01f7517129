"""One run of a notebook: papermill, and the kernel that it talks to."""

import atexit
import multiprocessing
import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from uuid import uuid4

import papermill
import zmq
from jupyter_client.manager import AsyncKernelManager
from papermill.exceptions import PapermillExecutionError

from vaelib.companion import processes
from vaelib.companion.notebooks import Outcome

_STARTS = 3  # how often a kernel is started before it is given up


class Kernel(AsyncKernelManager):
    """A kernel that is talked to through files where the platform can, and through encrypted ports elsewhere."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        file = str(Path(tempfile.gettempdir(), f"vaelib-{uuid4().hex[:16]}.json"))
        if zmq.has("ipc") and len(file) < zmq.IPC_PATH_MAX_LEN - 2:  # the others beside it are called NAME-ipc-1
            self.transport, self.connection_file = "ipc", file
        elif zmq.has("curve"):
            self.transport_encryption = "auto"

    async def _async_interrupt_kernel(self) -> None:
        """Do nothing: to be shut down begins with this, and an idle kernel calls it an error."""


class Waiting:
    """A process that becomes a kernel when it is told what with; jupyter_client takes it for one of subprocess."""

    stdin = stdout = stderr = None

    def __init__(self) -> None:
        context = multiprocessing.get_context("fork")
        receiver, self._sender = context.Pipe(duplex=False)
        self._process = context.Process(target=_serve, args=(receiver,))
        self._process.start()
        receiver.close()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    def begin(self, arguments: list[str], environment: Mapping[str, str]) -> None:
        """Be a kernel with these arguments from now on, in the folder that this process is in."""
        self._sender.send((arguments, dict(environment), os.getcwd()))

    def poll(self) -> int | None:
        """Its exit code once it has ended."""
        return self._process.exitcode

    def wait(self) -> int | None:
        """Its exit code, waited for."""
        self._process.join()
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send a signal to it, and to what it has started."""
        os.killpg(self.pid, number)

    def kill(self) -> None:
        """End it."""
        self._process.kill()

    terminate = kill


@contextmanager
def waiting() -> Iterator[Waiting | None]:
    """A kernel's process, forked from this one while it is young, with all that it has imported; where that is safe."""
    if not processes.FORKED:
        yield None
        return
    kernel = Waiting()
    try:
        yield kernel
    finally:
        kernel.kill()


def _serve(receiver: Connection) -> None:
    """Wait for what a kernel is started with, and be it."""
    from ipykernel.kernelapp import IPKernelApp

    processes.lead()
    arguments, environment, folder = receiver.recv()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    try:
        IPKernelApp.launch_instance(arguments, parent_handle=os.getppid())
    finally:
        atexit._run_exitfuncs()  # which processes of multiprocessing leave out


def _forked(process: Waiting) -> type[Kernel]:
    """A kernel whose process is there already."""

    class Forked(Kernel):
        async def _async_launch_kernel(self, kernel_cmd: list[str], **options: Any) -> None:
            provisioner: Any = self.provisioner
            process.begin(kernel_cmd[kernel_cmd.index("ipykernel_launcher") + 1 :], options["env"])
            provisioner.process, provisioner.pid = process, process.pid

    return Forked


def run(notebook: Path, parameters: Mapping[str, Any], output: Path, process: Waiting | None = None) -> Outcome:
    """Execute a notebook into `output`, which holds what was done so far when a cell fails.

    Parameters
    ----------
    notebook, parameters
        What to execute, and what to inject.
    output
        The executed copy.
    process
        What the kernel runs in; it is started anew where there is none, or the first did not come up.
    """
    # One thread: several kernels do not get into each other's way, and give the same bits.
    os.environ["OMP_NUM_THREADS"] = "1"
    output.parent.mkdir(parents=True, exist_ok=True)
    started, error, ready = time.perf_counter(), None, list[Any]()
    for start in range(1, _STARTS + 1):
        try:
            papermill.execute_notebook(
                notebook,
                output,
                parameters=dict(parameters),
                cwd=notebook.parent,
                kernel_name="python3",
                progress_bar=False,
                kernel_manager_class=_forked(process) if process and start == 1 else Kernel,
                on_notebook_start=lambda notebook: ready.append(notebook),
            )
        except PapermillExecutionError as failure:
            message = re.sub(r"\x1b\[[0-9;]*m", "", failure.evalue).strip().splitlines()
            error = f"cell {failure.exec_count}: {failure.ename}: {message[-1] if message else ''}"
        except Exception as failure:  # a dead kernel, a full disk: the other notebooks go on
            if not ready and start < _STARTS:
                continue
            error = f"{type(failure).__name__}: {failure}"
        break
    return Outcome(output, parameters, time.perf_counter() - started, error)
