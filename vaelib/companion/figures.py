"""Figures: :func:`show` draws, keeps and shows one, and :func:`redraw` draws those of a profile again.

How they are drawn is in :mod:`vaelib.companion.plots`.
"""

import hashlib
import importlib
import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any, TypeAlias

import joblib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import PIL.Image
import PIL.ImageChops
import torch
from IPython import display
from matplotlib.figure import Figure

import vaelib
from vaelib import __version__, paths
from vaelib.companion.statements import DATA, unpadded
from vaelib.errors import Invalid, UserError
from vaelib.files import holds, write_bytes, write_text
from vaelib.provenance import commit
from vaelib.runs.experiment import Experiment
from vaelib.runs.study import Results, Study

Made: TypeAlias = Results | Study | Experiment
"""What a figure can be made of."""

_PLOTS = "vaelib.companion.plots"
_STYLE = Path(__file__).with_name("vaelib.mplstyle")
_SHOWN = dict[Path, list[str]]()  # by folder, the figures that this process has shown, in their order
_UNSEEN = 20  # levels of 255 by which a palette may miss a pixel, and nobody sees it
_NETWORKS = {"burgess": "Burgess network", "mlp": "MLP", "cnc": "CNC network", "x": "X-VAE network"}


def folder(notebook: str, profile: str) -> Path:
    """Where the results of a notebook go, made if it is not there: ``figures/<profile>/<notebook>``."""
    place = paths.figures() / profile / notebook
    place.mkdir(parents=True, exist_ok=True)
    return place


def show(
    plot: Callable[..., Figure],
    table: pd.DataFrame,
    name: str,
    *,
    folder: Path,
    caption: str,
    of: Iterable[Made] = (),
    claims: Sequence[str] = (),
    **options: Any,
) -> None:
    """Draw a table, keep the figure, and show it with its number and caption.

    The picture (png), the table (csv) and where they come from (json) are written, and with ``VAELIB_PDF`` in the
    environment a pdf. The same figure gives the same bytes, and one that is there already stays as it is, with the
    commit and the versions that it was first drawn with. What is drawn is the table as it is read back from the csv, so
    that :func:`redraw` gives the same picture.

    A figure's number is its place in the order in which the notebook first showed its names.

    Parameters
    ----------
    plot
        A function of a module of :mod:`vaelib.companion.plots`.
    table
        All that is drawn.
    name
        File name without its endings.
    folder
        From :func:`folder`.
    caption
        What is seen, in a sentence. Data, network, epochs and seeds are added from `of`.
    of
        What the figure was made of: results of studies, studies, or experiments; nothing where it is theory.
    claims
        Ids of the claims that it tests.
    options
        Handed to `plot`; what JSON can hold.

    Raises
    ------
    Invalid
        If the name is not a file name for any machine, or is the ledger's; if the plot is none of the package's, or an
        option is not what JSON can hold.

    Examples
    --------
    ::

        figures.show(plots.curves.means, results.history, "loss", folder=folder, caption="Loss on test images.",
                     of=[results], x="epoch", y="test_loss", by="method", names={"test_loss": "loss, nats"})
    """
    if not re.fullmatch(r"(?!claims$)[A-Za-z0-9_.-]+", name):
        raise Invalid("name", name, "of letters, digits, '_', '.' and '-', and not 'claims'")
    dotted, kept, made = _dotted(plot), _json(options), _experiments(of)
    csv = table.to_csv(index=False, float_format="%.6g")
    drawn, half = _drawn(plot, csv, kept)
    note = {
        "caption": caption,
        "setting": said(made.values()),
        "claims": list(claims),
        "plot": dotted,
        "options": kept,
        "runs": sorted(made),
        "parameters": _common(made.values()),
    }
    _keep(folder / name, drawn | {"csv": csv.encode()}, note)
    shown = _SHOWN.setdefault(folder, [])
    if name not in shown:
        shown.append(name)
    told = caption.rstrip(".") + (f" ({note['setting']})." if note["setting"] else ".")
    display.display(display.Image(half, alt=caption))  # type: ignore[no-untyped-call]
    display.display(display.Markdown(f"**Figure {shown.index(name) + 1}.** {told}"))  # type: ignore[no-untyped-call]


