"""Running the notebooks in a batch: papermill, with what it lets pass checked first."""

import difflib
import os
import re
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import nbformat
import papermill
import yaml
from papermill.exceptions import PapermillExecutionError

from vaelib import paths

_TYPES: dict[str, type | tuple[type, ...]] = {"str": str, "int": int, "float": (int, float), "bool": bool, "list": list}


def notebooks(only: Iterable[str] = ()) -> list[Path]:
    """The project's notebooks in their order, or those whose name begins with one of `only`.

    Raises
    ------
    FileNotFoundError
        If there are none, or none that begins so.
    """
    found = sorted((paths.project() / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    if not found:
        raise FileNotFoundError(f"notebooks: there are none in {paths.project() / 'notebooks'}")
    for start in only:
        if not any(file.stem.startswith(start) for file in found):
            raise FileNotFoundError(
                f"only: no notebook begins with {start!r}; there are {', '.join(f.stem for f in found)}"
            )
    return [file for file in found if not only or file.stem.startswith(tuple(only))]


def settings(profile: str) -> dict[str, list[dict[str, Any]]]:
    """The parameters that a profile gives to each notebook: one set for each time that it is to be run.

    Raises
    ------
    FileNotFoundError
        If there is no such profile.
    """
    folder = paths.project() / "notebooks" / "profiles"
    file = folder / f"{profile}.yaml"
    if not file.exists():
        names = ", ".join(sorted(f.stem for f in folder.glob("*.yaml"))) or "none"
        raise FileNotFoundError(f"profile: {profile!r} is not allowed; in {folder} there are {names}")
    text = yaml.safe_load(file.read_text()) or {}
    return {stem: given if isinstance(given, list) else [given or {}] for stem, given in text.items()}


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
    ValueError
        If a name is unknown or a value of another type than declared.
    """
    declared = papermill.inspect_notebook(notebook)
    result = {}
    for name, value in given.items():
        if name not in declared:
            near = difflib.get_close_matches(name, declared, n=3, cutoff=0.4) or list(declared)
            raise ValueError(f"parameter: {name!r} is unknown to {notebook.stem}; did you mean {', '.join(near)}?")
        kind = declared[name]["inferred_type_name"]
        converted = _convert(value, kind)
        if kind in _TYPES and (
            not isinstance(converted, _TYPES[kind]) or (isinstance(converted, bool) and kind != "bool")
        ):
            raise ValueError(
                f"parameter: {name} = {value!r} is not allowed in {notebook.stem}; it has to be of type {kind}"
            )
        if converted != yaml.safe_load(declared[name]["default"]):
            result[name] = converted
    return result


def _convert(value: Any, kind: str) -> Any:
    """A value as its declared type: YAML, and numbers such as 1e-3, which YAML takes for text."""
    if isinstance(value, str) and kind != "str":
        value = yaml.safe_load(value)
    if kind == "float" and isinstance(value, int | str) and not isinstance(value, bool):
        try:
            return float(value)
        except ValueError:
            return value
    return value


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
    return joblib.Parallel(n_jobs=jobs, return_as="generator_unordered")(calls)


def keep(output: Path, notebook: Path) -> None:
    """Put an executed copy in a notebook's place, for it to be committed.

    What differs from run to run goes: metadata of papermill and widgets, times, and what was written to stderr.
    """
    executed = nbformat.read(output, as_version=4)
    for transient in ("papermill", "widgets"):
        executed.metadata.pop(transient, None)
    executed.metadata["language_info"] = {"name": "python"}
    for cell in executed.cells:
        cell.metadata = nbformat.from_dict({"tags": cell.metadata.tags} if cell.metadata.get("tags") else {})
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr" and not _is_widget(o)]
    draft = notebook.with_suffix(".tmp")
    nbformat.write(executed, draft)
    os.replace(draft, notebook)


def _is_widget(output: Mapping[str, Any]) -> bool:
    return "application/vnd.jupyter.widget-view+json" in output.get("data", {})
