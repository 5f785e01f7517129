"""Cohorts of patients: methods compared in each cell of a design, an integration of modalities with a network.

- :func:`relative`: reconstruction errors relative to a reference method, one dot for each fold and seed.
- :func:`scores`: what codes predict of held-out patients, beside what needs no code.
"""

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure

from vaelib.companion.plots import points

CELL = ["integration", "model"]
"""The columns that tell cells apart."""


def _cell(table: pd.DataFrame) -> "pd.Series[str]":
    """The name of each row's cell: ``clin+rna, CNC``."""
    return table["integration"] + ", " + table["model"].str.upper()


def relative(table: pd.DataFrame, *, methods: Sequence[str], axis: str, size: Sequence[float] = (3.0, 1.7)) -> Figure:
    """Draw relative errors: one dot for each fold and seed, their mean and interval; networks beside each other.

    Parameters
    ----------
    table
        One row for each cell, fold and seed, and a column for each method; a missing value is a run that is left out.
        Rows of ``kind`` ``reference`` hold what a paper prints.
    methods
        The columns, in their order.
    axis
        What it is called.
    size
        Of one panel.
    """
    keys = ["integration", *(c for c in ("fold", "seed", "kind") if c in table)]
    networks = list(table["model"].unique())
    tidy = table.melt([*keys, "model"], [m for m in methods if m in table], "method", "relative").dropna(
        subset="relative"
    )
    tidy = tidy.fillna({"fold": -1, "seed": -1, "kind": ""})  # a paper's value is of none
    wide = tidy.pivot_table("relative", [*keys, "method"], "model", sort=False).reset_index()
    wide = wide.sort_values("method", key=lambda m: m.map(list(methods).index), kind="stable")
    names = {network: f"{axis}, {network.upper()}" for network in networks}
    return points.by_method(
        wide, y=networks, by="method", panels="integration", names=names, limits=_limits(wide, networks), size=size
    )


def scores(
    table: pd.DataFrame,
    *,
    measures: Mapping[str, str],
    order: Sequence[str],
    chance: float = 0.5,
    size: Sequence[float] = (2.7, 1.6),
) -> Figure:
    """Draw scores of held-out patients, one dot for each fold and seed: cells below, measures beside each other.

    Parameters
    ----------
    table
        One row a run and classifier: the cell (``model`` is ``—`` of what needs no network, which every panel of its
        integration shows), ``method``, ``fold``, ``seed``, ``classifier``, and the scores.
    measures
        By classifier, the column that is drawn.
    order
        The methods.
    chance
        Where a line is drawn.
    size
        Of one panel.
    """
    names = {classifier: f"{classifier}: {_WORDS.get(score, score)}" for classifier, score in measures.items()}
    rows = []
    for classifier, score in measures.items():
        part = table[table["classifier"] == classifier]
        rows.append(part.assign(value=part[score], measure=names[classifier]))
    keys = [*CELL, "method", "fold", "seed"]
    wide = pd.concat(rows).pivot_table("value", keys, "measure", sort=False).reset_index()
    own, plain = wide[wide["model"] != "—"], wide[wide["model"] == "—"]
    cells = own[CELL].drop_duplicates()
    whole = pd.concat([own, cells.merge(plain.drop(columns="model"), on="integration")])
    whole = whole.assign(cell=_cell(whole), place=whole["method"].map({m: k for k, m in enumerate(order)}))
    whole = whole.sort_values("place", kind="stable")
    lines = [
        {"cell": cell, "method": "chance", "kind": "reference", **dict.fromkeys(names.values(), chance)}
        for cell in whole["cell"].unique()
    ]
    drawn = pd.concat([whole.assign(kind=""), pd.DataFrame(lines)])
    measured = list(names.values())
    return points.by_method(drawn, y=measured, by="method", panels="cell", limits=_limits(drawn, measured), size=size)


def _limits(table: pd.DataFrame, columns: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Ends of the axes that hold all dots: intervals of two or three folds would leave no room for them."""
    ends = {column: (float(table[column].min()), float(table[column].max())) for column in columns}
    return {column: (low - 0.1 * (high - low), high + 0.1 * (high - low)) for column, (low, high) in ends.items()}


_WORDS = {"auc": "area under ROC"}
