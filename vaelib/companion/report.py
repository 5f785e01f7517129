"""The report of a profile: each figure beside the claims that it tests, as Markdown and as a page."""

import html
import json
import re
from itertools import chain
from pathlib import Path
from urllib.parse import quote

import mistune
import pandas as pd

from vaelib import paths
from vaelib.companion import claims
from vaelib.companion.claims import RULE, Ledger
from vaelib.companion.statements import Record
from vaelib.companion.verdicts import judge
from vaelib.errors import UserError
from vaelib.files import write_text

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --line: color-mix(in srgb, currentColor 18%, transparent); }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem; }}
table {{ border-collapse: collapse; display: block; overflow-x: auto; font-size: .85rem; margin: 1rem 0; }}
th, td {{ border-bottom: 1px solid var(--line); padding: .35rem .7rem .35rem 0; text-align: left; }}
th, td {{ vertical-align: top; }}
td:first-child {{ white-space: nowrap; }}
img {{ max-width: 100%; height: auto; background: #fff; padding: .5rem; margin-top: 1rem; }}
h2 {{ margin-top: 2.5rem; border-top: 1px solid var(--line); padding-top: 1.5rem; }}
</style></head><body>
{body}</body></html>
"""


def _literal(text: object) -> str:
    """A text for one line of Markdown, which shows every character as it is."""
    return re.sub(r"[\\`*_\[\]<>|~&$]", r"\\\g<0>", " ".join(str(text).split()))


def _table(table: pd.DataFrame) -> str:
    rows = [[table.index.name, *table.columns], ["---"] * (table.shape[1] + 1), *table.map(_literal).itertuples()]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _figure(note_file: Path) -> str:
    """A picture, its caption and origin, and what it tests; nothing where there is no picture to a note."""
    picture = note_file.with_suffix(".png")
    if not picture.exists():
        return ""
    note = json.loads(note_file.read_text(encoding="utf-8"))
    caption = _literal(note["caption"])
    made = f"{len(note['runs'])} runs, vaelib {note['vaelib']}"
    made += f", commit {note['commit'][:12]}" if note["commit"] else ""
    made = "; ".join(filter(None, [_literal(note.get("setting", "")), made]))
    tested = [f"- {_literal(f'{c.id}: {c.says}, {c.stated}')}" for c in map(claims.get, note["claims"])]
    image = f"![{caption}]({quote(f'{picture.parent.name}/{picture.name}')})"
    return "\n".join([image, "", f"*{caption}* ({made})", "", *tested]).rstrip()


def profiles() -> list[str]:
    """The profiles of which notebooks have recorded something, trials apart."""
    return sorted({file.parents[1].name for file in paths.figures().glob("*/*/claims.json")} - {"trial"})


def pictures(folder: Path, record: Record) -> tuple[Path, ...]:
    """The figures of a notebook's folder that test a record's claim on its runs."""
    notes = {file: json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*.json"))}
    shown = [
        file.with_suffix(".png")
        for file, note in notes.items()
        if isinstance(note, dict) and record.claim in note["claims"]
        if not (note["runs"] and record.runs) or {*note["runs"]} & {*record.runs}
    ]
    return tuple(picture for picture in shown if picture.exists())


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


def write(profile: str) -> tuple[Path, Path]:
    """Write ``figures/<profile>/REPORT.md`` and ``REPORT.html`` from what the notebooks left there.

    Returns
    -------
    tuple of Path
        The two files.

    Raises
    ------
    UserError
        If no notebook of this profile has left anything.
    """
    place, ledgers = paths.figures() / profile, records(profile)
    if not ledgers:
        raise UserError(f"profile: {profile!r} has no results in {place}; run `vaelib figures --profile {profile}`")
    title = f"vaelib: what was measured, profile {profile}"
    parts = [f"# {_literal(title)}", f"{len(ledgers)} notebooks. {claims.summary([*chain(*ledgers.values())])}", RULE]
    for folder, recorded in ledgers.items():
        parts += [f"## {_literal(folder.name)}", claims.summary(recorded)]
        for scale, found in claims.apart(recorded).items():
            parts += [f"*{scale}*", _table(claims.verdict_table(found, digits=3))]
        parts += filter(None, map(_figure, sorted(folder.glob("*.json"))))
    text = "\n\n".join(parts) + "\n"
    body = str(mistune.create_markdown(plugins=["table"])(text)).replace("<img ", '<img loading="lazy" ')
    files = place / "REPORT.md", place / "REPORT.html"
    write_text(files[0], text)
    write_text(files[1], _PAGE.format(title=html.escape(title), body=body))
    return files
