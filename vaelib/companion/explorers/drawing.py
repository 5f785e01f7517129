"""Axes of an explorer's panel, and curves in them, as SVG."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.ticker import LogLocator, MaxNLocator
from numpy.typing import ArrayLike, NDArray

from vaelib.companion.explorers.base import escape

_LEFT, _TOP, _RIGHT, _BOTTOM = 46, 10, 10, 40  # pixels around the area in which curves are drawn


@dataclass(frozen=True)
class Axes:
    """From numbers to pixels.

    Attributes
    ----------
    x, y
        The ends of each axis.
    names
        Words for both, with units.
    size
        Of the whole panel, in pixels.
    log
        Whether the x axis is logarithmic.

    Examples
    --------
    >>> Axes(x=(0, 1), y=(0, 2), names=("skew", "nats"), size=(156, 150)).path([0, 0.5, 1], [0, 1, 2])
    'M0 100L50 50L100 0'
    """

    x: tuple[float, float]
    y: tuple[float, float]
    names: tuple[str, str]
    size: tuple[int, int] = (350, 270)
    log: bool = False

    @property
    def inside(self) -> tuple[int, int]:
        """Width and height of the area in which curves are drawn."""
        return self.size[0] - _LEFT - _RIGHT, self.size[1] - _TOP - _BOTTOM

    def at(self, x: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Places in the area, in pixels to a tenth; beyond the ends they are outside of it."""
        ends, values = (np.log(v) if self.log else np.asarray(v, dtype=float) for v in (self.x, x))
        across = self.inside[0] * (values - ends[0]) / (ends[1] - ends[0])
        down = self.inside[1] * (self.y[1] - np.asarray(y, dtype=float)) / (self.y[1] - self.y[0])
        return across.round(1) + 0.0, down.round(1) + 0.0

    def path(self, x: ArrayLike, y: ArrayLike) -> str:
        """The ``d`` of a line through points; no point is further above or below the area than it is high."""
        across, down = self.at(x, y)
        down = down.clip(-self.inside[1], 2 * self.inside[1])
        return "M" + "L".join(f"{a:g} {d:g}" for a, d in zip(across, down))

    def frame(self, curves: str) -> str:
        """The panel without its marks: axes, ticks, names, and curves, cut at the area's ends."""
        width, height = self.inside
        parts = [f'<path class="vl-axis" d="M0 0V{height}H{width}"/>']
        for value in _ticks(self.x, self.log):
            place, _ = self.at(value, self.y[0])
            parts.append(f'<path class="vl-axis" d="M{place:g} {height}v4"/>')
            parts.append(f'<text x="{place:g}" y="{height + 17}" text-anchor="middle">{value:g}</text>')
        for value in _ticks(self.y):
            _, place = self.at(self.x[0], value)
            parts.append(f'<path class="vl-axis" d="M0 {place:g}h-4"/>')
            parts.append(f'<text x="-7" y="{place + 4:g}" text-anchor="end">{value:g}</text>')
        parts.append(f'<text x="{width / 2:g}" y="{height + 35}" text-anchor="middle">{escape(self.names[0])}</text>')
        turned = f'transform="rotate(-90)" x="{-height / 2:g}" y="-33" text-anchor="middle"'
        parts.append(f"<text {turned}>{escape(self.names[1])}</text>")
        parts.append(f'<svg width="{width}" height="{height}">{curves}</svg>')
        return self.marks("".join(parts))

    def marks(self, markup: str) -> str:
        """What is drawn over a frame, in the pixels of :meth:`at`."""
        return f'<g transform="translate({_LEFT} {_TOP})">{markup}</g>'


def legend(entries: Mapping[str, str], x: float, y: float = 12) -> str:
    """Names with a piece of their line, below each other; `entries` are the lines' attributes by name."""
    return "".join(
        f'<path class="vl-line" {line} d="M{x:g} {y + 16 * n:g}h20"/>'
        f'<text x="{x + 26:g}" y="{y + 16 * n + 4:g}">{escape(name)}</text>'
        for n, (name, line) in enumerate(entries.items())
    )


def _ticks(ends: tuple[float, float], log: bool = False) -> list[float]:
    locator = LogLocator(subs=[1, 2, 5]) if log else MaxNLocator(5, steps=[1, 2, 5, 10])
    return [float(value) for value in locator.tick_values(*ends) if ends[0] <= value <= ends[1] * (1 + 1e-9)]
