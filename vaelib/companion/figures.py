"""Style, drawing and saving: one function draws on an Axes that it is given, one function saves."""

import json
import os
import re
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import PIL.Image
import torch
from IPython import display
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from vaelib import __version__, paths
from vaelib.errors import Invalid
from vaelib.files import holds, write_bytes, write_text
from vaelib.models.vae import pixels
from vaelib.provenance import commit


class Look(NamedTuple):
    """How one method is drawn in every figure."""

    label: str
    colour: str
    linestyle: str


# Okabe and Ito's colours, which readers with any colour vision can tell apart.
LOOKS: dict[str, Look] = {
    "kl": Look("KL(q‖p)", "#000000", "-"),
    "forward_kl": Look("KL(p‖q)", "#56B4E9", "-"),
    "geometric_js": Look(r"$\mathrm{JS}^{G}_{\alpha}$", "#0072B2", "-"),
    "dual_geometric_js": Look(r"$\mathrm{JS}^{G}_{*\alpha}$", "#D55E00", "-"),
    "extended_geometric_js": Look(r"extended $\mathrm{JS}^{G}_{\alpha}$", "#009E73", "--"),
    "resistor_average": Look("resistor average", "#009E73", "-"),
    "mmd": Look("MMD", "#CC79A7", "-"),
    "mmd_moments": Look("MMD of moments", "#CC79A7", "--"),
    "beta4": Look("KL(q‖p), β = 4", "#7F7F7F", "--"),
    "half_js": Look("JS, α = ½", "#009E73", "-."),
    "half_dual": Look("dual, α = ½", "#E69F00", "-."),
    "learned_js": Look("JS, learned α", "#0072B2", "-"),
    "learned_dual": Look("dual, learned α", "#D55E00", "-"),
    "pathwise": Look("pathwise", "#000000", "-"),
    "pathwise_sampled": Look("pathwise, sampled rate", "#7F7F7F", "--"),
    "score": Look("score function", "#56B4E9", "-"),
    "leave_one_out": Look("leave-one-out", "#009E73", "--"),
    "variance": Look("variance loss, as printed", "#D55E00", "-"),
    "hybrid": Look("hybrid", "#0072B2", "-"),
    "relaxed": Look("Gumbel-softmax", "#E69F00", "-"),
    "straight_through": Look("straight-through", "#CC79A7", "-."),
}
"""How each divergence, each of :data:`vaelib.runs.experiment.COMPARED` and each estimator is drawn."""


def use_style() -> None:
    """Set the style of all figures."""
    plt.style.use(Path(__file__).with_name("vaelib.mplstyle"))


def folder(notebook: str, profile: str) -> Path:
    """Where the results of a notebook go, made if it is not there: ``figures/<profile>/<notebook>``."""
    place = paths.figures() / profile / notebook
    place.mkdir(parents=True, exist_ok=True)
    return place


def band(
    ax: Axes, table: pd.DataFrame, x: str, y: str, *, by: str | None = None, label: str = "{}", **style: Any
) -> None:
    """Draw means of `y` against `x` as lines, with bands of one standard deviation over the other columns.

    Parameters
    ----------
    ax
        Where to draw.
    table
        A tidy table; rows that share `x` (and `by`) are replicates, such as seeds.
    x, y
        Column names.
    by
        A column with one line for each of its values.
    label
        Label of a line; ``{}`` stands for the value of `by`.
    style
        Handed to :meth:`~matplotlib.axes.Axes.plot`.
    """
    for value, rows in table.groupby(by) if by else [("", table)]:
        replicates = rows.groupby(x)[y]
        mean, sd = replicates.mean(), replicates.std().fillna(0)
        (line,) = ax.plot(mean.index, mean, label=label.replace("{}", str(value)), **style)
        ax.fill_between(mean.index, mean - sd, mean + sd, color=line.get_color(), alpha=0.18, linewidth=0)


def reference(ax: Axes, value: float, sd: float | None, label: str) -> None:
    """Draw a paper's value as a grey horizontal line, with its spread where the paper gives one."""
    ax.axhline(value, color="0.45", linewidth=1, linestyle=":", label=label, zorder=1)
    if sd:
        ax.axhspan(value - sd, value + sd, color="0.45", alpha=0.2, linewidth=0, zorder=0)


