"""A method beside the β-VAE of the same rate: where both lie, and what both make of the same images."""

import base64
import re
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import NamedTuple

import numpy as np
import pandas as pd
import PIL.Image
from numpy.typing import NDArray

from vaelib.companion.explorers.base import Explorer, Panel, escape
from vaelib.companion.explorers.drawing import Axes
from vaelib.companion.plots import pictures
from vaelib.companion.plots.style import LOOKS
from vaelib.errors import Invalid
from vaelib.measures import at_rate

_COLUMNS = ["method", "weight", "seed", "test_rate", "test_reconstruction"]
_FAMILY = r"kl|beta.*"  # methods that are β-VAEs
_INPUT = "test image"  # the row of a table of pictures that holds what was encoded
_SIZE, _BESIDE = (400, 320), (300, 320)
_SIDE = 96  # pixels of a picture
_COLOURS = 16  # of a picture, which is for the eye; errors are of all 256 levels


class Measured(NamedTuple):
    """What was measured on one data set.

    Attributes
    ----------
    errors
        A row a run, with columns ``method``, ``weight``, ``seed``, ``test_rate``, ``test_reconstruction``, and where
        something was learned ``skew``. The β-VAEs are the methods ``kl`` and ``beta…``.
    pictures
        From :func:`vaelib.companion.plots.pictures.table`, with rows ``test image`` and methods; None where none were
        kept.
    """

    errors: pd.DataFrame
    pictures: pd.DataFrame | None = None


class _Beside(NamedTuple):
    """A method's means over seeds beside the family's at the same rate; NaN where no β-VAE has that rate."""

    rate: float
    error: float
    skew: float
    weight: float
    family_error: float
    nearest: str
    nearest_rate: float

    def said(self, unit: str, nearest: str) -> str:
        """In words."""
        if np.isnan(self.family_error):
            return f"No β-VAE of the family has this rate; the nearest, {nearest}, has {self.nearest_rate:.1f} nats."
        gap = self.family_error - self.error
        return (
            f"β-VAEs of this rate, interpolated: β ≈ {self.weight:.2f}, {unit} {self.family_error:.2f}; the method's is"
            f" {abs(gap):.2f} {'lower' if gap > 0 else 'higher'}."
        )


def equal_rate(tables: Mapping[str, Measured], unit: str = "squared error") -> Explorer:
    """An explorer of error and rate: choose data, a method and an image.

    As in notebook 04 the β-VAE of the same rate is interpolated in the logarithm of the rate, for each seed, and its β
    in both logarithms. A picture cannot be interpolated: it is that of the trained β-VAE whose rate is nearest.

    Parameters
    ----------
    tables
        What was measured, by the data's name in words. Only methods that all data sets have can be chosen.
    unit
        What the error is called.

    Raises
    ------
    Invalid
        If there is nothing to show, a table lacks a column, or there are not two β-VAEs.
    """
    if not tables:
        raise Invalid("tables", dict(tables), "at least one data set")
    for name, (errors, _) in tables.items():
        if not {*_COLUMNS} <= {*errors}:
            raise Invalid(f"tables.{name}", list(errors), f"a table with columns {', '.join(_COLUMNS)}")
        if errors.loc[_in_family(errors), "weight"].nunique() < 2:
            raise Invalid(f"tables.{name}", sorted(errors["method"].unique()), "one with two β-VAEs or more")
    known = [{*errors.loc[~_in_family(errors), "method"]} for errors, _ in tables.values()]
    methods = [m for m in LOOKS if m in set.intersection(*known)]
    shown = [t.pictures for t in tables.values() if t.pictures is not None]
    images = sorted(set.intersection(*({*table["place"]} for table in shown))) if shown else [0]
    rows = [row for name, measured in tables.items() for row in _rows(name, measured, methods, images, unit)]
    said = f"{{what}}: rate {{rate}} nats, {unit} {{error}}. {{beside}}"
    return Explorer(
        title="A method beside the β-VAE of the same rate",
        table=pd.DataFrame(rows),
        controls={"data": "data", "method": "method", "image": "test image"},
        panels=[
            Panel(
                "{chart}{marks}",
                "Error against rate, lower is better: a line joins the β-VAEs, dots are other methods. " + said,
                _SIZE,
            ),
            Panel(_PICTURES, "{pictured}", _BESIDE),
        ],
        words=said + " {seen}",
        start={"method": LOOKS["learned_dual"].label} if "learned_dual" in methods else None,
    )


