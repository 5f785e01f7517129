"""The tutorials do what they say: their own blocks are executed, in a copy of the project."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
COPIED = ("vaelib", "notebooks", "docs/boards", "CITATION.cff", "pyproject.toml")


@pytest.fixture
def project(tmp_path):
    """A copy of the project, with the command first in the path, and stores of its own."""
    for name in COPIED:
        source, copy = ROOT / name, tmp_path / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, copy)
    command = tmp_path / "bin" / "vaelib"
    command.parent.mkdir()
    guarded = 'if __name__ == "__main__":\n    main()\n'  # processes that it starts import it
    command.write_text(f"#!{sys.executable}\nfrom vaelib.cli import main\n\n{guarded}")
    command.chmod(0o755)
    return tmp_path


def blocks(page):
    """A page's fenced blocks: language, first line, the rest."""
    for language, text in re.findall(
        r"^```(\w+)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    ):
        first, _, rest = text.partition("\n")
        yield language, first, rest


def follow(page, project):
    """Do what a page says, block by block; what it has executed as one script comes back with what it printed."""
    script, cells, printed = "", [], ""
    for language, first, rest in blocks(page):
        if found := re.fullmatch(r'# (\S+), below "(.+)"', first):
            file = project / found[1]
            before, after = re.split(
                rf"(?<=^{re.escape(found[2])}\n)", file.read_text(encoding="utf-8"), flags=re.MULTILINE
            )
            file.write_text(before + rest + after, encoding="utf-8")
        elif found := re.fullmatch(r"# (\S+\.(?:py|md))", first):
            (project / found[1]).write_text(rest, encoding="utf-8")
        elif found := re.fullmatch(r"# a cell(?: of text|, tagged (\w+))?", first):
            new = nbformat.v4.new_markdown_cell if language == "markdown" else nbformat.v4.new_code_cell
            cells.append(new(rest.strip(), metadata={"tags": [found[1]]} if found[1] else {}))
        elif language == "python":
            script += f"{first}\n{rest}"
        elif language == "console":
            printed += written(cells, script, project)
            cells, script = [], ""
            for command, expected in re.findall(r"^\$ (.+)\n((?:(?!\$ ).*\n?)*)", f"{first}\n{rest}", re.MULTILINE):
                output = run(["sh", "-c", command], project, most=3 if "vaelib check" in command else 0)
                said = {line.strip(" ,") for line in output.splitlines()} | {"", "…"}
                missing = [line for line in expected.splitlines() if line.strip(" ,") not in said]
                assert missing == [], (command, output)
                printed += output
        else:
            raise AssertionError(f"{page.name}: what is to be done with {first!r}?")
    return printed + written(cells, script, project)


def written(cells, script, project):
    """Keep the notebook, and execute the script, that blocks so far have made."""
    if cells:
        name = re.search(r'figures\.folder\("(\w+)"', "".join(cell.source for cell in cells))[1]
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), project / "notebooks" / f"{name}.ipynb")
    if not script:
        return ""
    (project / "script.py").write_text(script, encoding="utf-8")
    return run([sys.executable, "script.py"], project)


def run(command, project, most=0):
    """What a command printed; it ends with `most` at the most."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VAELIB_")}
    environment |= {
        "PYTHONPATH": str(project),
        "PATH": f"{project / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "VAELIB_RUNS": str(project / "runs"),
        "VAELIB_DATA": str(project / "data"),
    }
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode <= most, (command, done.stdout, done.stderr)
    return done.stdout


def test_there_are_three():
    assert [page.stem for page in TUTORIALS] == ["claim", "divergence", "paper"]


def test_a_new_claim_has_a_verdict(project):
    follow(ROOT / "docs" / "tutorials" / "claim.md", project)
    assert "[avae/half](../../notebooks/04_reconstruction.ipynb)" in (project / "figures/quick/avae.md").read_text()


def test_a_new_divergence_has_a_verdict(project):
    printed = follow(ROOT / "docs" / "tutorials" / "divergence.md", project)
    assert re.search(r"(agrees|disagrees|undecided|same direction) on your numbers\n", printed)


def test_a_new_paper_has_a_verdict_a_report_and_a_board(project):
    follow(ROOT / "docs" / "tutorials" / "paper.md", project)
    report = (project / "figures/quick/aevb.md").read_text()
    assert "[aevb/c1](../../notebooks/12_superfluous_latents.ipynb#12-%C2%B7-Do-more-latents-overfit%3F)" in report
    assert "(12_superfluous_latents/loss.png)" in report
    board = run(
        [sys.executable, "-c", "from vaelib.companion import boards; print(boards.board('aevb', '.'))"], project
    )
    assert 'id="aevb/c1"' in board
    assert "notebooks/12_superfluous_latents.html#cell-" in board
