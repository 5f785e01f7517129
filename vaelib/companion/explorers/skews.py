"""Two Gaussians in the plane, their geometric mean, and the three forms of the divergence, at each skew."""

import math
from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from torch.distributions import MultivariateNormal

from vaelib import divergences as dv
from vaelib.companion.explorers.base import Explorer, Panel
from vaelib.companion.explorers.drawing import Axes, legend
from vaelib.companion.plots.style import LOOKS
from vaelib.errors import Invalid

FORMS = {"geometric_js": "first form", "dual_geometric_js": "dual", "extended_geometric_js": "extended form"}


def _gaussian(mean: Sequence[float], covariance: Sequence[Sequence[float]]) -> MultivariateNormal:
    loc, matrix = (torch.tensor(value, dtype=torch.float64) for value in (mean, covariance))
    return MultivariateNormal(loc, matrix)


_STANDARD = _gaussian([0, 0], [[1, 0], [0, 1]])
PAIRS = {
    "narrow and shifted": (_gaussian([1.4, 0.6], [[0.12, 0.05], [0.05, 0.3]]), _STANDARD),
    "narrow, not shifted": (_gaussian([0, 0], [[0.09, 0], [0, 0.09]]), _STANDARD),
    "shifted only": (_gaussian([1.6, -0.8], [[1, 0], [0, 1]]), _STANDARD),
    "wider than the prior": (_gaussian([0.8, 0.5], [[2.6, 0.9], [0.9, 1.6]]), _STANDARD),
    "narrow one way, wide the other": (_gaussian([0.5, 0.8], [[0.08, 0], [0, 2.4]]), _STANDARD),
}
"""Posteriors and priors, Gaussians in the plane, by what the posterior is like."""

_PLANE = Axes((-3.6, 3.6), (-3.6, 3.6), ("z₁", "z₂"), size=(306, 300))  # with an area that is a square
_CHART = 350, 300  # pixels
_RINGS = {
    "prior p": 'style="stroke-dasharray:5 3"',
    "posterior q": "",
    "mean G": 'style="stroke:#b0569f"',
}


def skew(pairs: Mapping[str, tuple[MultivariateNormal, MultivariateNormal]] = PAIRS, steps: int = 50) -> Explorer:
    """An explorer of G and of the divergences against the skew; all numbers are of :mod:`vaelib.divergences`.

    Parameters
    ----------
    pairs
        Posterior and prior, each of event shape ``(2,)`` and no batch shape, by what the pair is called.
    steps
        Of the slider, from α = 0 to 1.

    Raises
    ------
    Invalid
        If there are no pairs, one is not of two Gaussians in the plane, or there are no steps.

    Examples
    --------
    >>> len(skew(steps=10).table)
    55
    """
    if not pairs:
        raise Invalid("pairs", dict(pairs), "at least one posterior and prior")
    if steps < 1:
        raise Invalid("steps", steps, "a whole number from 1 up")
    rows = [row for name, (q, p) in pairs.items() for row in _rows(name, q, p, steps)]
    area = Axes((0, 1), (0, 1), ("", ""), _CHART)
    dots = "".join(f'<circle r="4.5" fill="{LOOKS[form].colour}" cx="{{x}}" cy="{{{form}_y}}"/>' for form in FORMS)
    guide = f'<path class="vl-guide" d="M{{x}} 0V{area.inside[1]}"/>'
    rings = "".join(
        f'<g transform="{{{column}}}"><circle class="vl-line" {line} r="1"/>'
        f'<circle class="vl-line vl-thin" {line} r="2"/></g>'
        for column, line in zip(("p", "q", "g"), _RINGS.values())
    )
    said = ", ".join(f"the {word} is {{{form}}} nats" for form, word in FORMS.items())
    smallest = ", ".join(f"of the {word} {{{form}_least}} at α = {{{form}_best}}" for form, word in FORMS.items())
    return Explorer(
        title="From the prior to the posterior",
        table=pd.DataFrame(rows),
        controls={"pair": "posterior", "skew": "skew α"},
        panels=[
            Panel(
                _PLANE.frame(rings + legend(_RINGS, 6)),
                "Gaussians in the plane, one and two standard deviations: the prior, a posterior that is {pair}, and"
                " their geometric mean G at α = {skew}, with mean ({mean}) and standard deviations {sds}.",
                _PLANE.size,
            ),
            Panel(
                "{chart}" + area.marks(guide + dots),
                f"Three curves of the divergence against the skew. At α = {{skew}} {said}.",
                _CHART,
            ),
        ],
        words=f"At α = {{skew}} {said}. The smallest values: {smallest}. G has its mean at ({{mean}}) and standard"
        " deviations {sds}.",
        start={"skew": rows[round(0.36 * steps)]["skew"]},
    )


