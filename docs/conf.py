"""The site: ``sphinx-build --conf-dir docs . build/site``, from what is committed, executing nothing.

The source folder is the project's: a link between its pages, notebooks and figures holds here and on a code host.
"""

import json
import re
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from docutils import nodes
from latex2mathml import converter
from myst_parser.slugs import github_slugify
from PIL import Image
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import vaelib
from vaelib import paths
from vaelib.companion import boards, cells, explorers
from vaelib.companion.verdicts import RULE

project = "vaelib"
release = version = vaelib.__version__
html_title = "vaelib"
language = "en"
root_doc = "docs/index"
include_patterns = ["docs/**.md", "notebooks/*.ipynb", "CONTRIBUTING.md", "CHANGELOG.md", "figures/*/*.md"]
exclude_patterns = [".*", "build", "figures/trial", "tests", "vaelib", "benchmarks", "*.egg-info"]
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton", "sphinx_design"]

nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "colon_fence", "substitution"]
myst_substitutions = {"rule": RULE}
myst_heading_anchors = 3
napoleon_google_docstring = False
napoleon_use_ivar = True  # fields of data classes are members as well
autodoc_member_order = "bysource"
autodoc_default_options = {"exclude-members": "model_config"}
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
add_module_names = False

suppress_warnings = ["ref.python"]  # two classes have an attribute of one name: the link leads to either

html_theme = "furo"
# Readable on either background: a contrast of 4.5 and more.
html_theme_options = {
    "light_css_variables": {
        "word-agrees": "#006b4f",
        "word-disagrees": "#a83a00",
        "word-undecided": "#7a5200",
        "word-other": "#5a5c63",
        "word-paper": "#00559c",
        "word-reduced": "#1f5f7f",
    },
    "dark_css_variables": {
        "word-agrees": "#56d3aa",
        "word-disagrees": "#ff9d6b",
        "word-undecided": "#e8c15a",
        "word-other": "#a8adb5",
        "word-paper": "#7ab8ff",
        "word-reduced": "#86c5e0",
    },
}
html_static_path = ["_static"]
html_favicon = "_static/favicon.svg"  # without one a browser asks the server, and reports an error
templates_path = ["_templates"]
html_css_files = ["site.css"]
html_js_files = [("board.js", {"defer": "defer"})]
html_additional_pages = {"index": "start.html"}  # opens the first page, which stands in a folder
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
html_show_search_summary = False  # would fetch pages, which a page opened as a file may not
html_math_renderer = "mathml"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_selector = "div:not(.output) > div.highlight pre"

_SMALL = 320, 320  # pixels of a thumbnail, shown at half of that


class Board(SphinxDirective):
    """A row a claim of the paper that is named."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        for file in paths.figures().glob("*/*/claims.json"):
            self.env.note_dependency(str(file))
        return [nodes.raw("", boards.board(self.arguments[0], _root(self.env.docname)), format="html")]


class Boards(SphinxDirective):
    """All boards, with what was found."""

    def run(self) -> list[nodes.Node]:
        return [nodes.raw("", boards.overview(), format="html")]


class Explorer(SphinxDirective):
    """A picture to move, made from committed tables."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        for file in paths.figures().glob("*/*/*.csv"):
            self.env.note_dependency(str(file))
        return [nodes.raw("", explorers.committed(self.arguments[0]).html(), format="html")]


def _root(page: str) -> str:
    return "/".join([".."] * page.count("/")) or "."


def _mathml(self: Any, node: nodes.Element) -> None:
    """Formulas as MathML, which browsers draw without a script."""
    shown = "block" if isinstance(node, nodes.math_block) else "inline"
    drawn = converter.convert(node.astext(), display=shown)
    self.body.append(f'<div class="math" tabindex="0">{drawn}</div>' if shown == "block" else drawn)
    raise nodes.SkipNode


def _paper_figures(app: Sphinx, page: str, source: list[str]) -> None:
    """Append to a notebook the figures that it drew at the papers' scale."""
    folder = paths.figures() / "paper" / Path(page).name
    if not page.startswith("notebooks/") or not folder.is_dir():
        return
    notebook = json.loads(source[0])
    html = boards.gallery(folder, _root(page))
    notebook["cells"].append({"cell_type": "markdown", "id": "at-the-papers-scale", "metadata": {}, "source": html})
    source[0] = json.dumps(notebook)


def _reports(app: Sphinx, page: str, source: list[str]) -> None:
    """Reports link to a notebook's headings as Jupyter and code hosts call them: call them as on this site.

    A profile's own report has those of its papers below it in the navigation.
    """
    if not page.startswith("figures/"):
        return
    source[0] = re.sub(r"(\.ipynb#)([^)]+)", lambda m: m[1] + github_slugify(unquote(m[2])), source[0])
    if page.endswith("/REPORT"):
        source[0] += "\n```{toctree}\n:hidden:\n:glob:\n*\n```\n"


def _anchors(app: Sphinx, tree: nodes.document) -> None:
    """Cells of code can be linked to."""
    page = app.env.docname
    if not page.startswith("notebooks/"):
        return
    notebook = json.loads(Path(app.env.doc2path(page)).read_text(encoding="utf-8"))["cells"]
    for cell in tree.findall(lambda node: isinstance(node, nodes.container) and node.get("nb_element") == "cell_code"):
        cell["ids"].append(cells.anchor(notebook[cell["cell_index"]]["id"]))


def _accessible(app: Sphinx, page: str, template: str, context: dict[str, Any], tree: nodes.document | None) -> None:
    """What scrolls can be reached with the keyboard, and headings have a level."""
    body = context.get("body", "")
    for opening in ("<pre", '<div class="output text_html"', '<div class="table-wrapper'):
        name, _, attributes = opening.partition(" ")
        body = body.replace(opening, f'{name} tabindex="0" {attributes}')
    context["body"] = body
    navigation = context.get("furo_navigation_tree", "")
    context["furo_navigation_tree"] = navigation.replace('role="heading"', 'role="heading" aria-level="2"')


def _figures(app: Sphinx, error: Exception | None) -> None:
    """Put figures, their numbers and records beside the pages, and small copies of the pictures."""
    if error or app.builder.name != "html":
        return
    there = Path(app.outdir) / "figures"
    for profile in ("quick", "paper"):
        shutil.copytree(paths.figures() / profile, there / profile, dirs_exist_ok=True)
    for picture in paths.figures().glob("*/*/*.png"):
        small = there / boards.thumbnail(picture)
        if picture.parts[-3] in ("quick", "paper") and not small.exists():
            small.parent.mkdir(parents=True, exist_ok=True)
            with Image.open(picture) as image:
                image.thumbnail(_SMALL)
                image.convert("RGB").save(small, quality=80)


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.add_directive("board", Board)
    app.add_directive("boards", Boards)
    app.add_directive("explorer", Explorer)
    app.add_html_math_renderer("mathml", (_mathml, None), (_mathml, None))
    app.connect("source-read", _paper_figures)
    app.connect("source-read", _reports)
    app.connect("doctree-read", _anchors)
    app.connect("html-page-context", _accessible, priority=900)  # after the theme
    app.connect("build-finished", _figures)
