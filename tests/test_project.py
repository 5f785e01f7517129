"""What holds the project together: pins, floor plan, notebooks."""

import ast
import importlib
import inspect
import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import jsonschema
import nbformat
import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = {
    name.lower().replace("_", "-"): pin
    for name, pin in re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
}
REQUIRED = [
    Requirement(text)
    for group in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    for text in group
]

FLOORS = [
    {"errors", "paths", "provenance"},
    {"files", "parts"},
    {"data", "divergences"},
    {"models"},
    {"objectives"},
    {"training"},
    {"measures"},
    {"runs"},
    {"companion"},
    {"cli"},
]


@pytest.mark.parametrize("requirement", REQUIRED, ids=str)
def test_every_dependency_is_pinned_within_its_range(requirement):
    assert requirement.specifier.contains(PINS[requirement.name.lower()])


@pytest.mark.parametrize("name", ["torch", "torchvision", "numpy", "pandas", "papermill", "nbval", "matplotlib"])
def test_what_is_installed_is_what_is_pinned(name):
    assert version(name).split("+")[0] == PINS[name]


def test_the_papers_pins():
    assert (PINS["torch"], PINS["torchvision"]) == ("2.13.0", "0.28.0")


def test_conda_and_make_install_with_the_one_list_of_pins():
    (pip,) = [
        d["pip"] for d in yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"] if isinstance(d, dict)
    ]
    assert pip == ["--constraint constraints.txt", "--editable .[dev,cluster,crate]"]
    makefile = (ROOT / "Makefile").read_text()
    installs = [line for line in makefile.splitlines() if "pip install" in line]
    assert installs
    assert all("--constraint constraints.txt" in line for line in installs)


MODULES = [
    (file.relative_to(ROOT / "vaelib").parts[0].removesuffix(".py"), file)
    for file in sorted((ROOT / "vaelib").rglob("*.py"))
    if file != ROOT / "vaelib" / "__init__.py"
]


@pytest.mark.parametrize(("name", "file"), MODULES, ids=lambda v: getattr(v, "stem", v))
def test_an_import_points_down_the_floor_plan(name, file):
    floor = {module: number for number, floor in enumerate(FLOORS) for module in floor}
    assert name in floor, f"{name} has no floor"
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "vaelib":
            parts = node.module.split(".")
            wanted = [parts[1]] if len(parts) > 1 else [a.name for a in node.names if not a.name.startswith("__")]
            for other in wanted:
                assert other == name or floor[other] < floor[name] or other == "__version__", f"{name} imports {other}"


def test_public_names_are_found_lazily():
    import vaelib

    assert all(getattr(vaelib, name) for name in vaelib.__all__)
    with pytest.raises(AttributeError, match="no attribute 'ELBO'"):
        vaelib.ELBO  # noqa: B018


def test_importing_the_package_imports_nothing_else():
    heavy = "torch", "pydantic", "matplotlib", "pandas", "torchvision", "papermill"
    code = f"import sys, vaelib; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def _lines(name):
    return (ROOT / name).read_text().splitlines()


def test_the_changelog_names_the_schema_and_the_version():
    from vaelib import __version__
    from vaelib.runs.store import SCHEMA

    assert PROJECT["version"] == __version__
    assert any(line.startswith(f"## {__version__}") for line in _lines("CHANGELOG.md"))
    assert f"SCHEMA {SCHEMA}" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("file", sorted((ROOT / "vaelib").rglob("*.py")), ids=lambda f: f.stem)
def test_a_module_is_read_in_one_sitting(file):
    assert len(file.read_text().splitlines()) <= 450


NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_committed_notebook_was_run_whole_and_in_order(file):
    """Otherwise nbval would compare nothing, and pass."""
    notebook = nbformat.read(file, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert outputs
    assert not any(output.output_type == "error" for output in outputs)
    assert not any(output.get("name") == "stderr" for output in outputs)
    assert notebook.metadata.kernelspec.name == "python3"
    assert "papermill" not in notebook.metadata


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_parameters_are_literals_with_a_type_and_a_comment(file):
    """The form that papermill's help can read, and that a parameter can replace without leaving stale values."""
    (cell,) = [c for c in nbformat.read(file, as_version=4).cells if "parameters" in c.metadata.get("tags", [])]
    for line in cell.source.splitlines():
        assert re.fullmatch(r"\w+: (str|int|float|bool|list) = .+  # .+|\w+ = None  # type: \w+ .+", line), line
        ast.literal_eval(line.split("  #")[0].split(" = ", 1)[1])


@pytest.mark.parametrize("profile", ["quick", "paper"])
def test_profiles_set_parameters_that_exist(profile):
    settings = yaml.safe_load((ROOT / "notebooks" / "profiles" / f"{profile}.yaml").read_text())
    order, optional = settings.pop("order", []), settings.pop("optional", {})
    assert optional.keys() <= settings.keys()
    for stem, given in settings.items():
        cells = nbformat.read(ROOT / "notebooks" / f"{stem}.ipynb", as_version=4).cells
        (source,) = [c.source for c in cells if "parameters" in c.metadata.get("tags", [])]
        declared = {line.split(":")[0].split(" =")[0] for line in source.splitlines()}
        for parameters in [*(given if isinstance(given, list) else [given or {}]), optional.get(stem, {})]:
            assert set(parameters) <= declared
    runs = {f"{s}-{k}".removesuffix("-1") for s, g in settings.items() for k in range(1, 1 + len(g or "1"))}
    assert {item.partition(".")[0] for item in order} <= runs


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_defines_its_studies_apart(file):
    """What a study cell needs is there without anything being trained: it can be planned from these cells alone."""
    cells = [c for c in nbformat.read(file, as_version=4).cells if c.cell_type == "code"]
    tags = [set(c.metadata.get("tags", [])) for c in cells]
    assert sum("imports" in t for t in tags) == 1
    for cell, tagged in zip(cells, tags):
        if "study" in tagged:
            assert not re.search(r"\.run\(|\.observed\(|\.tensors\(|figures\.show", cell.source), cell.source
        assert not re.search(r"zip\((plan|\w+_plan),|list\(\w*plan\)\.index|\btrained\(", cell.source), cell.source


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_cell_of_code_is_read_at_a_glance(file):
    """How figures are drawn is in the package; a notebook says what is measured."""
    code = [c for c in nbformat.read(file, as_version=4).cells if c.cell_type == "code"]
    assert [c.source for c in code if len(c.source.splitlines()) > 25] == []
    assert not any(re.search(r"matplotlib|seaborn|\bplt\.", c.source) for c in code)


NOTES = sorted(file for file in (ROOT / "figures").glob("*/*/*.json") if file.name != "claims.json")


@pytest.mark.parametrize("file", NOTES, ids=lambda file: "/".join(file.with_suffix("").parts[-3:]))
def test_a_committed_figure_can_be_drawn_again(file):
    """That the picture is the same is tested where figures are; here, that nothing it is drawn from has gone."""
    note = json.loads(file.read_text(encoding="utf-8"))
    module, function = note["plot"].split(".")
    plot = getattr(importlib.import_module(f"vaelib.companion.plots.{module}"), function)
    inspect.signature(plot).bind(None, **note["options"])
    assert file.with_suffix(".csv").exists()
    assert file.with_suffix(".png").exists()


def test_a_committed_picture_is_a_figure():
    """A picture or a table that no note tells of cannot be drawn again, and nobody knows where it came from."""
    files = [*(ROOT / "figures").glob("*/*/*.png"), *(ROOT / "figures").glob("*/*/*.csv")]
    assert {file.with_suffix(".json") for file in files} == set(NOTES)


def test_the_citation_keeps_to_the_formats_schema_and_has_the_papers():
    """The schema is the format's own (citation-file-format 1.2.0)."""
    schema = json.loads((ROOT / "tests" / "fixtures" / "cff-1.2.0.schema.json").read_text(encoding="utf-8"))
    citation = yaml.load((ROOT / "CITATION.cff").read_text(encoding="utf-8"), yaml.BaseLoader)
    for one in [citation, *citation["references"]]:
        for name in {"year", "month"} & one.keys():
            one[name] = int(one[name])
    found = jsonschema.Draft7Validator(schema, format_checker=jsonschema.FormatChecker()).iter_errors(citation)
    assert [f"{error.json_path}: {error.message}" for error in found] == []
    assert (citation["version"], citation["license"]) == (PROJECT["version"], PROJECT["license"])
    book = yaml.safe_load((ROOT / "vaelib" / "companion" / "claims.yaml").read_text(encoding="utf-8"))["papers"]
    assert [one["abbreviation"] for one in citation["references"]] == [*book][:5]
    for one in citation["references"]:
        assert one["title"] in book[one["abbreviation"]]
        assert all(
            name["family-names"] in book[one["abbreviation"]] for name in one["authors"] if "family-names" in name
        )


def test_figures_name_commits_of_this_history():
    """A commit that was made elsewhere, and came here under another name, leads nowhere."""

    def git(*words):
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()

    if git("rev-parse", "--is-shallow-repository") != ["false"]:
        pytest.skip("not the whole history of a repository is here")
    notes = [file for file in ROOT.glob("figures/*/*/*.json") if file.name != "claims.json"]
    named = {json.loads(file.read_text(encoding="utf-8")).get("commit") for file in notes}
    assert {commit.removesuffix("-dirty") for commit in named if commit} <= {*git("rev-list", "HEAD")}
