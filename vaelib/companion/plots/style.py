"""What all kinds of figures share: colours and labels of methods, panels, axes, legends, intervals.

- :func:`looks` gives each value of a column its label, colour and line style; :func:`shades` colours for an order.
- :func:`grid` makes panels, :func:`dress` names and scales the axes of one, :func:`legend` puts one legend beside all.
- :func:`references` draws the rows that are horizontal lines; :func:`interval` is the 95 % interval of a mean, and
  :func:`cut` ends one in an arrow where it leaves its panel.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import AutoLocator, LogLocator, NullFormatter

from vaelib.companion.verdicts import Spread


class Look(NamedTuple):
    """How one method is drawn in every figure."""

    label: str
    colour: str
    linestyle: str


# Okabe and Ito's colours, which readers with any colour vision can tell apart, and some of Tol's beyond these.
LOOKS: dict[str, Look] = {
    "kl": Look("KL(q‖p)", "#000000", "-"),
    "forward_kl": Look("KL(p‖q)", "#56B4E9", "-"),
    "geometric_js": Look(r"$\mathrm{JS}^{G}_{\alpha}$", "#0072B2", "-"),
    "dual_geometric_js": Look(r"$\mathrm{JS}^{G}_{*\alpha}$", "#D55E00", "-"),
    "extended_geometric_js": Look(r"extended $\mathrm{JS}^{G}_{\alpha}$", "#009E73", "--"),
    "resistor_average": Look("resistor average", "#009E73", "-"),
    "self_weighted_kl": Look("KL(q‖p), own β", "#7F7F7F", "-."),
    "split_kl": Look("KL(q‖p), own v, w", "#56B4E9", "-."),
    "mmd": Look("MMD", "#CC79A7", "-"),
    "mmd_moments": Look("MMD of moments", "#CC79A7", "--"),
    "beta4": Look("KL(q‖p), β = 4", "#7F7F7F", "--"),
    "half_js": Look("JS, α = ½", "#009E73", "-."),
    "half_dual": Look("dual, α = ½", "#E69F00", "-."),
    "learned_js": Look("JS, learned α", "#0072B2", "-"),
    "learned_dual": Look("dual, learned α", "#D55E00", "-"),
    "newton_js": Look("JS, Newton's α", "#0072B2", "--"),
    "newton_dual": Look("dual, Newton's α", "#D55E00", "--"),
    "datum_dual": Look("dual, α per datum", "#E69F00", "-"),
    "latent_dual": Look("dual, α per latent", "#CC79A7", "-"),
    "both_dual": Look("dual, α per both", "#882255", "--"),
    "pathwise": Look("pathwise", "#000000", "-"),
    "pathwise_sampled": Look("pathwise, sampled rate", "#7F7F7F", "--"),
    "score": Look("score function", "#56B4E9", "-"),
    "leave_one_out": Look("leave-one-out", "#009E73", "--"),
    "variance": Look("variance loss, as printed", "#D55E00", "-"),
    "hybrid": Look("hybrid", "#0072B2", "-"),
    "relaxed": Look("Gumbel-softmax", "#E69F00", "-"),
    "straight_through": Look("straight-through", "#CC79A7", "-."),
    "beta0.5": Look("KL(q‖p), β = 0.5", "#A3A33A", "-"),
    "beta0.25": Look("KL(q‖p), β = 0.25", "#5E5E1F", "-"),
    "auto_encoder": Look("auto-encoder", "#882255", "-"),
    "beta2": Look("KL(q‖p), β = 2", "#4D4D4D", "--"),
    "beta0.02": Look("KL(q‖p), β = 0.02", "#C9C97A", "-"),
    "beta0.7": Look("KL(q‖p), β = 0.7", "#8C8C3A", "-"),
    "beta1.5": Look("KL(q‖p), β = 1.5", "#666666", "--"),
    "capacity": Look("capacity", "#332288", "-"),
    "annealed": Look("KL annealing", "#88CCEE", "-"),
    "free_bits": Look("free bits", "#117733", "-"),
    "geco": Look("GECO", "#EE3377", "-"),
    "beta_tcvae": Look("β-TCVAE", "#AA4499", "-"),
    "factor_vae": Look("FactorVAE", "#CC6677", "-"),
    "dip_1": Look("DIP-VAE-I", "#7FD6C2", "-"),
    "dip_2": Look("DIP-VAE-II", "#1B7F6B", "--"),
    "wae": Look("WAE-MMD", "#661100", "-"),
    "aae": Look("adversarial auto-encoder", "#6699CC", "-"),
    "shared_gaussian": Look("learned variance", "#DDAA33", "-"),
    "PPCA": Look("probabilistic PCA", "#6B6B6B", "-"),
    "PCA": Look("PCA", "#999999", "-"),
    "inputs": Look("inputs", "#555555", ":"),
}
"""How each divergence, each of :data:`vaelib.runs.experiment.COMPARED` and each estimator is drawn."""

GREY = "0.45"
"""What is no method: references, papers' values, bounds."""