def redraw(profile: str, only: Iterable[str] = ()) -> tuple[list[Path], list[Path]]:
    """Draw the figures of a profile again, each from its csv and json alone; no run, no data and no notebook is needed.

    Parameters
    ----------
    profile
        Folder below the figures.
    only
        Beginnings of the names of notebooks.

    Returns
    -------
    tuple of list of Path
        The pictures that are new or other than before, and those that are as they were.

    Raises
    ------
    UserError
        If there are no figures, or one cannot be drawn: its table is missing, or its note names no plot of the package.
    """
    place, starts = paths.figures() / profile, tuple(only) or ("",)
    notes = [
        note
        for note in sorted(place.glob("*/*.json"))
        if note.parent.name.startswith(starts) and note.name != "claims.json"
    ]
    if not notes:
        raise UserError(f"redraw: there are no figures of {', '.join(filter(None, starts)) or profile} in {place}")
    found: tuple[list[Path], list[Path]] = ([], [])
    for note in notes:
        said = json.loads(note.read_text(encoding="utf-8"))
        if not (csv := note.with_suffix(".csv")).exists():
            raise UserError(f"redraw: {csv} is not there, and {note.stem} is drawn from it")
        drawn, _ = _drawn(_plot(said.get("plot", ""), note), csv.read_text(encoding="utf-8"), said["options"])
        files = {note.with_suffix(f".{ending}"): content for ending, content in drawn.items()}
        found[all(holds(file, content) for file, content in files.items())].append(note.with_suffix(".png"))
        for file, content in files.items():
            write_bytes(file, content)
    return found


def said(made: Iterable[Experiment]) -> str:
    """The setting of experiments in words: data, network, epochs and seeds; nothing where there are none.

    Examples
    --------
    >>> said([Experiment(data="mnist", epochs=100, seed=seed) for seed in (0, 1, 2)])
    'MNIST, Burgess network, 100 epochs, seeds 0 to 2'
    """
    experiments = list(made)
    if not experiments:
        return ""
    epochs, seeds = ({getattr(e, field) for e in experiments} for field in ("epochs", "seed"))
    return ", ".join(
        [
            " and ".join(dict.fromkeys(_data(e.data) for e in experiments)),
            " and ".join(dict.fromkeys(_network(e.network.kind) for e in experiments)),
            f"{_range(epochs)} epoch{'s' if epochs != {1} else ''}",
            f"seed{'s' if len(seeds) > 1 else ''} {_range(seeds)}",
        ]
    )


def _data(name: str) -> str:
    """A data set in words: ``5,000 MNIST digits``."""
    kind, _, size = unpadded(name).partition(":")
    if kind in ("folder", "npz"):
        return "images of " + Path(size).stem
    return (f"{int(size):,} " if size.isdecimal() else "") + DATA.get(kind, kind)


def _network(kind: str) -> str:
    return _NETWORKS.get(kind, f"{kind.replace('_', ' ')} network")


def _range(numbers: set[int]) -> str:
    """``3``, ``0 and 5``, ``0 to 2``, ``0, 5 and 9``."""
    ordered = sorted(numbers)
    if len(ordered) > 2 and ordered == list(range(ordered[0], ordered[-1] + 1)):
        return f"{ordered[0]} to {ordered[-1]}"
    return " and ".join(filter(None, [", ".join(map(str, ordered[:-1])), str(ordered[-1])]))


def _experiments(of: Iterable[Made]) -> dict[str, Experiment]:
    """What a figure was made of, by key."""
    found: dict[str, Experiment] = {}
    for thing in of:
        for one in [thing] if isinstance(thing, Experiment) else thing.values():
            found[one.key] = one if isinstance(one, Experiment) else Experiment(**one.experiment)
    return found


def _common(made: Iterable[Experiment]) -> dict[str, Any]:
    """What experiments have in common, as plain values."""
    whole = [e.canonical(whole=True) for e in made]
    return {name: value for name, value in whole[0].items() if all(w[name] == value for w in whole)} if whole else {}


