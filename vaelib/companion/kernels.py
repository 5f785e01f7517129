"""One run of a notebook: papermill, and the kernel that it talks to."""

import atexit
import os
import re
import tempfile
import time
from collections.abc import Mapping
from multiprocessing.process import BaseProcess
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
_PATIENCE = 60  # seconds for one to start


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


class Forked(Kernel):
    """A kernel that is forked from a process which has imported what it needs: it is there at once."""

    async def _async_launch_kernel(self, kernel_cmd: list[str], **options: Any) -> None:
        provisioner: Any = self.provisioner
        arguments = kernel_cmd[kernel_cmd.index("ipykernel_launcher") + 1 :]
        process = processes.start(_serve, arguments, options["env"])
        provisioner.process, provisioner.pid = _Process(process), process.pid


class _Process:
    """A process of multiprocessing, as jupyter_client takes one of subprocess."""

    stdin = stdout = stderr = None

    def __init__(self, process: BaseProcess):
        self._process = process

    def poll(self) -> int | None:
        """Its exit code once it has ended."""
        return self._process.exitcode

    def wait(self) -> int | None:
        """Its exit code, waited for."""
        self._process.join()
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send a signal to it, and to what it has started."""
        assert self._process.pid is not None
        os.killpg(self._process.pid, number)

    def kill(self) -> None:
        """End it where it does not lead a group yet."""
        self._process.kill()

    terminate = kill


def _serve(arguments: list[str], environment: Mapping[str, str]) -> None:
    """Be a kernel that was to be started with these arguments."""
    from ipykernel.kernelapp import IPKernelApp

    os.environ.clear()
    os.environ.update(environment)
    try:
        IPKernelApp.launch_instance(arguments, parent_handle=os.getppid())
    finally:
        atexit._run_exitfuncs()  # which processes of multiprocessing leave out


def run(notebook: Path, parameters: Mapping[str, Any], output: Path) -> Outcome:
    """Execute a notebook into `output`, which holds what was done so far when a cell fails.

    Parameters
    ----------
    notebook, parameters
        What to execute, and what to inject.
    output
        The executed copy.
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
                kernel_manager_class=Forked if start == 1 and processes.FORKED else Kernel,
                on_notebook_start=lambda notebook: ready.append(notebook),
            )
        except PapermillExecutionError as failure:
            message = re.sub(r"\[[0-9;]*m", "", failure.evalue).strip().splitlines()
            error = f"cell {failure.exec_count}: {failure.ename}: {message[-1] if message else ''}"
        except Exception as failure:  # a dead kernel, a full disk: the other notebooks go on
            if not ready and start < _STARTS:
                continue
            error = f"{type(failure).__name__}: {failure}"
        break
    return Outcome(output, parameters, time.perf_counter() - started, error)
