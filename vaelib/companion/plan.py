"""What notebooks plan: the studies that they define, found without training or drawing anything."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from vaelib.companion.notebooks import Work, smaller
from vaelib.errors import DataError, Invalid, UserError
from vaelib.runs import schedule
from vaelib.runs.execution import Job
from vaelib.runs.experiment import Experiment
from vaelib.runs.schedule import Cost, estimated, united
from vaelib.runs.store import Store
from vaelib.runs.study import NotStored, Study
from vaelib.training import NonFiniteLoss

_TAGS = {"parameters", "imports", "study"}


@dataclass(frozen=True)
class Planned:
    """What one run of a notebook plans.

    Attributes
    ----------
    name
        The notebook's, with a number where a profile runs it more than once.
    studies
        By the names that they have in the notebook.
    waits
        Why there may be more: a study that is made of the results of another, which are not there yet.
    fails
        What keeps a cell from planning, such as data that are not here.
    """

    name: str
    studies: Mapping[str, Study]
    waits: str | None = None
    fails: str | None = None


def planned(name: str, notebook: Path, parameters: Mapping[str, Any]) -> Planned:
    """Execute the cells of a notebook that are tagged ``parameters``, ``imports`` or ``study``: they define studies.

    Parameters
    ----------
    name
        What to call it.
    notebook
        The file.
    parameters
        In the place of those that its ``parameters`` cell sets.
    """
    names: dict[str, Any] = {"__name__": f"notebook {notebook.stem}"}
    waits = fails = None
    for number, cell in enumerate(json.loads(notebook.read_text(encoding="utf-8"))["cells"]):
        tags = _TAGS & {*cell["metadata"].get("tags", [])}
        if cell["cell_type"] != "code" or not tags:
            continue
        try:
            exec(compile("".join(cell["source"]), f"{notebook.name}, cell {number}", "exec"), names)
        except NotStored as error:
            waits = str(error)
        except NameError:
            if not (waits or fails):  # of what the cell before would have defined
                raise
        except UserError as error:
            fails = fails or str(error)
        if "parameters" in tags:
            names.update(parameters)
    studies = {name: thing for name, thing in names.items() if isinstance(thing, Study)}
    return Planned(name, studies, waits, fails)


def collect(work: Iterable[Work]) -> list[Planned]:
    """What runs of notebooks plan."""
    return [planned(*one) for one in work]


def train(
    work: Sequence[Work],
    order: Sequence[str] = (),
    *,
    shard: tuple[int, int] = (1, 1),
    **options: Any,
) -> list[Planned]:
    """Train what runs of notebooks need, also what is planned only once other runs are there.

    Parameters
    ----------
    work
        The runs.
    order
        As for :func:`ordered`.
    shard
        (i, n): the i-th of n parts of the runs only. A run belongs to the same part whatever the store holds.
    options
        As for :func:`vaelib.runs.schedule.train`.

    Returns
    -------
    list of Planned
        What was planned; a notebook that waits still does so for the runs of other shards.

    Raises
    ------
    DataError, NonFiniteLoss
        The first of what kept runs from being trained, once all others are.
    """
    numbers = {name: f"{name} {k}/{len(work)}" for k, (name, *_) in enumerate(work, start=1)}
    trained: set[Job] = set()
    failure: DataError | NonFiniteLoss | None = None
    while True:
        plan = collect(work)
        sources = ordered(plan, order)
        jobs = [job for job in sources if int(job.experiment.key, 16) % shard[1] == shard[0] - 1]
        about = {job: f"{numbers[notebook]} · {study}" for job, (notebook, study) in sources.items()}
        try:
            schedule.train(jobs, about=about.__getitem__, **options)
        except (DataError, NonFiniteLoss) as error:
            failure = failure or error
        if not any(one.waits for one in plan) or trained.issuperset(jobs):
            if failure:
                raise failure
            return plan
        trained.update(jobs)


def stored(work: Iterable[Work], optional: Mapping[str, Mapping[str, Any]]) -> tuple[list[Work], list[str]]:
    """What can be drawn without training: runs of notebooks with as many parts and seeds as the store has whole.

    Parameters
    ----------
    work
        Runs of notebooks.
    optional
        From :func:`vaelib.companion.notebooks.optional`.

    Returns
    -------
    tuple of list of Work and list of str
        The runs, and a line for each that lacks something, or cannot be drawn at all.
    """
    found, said = list[Work](), list[str]()
    for one in work:
        variants = list(smaller(one, optional.get(one.notebook.stem, {})))
        least, _ = variants[-1]
        if not (why := _absent(one)):
            found.append(one)
        elif least == one or _absent(least):
            said.append(f"{one.name} is left out ({why})")
        else:
            fewer, lacks = next((v for v in variants[1:-1] if not _absent(v[0])), variants[-1])
            found.append(fewer)
            said.append(f"{one.name}: {lacks} ({why})")
    return found, said


def _absent(one: Work) -> str:
    """What keeps a run of a notebook from being drawn without training; nothing where it can be."""
    plan = planned(*one)
    jobs = list(ordered([plan]))
    absent = schedule.lacking(jobs)
    return plan.fails or plan.waits or (f"{absent} of {len(jobs)} runs are not in the store" if absent else "")


def ordered(plan: Sequence[Planned], order: Sequence[str] = ()) -> dict[Job, tuple[str, str]]:
    """Every job once, the most valuable first, each with the notebook's run and the study that it is trained for.

    Parameters
    ----------
    plan
        Of all notebooks.
    order
        What comes first: names of notebooks' runs, or ``NAME.STUDY``. All else follows as it is planned.

    Raises
    ------
    Invalid
        If a study is named that its notebook does not plan.
    """
    for item in order:
        notebook, _, study = item.partition(".")
        for one in plan:
            if one.name == notebook and study and study not in one.studies and not (one.waits or one.fails):
                raise Invalid("order", item, f"{notebook}. and one of {', '.join(one.studies)}")
    wanted = [((one.name, name), job) for one in plan for name, study in one.studies.items() for job in study.jobs]

    def place(source: tuple[str, str]) -> int:
        return next((k for k, item in enumerate(order) if item in (source[0], ".".join(source))), len(order))

    wanted.sort(key=lambda pair: place(pair[0]))
    sources: dict[Experiment, tuple[str, str]] = {}
    for source, job in wanted:
        sources.setdefault(job.experiment, source)
    return {job: sources[job.experiment] for job in united([job for _, job in wanted])}


def table(plan: Sequence[Planned], *, store: Store | None = None, workers: int = 1) -> pd.DataFrame:
    """What there is to do for a plan: a row for each notebook's run, and one for all without repetitions.

    Parameters
    ----------
    plan
        Of all notebooks.
    store
        What may hold some of it; by default the usual one.
    workers
        Runs at a time, for the hours.

    Returns
    -------
    DataFrame
        Columns ``runs``, ``found``, ``to train``, ``no data`` (those whose data are not here), and of the others that
        are to be trained the ``images`` of all epochs and the ``hours``.
    """
    costs = estimated(list(ordered(plan)), store or Store())
    rows = {one.name: _row([costs[j.experiment] for j in ordered([one])], workers) for one in plan}
    return pd.DataFrame({**rows, "all": _row(list(costs.values()), workers)}).T


def _row(costs: Sequence[Cost], workers: int) -> dict[str, float]:
    new = [cost for cost in costs if not cost.found]
    known = [cost for cost in new if not math.isnan(cost.seconds)]
    return {
        "runs": len(costs),
        "found": len(costs) - len(new),
        "to train": len(new),
        "no data": len(new) - len(known),
        "images": sum(cost.images for cost in known),
        "hours": sum(cost.seconds for cost in known) / 3600 / workers,
    }
