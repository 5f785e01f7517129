"""Running notebooks: papermill, with what it lets pass checked first."""

import ast
import difflib
import itertools
import json
import math
import os
import re
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import yaml
from tqdm import tqdm

from vaelib import paths
from vaelib.companion import processes
from vaelib.errors import Invalid, UserError
from vaelib.files import write_text
from vaelib.runs import execution
from vaelib.runs.progress import Shown

_TYPES: dict[str, set[type]] = {"str": {str}, "int": {int}, "float": {int, float}, "bool": {bool}, "list": {list}}


class _Reader(yaml.SafeLoader):  # type: ignore[misc]
    """YAML whose numbers are decimal, as in YAML 1.2: 010 and 1:30 are text, and 1e-3 is a number."""

    yaml_implicit_resolvers: ClassVar = {
        first: [rule for rule in rules if rule[0].endswith((":merge", ":null", ":bool"))]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_WHOLE = "[-+]?(0|[1-9][0-9]*)"
for _kind, _rule in {"int": _WHOLE, "float": rf"({_WHOLE}(\.[0-9]*)?|[-+]?\.[0-9]+)(e[-+]?[0-9]+)?"}.items():
    _Reader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(f"{_rule}$", re.I), list("-+.0123456789"))


def notebooks(only: Iterable[str] = ()) -> list[Path]:
    """The project's notebooks in their order, or those whose name begins with one of `only`.

    Raises
    ------
    UserError
        If there are none, or none that begins so.
    """
    found = sorted((paths.project() / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    if not found:
        raise UserError(f"notebooks: there are none in {paths.project() / 'notebooks'}")
    for start in only:
        if not start or not any(file.stem.startswith(start) for file in found):
            raise Invalid("only", start, f"the beginning of {', '.join(file.stem for file in found)}")
    return [file for file in found if not only or file.stem.startswith(tuple(only))]


def settings(profile: str) -> dict[str, list[dict[str, Any]]]:
    """The parameters that a profile gives to each notebook: one set for each time that it is to be run.

    Raises
    ------
    Invalid
        If there is no such profile.
    """
    times = {name: given for name, given in _profile(profile).items() if name not in ("order", "optional")}
    return {stem: given if isinstance(given, list) else [given or {}] for stem, given in times.items()}


def _profile(profile: str) -> dict[str, Any]:
    files = {file.stem: file for file in sorted((paths.project() / "notebooks" / "profiles").glob("*.yaml"))}
    if profile not in files:
        raise Invalid("profile", profile, f"one of {', '.join(files)}")
    with files[profile].open("rb") as file:
        return yaml.load(file, _Reader) or {}


def order(profile: str) -> list[str]:
    """What a profile wants trained first: names of :class:`Work`, or of their studies, ``NAME.STUDY``."""
    return list(_profile(profile).get("order", []))


def optional(profile: str) -> dict[str, dict[str, Any]]:
    """By notebook, the smaller values of parameters that do where the runs for more are not there yet."""
    return dict(_profile(profile).get("optional", {}))


class Work(NamedTuple):
    """A run of a notebook: what it is called, the file, and the parameters to inject."""

    name: str
    notebook: Path
    parameters: dict[str, Any]


def work(profile: str, only: Iterable[str] = (), given: Iterable[tuple[str, Any]] = ()) -> list[Work]:
    """What a profile runs: each notebook, or one of `only`, once for each set of its parameters.

    Parameters
    ----------
    profile
        Its name. It is also the folder that results go to, but with other parameters than its own that is
        ``trial/<profile>``.
    only
        Beginnings of notebooks' names.
    given
        Names and values of parameters, in the place of the profile's where a notebook knows them.

    Raises
    ------
    Invalid
        If there is no such profile or notebook, or a parameter is not allowed.
    """
    files, asked = notebooks(only), dict(given)
    known = {name for file in files for name in _declared(file)} - {"profile"}  # which goes by what else is given
    for name in asked.keys() - known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or sorted(known)
        raise Invalid("parameter", name, f"one that a notebook declares, such as {', '.join(near)}")
    found, usual = [], True
    for file in files:
        mine = {name: value for name, value in asked.items() if name in _declared(file)}
        for number, own in enumerate(settings(profile).get(file.stem, [{}]), start=1):
            parameters = checked(file, own | mine)
            usual = usual and parameters == checked(file, own)
            found.append(Work(f"{file.stem}-{number}" if number > 1 else file.stem, file, parameters))
    place = profile if usual else f"trial/{profile}"
    return [one._replace(parameters={"profile": place} | one.parameters) for one in found]


def smaller(one: Work, optional: Mapping[str, Any]) -> Iterator[tuple[Work, str]]:
    """A run of a notebook, and what is left of it with smaller parts and with fewer seeds, the largest first.

    Parameters
    ----------
    one
        The run.
    optional
        Smaller values of some of its parameters. Lists of seeds, whose names end so, are cut to one length besides.

    Yields
    ------
    tuple of Work and str
        The run, and in words what it lacks.

    Raises
    ------
    Invalid
        If the notebook does not know such a parameter, or its value is of another type.
    """
    checked(one.notebook, optional)
    values = {name: declared.default for name, declared in _declared(one.notebook).items()} | one.parameters
    seeds = {name: value for name, value in values.items() if name.endswith("seeds") and isinstance(value, list)}
    most = max(map(len, seeds.values()), default=0)
    parts = [name for name, value in optional.items() if values[name] not in (value, [])]
    for number in range(len(parts) + 1):
        for cut in itertools.combinations(parts, number):
            for few in range(most, min(most, 1) - 1, -1):
                left = {name: optional[name] for name in cut}
                lacks = [f"{name} {value}" if value else f"no {name}" for name, value in left.items()]
                if few < most:
                    left |= {name: value[:few] for name, value in seeds.items()}
                    lacks.append(f"{few} of {most} seeds")
                yield one._replace(parameters=one.parameters | left), ", ".join(lacks)


def lacking(work: Iterable[Work], name: str) -> list[str]:
    """The runs of notebooks that do not know a parameter."""
    return [one.name for one in work if name not in _declared(one.notebook)]


class _Declared(NamedTuple):
    """What a notebook declares of a parameter: the name of its type, and its default."""

    kind: str
    default: Any


@cache
def _declared(notebook: Path) -> dict[str, _Declared]:
    """The parameters that a notebook declares, ``name: type = default`` in the cell tagged ``parameters``, by name."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    tagged = ["".join(cell["source"]) for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
    lines = [line for source in tagged for line in ast.parse(source).body if isinstance(line, ast.AnnAssign)]
    return {
        ast.unparse(line.target): _Declared(ast.unparse(line.annotation), ast.literal_eval(line.value))
        for line in lines
        if line.value is not None
    }


def checked(notebook: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters to inject into a notebook: types checked, defaults left out.

    papermill itself hands over ``"1e-3"`` as text.

    Parameters
    ----------
    notebook
        A notebook with a cell tagged ``parameters``.
    given
        Values by name; text is read as YAML where the notebook declares another type.

    Raises
    ------
    Invalid
        If a name is unknown or a value of another type than declared.
    """
    result = {}
    for name, value in given.items():
        if name not in _declared(notebook):
            raise Invalid("parameter", name, f"one that {notebook.stem} declares")
        kind, default = _declared(notebook)[name]
        converted = _read(value) if isinstance(value, str) and kind != "str" else value
        if not _fits(converted, kind, default):
            raise Invalid(f"{notebook.stem}.{name}", value, f"of type {kind}, like {default!r}")
        if converted != default:
            result[name] = float(converted) if kind == "float" else converted
    return result


def _read(text: str) -> Any:
    """The value that a text stands for; the text itself where it is not YAML."""
    try:
        return yaml.load(text, _Reader)
    except (yaml.YAMLError, ValueError):  # ValueError: too many digits
        return text


def _fits(value: Any, kind: str, default: Any) -> bool:
    """Whether a value is of a declared type; in a list, whether each is of the type of one that its default holds."""
    if type(value) not in _TYPES.get(kind, {type(value)}):
        return False
    return kind != "list" or not default or all(any(_fits(v, type(d).__name__, d) for d in default) for v in value)


def copies(profile: str) -> Path:
    """Where executed copies go: ``build/<profile>`` of the project, or into ``VAELIB_FIGURES`` where that is set."""
    if os.environ.get("VAELIB_FIGURES"):
        return paths.figures() / profile / "executed"
    return paths.project() / "build" / profile


@dataclass(frozen=True)
class Outcome:
    """How a notebook's run went: its executed copy, what was injected, its time, and what stopped it if anything."""

    output: Path
    parameters: Mapping[str, Any]
    seconds: float
    error: str | None = None


class Drawing(Shown):
    """How many runs of notebooks are done."""

    def __init__(self, work: Sequence[Work]):
        super().__init__()
        self._left = [one.name for one in work]
        self._all, self._started = len(work), time.monotonic()

    def finish(self, name: str) -> None:
        """A notebook's run has ended."""
        self._left.remove(name)

    def share(self) -> float:
        """How much is done, in [0, 1]."""
        return 1 - len(self._left) / self._all

    def text(self) -> str:
        """Which notebook is under way, how many are done, and the time left for all."""
        share, elapsed = self.share(), time.monotonic() - self._started
        left = f" · {tqdm.format_interval(elapsed / share - elapsed)} left" if share else ""
        return f"{next(iter(self._left), '')} {self._all - len(self._left)}/{self._all}{left}"


def run_all(work: Sequence[Work], folder: Path, jobs: int) -> Generator[Outcome]:
    """Execute notebooks into a folder, so many at a time, and show how many are done; outcomes come as they are ready.

    Those that took longest the last time are the first. Each runs in a process of its own, which is killed with all
    that it has started where the iterator is closed or this process is interrupted.
    """
    work = sorted(work, key=lambda one: _took(folder / f"{one.name}.ipynb"), reverse=True)
    left, running = deque(work), dict[Connection, tuple[BaseProcess, Outcome]]()
    with Drawing(work) as drawing:
        try:
            while left or running:
                while left and len(running) < jobs:
                    name, notebook, parameters = left.popleft()
                    killed = Outcome(folder / f"{name}.ipynb", parameters, 0, "its process was killed")
                    receiver, sender = processes.CONTEXT.Pipe(duplex=False)
                    given = sender, notebook, parameters, killed.output, dict(os.environ)
                    with execution.spawning(), sender:
                        running[receiver] = processes.start(_execute, *given), killed
                for ready in wait([*running]):
                    receiver = next(one for one in running if one is ready)
                    _, outcome = running.pop(receiver)
                    with receiver, suppress(EOFError):
                        outcome = receiver.recv()
                    drawing.finish(outcome.output.stem)
                    yield outcome
        finally:
            for process, _ in running.values():
                process.kill()


def _took(copy: Path) -> float:
    """The seconds in which an executed copy was made; infinite where there is none that says it."""
    try:
        return float(json.loads(copy.read_text(encoding="utf-8"))["metadata"]["papermill"]["duration"])
    except (OSError, ValueError, KeyError, TypeError):
        return math.inf


def _execute(
    sender: Connection, notebook: Path, parameters: dict[str, Any], output: Path, environment: dict[str, str]
) -> None:
    """Execute a notebook in a process of its own, and send how that went."""
    from vaelib.companion import kernels

    with kernels.waiting() as kernel:
        processes.lead()
        os.environ.update(environment)
        sender.send(kernels.run(notebook, parameters, output, kernel))


def keep(output: Path, notebook: Path) -> None:
    """Put an executed copy in a notebook's place, for it to be committed.

    What differs from run to run goes: metadata of papermill, times, and what was written to stderr; and the cell that
    says where the results go. Cells tagged ``hide-input`` are folded where JupyterLab opens them.
    """
    executed = json.loads(output.read_text(encoding="utf-8"))
    executed["cells"] = [c for c in executed["cells"] if "injected-parameters" not in c["metadata"].get("tags", [])]
    counts = itertools.count(1)
    executed["metadata"].pop("papermill", None)
    executed["metadata"]["language_info"] = {"name": "python"}
    for cell in executed["cells"]:
        tags = cell["metadata"].get("tags", [])
        cell["metadata"] = {"tags": tags} if tags else {}
        if "hide-input" in tags:
            cell["metadata"]["jupyter"] = {"source_hidden": True}
        if cell["cell_type"] == "code":
            count = cell["execution_count"] = next(counts)
            cell["outputs"] = [o for o in cell["outputs"] if o.get("name") != "stderr"]
            for result in cell["outputs"]:
                result.update({"execution_count": count} if "execution_count" in result else {})
    write_text(notebook, json.dumps(executed, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
