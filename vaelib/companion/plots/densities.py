"""Densities in the plane: Gaussians as ellipses, over a mixture that they are fitted to.

- :func:`gaussians`: one and two standard deviations of Gaussians, in one panel or several.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse
from scipy.stats import multivariate_normal

from vaelib.companion.plots import style

MOMENTS = ["mean 1", "mean 2", "c11", "c12", "c21", "c22"]
"""The columns with a Gaussian's mean and covariance."""


def gaussians(
    table: pd.DataFrame,
    *,
    by: str,
    panels: str | None = None,
    labels: Mapping[str, str] | None = None,
    deviations: Sequence[float] = (1, 2),
    limits: Sequence[float] = (-5, 5),
    palette: str = "viridis",
    size: Sequence[float] = (2.2, 2.4),
) -> Figure:
    """Draw Gaussians by contours of so many standard deviations, the outermost in full strength.

    Parameters
    ----------
    table
        One row a Gaussian, with the columns :data:`MOMENTS`. Rows of ``kind`` ``component`` are balls of the mixture,
        with a ``weight`` each, which is drawn in grey in every panel.
    by
        The column with one colour for each of its values: methods have theirs, what else is ordered has shades.
    panels
        The column with one panel for each of its values, beside each other; a Gaussian without any is in all of them.
    labels
        Words for values of `by` and for panels.
    deviations
        Those of the contours.
    limits
        Of both axes.
    palette
        Of what is no method.
    size
        Of one panel, in inches.

    Examples
    --------
    >>> one = pd.DataFrame([["kl", 0, 0, 1, 0, 0, 1]], columns=["form", *MOMENTS])
    >>> len(gaussians(one, by="form").axes[0].patches)
    2
    """
    part = table["kind"] == "component" if "kind" in table else pd.Series(False, index=table.index)
    fitted, mixture = table[~part], table[part]
    shown = list(fitted[panels].dropna().unique()) if panels else [None]
    looks, words = style.looks(fitted[by], labels, palette=palette), labels or {}
    figure, axes = style.grid(1, len(shown), size, sharex=True, sharey=True)
    for ax, value in zip(axes[0], shown):
        _shade(ax, mixture, limits)
        here = fitted if value is None else fitted[fitted[panels].isna() | (fitted[panels] == value)]
        for _, row in here.iterrows():
            _ellipses(ax, row, looks[row[by]].colour, deviations)
            ax.plot([], [], color=looks[row[by]].colour, label=looks[row[by]].label)
        ax.set(xlim=limits, ylim=limits, aspect="equal", xlabel="$z_1$", ylabel="$z_2$")
        ax.label_outer()
        ax.grid(visible=False)
        if panels:
            default = style.looks([value])[value].label
            ax.set_title(words.get(style.text(value), default), loc="left")
    if not panels or by != panels:
        style.legend(figure)
    return figure


def _shade(ax: Axes, mixture: pd.DataFrame, limits: Sequence[float]) -> None:
    """The density of a mixture, light enough for black lines on it."""
    if mixture.empty:
        return
    axis = np.linspace(limits[0], limits[1], 121)
    points = np.stack(np.meshgrid(axis, axis), -1)
    density = sum(
        row["weight"] * multivariate_normal(row[MOMENTS[:2]].tolist(), _covariance(row)).pdf(points)
        for _, row in mixture.iterrows()
    )
    ax.contourf(axis, axis, density, levels=12, cmap="Greys", vmax=2 * float(np.max(density)))


def _covariance(row: "pd.Series[float]") -> list[list[float]]:
    return [[row["c11"], row["c12"]], [row["c21"], row["c22"]]]


def _ellipses(ax: Axes, row: "pd.Series[float]", colour: str, deviations: Sequence[float]) -> None:
    """The contours of so many standard deviations."""
    values, vectors = np.linalg.eigh(np.array(_covariance(row), dtype=float))
    angle = math.degrees(math.atan2(vectors[1, 1], vectors[0, 1]))
    for k in deviations:
        width, height = 2 * k * np.sqrt(values[::-1])
        line = {"fill": False, "linewidth": 1.6 if k == max(deviations) else 0.8, "edgecolor": colour}
        ax.add_patch(Ellipse((row["mean 1"], row["mean 2"]), width, height, angle=angle, **line))
