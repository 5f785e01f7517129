"""Running notebooks: papermill, with what it lets pass checked first."""

import ast
import difflib
import json
import os
import re
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import joblib
import papermill
import yaml
from papermill.exceptions import PapermillExecutionError

from vaelib import paths
from vaelib.errors import Invalid, UserError
from vaelib.files import write_text

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
    times = {name: given for name, given in _profile(profile).items() if name != "order"}
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
        Its name.
    only
        Beginnings of notebooks' names.
    given
        Names and values of parameters, in the place of the profile's.

    Raises
    ------
    Invalid
        If there is no such profile or notebook, or a parameter is not allowed.
    """
    found = []
    for file in notebooks(only):
        for number, own in enumerate(settings(profile).get(file.stem, [{}]), start=1):
            name = f"{file.stem}-{number}" if number > 1 else file.stem
            found.append(Work(name, file, checked(file, {"profile": profile, **own, **dict(given)})))
    return found


def checked(notebook: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters to inject into a notebook: names and types checked, defaults left out.

    papermill itself takes a misspelt name without a word, and hands over ``"1e-3"`` as text.

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
    declared = papermill.inspect_notebook(notebook)
    result = {}
    for name, value in given.items():
        if name not in declared:
            near = difflib.get_close_matches(name, declared, n=3, cutoff=0.4) or list(declared)
            raise Invalid("parameter", name, f"one that {notebook.stem} declares, such as {', '.join(near)}")
        kind, default = declared[name]["inferred_type_name"], ast.literal_eval(declared[name]["default"])
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


def run(notebook: Path, parameters: Mapping[str, Any], output: Path) -> Outcome:
    """Execute a notebook into `output`, which holds what was done so far when a cell fails."""
    output.parent.mkdir(parents=True, exist_ok=True)
    started, error = time.perf_counter(), None
    try:
        papermill.execute_notebook(
            notebook,
            output,
            parameters=dict(parameters),
            cwd=notebook.parent,
            kernel_name="python3",
            progress_bar=False,
        )
    except PapermillExecutionError as failure:
        message = re.sub(r"\x1b\[[0-9;]*m", "", failure.evalue).strip().splitlines()
        error = f"cell {failure.exec_count}: {failure.ename}: {message[-1] if message else ''}"
    except Exception as failure:  # a dead kernel, a full disk: the other notebooks go on
        error = f"{type(failure).__name__}: {failure}"
    return Outcome(output, parameters, time.perf_counter() - started, error)


def run_all(work: Iterable[tuple[Path, Mapping[str, Any]]], folder: Path, jobs: int) -> Iterable[Outcome]:
    """Execute notebooks into a folder, so many at a time; outcomes come as they are ready.

    A notebook that comes again, with other parameters, gets a number in the name of its executed copy.
    """
    times: Counter[str] = Counter()
    calls = []
    for notebook, given in work:
        times[notebook.stem] += 1
        number = f"-{times[notebook.stem]}" if times[notebook.stem] > 1 else ""
        calls.append(joblib.delayed(run)(notebook, given, folder / f"{notebook.stem}{number}.ipynb"))
    outcomes: Iterable[Outcome] = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered")(calls)
    return outcomes


def keep(output: Path, notebook: Path) -> None:
    """Put an executed copy in a notebook's place, for it to be committed.

    What differs from run to run goes: metadata of papermill and widgets, times, and what was written to stderr.
    """
    executed = json.loads(output.read_text(encoding="utf-8"))
    for transient in ("papermill", "widgets"):
        executed["metadata"].pop(transient, None)
    executed["metadata"]["language_info"] = {"name": "python"}
    for cell in executed["cells"]:
        cell["metadata"] = {name: cell["metadata"][name] for name in ("tags",) if cell["metadata"].get(name)}
        if cell["cell_type"] == "code":
            cell["outputs"] = [o for o in cell["outputs"] if o.get("name") != "stderr" and not _is_widget(o)]
    write_text(notebook, json.dumps(executed, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def _is_widget(output: Mapping[str, Any]) -> bool:
    return "application/vnd.jupyter.widget-view+json" in output.get("data", {})
