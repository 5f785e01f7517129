"""The reports of a profile, as Markdown: one a paper, each figure beside the claims that it tests."""

import json
import re
from collections.abc import Iterable, Mapping
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2

from vaelib import paths
from vaelib.companion import cells, claims
from vaelib.companion.claims import RULE, Ledger
from vaelib.companion.statements import PAPERS, Record
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
    files = sorted(file for file in folder.glob("*.json") if file.with_suffix(".png").exists())
    notes = {file: {"setting": ""} | json.loads(file.read_text(encoding="utf-8")) for file in files}  # 0.1.0 wrote none
    return [
        {"note": note, "path": f"{folder.name}/{file.stem}.png", "claims": [*map(claims.get, note["claims"])]}
        for file, note in notes.items()
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
    """Write ``figures/<profile>/<paper>.md`` from what notebooks left there, and ``REPORT.md``, which leads to it.

    Returns
    -------
    Path
        Of ``REPORT.md``.

    Raises
    ------
    UserError
        If no notebook of this profile has left anything.
    """
    place, ledgers = paths.figures() / profile, records(profile)
    if not ledgers:
        raise UserError(f"profile: {profile!r} has no results in {place}; run `vaelib figures --profile {profile}`")
    figures = {folder: shown(folder) for folder in ledgers}
    papers = list[tuple[str, str, str]]()
    for paper, title in PAPERS.items():
        of = {folder: [r for r in found if claims.get(r.claim).paper == paper] for folder, found in ledgers.items()}
        file, every = place / f"{paper}.md", [*chain(*of.values())]
        if every:
            papers.append((paper, title, claims.summary(every)))
            folders = [_folder(folder, found, figures[folder], paper) for folder, found in of.items()]
            _write(
                file, f"{title}, profile {profile}", f"[All papers, and the rule](REPORT.md). {papers[-1][2]}", folders
            )
        else:
            file.unlink(missing_ok=True)
    summary = f"{len(ledgers)} notebooks. {claims.summary([*chain(*ledgers.values())])}"
    others = [_folder(folder, [], figures[folder], "") for folder in ledgers]
    _write(file := place / "REPORT.md", f"What was measured, profile {profile}", summary, others, papers)
    return file


def _folder(folder: Path, found: list[Record], figures: list[dict[str, Any]], paper: str) -> dict[str, Any]:
    """A notebook's section in the report of a paper; in that of none, the figures that test no claim."""
    about = [[claim.id for claim in figure["claims"] if claim.paper == paper] for figure in figures]
    return {
        "name": folder.name,
        "tables": {s: claims.verdict_table(those, digits=3) for s, those in claims.apart(found).items()},
        "figures": [f | {"about": ids} for f, ids in zip(figures, about) if (ids if paper else not f["claims"])],
    }


def _write(
    file: Path, title: str, summary: str, folders: Iterable[dict[str, Any]], papers: Iterable[tuple[str, str, str]] = ()
) -> None:
    """Write one report."""
    sections = [folder for folder in folders if folder["tables"] or folder["figures"]]
    text = template("report.md").render(
        title=title, summary=summary, rule=RULE, folders=sections, papers=papers, cell_of=_cell
    )
    write_text(file, text)


def _cell(notebook: str, claim: str) -> str:
    """A claim that leads to the heading under which a notebook records it, where that can be told."""
    cell = cells.recording(notebook, claim)
    place = f"#{quote(cell.place)}" if cell else ""
    return f"[{_literal(claim)}](../../notebooks/{quote(notebook)}.ipynb{place})"
