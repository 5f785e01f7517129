import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from hypothesis import settings

from vaelib import data
from vaelib.runs import Store

ROOT = Path(__file__).parents[1]
CHROMIUM = shutil.which("chromium")
ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run",
]  # fmt: skip
LACKING = [name for name in ("sphinx", "myst_nb", "furo", "playwright") if find_spec(name) is None]

# Timings are never asserted; a check before landing must not depend on luck, while a run by hand goes on searching.
settings.register_profile("default", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("default")
torch.set_num_threads(1)  # as a run is trained; more threads only get into each other's way on small tensors


@pytest.fixture(autouse=True)
def _own_folders(tmp_path, monkeypatch):
    """No test reads or writes the user's folders."""
    for name in ("DATA", "RUNS", "FIGURES", "CACHE"):
        monkeypatch.setenv(f"VAELIB_{name}", str(tmp_path / name.lower()))


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "runs")


@pytest.fixture(scope="session")
def squares(tmp_path_factory):
    """A data set small enough to train on in a test: 200 images of bright squares, as the name of a file of arrays."""
    generator = torch.Generator().manual_seed(0)
    images = torch.zeros(240, 1, 32, 32, dtype=torch.uint8)
    for image, (x, y, size) in zip(images, torch.randint(4, 16, (240, 3), generator=generator).tolist()):
        image[0, y : y + size, x : x + size] = 255
    file = tmp_path_factory.mktemp("squares") / "squares.npz"
    np.savez(file, train=images[:200].numpy(), test=images[200:].numpy())
    name = f"npz:{file}"
    assert data.load(name).shape == (1, 32, 32)
    return name


@pytest.fixture
def tiny(squares, tmp_path):
    """The same in a file of the test's own."""
    return f"npz:{shutil.copy(squares.removeprefix('npz:'), tmp_path)}"


# A browser


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The site, built as `make site` does."""
    if LACKING:
        pytest.skip(f"not installed: {', '.join(LACKING)}; pip install 'vaelib[site,browser]'")
    if CHROMIUM is None:
        pytest.skip("there is no chromium; apt-get install chromium")
    folder = tmp_path_factory.getbasetemp()
    place = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "site"
    with FileLock(f"{place}.lock"):  # once for all workers
        if not (done := place / ".done").exists():
            environment = {name: value for name, value in os.environ.items() if not name.startswith("VAELIB_")}
            command = [
                sys.executable,
                "-m",
                "sphinx",
                "-W",
                "--keep-going",
                "--quiet",
                "--conf-dir",
                "docs",
                ".",
                place,
            ]
            built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
            assert built.returncode == 0, built.stderr
            done.touch()
    return place


@pytest.fixture(scope="session")
def browser(site):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield started
        started.close()


@pytest.fixture(params=[(1440, "light"), (390, "dark")], ids=lambda p: "-".join(map(str, p)))
def page(browser, request):
    """A page of this width, in this light; nothing is written to its console, and it asks no other host."""
    width, scheme = request.param
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    opened, complaints = context.new_page(), []
    opened.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("request", lambda r: None if r.url.startswith(("file:", "data:")) else complaints.append(r.url))
    yield opened
    context.close()
    assert complaints == []
