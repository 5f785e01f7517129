"""The divergence of a model's posteriors against every skew, epoch by epoch."""

from collections.abc import Mapping

import pandas as pd

from vaelib.companion.explorers.base import Explorer, Panel
from vaelib.companion.explorers.drawing import Axes
from vaelib.companion.explorers.skews import FORMS
from vaelib.companion.plots.style import LOOKS
from vaelib.errors import Invalid

_COLUMNS = ["form", "epoch", "skew", "divergence"]
_ENDS = {
    "geometric_js": ("KL(q‖p)", "KL(p‖q)"),
    "dual_geometric_js": ("KL(p‖q)", "KL(q‖p)"),
    "extended_geometric_js": ("KL(q‖p)", "KL(p‖q)"),
}
_SIZE, _BESIDE = (400, 310), (290, 310)  # pixels


def landscape(tables: Mapping[str, pd.DataFrame], limit: float = 40.0) -> Explorer:
    """An explorer of the landscape, means over runs: the curve of an epoch before those of all others.

    Parameters
    ----------
    tables
        By what each was measured on, in words, what :class:`vaelib.measures.Landscape` observed: a row for each run,
        ``form``, ``epoch`` and ``skew`` with the ``divergence`` in nats. All have the same forms; of the epochs those
        are shown that all have.
    limit
        Where the axis is cut off, in nats.

    Raises
    ------
    Invalid
        If there is no table, one lacks a column or has another form, or they have not the same forms.
    """
    if not tables:
        raise Invalid("tables", dict(tables), "at least one table")
    for name, table in tables.items():
        if not {*_COLUMNS} <= {*table}:
            raise Invalid(f"tables.{name}", list(table), f"a table with columns {', '.join(_COLUMNS)}")
        if not {*table["form"]} <= {*FORMS}:
            raise Invalid(f"tables.{name}.form", sorted({*table["form"]}), f"of {', '.join(FORMS)}")
    axes = Axes((0, 1), (0, limit), ("skew α", "divergence, nats"), _SIZE)
    epochs = set.intersection(*({*table["epoch"]} for table in tables.values()))
    rows = [
        row
        for name, table in tables.items()
        for form, part in table[table["epoch"].isin(epochs)].groupby("form", sort=False)
        for row in _rows(axes, name, str(form), part)
    ]
    said = (
        "After epoch {epoch} the {form} is smallest at α = {best}: {least} nats. It is {left} nats at α = 0 and"
        " {right} at α = 1."
    )
    return Explorer(
        title="The landscape of the skew, epoch by epoch",
        table=pd.DataFrame(rows),
        controls={"data": "data", "form": "form", "epoch": "epoch"},
        panels=[
            Panel(
                axes.frame('{others}<path class="vl-line vl-strong" style="stroke:{colour}" d="{curve}"/>')
                + axes.marks(
                    f'<path class="vl-guide" d="M{{x}} {{y}}V{axes.inside[1]}"/>'
                    '<circle r="5.5" fill="{colour}" cx="{x}" cy="{y}"/>'
                ),
                "The divergence against the skew, a curve an epoch, that of epoch {epoch} before the others. " + said,
                _SIZE,
            ),
            Panel(
                "{minima}" + axes.marks('<circle r="5.5" fill="{colour}" cx="{at}" cy="{depth}"/>'),
                "The skew of the minimum against the epoch: {best} at epoch {epoch}.",
                _BESIDE,
            ),
        ],
        words=said + " {moved}",
        start={"epoch": 1} if 1 in epochs else None,
    )


def _rows(axes: Axes, name: str, form: str, part: pd.DataFrame) -> list[dict[str, object]]:
    """A row for each epoch of a form."""
    mean = part.groupby(["epoch", "skew"])["divergence"].mean().unstack("skew").sort_index()
    paths = {epoch: axes.path(curve.index, curve) for epoch, curve in mean.iterrows()}
    others = f'<path class="vl-line vl-faint" d="{"".join(paths.values())}"/>'
    minima = mean.idxmin(axis="columns")
    last, highest = max(float(minima.index[-1]), 1.0), max(0.6, 1.1 * float(minima.max()))
    beside = Axes((0, last), (0, highest), ("epoch", "skew of the minimum"), _BESIDE)
    colour = LOOKS[form].colour
    line = f'<path class="vl-line" style="stroke:{colour}" d="{beside.path(minima.index, minima)}"/>'
    first, rows = int(mean.index[0]), list[dict[str, object]]()
    for epoch, curve in mean.iterrows():
        best, (left, right) = float(curve.idxmin()), _ENDS[form]
        before = "" if epoch == first else f"At epoch {first} the minimum was at α = {mean.loc[first].idxmin():.2f}."
        (x, y), (at, depth) = axes.at(best, curve.min()), beside.at(epoch, best)
        rows.append(
            {
                "data": name,
                "form": FORMS[form],
                "epoch": int(epoch),
                "colour": colour,
                "minima": beside.frame(line),
                "at": float(at),
                "depth": float(depth),
                "others": others,
                "curve": paths[epoch],
                "x": float(x),
                "y": float(y),
                "best": f"{best:.2f}",
                "least": f"{curve.min():.2f}",
                "left": f"{left} = {curve.iloc[0]:.1f}",
                "right": f"{right} = {curve.iloc[-1]:.1f}",
                "moved": before,
            }
        )
    return rows
