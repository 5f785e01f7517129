"""Which cell of a notebook records a claim, or shows a figure: read from the notebook's source, executing nothing."""

import ast
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from vaelib import paths


class Cell(NamedTuple):
    """A cell of code.

    Attributes
    ----------
    notebook
        Its notebook's name.
    id
        As the notebook has it.
    heading
        The text of the last heading above it.
    """

    notebook: str
    id: str
    heading: str

    @property
    def anchor(self) -> str:
        """Its place on the notebook's page of the site: ``cell-record-skews``."""
        return anchor(self.id)

    @property
    def place(self) -> str:
        """The heading's place where Jupyter or a code host shows the notebook: ``Where-it-ends``."""
        return self.heading.replace(" ", "-")


class _Call(NamedTuple):
    """A call that records or shows: where it stands, and patterns of which one fits each of its arguments."""

    cell: Cell
    does: str
    arguments: Mapping[str, Sequence[str]]


def anchor(cell: str) -> str:
    """The anchor of a cell's id on the site.

    Examples
    --------
    >>> anchor("record-skews"), anchor("cell-09")
    ('cell-record-skews', 'cell-09')
    """
    return f"cell-{cell.removeprefix('cell-')}"


def recording(notebook: str, claim: str) -> Cell | None:
    """The cell of a notebook that records a claim; None where it cannot be told."""
    return _found(notebook, "record", {"claim": claim})


def showing(notebook: str, figure: str, caption: str) -> Cell | None:
    """The cell of a notebook that shows a figure of this name, and best of this caption; None where none does."""
    return _found(notebook, "show", {"name": figure, "caption": caption})


def _found(notebook: str, does: str, values: Mapping[str, str]) -> Cell | None:
    """The cell of the call whose patterns fit the first value, and which says most of the values itself."""
    file = paths.project() / "notebooks" / f"{notebook}.ipynb"
    fitting = [
        (said, -n, call.cell)
        for n, call in enumerate(_calls(file) if file.exists() else ())
        if call.does == does
        for said in [[_fits(call.arguments.get(name, ()), value) for name, value in values.items()]]
        if said[0] >= 0
    ]
    return max(fitting, key=lambda one: (sum(one[0]), one[1]))[2] if fitting else None


def _fits(patterns: Sequence[str], value: str) -> int:
    """How many characters of the value the best of the patterns states; -1 where none fits."""
    return max((len(p.replace(".*", "").replace("\\", "")) for p in patterns if re.fullmatch(p, value)), default=-1)


@cache
def _calls(notebook: Path) -> tuple[_Call, ...]:
    """The calls of a notebook that record claims and show figures."""
    heading, trees = "", list[tuple[Cell, ast.Module]]()
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code":
            trees.append((Cell(notebook.stem, cell["id"], heading), ast.parse(source)))
        elif titles := re.findall(r"^#+ +(.+?) *$", source, re.MULTILINE):
            heading = titles[-1]
    everywhere = _sources(tree for _, tree in trees)
    return tuple(
        _Call(cell, call.func.attr, {name: [*_patterns(value, sources, set())] for name, value in _arguments(call)})
        for cell, tree in trees
        for sources in [everywhere | _sources([tree])]  # what a cell itself assigns is what it means
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)
        if ast.unparse(call.func) in ("ledger.record", "figures.show")
    )


def _arguments(call: ast.Call) -> Iterator[tuple[str, ast.expr]]:
    """What is looked for, by name, wherever it stands in a call."""
    yield from zip(("claim",) if ast.unparse(call.func) == "ledger.record" else ("plot", "table", "name"), call.args)
    yield from ((given.arg, given.value) for given in call.keywords if given.arg in ("claim", "name", "caption"))


def _sources(trees: Iterable[ast.Module]) -> dict[str, list[ast.expr]]:
    """By name, the expressions that it is assigned or loops over."""
    found: dict[str, list[ast.expr]] = {}
    for node in (node for tree in trees for node in ast.walk(tree)):
        match node:
            case ast.Assign(targets=targets, value=value):
                pass
            case ast.AugAssign(target=target, value=value) | ast.For(target=target, iter=value):
                targets = [target]
            case _:
                continue
        for name in (name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)):
            found.setdefault(name, []).append(value)
    return found


def _patterns(value: ast.expr, sources: Mapping[str, Sequence[ast.expr]], seen: set[str]) -> Iterator[str]:
    """Regular expressions of the texts that an expression may be: those that it holds, or what its names stand for."""
    match value:
        case ast.Constant(value=str(text)):
            yield re.escape(text)
        case ast.JoinedStr(values=parts):
            yield "".join(re.escape(str(p.value)) if isinstance(p, ast.Constant) else ".*" for p in parts)
        case ast.Name(id=name) if name not in seen:
            seen.add(name)
            for one in sources.get(name, ()):
                yield from _patterns(one, sources, seen)
        case ast.Call(func=ast.Attribute(attr="startswith"), args=[start]):
            yield from (f"{text}.*" for text in _patterns(start, sources, seen))
        case _:
            for part in _parts(value):
                yield from _patterns(part, sources, seen)


def _parts(value: ast.expr) -> list[ast.expr]:
    """What of an expression its texts come from: not from keys, nor from what a comprehension loops over."""
    match value:
        case ast.Subscript(value=table):
            return [table]
        case ast.Dict(values=values):
            return values
        case ast.DictComp(value=each):
            return [each]
        case ast.ListComp(elt=each, generators=loops) | ast.GeneratorExp(elt=each, generators=loops):
            return [each, *(condition for loop in loops for condition in loop.ifs)]
    return [part for part in ast.iter_child_nodes(value) if isinstance(part, ast.expr)]
