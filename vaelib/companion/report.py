"""The report of a profile, as Markdown: each figure beside the claims that it tests."""

import json
import re
from collections.abc import Iterable, Mapping
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import jinja2

from vaelib import paths
from vaelib.companion import claims
from vaelib.companion.claims import RULE, Ledger
from vaelib.companion.statements import Record
from vaelib.companion.verdicts import judge
from vaelib.errors import UserError
from vaelib.files import write_text


@cache
def template(name: str) -> jinja2.Template:
    """A template of this package: what is for a browser is escaped, and what is for a code host is not."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("vaelib.companion"),
        autoescape=lambda name: name is not None and ".html." in name,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["literal"] = _literal
    return environment.get_template(f"{name}.jinja")


def _literal(text: object) -> str:
    """A text for one line of Markdown, which shows every character as it is."""
    return re.sub(r"[\\`*_\[\]<>|~&$]", r"\\\g<0>", " ".join(str(text).split()))


def shown(folder: Path) -> list[dict[str, Any]]:
    """The notes of a folder's pictures, with the claims that they test; a note without a picture is left out."""
    notes = {file: json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*.json"))}
    return [
        {"note": note, "path": f"{folder.name}/{file.stem}.png", "claims": [*map(claims.get, note["claims"])]}
        for file, note in notes.items()
        if file.with_suffix(".png").exists()
    ]


def profiles() -> list[str]:
    """The profiles of which notebooks have recorded something, trials apart."""
    return sorted({file.parents[1].name for file in paths.figures().glob("*/*/claims.json")} - {"trial"})


def pictures(folder: Path, figures: Iterable[Mapping[str, Any]], record: Record) -> tuple[Path, ...]:
    """Those of the figures :func:`shown` of a notebook's folder that test a record's claim on its runs."""
    runs = {*record.runs}
    return tuple(
        folder.parent / figure["path"]
        for figure in figures
        for note in [figure["note"]]
        if record.claim in note["claims"] and not (runs and note["runs"] and runs.isdisjoint(note["runs"]))
    )


def records(profile: str) -> dict[Path, list[Record]]:
    """What notebooks have recorded in the folder of a profile, by their own folders."""
    files = sorted((paths.figures() / profile).glob("*/claims.json"))
    return {file.parent: Ledger(file.parent).records() for file in files}


def findings(profile: str) -> dict[str, str]:
    """What was found, by claim and what it was measured on."""
    return {
        ", ".join(filter(None, [*record.place, folder.name])): judge(claims.get(record.claim), record).finding
        for folder, found in records(profile).items()
        for record in found
    }


def write(profile: str) -> Path:
    """Write ``figures/<profile>/REPORT.md`` from what the notebooks left there.

    Raises
    ------
    UserError
        If no notebook of this profile has left anything.
    """
    place, ledgers = paths.figures() / profile, records(profile)
    if not ledgers:
        raise UserError(f"profile: {profile!r} has no results in {place}; run `vaelib figures --profile {profile}`")
    folders = [
        {
            "name": folder.name,
            "summary": claims.summary(recorded),
            "tables": {s: claims.verdict_table(found, digits=3) for s, found in claims.apart(recorded).items()},
            "figures": shown(folder),
        }
        for folder, recorded in ledgers.items()
    ]
    text = template("report.md").render(
        title=f"vaelib: what was measured, profile {profile}",
        summary=claims.summary([*chain(*ledgers.values())]),
        rule=RULE,
        folders=folders,
    )
    write_text(file := place / "REPORT.md", text)
    return file
