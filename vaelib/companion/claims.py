"""The ledger: what a notebook measured of the papers' claims, and tables of it with verdicts by one rule.

The statements are in ``claims.yaml`` beside this module (:mod:`vaelib.companion.statements`), the rule in
:mod:`vaelib.companion.verdicts`, and what turns statements into margins in :mod:`vaelib.companion.margins`. A notebook
records with a :class:`Ledger`; a report collects what all notebooks recorded.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from pydantic.json_schema import models_json_schema

from vaelib.companion.statements import Claim, Record, Setting, counterpart, get, ids, rounded
from vaelib.companion.verdicts import FACTS, FINDINGS, RULE, SCALES, Spread, Verdict, judge
from vaelib.errors import Invalid, UserError
from vaelib.files import lock, write_text

__all__ = [
    "RULE",
    "Claim",
    "Ledger",
    "Record",
    "Setting",
    "Verdict",
    "apart",
    "counterpart",
    "get",
    "ids",
    "mean_sd",
    "paper_table",
    "schema",
    "setting_in_words",
    "summary",
    "verdict_table",
]

COLUMNS = ["statement", "paper", "measured", "on", "finding", "scale", "robust"]
_WORDS = {"epochs": "{} epochs", "batch_size": "batches of {}", "learning_rate": "rate {}", "latents": "{} latents"}

Measured: TypeAlias = "pd.Series[float] | pd.DataFrame | Iterable[float]"
"""A value for each unit; a table has a column for each part."""


class Ledger:
    """What one notebook measured, kept in a file beside its figures.

    Parameters
    ----------
    folder
        From :func:`vaelib.companion.figures.folder`.
    """

    def __init__(self, folder: Path):
        self.file = Path(folder) / "claims.json"

    def records(self) -> list[Record]:
        """What is recorded, in the order of claims."""
        entries = json.loads(self.file.read_text(encoding="utf-8")) if self.file.exists() else []
        if not isinstance(entries, list):
            raise UserError(f"{self.file} was written by an older vaelib; remove it and run the notebook again")
        return [Record(**entry) for entry in entries]

    def record(
        self,
        claim: str,
        measured: Measured,
        *,
        setting: Setting | None = None,
        checks: Mapping[str, float] | None = None,
        runs: Iterable[str] = (),
        **others: Any,
    ) -> None:
        """Record what was measured, in the place of an earlier record of the same claim, data, likelihood and variant.

        Several processes may record at a time.

        Parameters
        ----------
        claim
            Its id.
        measured
            A value a unit, or margins that are positive where a statement holds. Rows of a table with the same index
            (its first level) are of one unit and averaged; the index is called what a unit is.
        setting
            How it was measured.
        checks
            For preconditions: what the worst run has (:data:`vaelib.companion.verdicts.PRECONDITIONS`).
        runs
            Keys of the runs that it was measured on.
        others
            ``stand_in``, ``differs``, ``variant`` and ``note`` of :class:`Record`.

        Raises
        ------
        Invalid
            If the claim is unknown, nothing was measured, or something that is not finite.
        UserError
            If the file was written by an older version.
        """
        get(claim)
        unit, values = _by_unit(measured)
        numbers = [*(v for part in values.values() for v in part), *(checks or {}).values()]
        if not all(values.values()) or not values or not all(map(math.isfinite, numbers)):
            raise Invalid(f"measured for {claim}", numbers, "one or more finite numbers")
        entry = Record(
            claim=claim,
            measured=values,
            unit=unit,
            setting=setting or Setting(),
            checks=dict(checks or {}),
            runs=tuple(sorted(set(runs))),
            **others,
        )
        with lock(self.file):
            kept = [record for record in self.records() if record.place != entry.place]
            entries = sorted([*kept, entry], key=lambda record: record.place)
            plain = [record.model_dump(mode="json", exclude_defaults=True) for record in entries]
            write_text(self.file, json.dumps(plain, indent=1, ensure_ascii=False) + "\n")

    def table(self, claims: Iterable[str] | None = None, *, data: str = "", digits: int = 2) -> pd.DataFrame:
        """The verdicts: one row a record, of all claims or of those named, on all data or on some; stand-ins come last.

        What was measured is shown to so many digits: two hold on any machine. The file beside the figures has all.
        """
        records = [record for record in self.records() if data in ("", *record.setting.data)]
        if claims is None:
            return verdict_table(records, digits=digits)
        wanted = list(claims)
        table = verdict_table([r for c in wanted for r in records if r.claim == c], digits=digits)
        absent = [get(c) for c in wanted if c not in table.index]
        rows = [[c.says, c.stated, "—", "—", "not measured", c.missing or "—", "—"] for c in absent]
        empty = pd.DataFrame(rows, columns=COLUMNS, index=pd.Index([c.id for c in absent], name="claim"))
        return pd.concat([table, empty]) if rows else table


def verdict_table(records: Sequence[Record], *, digits: int) -> pd.DataFrame:
    """One row a record, with what the rule says of it; those on stand-ins come last."""
    verdicts = [(claim := get(record.claim), record, judge(claim, record)) for record in records]
    verdicts.sort(key=lambda row: row[2].scale == "stand-in")
    rows = [
        [
            claim.says + (f" ({record.variant})" if record.variant else ""),
            claim.stated,
            _measured(claim, record, digits),
            _said(record.setting, "data", "network", "likelihood", "epochs") or "—",
            ": ".join(filter(None, [verdict.finding, verdict.reason])),
            verdict.scaled or "—",
            _robust(claim, record, verdict),
        ]
        for claim, record, verdict in verdicts
    ]
    index = pd.Index([claim.id for claim, *_ in verdicts], name="claim")
    return pd.DataFrame(rows, columns=COLUMNS, index=index)


def apart(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Records by scale, of those that occur: what was measured on stand-ins is never shown with the papers' data."""
    judged = [(judge(get(record.claim), record).scale, record) for record in records]
    return {scale: found for scale in SCALES if (found := [record for s, record in judged if s == scale])}


