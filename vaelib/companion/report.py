"""The report of a profile: each figure beside the claims that it tests, as Markdown and as a page."""

import html
import json
import os
from pathlib import Path
from typing import Any

import pandas as pd

from vaelib import claims, paths
from vaelib.claims import RULE, VERDICTS, Ledger

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --line: color-mix(in srgb, currentColor 18%, transparent); }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem; }}
table {{ border-collapse: collapse; display: block; overflow-x: auto; font-size: .85rem; margin: 1rem 0; }}
th, td {{ border-bottom: 1px solid var(--line); padding: .35rem .7rem .35rem 0; text-align: left; }}
th, td {{ vertical-align: top; }}
th:first-child {{ font-weight: normal; white-space: nowrap; }}
figure {{ margin: 1.5rem 0; }} figure img {{ max-width: 100%; height: auto; background: #fff; padding: .5rem; }}
figcaption {{ font-size: .9rem; }} figcaption small {{ opacity: .7; }}
h2 {{ margin-top: 2.5rem; border-top: 1px solid var(--line); padding-top: 1.5rem; }}
</style></head><body>
{body}
</body></html>
"""


def _figures(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    """The pictures of a notebook, each with its provenance."""
    notes = [(file.with_suffix(".png"), json.loads(file.read_text(encoding="utf-8"))) for file in folder.glob("*.json")]
    return sorted((picture, note) for picture, note in notes if picture.exists())


def _summary(table: pd.DataFrame) -> str:
    counts = table["verdict"].value_counts()
    return ", ".join(f"{counts.get(verdict, 0)} {verdict}" for verdict in VERDICTS)


def _markdown_table(table: pd.DataFrame) -> list[str]:
    rows = [[table.index.name, *table.columns], ["---"] * (len(table.columns) + 1)]
    rows += [[str(index), *map(str, row)] for index, *row in table.itertuples()]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows] + [""]


def write(profile: str) -> tuple[Path, Path]:
    """Write ``figures/<profile>/REPORT.md`` and ``REPORT.html`` from what the notebooks left there.

    Returns
    -------
    tuple of Path
        The two files.

    Raises
    ------
    FileNotFoundError
        If no notebook of this profile has left anything.
    """
    place = paths.figures() / profile
    folders = sorted(file.parent for file in place.glob("*/claims.json"))
    if not folders:
        raise FileNotFoundError(
            f"profile: {profile!r} has no results in {place}; run `vaelib figures --profile {profile}`"
        )
    tables = {folder: Ledger(folder).table(digits=3) for folder in folders}
    title = f"vaelib: what was measured, profile {profile}"
    opening = f"{len(folders)} notebooks: {_summary(pd.concat(tables.values()))}."
    lines = [f"# {title}", "", opening, "", RULE, ""]
    body = [f"<h1>{html.escape(title)}</h1><p>{html.escape(opening)}</p><p>{_emphasis(RULE)}</p>"]
    for folder, table in tables.items():
        lines += [f"## {folder.name}", "", _summary(table) + ".", "", *_markdown_table(table)]
        body.append(
            f"<h2>{html.escape(folder.name)}</h2><p>{html.escape(_summary(table))}.</p>{table.to_html(border=0)}"
        )
        for picture, note in _figures(folder):
            link = f"{folder.name}/{picture.name}"
            tested = [f"{claim}: {claims.get(claim).says}, {claims.get(claim).stated}" for claim in note["claims"]]
            made = f"{len(note['runs'])} runs, vaelib {note['vaelib']}" + (
                f", commit {note['commit'][:12]}" if note["commit"] else ""
            )
            lines += [f"![{note['caption']}]({link})", "", f"*{note['caption']}* ({made})", ""]
            lines += [*(f"- {text}" for text in tested), ""]
            items = "".join(f"<li>{html.escape(text)}</li>" for text in tested)
            caption = html.escape(note["caption"])
            body.append(
                f'<figure><img src="{html.escape(link)}" alt="{caption}" loading="lazy"><figcaption>{caption} '
                f"<small>({html.escape(made)})</small><ul>{items}</ul></figcaption></figure>"
            )
    files = place / "REPORT.md", place / "REPORT.html"
    for file, text in zip(files, ("\n".join(lines), _PAGE.format(title=html.escape(title), body="\n".join(body)))):
        draft = file.with_suffix(".tmp")
        draft.write_text(text, encoding="utf-8")
        os.replace(draft, file)
    return files


def _emphasis(text: str) -> str:
    """Markdown's ``*words*`` as HTML."""
    parts = html.escape(text).split("*")
    return "".join(f"<em>{part}</em>" if number % 2 else part for number, part in enumerate(parts))