def _in_family(errors: pd.DataFrame) -> "pd.Series[bool]":
    """Which runs are of β-VAEs."""
    return errors["method"].str.fullmatch(_FAMILY)


def _beside(errors: pd.DataFrame, method: str, pictured: Sequence[str]) -> _Beside:
    """What a method has at its rate, the β-VAEs of the same seed there, and the nearest of those that are pictured."""
    runs, family = errors[errors["method"] == method], errors[_in_family(errors)]
    family = family.rename(columns={"test_rate": "rate"}).assign(log_weight=np.log(family["weight"]))
    of_seed, pairs = dict([*family.groupby("seed")]), [*zip(runs["seed"], runs["test_rate"])]
    at = {
        column: np.mean([at_rate(of_seed[seed], rate, column) for seed, rate in pairs])
        for column in ("log_weight", "test_reconstruction")
    }
    rate = runs["test_rate"].mean()
    means = family[family["method"].isin(pictured)].groupby("method")["rate"].mean()
    nearest = str((np.log(means) - np.log(rate)).abs().idxmin())
    return _Beside(
        rate,
        runs["test_reconstruction"].mean(),
        runs["skew"].mean() if "skew" in runs else np.nan,
        float(np.exp(at["log_weight"])),
        float(at["test_reconstruction"]),
        nearest,
        float(means[nearest]),
    )


def _label(method: str, errors: pd.DataFrame) -> str:
    weight = errors.loc[errors["method"] == method, "weight"].iloc[0]
    return LOOKS[method].label if method in LOOKS and not re.fullmatch(_FAMILY, method) else f"β = {weight:g}"


def _rows(name: str, measured: Measured, methods: list[str], images: list[int], unit: str) -> list[dict[str, object]]:
    """A row for each method and image of a data set."""
    errors, shown = measured
    axes, chart = _chart(errors, unit)
    seen = {} if shown is None else {row: _pictures(part, images) for row, part in shown.groupby("row")}
    family = [method for method in errors.loc[_in_family(errors), "method"].unique() if not seen or method in seen]
    rows = list[dict[str, object]]()
    for method in methods:
        one = _beside(errors, method, family)
        label, other = _label(method, errors), _label(one.nearest, errors)
        same = {
            "data": name,
            "method": label,
            "chart": chart,
            "marks": _marks(axes, one, method, label),
            "what": label + (f" = {one.skew:.3f}" if "learned" in label else ""),
            "rate": f"{one.rate:.1f}",
            "error": f"{one.error:.2f}",
            "beside": one.said(unit, other),
            "own_name": escape(label),
            "other_name": escape(f"{other}, as trained"),
        }
        for image in images:
            three = [seen[row][image] for row in (_INPUT, method, one.nearest)] if method in seen else []
            rows.append({**same, "image": image + 1, **_seen(three, image + 1, other, unit)})
    return rows


def _pictures(part: pd.DataFrame, images: list[int]) -> dict[int, "_Picture"]:
    """A row of pictures by their places."""
    return {place: _Picture.of(text) for place, text in zip(part["place"], part["image"]) if place in images}


def _seen(three: "Sequence[_Picture]", image: int, other: str, unit: str) -> dict[str, object]:
    """What is drawn and said of an input and its two reconstructions, or of none."""
    columns = dict.fromkeys(("input", "own", "other"), "data:,") | dict.fromkeys(("own_error", "other_error"), "")
    if not three:
        return {**columns, "pictured": "", "seen": "No reconstructions of these data are kept."}
    offs = [f"{unit} {picture.off(three[0]):.1f}" for picture in three[1:]]
    said = f"Test image {image}: {offs[0]}, and by the trained β-VAE of the nearest rate, {other}, {offs[1]}."
    return {**dict(zip(columns, [*(picture.address for picture in three), *offs])), "pictured": said, "seen": said}


