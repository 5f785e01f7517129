"""The ledger: what the papers state, what was measured, and a verdict by one rule.

The statements are in ``claims.yaml`` beside this module. A notebook records what it measured with a
:class:`Ledger`; a report collects what all notebooks recorded.
"""

import difflib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from scipy import stats

from vaelib.errors import Invalid
from vaelib.files import lock, write_text

VERDICTS = ("reproduced", "trend only", "not reproduced", "not run at this scale")

RULE = (
    "A printed value is *reproduced* if the mean measured differs from it by at most two standard deviations (the "
    "paper's and ours, added in squares) or 5 %, whichever is more; it is *trend only* within 25 %. A statement is "
    "turned into margins, one a seed, that are positive where it holds: it is *reproduced* if the 95 % interval of the "
    "mean margin lies above zero, *trend only* if the mean does. A statement of pure theory is reproduced if every "
    "margin is positive. Anything else is *not reproduced*. All this is for the paper's data set and at least its "
    "epochs; at a smaller scale the verdict is at best *trend only*, and otherwise *not run at this scale*."
)
"""How a verdict is reached."""


@dataclass(frozen=True)
class Claim:
    """One statement of a paper.

    Attributes
    ----------
    id
        Paper, table or statement, data set and method: ``avae/t3/mnist/js``.
    says
        The statement, or what the value is of.
    value, sd, n
        The number that the paper prints, with its spread and number of seeds where it prints them; None for a
        statement in words.
    data, epochs
        The scale at which the paper has it; both None for pure theory.
    note
        A remark.
    """

    id: str
    says: str
    value: float | None = None
    sd: float | None = None
    n: int | None = None
    data: str | None = None
    epochs: int | None = None
    note: str = ""

    @property
    def stated(self) -> str:
        """What the paper states, in short: ``0.36 ± 0.001 (n = 5)``, or ``holds``."""
        if self.value is None:
            return "holds"
        return _number(self.value, self.sd, self.n, digits=3 if abs(self.value) < 1000 else 4)

    @property
    def scale(self) -> str:
        """The paper's scale, in words."""
        return _scale(self.data, self.epochs)


def _number(mean: float, sd: float | None, n: int | None, digits: int) -> str:
    """A mean to so many significant digits, with its spread and count."""

    def rounded(value: float, digits: int) -> str:
        return f"{float(f'{value:.{digits}g}'):g}"  # 260, not 2.6e+02

    spread = "" if sd is None else f" ± {rounded(sd, digits - 1)}"
    return rounded(mean, digits) + spread + (f" (n = {n})" if n else "")


def mean_sd(values: Sequence[float], decimals: int) -> str:
    """``1.23 ± 0.04``, for tables; without a spread where there is only one value."""
    numbers = np.asarray(values, dtype=float)
    spread = f" ± {numbers.std(ddof=1):.{decimals}f}" if len(numbers) > 1 else ""
    return f"{numbers.mean():.{decimals}f}{spread}"


def _scale(data: str | None, epochs: int | None) -> str:
    return ", ".join([*([data] if data else []), *([f"{epochs} epochs"] if epochs else [])])


@cache
def _book() -> dict[str, Claim]:
    text = yaml.safe_load(resources.files("vaelib.companion").joinpath("claims.yaml").read_text(encoding="utf-8"))
    return {
        name: Claim(name, entry.pop("quantity", None) or entry.pop("says"), **entry)
        for name, entry in text["claims"].items()
    }


def ids() -> list[str]:
    """The ids of all claims."""
    return list(_book())


def get(claim: str) -> Claim:
    """The claim with this id.

    Raises
    ------
    Invalid
        If there is none; the sentence names the closest ones.
    """
    if claim not in _book():
        near = ", ".join(difflib.get_close_matches(claim, _book(), n=3, cutoff=0.3))
        raise Invalid("claim", claim, f"in the ledger, where the closest are {near}")
    return _book()[claim]


def counterpart(dataset: str) -> str:
    """The papers' data set that a data set stands for, whole or not: ``mnist`` for ``mnist5k``."""
    return {"mnist5k": "mnist", "sprites": "dsprites"}.get(dataset.split(":")[0], dataset)


def recorded_as(dataset: str, likelihood: str) -> str:
    """The data set's name in the ledger: with the likelihood where it is not the one of the α-VAE paper's table 2.

    That lists squared error for MNIST and a Bernoulli likelihood for the others.
    """
    listed = "gaussian" if counterpart(dataset) == "mnist" else "bernoulli"
    return dataset if likelihood == listed else f"{dataset}, {likelihood}"


