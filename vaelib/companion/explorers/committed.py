"""Explorers of what is committed: the tables below ``figures`` that notebooks drew their figures from."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pandas as pd

from vaelib import paths
from vaelib.companion.explorers.base import Explorer
from vaelib.companion.explorers.landscapes import landscape
from vaelib.companion.explorers.rates import Measured, equal_rate
from vaelib.companion.explorers.skews import skew
from vaelib.errors import Invalid

PROFILES = "quick", "paper"
T = TypeVar("T")


def committed(name: str) -> Explorer:
    """An explorer of all data that the committed tables have, small runs first.

    Parameters
    ----------
    name
        ``skew``, ``landscape`` or ``equal_rate``.

    Raises
    ------
    Invalid
        If there is no such explorer.
    """
    made: dict[str, Callable[[], Explorer]] = {
        "skew": skew,
        "landscape": lambda: landscape(_tables("03_landscapes/landscape_*", pd.read_csv)),
        "equal_rate": lambda: equal_rate(_tables("04_reconstruction/equal_rate_*", _measured)),
    }
    if name not in made:
        raise Invalid("explorer", name, f"one of {', '.join(made)}")
    return made[name]()


def _tables(pattern: str, read: Callable[[Path], T]) -> dict[str, T]:
    """What is read from the tables that fit, by what they were measured on in words; those of trials are left out."""
    files = [file for profile in PROFILES for file in sorted((paths.figures() / profile).glob(f"{pattern}.csv"))]
    return {json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))["setting"]: read(file) for file in files}


def _measured(table: Path) -> Measured:
    """Errors and rates, with the skews that a figure beside theirs was drawn from, and pictures where there are any."""
    of = table.stem.removeprefix("equal_rate")
    skews = pd.read_csv(table.with_name(f"reconstruction{of}.csv"))
    pictures = table.with_name(f"reconstructions{of}.csv")
    skews = skews.dropna(subset=["seed", "skew"])[["method", "seed", "skew"]]
    errors = pd.read_csv(table).merge(skews, how="left", on=["method", "seed"])
    return Measured(errors, pd.read_csv(pictures) if pictures.exists() else None)