def text(value: Any) -> str:
    """A value of a table as it is written in a legend: numbers without zeros that say nothing.

    Examples
    --------
    >>> text(0.50), text("kl")
    ('0.5', 'kl')
    """
    return f"{value:g}" if isinstance(value, int | float | np.number) and not isinstance(value, bool) else str(value)


def shades(values: Sequence[Any], *, palette: str = "viridis_r") -> dict[Any, Any]:
    """Colours for ordered values, from light to dark."""
    return dict(zip(values, sns.color_palette(palette, max(len(values), 1))))


def looks(
    values: Iterable[Any], labels: Mapping[str, str] | None = None, *, palette: str = "viridis_r"
) -> dict[Any, Look]:
    """How each value of a column is drawn: a method always in its own colour, anything else in ordered shades.

    Parameters
    ----------
    values
        With repetitions; those that are missing are left out.
    labels
        Words for values, in the place of their own.
    palette
        Of what is no method.

    Returns
    -------
    dict
        By value, in the order in which they come first.

    Examples
    --------
    >>> looks(["kl", "kl", "mmd"], {"kl": "β-VAE"})["kl"].label
    'β-VAE'
    """
    unique = list(dict.fromkeys(v for v in values if not pd.isna(v)))
    others = shades([v for v in unique if v not in LOOKS], palette=palette)
    named = labels or {}
    return {
        value: Look(
            named.get(text(value), LOOKS[value].label if value in LOOKS else text(value)),
            LOOKS[value].colour if value in LOOKS else others[value],
            LOOKS[value].linestyle if value in LOOKS else "-",
        )
        for value in unique
    }


def interval(values: Any) -> tuple[float, float]:
    """The ends of the 95 % interval of a mean; of one value, the value: ``errorbar=interval`` for seaborn."""
    spread = Spread.of([float(v) for v in values])
    reach = spread.reach if spread.n > 1 else 0.0
    return spread.mean - reach, spread.mean + reach


def cut(ax: Axes, ends: tuple[float, float], row: float, colour: Any, *, upright: bool = False) -> None:
    """Where an interval leaves its panel, end it in an arrow at the edge.

    Parameters
    ----------
    ax
        The panel, with its limits.
    ends
        Of the interval.
    row
        Where it lies on the other axis.
    colour
        Of the interval.
    upright
        Whether the interval is vertical.
    """
    low, high = ax.get_ylim() if upright else ax.get_xlim()
    ax.autoscale(enable=False)  # an arrow is at the edge, and does not move it
    for edge, leaves, marker in zip((low, high), (ends[0] < low, ends[1] > high), "v^" if upright else "<>"):
        if leaves:
            at = (row, edge) if upright else (edge, row)
            ax.plot(*at, marker, color=colour, markersize=5, markeredgewidth=0, clip_on=False, zorder=4)


