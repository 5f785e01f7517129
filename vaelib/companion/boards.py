"""The boards of the site: a row a claim of a paper, what was measured beside what is printed.

A board is a piece of HTML without scripts, made from what the notebooks recorded: :func:`board` renders
``templates/board.html.jinja``. Everything that a reader may filter by stands in attributes of its elements.
"""

import math
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from vaelib import paths
from vaelib.companion import cells, check, claims, report
from vaelib.companion.cells import Cell
from vaelib.companion.check import Answer, Found
from vaelib.companion.statements import DATA, PAPERS, Claim, rounded
from vaelib.companion.verdicts import SCALES, Spread

NOT_MEASURED = "not measured"
ORDER = (
    "disagrees", "refuted", "not a misprint", "undecided", "same direction", "agrees", "holds in all trials", "proved",
    "misprint confirmed", "vacuous", NOT_MEASURED,
)  # fmt: skip
"""Findings, what a reader has to know first coming first."""

METHODS = {
    "js": "JS",
    "dual": "dual JS",
    "js-0.5": "JS at skew ½",
    "dual-0.5": "dual JS at skew ½",
    "reverse": "reverse KL",
    "forward": "forward KL",
    "mmd": "MMD",
    "beta4": "β-VAE (β = 4)",
    "infovae500": "InfoVAE (λ = 500)",
    "elbo": "ELBO",
    "mi": "mutual information",
    "fc": "fully connected network",
    "cnn": "convolutional network",
    "pca": "PCA",
    "x": "network X",
    "cnc": "network CNC",
    "rf": "random forest",
    "svm": "support vector machine",
}
"""What the last parts of a claim's id stand for; others are called as they are."""
_WIDTH, _LINE, _EDGE = 240, 14, 6  # of a drawing, of a line in it, and what stays free at its sides; in pixels


class Axis(NamedTuple):
    """What a claim's drawings have in common: the ends, where the printed value stands, and the band around it.

    Of a statement the printed value is zero, and the band is where it holds.
    """

    low: float
    high: float
    printed: float
    band: tuple[float, float]

    def at(self, value: float) -> float:
        """The place of a value in a drawing; what lies beyond an end is drawn there."""
        inside = min(max(value, self.low), self.high)
        return round(_EDGE + (_WIDTH - 2 * _EDGE) * (inside - self.low) / (self.high - self.low), 1)


class Bar(NamedTuple):
    """One part of what was measured, as it is drawn: where the mean is, the interval's ends, whether these are cut."""

    mean: float
    ends: tuple[float, float]
    cut: tuple[bool, bool]
    y: float


@dataclass(frozen=True)
class Measurement:
    """What one notebook measured of a claim, in words and drawn.

    Attributes
    ----------
    found
        What is shown.
    said
        Its row of :func:`vaelib.companion.claims.verdict_table`.
    bars
        By part; none of pure theory, whose margins share no scale.
    title
        What the drawing shows, for those who do not see it.
    """

    found: Found
    said: Mapping[str, str]
    bars: tuple[Bar, ...]
    title: str

    @property
    def notebook(self) -> str:
        """The notebook's name."""
        return self.found.folder.name

    @property
    def cell(self) -> Cell | None:
        """The cell that records it."""
        return cells.recording(self.notebook, self.found.record.claim)

    @property
    def drawn(self) -> list[tuple[Path, Cell | None]]:
        """The pictures that it rests on, each with the cell that shows it."""
        captions = _captions(self.found.folder)
        names = {picture: f"{picture.parent.name}/{picture.name}" for picture in self.found.pictures}
        return [(p, cells.showing(self.notebook, p.stem, captions[name])) for p, name in names.items()]

    @property
    def place(self) -> str:
        """The folder of its figures, below ``figures``."""
        return self.found.folder.relative_to(paths.figures()).as_posix()

    @property
    def archive(self) -> str:
        """The archive that holds any of its runs, below ``figures``; empty where none does."""
        file = self.found.folder.parent / "runs.tar.gz"
        return (
            "" if _archived(file).isdisjoint(self.found.record.runs) else file.relative_to(paths.figures()).as_posix()
        )


@dataclass(frozen=True)
class Row:
    """A claim on its board.

    Attributes
    ----------
    claim
        The claim.
    order
        Its place in the ledger.
    subject
        What a printed value is of: the data and the methods in words.
    data, methods
        What a reader may filter by.
    finding
        The most urgent one at the scale that is nearest to the paper's.
    axis
        Of its drawings, where it has any.
    measurements
        The nearest scale first.
    """

    claim: Claim
    order: int
    subject: str
    data: tuple[str, ...]
    methods: tuple[str, ...]
    finding: str
    axis: Axis | None
    measurements: tuple[Measurement, ...]

    @property
    def setting(self) -> str:
        """The paper's setting in words, and what it leaves out."""
        return claims.setting_in_words(self.claim)


@cache
def _answers(folder: Path) -> tuple[Answer, ...]:
    """All claims with what was measured of them, read once for all boards."""
    return tuple(check.answer(check.matching(["*"])))


@cache
def _captions(folder: Path) -> dict[str, str]:
    """The captions of a folder's figures, by path: read once, not for each record."""
    return {figure["path"]: figure["note"]["caption"] for figure in report.shown(folder)}


@cache
def _archived(file: Path) -> frozenset[str]:
    """The keys of the runs in an archive, if it is there."""
    if not file.exists():
        return frozenset()
    with tarfile.open(file) as archive:
        return frozenset(name.removesuffix(".zip") for name in archive.getnames())


def rows(paper: str) -> list[Row]:
    """The claims of a paper as its board shows them: those that disagree first, then in the ledger's order."""
    found = [_row(one, n) for n, one in enumerate(_answers(paths.figures())) if one.claim.paper == paper]
    return sorted(found, key=lambda row: ORDER.index(row.finding))