def _json(options: dict[str, Any]) -> dict[str, Any]:
    """Options as JSON gives them back."""
    try:
        kept: dict[str, Any] = json.loads(json.dumps(options, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise Invalid("options", options, f"what JSON can hold ({error})") from None
    return kept


def _dotted(plot: Callable[..., Figure]) -> str:
    """The name of a plot below :mod:`vaelib.companion.plots`."""
    module, _, name = f"{plot.__module__}.{plot.__qualname__}".removeprefix(f"{_PLOTS}.").partition(".")
    if not plot.__module__.startswith(f"{_PLOTS}.") or "." in name:
        raise Invalid("plot", plot.__qualname__, f"a function of a module of {_PLOTS}")
    return f"{module}.{name}"


def _plot(name: str, note: Path) -> Callable[..., Figure]:
    """The plot with a name."""
    module, _, function = name.partition(".")
    try:
        plot: Callable[..., Figure] = getattr(importlib.import_module(f"{_PLOTS}.{module}"), function)
    except (ModuleNotFoundError, AttributeError):
        raise UserError(f"redraw: {note} names the plot {name!r}, and there is none in {_PLOTS}") from None
    return plot


def _drawn(plot: Callable[..., Figure], csv: str, options: dict[str, Any]) -> tuple[dict[str, bytes], bytes]:
    """What :func:`_draw` makes, which it does once for a table, its options and the code as it is."""
    place = paths.pictures()
    with suppress(OSError):
        place.mkdir(parents=True, exist_ok=True)
    memory = joblib.Memory(place if os.access(place, os.W_OK) else None, verbose=0)
    found: tuple[dict[str, bytes], bytes] = memory.cache(_draw)(
        plot, csv, options, bool(os.environ.get("VAELIB_PDF")), _code()
    )
    return found


@cache
def _code() -> str:
    """A digest of all that decides how a table is drawn: the package, and the versions of what it draws with."""
    files = [*sorted(Path(vaelib.__file__).parent.rglob("*.py")), _STYLE]
    sources = [file.read_bytes() for file in files]
    versions = [f"{name} {version(name)}".encode() for name in ("matplotlib", "numpy", "pandas", "pillow", "seaborn")]
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in [*sources, *versions])).hexdigest()


def _draw(
    plot: Callable[..., Figure], csv: str, options: dict[str, Any], pdf: bool, code: str
) -> tuple[dict[str, bytes], bytes]:
    """The picture of a table and on demand a pdf, by their endings, and the picture at half its size, to be shown."""
    with plt.style.context(["default", _STYLE]):
        figure = plot(pd.read_csv(StringIO(csv)), **options)
        drawn = {"png": _bytes(figure, "png", {"Software": None}, pil_kwargs={"compress_level": 0})}  # packed below
        if pdf:
            drawn["pdf"] = _bytes(figure, "pdf", {"CreationDate": None, "Producer": None, "Creator": None})
        plt.close(figure)  # a notebook would draw it twice more to show it
    with PIL.Image.open(BytesIO(drawn["png"])) as picture:
        drawn["png"] = _compact(picture.convert("RGB"))
    with PIL.Image.open(BytesIO(drawn["png"])) as picture:
        return drawn, _compact(picture.convert("RGB").reduce(2))


def _bytes(figure: Figure, ending: str, metadata: dict[str, None], **options: Any) -> bytes:
    figure.savefig(buffer := BytesIO(), format=ending, metadata=metadata, **options)
    return buffer.getvalue()


def _compact(picture: PIL.Image.Image) -> bytes:
    """A picture as png: in sixteen greys or 256 colours where nobody sees it, which takes a third of the bytes."""
    plain, (red, green, blue) = PIL.Image.Dither.NONE, picture.split()
    if red == green == blue:
        greys = PIL.Image.new("P", (1, 1))
        greys.putpalette([17 * (k // 3) for k in range(48)])
        few = picture.quantize(palette=greys, dither=plain)
    else:
        few = picture.quantize(256, method=PIL.Image.Quantize.MAXCOVERAGE, dither=plain)
    off = np.asarray(PIL.ImageChops.difference(picture, few.convert("RGB"))).max()
    kept = few if off <= _UNSEEN else picture
    kept.save(buffer := BytesIO(), format="png", optimize=True)
    return buffer.getvalue()


def _keep(stem: Path, drawn: dict[str, bytes], note: dict[str, Any]) -> None:
    """Write a figure's files, unless those that are there say the same."""
    files = {stem.parent / f"{stem.name}.{ending}": content for ending, content in drawn.items()}
    origin = {"vaelib": __version__, "commit": commit(), "torch": torch.__version__}
    told = stem.parent / f"{stem.name}.json"
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