def _rows(name: str, q: MultivariateNormal, p: MultivariateNormal, steps: int) -> list[dict[str, object]]:
    """A row for each skew: what is drawn and said of one pair."""
    if not all(isinstance(d, MultivariateNormal) and d.loc.shape == (2,) for d in (q, p)):
        raise Invalid(f"pairs.{name}", (q, p), "two MultivariateNormal in the plane")
    grid = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    curves = {form: torch.stack([dv.FORMS[form](q, p, alpha) for alpha in grid]) for form in FORMS}
    best = {form: float(dv.optimal_skew(q, p, form)) for form in FORMS}
    least = {form: float(dv.FORMS[form](q, p, best[form])) for form in FORMS}
    highest = max(float(curve.max()) for curve in curves.values())
    axes = Axes((0, 1), (0, 1.05 * highest), ("skew α", "divergence, nats"), _CHART)
    lines = {form: f'style="stroke:{LOOKS[form].colour}"' for form in FORMS}
    drawn = legend({word: lines[form] for form, word in FORMS.items()}, 0.36 * axes.inside[0])
    for form, curve in curves.items():
        x, y = axes.at(best[form], least[form])
        drawn += f'<path class="vl-line" {lines[form]} d="{axes.path(grid, curve)}"/>'
        drawn += f'<circle class="vl-line" {lines[form]} cx="{x:g}" cy="{y:g}" r="6"/>'
    same = {"pair": name, "q": _ellipse(q), "p": _ellipse(p), "chart": axes.frame(drawn)}
    same |= {f"{form}_best": f"{best[form]:.2f}" for form in FORMS}
    same |= {f"{form}_least": f"{least[form]:.2f}" for form in FORMS}
    rows = []
    for number, alpha in enumerate(grid):
        mean = dv.geometric_mean(q, p, alpha)[0]
        assert isinstance(mean, MultivariateNormal)
        row: dict[str, object] = {"skew": round(float(alpha), 4), "g": _ellipse(mean)}
        row["mean"], row["sds"] = (
            word.join(f"{float(v) + 0.0:.2f}" for v in values)
            for word, values in ((", ", mean.loc), (" and ", mean.variance.sqrt()))
        )
        for form, curve in curves.items():
            x, y = axes.at(alpha, curve[number])
            row |= {form: f"{float(curve[number]):.2f}", "x": float(x), f"{form}_y": float(y)}
        rows.append(same | row)
    return rows


def _ellipse(gaussian: MultivariateNormal) -> str:
    """What makes a Gaussian's ellipse of one standard deviation of the unit circle, in the pixels of the plane."""
    values, vectors = torch.linalg.eigh(gaussian.covariance_matrix)
    pixels = _PLANE.inside[0] / (_PLANE.x[1] - _PLANE.x[0])
    short, long = (values.sqrt() * pixels).tolist()
    x, y = _PLANE.at(*gaussian.loc)
    if long - short < 1e-6:  # a circle has no direction
        return f"translate({x:g} {y:g})scale({long:.1f})"
    degrees = math.degrees(math.atan2(-float(vectors[1, 1]), float(vectors[0, 1]))) % 180  # y is upwards here only
    return f"translate({x:g} {y:g})rotate({degrees:.0f})scale({long:.1f} {short:.1f})"