def paper_table(claims: Iterable[str]) -> pd.DataFrame:
    """What the papers state: one row a claim."""
    rows = [(c.says, c.stated, c.scale) for c in map(get, claims)]
    return pd.DataFrame(rows, index=pd.Index(claims, name="claim"), columns=["statement", "paper", "paper's scale"])


def verdict(claim: Claim, measured: Sequence[float], dataset: str | None, epochs: int | None) -> str:
    """One of :data:`VERDICTS`, by :data:`RULE`.

    Parameters
    ----------
    claim
        What was tested.
    measured
        One value a seed; margins where the claim is a statement.
    dataset, epochs
        The scale at which it was measured.
    """
    values = np.asarray(measured, dtype=float)
    mean, sd = values.mean(), values.std(ddof=1) if len(values) > 1 else 0.0
    if claim.value is not None:
        distance = abs(mean - claim.value)
        holds = distance <= max(2 * math.hypot(sd, claim.sd or 0), 0.05 * abs(claim.value))
        trend = distance <= 0.25 * abs(claim.value)
    elif claim.data is None and claim.epochs is None:
        holds, trend = bool((values > 0).all()), mean > 0
    else:
        reach = stats.t.ppf(0.975, len(values) - 1) * sd / math.sqrt(len(values)) if len(values) > 1 else math.inf
        holds, trend = mean - reach > 0, mean > 0
    paper_scale = claim.data in (None, dataset) and (epochs or 0) >= (claim.epochs or 0)
    if paper_scale:
        return VERDICTS[0] if holds else VERDICTS[1] if trend else VERDICTS[2]
    return VERDICTS[1] if trend else VERDICTS[3]


class Ledger:
    """What one notebook measured, kept in a file beside its figures.

    Parameters
    ----------
    folder
        From :func:`vaelib.companion.figures.folder`.
    """

    def __init__(self, folder: Path):
        self.file = Path(folder) / "claims.json"

    def records(self) -> dict[str, dict[str, dict[str, Any]]]:
        """What is recorded, by claim and by data set (``""`` for theory)."""
        return json.loads(self.file.read_text(encoding="utf-8")) if self.file.exists() else {}

    def record(
        self,
        claim: str,
        measured: Iterable[float],
        *,
        dataset: str | None = None,
        epochs: int | None = None,
        runs: Iterable[str] = (),
        note: str = "",
    ) -> None:
        """Record what was measured, in the place of an earlier record of the same claim on the same data set.

        Several processes may record at a time.

        Parameters
        ----------
        claim
            Its id.
        measured
            One value a seed; for a statement margins, positive where it holds.
        dataset, epochs
            The scale.
        runs
            Keys of the runs that it was measured on.
        note
            How it was measured, where that is not plain.

        Raises
        ------
        Invalid
            If the claim is unknown, nothing was measured, or something that is not finite.
        """
        get(claim)
        values = [float(value) for value in measured]
        if not values or not all(map(math.isfinite, values)):
            raise Invalid(f"measured for {claim}", values, "one or more finite numbers")
        entry = {"measured": values, "epochs": epochs, "runs": sorted(set(runs)), "note": note}
        with lock(self.file):
            records = self.records()
            records.setdefault(claim, {})[dataset or ""] = entry
            write_text(self.file, json.dumps(records, indent=1, sort_keys=True, ensure_ascii=False) + "\n")

    def table(self, claims: Iterable[str] | None = None, *, digits: int = 2) -> pd.DataFrame:
        """The verdicts: one row a claim and data set, of all that are recorded or of those named.

        What was measured is shown to so many digits: two hold on any machine. The file beside the figures has all.
        """
        records = self.records()
        rows = []
        for claim in map(get, records if claims is None else claims):
            row = {"claim": claim.id, "statement": claim.says, "paper": claim.stated}
            for dataset, entry in records.get(claim.id, {}).items():
                values = np.asarray(entry["measured"])
                spread = values.std(ddof=1) if len(values) > 1 else None
                margin = "margin " if claim.value is None else ""
                measured = {
                    "measured": margin + _number(values.mean(), spread, len(values), digits),
                    "scale": _scale(dataset, entry["epochs"]),
                    "verdict": verdict(claim, entry["measured"], dataset, entry["epochs"]),
                }
                rows.append(row | measured)
            if claim.id not in records:
                rows.append(row | {"measured": "—", "scale": "—", "verdict": VERDICTS[3]})
        columns = ["claim", "statement", "paper", "measured", "scale", "verdict"]
        return pd.DataFrame(rows, columns=columns).set_index("claim")
