"""`make lab` opens JupyterLab, also for root, who is the user in many a container."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent

pytestmark = pytest.mark.skipif(
    not shutil.which("make") or not (BIN / "jupyter").exists(), reason="make and jupyter are not installed here"
)


def test_lab_starts_serves_and_stops(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = f"--no-browser --port={port} --ServerApp.port_retries=0 --IdentityProvider.token=known"
    environment = os.environ | {"HOME": str(tmp_path), "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime")}
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            ["make", "lab", "READY=", f"BIN={BIN}", f"LAB={options}"],
            cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        page = _fetched(f"http://127.0.0.1:{port}/lab?token=known", server, tmp_path / "log")
        assert "<title>JupyterLab</title>" in page
        listed = _fetched(f"http://127.0.0.1:{port}/api/contents?token=known", server, tmp_path / "log")
        assert "01_theory_checks.ipynb" in listed
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(60)


def _fetched(address, server, log):
    """A page, once the server answers; what it says where it ends before."""
    until = time.monotonic() + 120
    while True:
        assert server.poll() is None, log.read_text()
        try:
            with urlopen(address, timeout=30) as answer:
                return answer.read().decode()
        except (URLError, ConnectionError):
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.5)