def grid(rows: int, columns: int, size: Sequence[float], **options: Any) -> tuple[Figure, Any]:
    """Panels of one size: the figure, and its axes as an array of ``rows`` by ``columns``."""
    return plt.subplots(rows, columns, figsize=(columns * size[0], rows * size[1]), squeeze=False, **options)


def dress(
    ax: Axes,
    x: str,
    y: str,
    *,
    names: Mapping[str, str] | None = None,
    log: Sequence[str] = (),
    limits: Mapping[str, Sequence[float | None]] | None = None,
) -> None:
    """Name the axes of a panel, and scale them.

    Parameters
    ----------
    ax
        The panel, drawn already.
    x, y
        The columns on its axes.
    names
        Words for columns; a column without any is called by its name.
    log
        The columns whose axes are logarithmic; they are labelled in plain numbers.
    limits
        By column, the ends of its axis; ``None`` leaves an end as it is.
    """
    words, ends = names or {}, limits or {}
    ax.set(xlabel=words.get(x, x.replace("_", " ")), ylabel=words.get(y, y.replace("_", " ")))
    for column, scale, limit in ((x, ax.set_xscale, ax.set_xlim), (y, ax.set_yscale, ax.set_ylim)):
        if column in log:
            scale("log")
        if column in ends:
            limit(*ends[column])
    for column, axis in ((x, ax.xaxis), (y, ax.yaxis)):
        if column in log:
            plain_log(axis)
        elif isinstance(locator := axis.get_major_locator(), AutoLocator):
            locator.set_params(nbins=6, steps=[1, 2, 5, 10])  # numbers do not run into each other


def plain_log(axis: Axis) -> None:
    """Label a drawn logarithmic axis in plain numbers: at powers of ten, and below three decades at 2 and 5 as well."""
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1000 * low else (1,)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def apart(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows that were measured, and those whose ``kind`` is ``reference``."""
    table = table.reset_index(drop=True)  # of tables put together rows had the same names
    if "kind" not in table:
        return table, table.iloc[:0]
    reference = table["kind"] == "reference"
    return table[~reference], table[reference]


def references(
    ax: Axes,
    rows: pd.DataFrame,
    y: str,
    by: str | None,
    labels: Mapping[str, str] | None = None,
    dashes: Sequence[Any] = ("--", ":", "-.", (0, (6, 2))),
) -> None:
    """Draw rows as horizontal lines, each in the colour of its method, or grey, with a band where there is an ``sd``.

    Parameters
    ----------
    ax
        Where to draw.
    rows
        From :func:`apart`; those without a value of `y` are left out.
    y
        The column with their places.
    by
        The column that says what each is: a method, or any text. It is the label where the row has no ``label``.
    labels
        Words for values of `by`.
    dashes
        Kinds of lines, one for each row in turn.
    """
    for number, (_, row) in enumerate(rows.dropna(subset=[y]).iterrows() if y in rows else ()):
        value = row[by] if by else "reference"
        colour = LOOKS[value].colour if value in LOOKS else GREY
        named = row.get("label")
        if pd.isna(named):
            named = (labels or {}).get(text(value), f"{LOOKS[value].label}, paper" if value in LOOKS else text(value))
        ax.axhline(row[y], color=colour, linewidth=1.1, linestyle=dashes[number % len(dashes)], label=named, zorder=1)
        if row.get("sd", 0) > 0:
            ax.axhspan(row[y] - row["sd"], row[y] + row["sd"], color=colour, alpha=0.15, linewidth=0, zorder=0)


def legend(
    figure: Figure, *, place: Any = "outside right center", columns: int = 1, first: Sequence[Artist] = ()
) -> None:
    """Put what the panels name into one legend beside them, each name once, and none into the panels."""
    found: dict[Any, Any] = {handle.get_label(): handle for handle in first}
    for ax in figure.axes:
        for handle, label in zip(*ax.get_legend_handles_labels()):
            found.setdefault(label, handle)
        if old := ax.get_legend():
            old.remove()
    if len(found) > 1:
        figure.legend(list(found.values()), list(found), loc=place, ncols=columns)