def _chart(errors: pd.DataFrame, unit: str) -> tuple[Axes, str]:
    """All methods of a data set, and the line of the β-VAEs; weights above one would squeeze the rest."""
    means = errors.groupby("method", sort=False)[["weight", "test_rate", "test_reconstruction"]].mean()
    family = means[means.index.isin(errors.loc[_in_family(errors), "method"])].sort_values("weight")
    near = means[~means.index.isin(family.index[family["weight"] > 1])]
    low, high = near["test_reconstruction"].min(), near["test_reconstruction"].max()
    axes = Axes(
        (0.6 * near["test_rate"].min(), 1.3 * near["test_rate"].max()),
        (low - 0.12 * (high - low), high + 0.12 * (high - low)),
        ("rate KL(q‖p), nats an image", f"{unit} an image"),
        _SIZE,
        log=True,
    )
    drawn = f'<path class="vl-line" d="{axes.path(family["test_rate"], family["test_reconstruction"])}"/>'
    for method, (weight, rate, error) in means.iterrows():
        x, y = axes.at(rate, error)
        if method in family.index:
            drawn += f'<circle r="3.5" fill="currentColor" cx="{x:g}" cy="{y:g}"/>'
            drawn += f'<text x="{x - 6:g}" y="{y + 15:g}" text-anchor="end">β = {weight:g}</text>'
        else:
            drawn += f'<circle r="4" fill="{_colour(str(method))}" opacity=".55" cx="{x:g}" cy="{y:g}">'
            drawn += f"<title>{escape(_label(str(method), errors))}</title></circle>"
    return axes, axes.frame(drawn)


def _colour(method: str) -> str:
    colour = LOOKS[method].colour if method in LOOKS else "#000000"
    return "currentColor" if colour == "#000000" else colour


def _marks(axes: Axes, one: _Beside, method: str, label: str) -> str:
    """The method, and at its rate the place on the line of the β-VAEs."""
    x, y = axes.at(one.rate, one.error)
    drawn = f'<path class="vl-guide" d="M{x:g} 0V{axes.inside[1]}"/>'
    if not np.isnan(one.family_error):
        _, on_line = axes.at(one.rate, one.family_error)
        drawn += f'<circle class="vl-line" cx="{x:g}" cy="{on_line:g}" r="9"/>'
    drawn += f'<circle r="6" fill="{_colour(method)}" cx="{x:g}" cy="{y:g}"/>'
    side, anchor = (-12, "end") if x > axes.inside[0] / 2 else (12, "start")
    return axes.marks(f'{drawn}<text x="{x + side:g}" y="{y - 10:g}" text-anchor="{anchor}">{escape(label)}</text>')


class _Picture(NamedTuple):
    """An image: its pixels in [0, 1], and the address of a small copy."""

    pixels: NDArray[np.float64]
    address: str

    @classmethod
    def of(cls, text: str) -> "_Picture":
        """From the text that a table holds."""
        pixels = pictures.decode(text)
        PIL.Image.fromarray(pixels).quantize(_COLOURS).save(buffer := BytesIO(), format="png", optimize=True)
        return cls(pixels / 255, f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}")

    def off(self, other: "_Picture") -> float:
        """The squared error, summed over pixels."""
        return float(((self.pixels - other.pixels) ** 2).sum())


def _place(number: int, column: str, name: str, below: str) -> str:
    top, beside = 8 + number * (_SIDE + 8), _SIDE + 12
    return (
        f'<image href="{{{column}}}" y="{top}" width="{_SIDE}" height="{_SIDE}"/>'
        f'<text x="{beside}" y="{top + 44}">{name}</text><text x="{beside}" y="{top + 64}">{below}</text>'
    )


_PICTURES = (
    _place(0, "input", "test image {image}", "")
    + _place(1, "own", "{own_name}", "{own_error}")
    + _place(2, "other", "{other_name}", "{other_error}")
)
