"""The mechanism: a table, controls and templates make a fragment of HTML that a reader moves without a kernel."""

import html
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from vaelib.companion import report
from vaelib.errors import Invalid

_HERE = Path(__file__).parent
_FIELD = re.compile(r"\{(\w+)\}")


class Panel(NamedTuple):
    """One drawing of an explorer; ``{column}`` in its texts stands for the value in the row that is shown.

    Attributes
    ----------
    markup
        The inside of an SVG. What a column puts there is markup, too: text in it has to be escaped.
    alt
        What is seen, for those who do not see it; where nothing is, the panel is not there.
    size
        Width and height in pixels.
    """

    markup: str
    alt: str
    size: tuple[int, int]


@dataclass(frozen=True)
class Explorer:
    """A table of which a reader sees one row at a time, chosen by controls: the display of a notebook's cell.

    The fragment holds its own style and script, so that it works wherever HTML is shown; without scripts the first row
    is seen, without controls. Where styles go as well, as in a notebook that is not trusted, a sentence says so. It
    has no ids, so that several stand on one page; the same table gives the same text.

    Attributes
    ----------
    title
        What is explored.
    table
        One row for each combination of the controls' values.
    controls
        Labels by column, at least one: a column of text is a choice, one of numbers a slider. A column with one value
        needs no control, and has none.
    panels
        What is drawn.
    words
        What is seen, in a sentence with ``{column}`` in it, read out as it changes.
    start
        The values that are shown first, where not the first of a column.

    Raises
    ------
    Invalid
        If a combination is missing or twice, a text names a column that is not there, a value is not a finite number
        or text, or the start is in no row.

    Examples
    --------
    >>> table = pd.DataFrame({"side": [1, 2], "area": [1, 4]})
    >>> square = Explorer(
    ...     title="A square",
    ...     table=table,
    ...     controls={"side": "side, cm"},
    ...     panels=[Panel('<rect width="{side}" height="{side}"/>', "A square of side {side}", (2, 2))],
    ...     words="The area is {area}.",
    ... )
    >>> square
    Explorer: A square. The area is 1.
    """

    title: str
    table: pd.DataFrame
    controls: Mapping[str, str]
    panels: Sequence[Panel]
    words: str
    start: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        missing = [name for name in self._named() if name not in self.table]
        if missing:
            raise Invalid("table", list(self.table), f"with columns {', '.join(missing)}, which the texts name")
        for name in self._named():
            column = self.table[name]
            numbers = pd.api.types.is_numeric_dtype(column)
            if not (np.isfinite(column).all() if numbers else column.map(lambda value: isinstance(value, str)).all()):
                raise Invalid(f"table.{name}", column.tolist(), "finite numbers, or text")
        wanted = list(itertools.product(*self._values().values()))
        found = list(self.table[list(self.controls)].itertuples(index=False, name=None))
        if not found or len(found) != len(wanted) or {*found} != {*wanted}:
            raise Invalid("table", found, f"one row for each combination of {', '.join(self.controls)}")
        for name, value in (self.start or {}).items():
            if value not in self._values().get(name, []):
                raise Invalid(f"start.{name}", value, "a value of a control's column")

    def _named(self) -> list[str]:
        texts = [self.words, *itertools.chain.from_iterable((p.markup, p.alt) for p in self.panels)]
        return list(dict.fromkeys([*self.controls, *itertools.chain.from_iterable(map(_FIELD.findall, texts))]))

    def _values(self) -> dict[str, list[Any]]:
        """The values of each control: text in the table's order, numbers in their own."""
        columns = {name: self.table[name] for name in self.controls}
        return {
            name: sorted(c.unique().tolist()) if pd.api.types.is_numeric_dtype(c) else list(c.unique())
            for name, c in columns.items()
        }

    def _places(self, table: Mapping[str, Any]) -> Any:
        """Where rows stand in the fragment, the last control moving fastest."""
        values = self._values()
        at = tuple(np.vectorize(values[name].index, otypes=[int])(table[name]) for name in values)
        return np.ravel_multi_index(at, [len(options) for options in values.values()])

    def _shown(self) -> tuple[pd.DataFrame, dict[str, Any], dict[str, str]]:
        """The table in the order of the fragment, the controls' first values, and the first row."""
        rows = self.table.iloc[np.argsort(self._places(self.table))][self._named()]
        first = {name: options[0] for name, options in self._values().items()} | dict(self.start or {})
        return rows, first, {name: _text(value) for name, value in rows.iloc[int(self._places(first))].items()}

    def html(self) -> str:
        """The fragment."""
        values, (rows, first, shown) = self._values(), self._shown()
        data = {
            "sizes": [len(options) for options in values.values()],
            "columns": {name: _column(rows[name]) for name in rows},
            "panels": [{"markup": panel.markup, "alt": panel.alt} for panel in self.panels],
            "words": self.words,
        }
        return report.template("explorer.html").render(
            title=self.title,
            controls=[
                {
                    "label": label,
                    "at": values[name].index(first[name]),
                    "options": list(map(_text, values[name])),
                    "slider": pd.api.types.is_numeric_dtype(rows[name]),
                }
                for name, label in self.controls.items()
            ],
            panels=[{"markup": fill(p.markup, shown), "alt": fill(p.alt, shown), "size": p.size} for p in self.panels],
            words=fill(self.words, shown),
            data=json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c"),
            style=_asset("explorer.css"),
            script=_asset("explorer.js"),
        )

    def _repr_html_(self) -> str:
        return self.html()

    def __repr__(self) -> str:
        return f"Explorer: {self.title}. {fill(self.words, self._shown()[2])}"


def fill(template: str, values: Mapping[Any, str]) -> str:
    """A text with the values of a row in the place of ``{column}``; the script does the same."""
    return _FIELD.sub(lambda field: values[field[1]], template)


def escape(text: str) -> str:
    """A text as it stands in markup."""
    return html.escape(text)


def _text(value: Any) -> str:
    """A value as JavaScript writes it."""
    return f"{value:.12g}" if isinstance(value, float | np.floating) else str(value)


def _column(column: pd.Series) -> Any:
    """Numbers as they are; texts once each, and by row which."""
    if pd.api.types.is_numeric_dtype(column):
        return [int(value) if float(value).is_integer() else float(value) for value in column]
    codes, texts = pd.factorize(column)
    return {"of": list(texts), "at": codes.tolist()}


def _asset(name: str) -> str:
    """A file beside this one."""
    return (_HERE / name).read_text(encoding="utf-8").strip()
