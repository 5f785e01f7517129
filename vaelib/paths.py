"""Where things live: absolute folders, so that no notebook depends on where it was started.

nbval starts a notebook in the notebook's folder and papermill in the caller's, so nothing in
this project uses a relative path.
"""

import os
from pathlib import Path

import pooch


def _folder(variable: str, default: Path) -> Path:
    """The folder named by an environment variable, or the default; absolute, not created."""
    return Path(os.environ.get(variable) or default).expanduser().resolve()


def cache() -> Path:
    """Where all that can be made again is kept: ``VAELIB_CACHE``, or the user's cache folder."""
    return _folder("VAELIB_CACHE", Path(pooch.os_cache("vaelib")))


def data() -> Path:
    """Where data sets are downloaded to and read from: ``VAELIB_DATA``, or a folder of the cache."""
    return _folder("VAELIB_DATA", cache() / "data")


def runs() -> Path:
    """Where the run store lives: ``VAELIB_RUNS``, or a folder of the cache."""
    return _folder("VAELIB_RUNS", cache() / "runs")


def pictures() -> Path:
    """Where pictures that were drawn are kept, so that the same table is not drawn twice: a folder of the cache."""
    return cache() / "pictures"


def project() -> Path:
    """The checkout that holds ``notebooks/``; the current folder where vaelib was installed without one."""
    checkout = Path(__file__).resolve().parents[1]
    return checkout if (checkout / "notebooks").is_dir() else Path.cwd()


def figures() -> Path:
    """Where figures and what was measured go: ``VAELIB_FIGURES``, or ``figures/`` of the project."""
    return _folder("VAELIB_FIGURES", project() / "figures")