def _row(one: Answer, order: int) -> Row:
    claim = one.claim
    axis = _axis(claim, one.found)
    subject, methods = _subject(claim)
    return Row(
        claim,
        order,
        subject,
        tuple(DATA.get(name, name) for name in claim.setting.data),
        methods,
        min((verdict.finding for verdict in one.nearest), key=ORDER.index, default=NOT_MEASURED),
        axis,
        tuple(_measurement(f, axis) for f in one.found),
    )


def _subject(claim: Claim) -> tuple[str, tuple[str, ...]]:
    """What a printed value is of, from the id's parts after the table's: data set, modalities, methods."""
    if claim.kind != "value":
        return "", ()
    parts = claim.id.split("/")[2:]
    methods = tuple(METHODS[part] for part in parts if part in METHODS)
    others = [DATA.get(part, part) for part in parts if part not in METHODS and part not in claim.setting.data]
    return ", ".join([*(DATA.get(name, name) for name in claim.setting.data), *others, *methods]), methods


def _spreads(found: Found) -> dict[str, Spread]:
    return {part: Spread.of(values) for part, values in found.record.measured.items()}


def _axis(claim: Claim, found: Sequence[Found]) -> Axis | None:
    """An axis that shows the band, all means, and intervals that do not dwarf these."""
    if claim.kind in ("fact", "erratum") or not found:
        return None
    spreads = [spread for one in found for spread in _spreads(one).values()]
    if claim.value is None:
        printed, band = 0.0, (claim.worth, math.inf)
        shown = [0.0, claim.worth, *(s.mean for s in spreads)]
    else:
        printed, band = claim.value, (claim.value - claim.band, claim.value + claim.band)
        shown = [*band, *(s.mean for s in spreads)]
    low, high = min(shown), max(shown)
    room = high - low or 1.0
    ends = [s.mean + side * s.reach for s in spreads for side in (-1, 1)]
    shown += [end for end in ends if low - room <= end <= high + room]
    low, high = min(shown), max(shown)
    room = 0.1 * (high - low) or 1.0
    return Axis(low - room, high + room, printed, (band[0], min(band[1], high + room)))


def _measurement(found: Found, axis: Axis | None) -> Measurement:
    said = claims.verdict_table([found.record], digits=3).iloc[0].to_dict()
    bars, title = list[Bar](), list[str]()
    for number, (part, s) in enumerate(_spreads(found).items() if axis else ()):
        assert axis is not None
        low, high = s.mean - s.reach, s.mean + s.reach
        if s.n == 1:
            low = high = s.mean
        cut = low < axis.low, high > axis.high
        bars.append(Bar(axis.at(s.mean), (axis.at(low), axis.at(high)), cut, _LINE * (number + 0.5)))
        interval = f", interval {rounded(low, 3)} to {rounded(high, 3)}" if s.n > 1 else ""
        title.append(f"{part + ': ' if part else ''}{rounded(s.mean, 3)}{interval}")
    return Measurement(found, said, tuple(bars), f"Measured: {'; '.join(title)}")


def counts(paper: str) -> dict[str, int]:
    """How many of a paper's claims have each finding, at the nearest scale."""
    all_ = [row.finding for row in rows(paper)]
    return {finding: all_.count(finding) for finding in ORDER if finding in all_}


def thumbnail(picture: Path) -> str:
    """Where the small copy of a figure lies on the site, below ``figures``."""
    return f"small/{picture.relative_to(paths.figures()).with_suffix('.webp').as_posix()}"


def _size(picture: Path) -> tuple[int, int]:
    """Width and height of a figure, which keep its room: loaded late it moves nothing that was jumped to."""
    with Image.open(picture) as image:
        return image.size


def board(paper: str, root: str) -> str:
    """The board of a paper as HTML.

    Parameters
    ----------
    paper
        Its short name: ``avae``.
    root
        The way from the board's page to the site's start: ``../..``.
    """
    shown = rows(paper)
    measured = [m.found.verdict for row in shown for m in row.measurements]
    missing = [NOT_MEASURED for row in shown if not row.measurements]
    return report.template("board.html").render(
        rows=shown,
        paper=paper,
        root=root,
        filters={
            "finding": _known([v.finding for v in measured] + missing, ORDER),
            "scale": _known((v.scale for v in measured), SCALES),
            "data": _known(chain.from_iterable(row.data for row in shown), tuple(DATA.values())),
            "method": _known(chain.from_iterable(row.methods for row in shown), tuple(METHODS.values())),
        },
        width=_WIDTH,
        line=_LINE,
        rounded=rounded,
        picture_of=lambda file: file.relative_to(paths.figures()).as_posix(),
        thumbnail=thumbnail,
        size_of=_size,
    )


def overview() -> str:
    """All boards with their findings, as HTML for a page beside theirs."""
    return report.template("overview.html").render(boards=[(p, title, counts(p)) for p, title in PAPERS.items()])


def gallery(folder: Path, root: str) -> str:
    """The figures of a notebook's folder, as Markdown with HTML in it; `root` is as for :func:`board`."""
    shown = report.shown(folder)
    return report.template("gallery.html").render(
        figures=shown,
        place=f"{root}/figures/{folder.parent.name}",
        size_of=lambda figure: _size(folder.parent / figure["path"]),
    )


def _known(those: Iterable[str], order: Sequence[str]) -> list[str]:
    """Those that occur, each once, in an order; what it does not know comes last."""
    occurring = dict.fromkeys(those)
    return [*dict.fromkeys(o for o in order if o in occurring), *sorted(o for o in occurring if o not in order)]
