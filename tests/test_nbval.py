"""What ``pytest --nbval`` takes for the same output, and what not."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
_spec = importlib.util.spec_from_file_location("comparing", ROOT / "conftest.py")
comparing = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(comparing)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("margin 0.35 [-0.51, 1.2] (2 seeds)", "margin 0.35 [-0.5, 1.2] (2 seeds)"),
        ("| 0.99 |", "|    1 |"),
        ("1e-05", "9.9e-06"),
        ("-0.0", "0.0"),
        ("agrees", "agrees"),
        ("finding a 0.1 agrees b 0.2 (3 seeds decide) undecided", "finding a 0.3 agrees b 0.9 disagrees"),
    ],
)
def test_another_rounding_is_the_same(one, other):
    assert comparing.Shown(one) == comparing.Shown(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("0.35 (2 seeds)", "0.35 (3 seeds)"),
        ("0.35", "0.37"),
        ("0.35", "-0.35"),
        ("0.35 agrees", "0.35 disagrees"),
        ("0.35", "0.35 0.35"),
        ("1.0e-05", "1.0e-06"),
        ("finding a 0.1 agrees", "finding a 0.1 disagrees"),
        ("finding a 0.1 same direction", "finding a 0.1 disagrees"),
        ("finding a 0.1 agrees", "finding a 0.1 agrees b 0.2 agrees"),
        ("finding a 0.1 proved", "finding a 0.1 refuted"),
        ("finding a 0.1 undecided", "finding a 0.1 proved"),
        ("finding a 0.1", "finding a 0.3"),
    ],
)
def test_another_number_or_word_is_not(one, other):
    assert comparing.Shown(one) != comparing.Shown(other)


def test_a_notebook_is_compared_so(tmp_path):
    cells = [nbformat.v4.new_code_cell(source, execution_count=1) for source in ("0.12345", "0.12345")]
    for cell, shown in zip(cells, ("0.12346", "0.12347")):
        cell.outputs = [nbformat.v4.new_output("execute_result", {"text/plain": shown}, execution_count=1)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "shown.ipynb")
    (tmp_path / "conftest.py").write_bytes((ROOT / "conftest.py").read_bytes())
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--nbval", "--nbval-current-env", "."]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False).stdout
    assert "1 failed, 1 passed" in found
