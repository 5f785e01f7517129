"""Statements as margins: from tidy tables of runs to numbers that are positive where a statement holds.

Each function returns a table with a row for each unit (a seed, or a fold) and a column for each part of the statement;
rows of starts, networks or repeats are averaged on the way, as these are no samples. A
:class:`vaelib.companion.claims.Ledger` records such a table as it is.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd


def start_forgotten(final: pd.DataFrame, by: str | list[str], unit: str = "seed", within: float = 0.02) -> pd.DataFrame:
    """How much less than ``within`` the learned skews of a unit spread over their starts, for each form.

    Parameters
    ----------
    final
        A row a run, with columns ``skew``, the unit and what forms are told apart by.
    by
        Those columns.
    unit
        The column of the unit.
    within
        The largest standard deviation that counts as the same skew.
    """
    forms = [by] if isinstance(by, str) else by
    return _parts(within - final.groupby([unit, *forms])["skew"].std().rename("margin"), unit, forms)


def falls_and_settles(history: pd.DataFrame, unit: str = "seed") -> pd.DataFrame:
    """That the optimal skew falls after the first epoch (by more than 0.01), and then stays within 0.005.

    Parameters
    ----------
    history
        A row an epoch of each run, with columns ``epoch``, ``optimal_skew`` and the unit.
    unit
        The column of the unit.
    """
    path = history.pivot_table(index=unit, columns="epoch", values="optimal_skew")
    last = int(path.columns.max())
    moved = (path[last] - path[before_last_tenth(last)]).abs()
    return pd.DataFrame({"falls": path[1] - path[last] - 0.01, "settles": 0.005 - moved})


def minimum_near(
    fixed: pd.DataFrame, learned: pd.DataFrame, column: str, *, by: str = "divergence", within: float = 0.05
) -> pd.DataFrame:
    """How much less than ``within`` the learned skew is from where models with a fixed skew have their minimum.

    Parameters
    ----------
    fixed, learned
        A row a run, with columns ``seed`` and ``by``, and ``start`` (the fixed skew) and ``skew``.
    column
        What is lowest at the minimum.
    by
        What forms are told apart by.
    within
        The largest distance that counts as the same place.
    """
    curves = fixed.sort_values("start").groupby(["seed", by])
    places = {name: vertex(rows.set_index("start")[column]) for name, rows in curves}
    found = pd.Series(places, name="margin").rename_axis(["seed", by])
    return _parts(within - (found - learned.groupby(["seed", by])["skew"].mean()).abs().dropna(), "seed", [by])


def vertex(curve: "pd.Series[float]") -> float:
    """The minimum of a parabola through the five points around the lowest one, within these points."""
    around = np.clip(int(np.argmin(curve.to_numpy())), 2, max(2, len(curve) - 3))
    part = curve.iloc[around - 2 : around + 3]
    bend, slope, _ = np.polyfit(part.index, part, 2)
    lowest = -slope / (2 * bend) if bend > 0 else part.idxmin()
    return float(np.clip(lowest, part.index[0], part.index[-1]))


def convexity(landscape: pd.DataFrame) -> pd.DataFrame:
    """The smallest second difference of a divergence in the skew, of all epochs, relative to the largest value of each.

    Parameters
    ----------
    landscape
        Columns ``form``, ``seed``, ``epoch``, ``skew`` (evenly spaced) and ``divergence``.
    """

    def bend(curves: pd.DataFrame) -> float:
        table = curves.pivot(index="epoch", columns="skew", values="divergence").to_numpy()
        return float((np.diff(table, 2, axis=1) / table.max(axis=1, keepdims=True)).min())

    bends = landscape.groupby(["seed", "form"]).apply(bend, include_groups=False)
    return _parts(bends.rename("margin"), "seed", ["form"])


def peaked(fixed: pd.DataFrame, at: float = 0.2, within: float = 0.05) -> pd.DataFrame:
    """That a divergence, against the skew it was trained with, is largest inside, and near ``at``.

    Parameters
    ----------
    fixed
        Columns ``seed``, ``start`` (the fixed skew) and ``test_divergence``.
    at, within
        Where the peak is to be.
    """
    curves = fixed.pivot_table(index="seed", columns="start", values="test_divergence")
    ends = curves[[curves.columns.min(), curves.columns.max()]].max(axis=1)
    return pd.DataFrame(
        {"above both ends": curves.max(axis=1) / ends - 1, "near 0.2": within - (curves.idxmax(axis=1) - at).abs()}
    )


def below(table: pd.DataFrame, *pairs: tuple[str, str]) -> pd.DataFrame:
    """By what share one column is lower than another, the smallest of each unit's rows.

    Parameters
    ----------
    table
        Indexed by the unit first; a column a method.
    pairs
        The lower one, and the one that it is lower than.
    """
    shares = pd.DataFrame({f"{low} below {high}": 1 - table[low] / table[high] for low, high in pairs})
    return shares.groupby(level=0).min()


def gain(errors: "pd.Series[float]", reference: "pd.Series[float]") -> pd.DataFrame:
    """By what share errors are lower than those of a reference, for each form.

    Parameters
    ----------
    errors
        Indexed by ``seed`` and form.
    reference
        Indexed in the same way, or by ``seed`` alone; seeds that it lacks are left out.
    """
    level = "seed" if reference.index.nlevels == 1 else None
    shares = (1 - errors.div(reference, level=level)).dropna().rename("margin")
    return _parts(shares, "seed", [errors.index.names[1]])


def share_best(errors: pd.DataFrame, ours: Sequence[str], unit: str = "fold") -> "pd.Series[float]":
    """In what share of a unit's tasks one of ``ours`` is lowest or tied lowest, less one half.

    Parameters
    ----------
    errors
        A row a task and unit, indexed by names of which ``unit`` is one; a column a method.
    ours
        The columns that are asked about.
    unit
        The level of the index that is the unit.
    """
    best = errors[list(ours)].min(axis=1) <= errors.drop(columns=list(ours)).min(axis=1)
    return best.groupby(level=unit).mean() - 0.5


def skew_state(history: pd.DataFrame, run: Sequence[str]) -> dict[str, float]:
    """The preconditions of a learned skew: how far the worst run is from its Newton skew, and how much it still moves.

    Parameters
    ----------
    history
        A row an epoch of each run, with columns ``epoch``, ``skew`` and ``optimal_skew``.
    run
        The columns that tell runs apart.
    """
    last = int(history["epoch"].max())
    at = history.set_index([*run, "epoch"])[["skew", "optimal_skew"]]
    end, before = at.xs(last, level="epoch"), at.xs(before_last_tenth(last), level="epoch")
    return {
        "newton_distance": float((end["skew"] - end["optimal_skew"]).abs().max()),
        "late_movement": float((end["skew"] - before["skew"]).abs().max()),
    }


def before_last_tenth(epochs: int) -> int:
    """The epoch before the last tenth of them, which is one epoch at least."""
    return epochs - max(1, epochs // 10)


def _parts(margins: "pd.Series[float]", unit: str, by: list[str]) -> pd.DataFrame:
    """A row a unit, a column a part, named by its values."""
    table = margins.unstack(by)
    table.columns = [", ".join(map(str, c)) if isinstance(c, tuple) else str(c) for c in table.columns]
    return table.rename_axis(unit)