def plain_log(axis: Axis) -> None:
    """Label a drawn logarithmic axis in plain numbers: at powers of ten, and below three decades at 2 and 5 as well."""
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1000 * low else (1,)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter("")


def images(ax: Axes, samples: torch.Tensor, columns: int) -> None:
    """Draw images ``(n, channels, height, width)``, bytes or in [0, 1], in a grid of so many columns."""
    values = pixels(samples.detach().cpu()).numpy()
    rows = -(-len(values) // columns)
    padded = np.ones((rows * columns, *values.shape[1:]))
    padded[: len(values)] = values
    c, h, w = values.shape[1:]
    grid = padded.reshape(rows, columns, c, h, w).transpose(0, 3, 1, 4, 2).reshape(rows * h, columns * w, c)
    ax.imshow(grid.squeeze(-1) if c == 1 else grid, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    ax.set_axis_off()


def image_rows(ax: Axes, rows: dict[str, torch.Tensor]) -> None:
    """Draw rows of images, each ``(n, channels, height, width)``, with their names at the left."""
    stacked = torch.cat([pixels(row.detach().cpu()) for row in rows.values()])
    images(ax, stacked, len(stacked) // len(rows))
    height = stacked.shape[2]
    for position, name in enumerate(rows):
        ax.text(-0.3 * height, (position + 0.5) * height, name, ha="right", va="center")


def save(
    figure: Figure,
    name: str,
    *,
    folder: Path,
    data: pd.DataFrame,
    caption: str,
    claims: Sequence[str] = (),
    runs: Iterable[str] = (),
    parameters: dict[str, Any] | None = None,
) -> None:
    """Write a figure as png, the numbers in it as csv, and where it came from as json; show it, and close it.

    With ``VAELIB_PDF`` in the environment it is written as pdf as well.

    The same figure gives the same bytes, and one that is there already stays as it is, with the commit and the versions
    that it was first drawn with.

    Parameters
    ----------
    figure
        What to save.
    name
        File name without its endings.
    folder
        From :func:`folder`.
    data
        What is drawn; the figure can be redrawn from it alone.
    caption
        What is seen, in a sentence.
    claims
        Ids of the claims that it tests.
    runs
        Keys of the runs that it was made of.
    parameters
        What the runs have in common.

    Raises
    ------
    Invalid
        If the name is not a file name for any machine, or is the ledger's.
    """
    if not re.fullmatch(r"(?!claims$)[A-Za-z0-9_.-]+", name):
        raise Invalid("name", name, "of letters, digits, '_', '.' and '-', and not 'claims'")
    pictures = {"png": {"Software": None}}
    if os.environ.get("VAELIB_PDF"):
        pictures["pdf"] = {"CreationDate": None, "Producer": None, "Creator": None}
    drawn = {"csv": data.to_csv(index=False, float_format="%.6g").encode()}
    for ending, metadata in pictures.items():
        figure.savefig(buffer := BytesIO(), format=ending, metadata=metadata)
        drawn[ending] = buffer.getvalue()
    plt.close(figure)  # a notebook would draw it twice more to show it
    with PIL.Image.open(BytesIO(drawn["png"])) as picture:
        picture.reduce(2).save(shown := BytesIO(), format="png")
    display.display(display.Image(shown.getvalue()))  # type: ignore[no-untyped-call]
    files = {folder / f"{name}.{ending}": content for ending, content in drawn.items()}
    note = {"caption": caption, "claims": list(claims), "runs": sorted(set(runs)), "parameters": parameters or {}}
    origin = {"vaelib": __version__, "commit": commit(), "torch": torch.__version__}
    told = folder / f"{name}.json"
    if not (all(holds(file, content) for file, content in files.items()) and _says(told, note, origin)):
        write_text(told, json.dumps(note | origin, indent=1, ensure_ascii=False) + "\n")
        for file, content in files.items():
            write_bytes(file, content)


def _says(file: Path, note: dict[str, Any], origin: Iterable[str]) -> bool:
    """Whether a file says what a note does, wherever it came from."""
    if not file.exists():
        return False
    said = json.loads(file.read_text(encoding="utf-8"))
    same: bool = json.loads(json.dumps(note)) == {name: said[name] for name in said if name not in origin}
    return same