def summary(records: Sequence[Record]) -> str:
    """How many findings of each kind there are at each scale, in a sentence."""
    parts = []
    for scale, found in apart(records).items():
        findings = [judge(get(record.claim), record).finding for record in found]
        counts = [f"{findings.count(f)} {f}" for f in (*FINDINGS, *FACTS) if f in findings]
        parts.append(f"{scale}: {', '.join(counts)}")
    return "; ".join(parts) + "."


def paper_table(claims: Iterable[str]) -> pd.DataFrame:
    """What the papers state, where, and in which setting as far as they say: one row a claim."""
    rows = [(c.says, c.stated, c.where, setting_in_words(c)) for c in map(get, claims)]
    columns = ["statement", "paper", "where", "paper's setting"]
    return pd.DataFrame(rows, index=pd.Index(claims, name="claim"), columns=columns)


def schema() -> dict[str, Any]:
    """The JSON Schema of claims, records and verdicts; ``claims.schema.json`` holds it."""
    return models_json_schema(
        [(Claim, "validation"), (Record, "validation"), (Verdict, "validation")], title="Claims, records and verdicts"
    )[1]


def mean_sd(values: Sequence[float], decimals: int) -> str:
    """``1.23 ± 0.04``, for tables; without a spread where there is only one value."""
    numbers = np.asarray(values, dtype=float)
    spread = f" ± {numbers.std(ddof=1):.{decimals}f}" if len(numbers) > 1 else ""
    return f"{numbers.mean():.{decimals}f}{spread}"


def _by_unit(measured: Measured) -> tuple[str, dict[str, tuple[float, ...]]]:
    """What a unit is called, and by part a value for each unit."""
    table = measured if isinstance(measured, pd.DataFrame) else pd.Series(measured, dtype=float).to_frame("")
    unit = str(table.index.names[0] or "seed")
    means = table.groupby(level=0).mean()
    return unit, {str(part): tuple(map(float, column)) for part, column in means.items()}


def _measured(claim: Claim, record: Record, digits: int) -> str:
    """The mean, its interval and the number of units; of several parts the weakest one's."""
    spreads = {part: Spread.of(values) for part, values in record.measured.items()}
    part, weakest = min(spreads.items(), key=lambda item: (item[1].mean - item[1].reach, item[1].mean))
    mean, name = rounded(weakest.mean, digits), f"{part}: " if part and claim.kind == "statement" else ""
    margin = "margin " if claim.value is None else ""
    if claim.kind in ("fact", "erratum"):
        return f"margin {rounded(min(map(min, record.measured.values())), digits)}"
    ends = [rounded(weakest.mean + side * weakest.reach, digits) for side in (-1, 1)]
    interval = f" [{', '.join(ends)}]" if weakest.n > 1 else ""
    units = record.unit if weakest.n == 1 else f"{record.unit}s"
    return f"{name}{margin}{mean}{interval} ({weakest.n} {units})"


def _robust(claim: Claim, record: Record, verdict: Verdict) -> str:
    if verdict.shift is None:
        return "—"
    wider = f"{verdict.shift:+.1g}"
    return f"{wider}; {verdict.units} {record.unit}s decide" if verdict.units else wider


def setting_in_words(claim: Claim) -> str:
    """The paper's setting, and what it does not state."""
    unstated = [f"not stated: {', '.join(claim.unstated)}"] if claim.unstated else []
    return ", ".join(filter(None, [_said(claim.setting, *Setting.model_fields), *unstated]))


def _said(setting: Setting, *fields: str) -> str:
    """Some fields of a setting in words."""
    values = {**setting.model_dump(), "data": " or ".join(setting.data)}
    return ", ".join(_WORDS.get(name, "{}").format(values[name]) for name in fields if values[name])
