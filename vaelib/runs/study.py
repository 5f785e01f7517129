"""Studies: labelled experiments, each trained once, and the tidy tables of what they gave."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
from torch import Tensor

from vaelib.errors import Invalid, UserError
from vaelib.measures import Observer
from vaelib.runs.execution import Job
from vaelib.runs.experiment import Experiment
from vaelib.runs.schedule import train
from vaelib.runs.store import Entry, Store

Label = tuple[Hashable, ...]


class _Labelled(Mapping[Any, Any]):
    """Things by label: what a study and its results share."""

    def __init__(self, names: Sequence[str], things: Mapping[Label, Any]):
        self.names, self._things = tuple(names), dict(things)

    def _label(self, label: Any) -> Label:
        if isinstance(label, Mapping):
            return tuple(label[name] for name in self.names)
        return label if isinstance(label, tuple) else (label,)

    def __getitem__(self, label: Any) -> Any:
        """What has a label: a tuple, a mapping from the names, or the one value where there is one name."""
        try:
            return self._things[self._label(label)]
        except KeyError:
            raise Invalid("label", label, f"one of {len(self)}, such as {next(iter(self), None)!r}") from None

    def __iter__(self) -> Iterator[Label]:
        return iter(self._things)

    def __len__(self) -> int:
        return len(self._things)

    def _chosen(self, chosen: Mapping[str, Any]) -> dict[Label, Any]:
        """Those whose labels have the values given; a list stands for any of its values."""
        for name in chosen:
            if name not in self.names:
                raise Invalid("label", name, f"one of {', '.join(self.names)}")
        return {label: thing for label, thing in self._things.items() if self._fits(label, chosen)}

    def _fits(self, label: Label, chosen: Mapping[str, Any]) -> bool:
        values = dict(zip(self.names, label))
        return all(values[n] in v if isinstance(v, list) else values[n] == v for n, v in chosen.items())


class Study(_Labelled):
    """Experiments by label.

    Parameters
    ----------
    experiments
        By label: a tuple of what varies, or one value. Or pairs of a mapping of what varies and an experiment.
    names
        Of what varies, the columns of the tables; with pairs they are the mappings' keys.
    observe
        What is observed of each run, and kept with it.

    Raises
    ------
    Invalid
        If labels and names do not fit together.

    Examples
    --------
    >>> from vaelib import Bound, DualGeometricJS, Experiment, Learned, Study
    >>> starts = {a: Bound(DualGeometricJS(Learned(a))) for a in (0.1, 0.9)}
    >>> study = Study(
    ...     {(a, s): Experiment(objective=objective, seed=s) for a, objective in starts.items() for s in (0, 1)},
    ...     names=("start", "seed"),
    ... )
    >>> study[0.9, 1].seed
    1
    """

    def __init__(
        self,
        experiments: Mapping[Any, Experiment] | Iterable[tuple[Mapping[str, Any], Experiment]],
        *,
        names: Sequence[str] = ("run",),
        observe: Sequence[Observer] = (),
    ):
        if not isinstance(experiments, Mapping):
            pairs = list(experiments)
            names = list(pairs[0][0]) if pairs else names
            experiments = {tuple(label.get(name) for name in names): e for label, e in pairs}
            if len(experiments) < len(pairs) or any(set(label) != set(names) for label, _ in pairs):
                raise Invalid(
                    "experiments", [label for label, _ in pairs], f"labelled with {', '.join(names)}, all different"
                )
        labels = {label if isinstance(label, tuple) else (label,): e for label, e in experiments.items()}
        for label in labels:
            if len(label) != len(names):
                raise Invalid("names", tuple(names), f"one for each of the parts of the label {label!r}")
        super().__init__(names, labels)
        self.observe = tuple(observe)

    def select(self, **labels: Any) -> "Study":
        """The part of it with these labels; a list stands for any of its values."""
        return Study(self._chosen(labels), names=self.names, observe=self.observe)

    def observing(self, *observers: Observer) -> "Study":
        """The same experiments, observed by these in the place of its own observers."""
        return Study(dict(self), names=self.names, observe=observers)

    @property
    def jobs(self) -> list[Job]:
        """What there is to do: with those of other studies for :func:`train`, to do all of it at once."""
        return [Job(e, self.observe) for e in self.values()]

    def run(self, **options: Any) -> "Results":
        """Train what the store does not hold, and give all of it; the options are those of :func:`train`."""
        store = options.pop("store", None) or Store()
        train(self.jobs, store=store, **options)
        return self.stored(store)

    def stored(self, store: Store | None = None) -> "Results":
        """What the store holds of it, without training: what the next study is made of, say.

        Raises
        ------
        NotStored
            If a run is not there.
        """
        store = store or Store()
        entries = {label: store.get(e.key) for label, e in self.items()}
        if missing := [label for label, entry in entries.items() if entry is None]:
            raise NotStored(f"{len(missing)} of {len(self)} runs are not in {store.folder}, {missing[0]!r} first")
        return Results(self.names, entries)


class NotStored(UserError):
    """Runs that are asked for, and were not trained yet."""


class Results(_Labelled):
    """The runs of a study by label, and their tables, with the labels as columns."""

    def select(self, **labels: Any) -> "Results":
        """The part of it with these labels; a list stands for any of its values."""
        return Results(self.names, self._chosen(labels))

    @property
    def run_keys(self) -> list[str]:
        """The runs' keys."""
        return [entry.key for entry in self.values()]

    def _table(self, parts: Callable[[Entry], pd.DataFrame]) -> pd.DataFrame:
        columns, tables = [*self.names, "key"], []
        for label, entry in self.items():
            part = parts(entry)
            if taken := set(columns) & set(part.columns):
                raise Invalid("names", taken.pop(), "another name than those of the table's own columns")
            tables.append(part.assign(**dict(zip(columns, (*label, entry.key)))))
        whole = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)
        return whole[[*columns, *(c for c in whole if c not in columns)]]

    @property
    def history(self) -> pd.DataFrame:
        """One row a run and epoch: labels, ``key``, the history's columns, and ``-elbo`` of the test samples (nats)."""
        return self._table(_history)

    @property
    def final(self) -> pd.DataFrame:
        """The last epoch of each run, and ``active_latents``."""
        return self._table(lambda e: _history(e).tail(1).assign(active_latents=e.metrics["active_latents"]))

    @property
    def latent_rates(self) -> pd.DataFrame:
        """One row a run and latent: ``latent`` and its mean ``rate`` on test samples (nats)."""
        return self._table(
            lambda e: pd.DataFrame({"rate": e.metrics["latent_rates"]}).rename_axis("latent").reset_index()
        )

    @property
    def optimal_skews(self) -> pd.DataFrame:
        """One row a run: the best skew of its test posteriors for each form, whatever it was trained with."""
        return self._table(lambda e: pd.DataFrame([e.metrics["optimal_skews"]]))

    def observed(self, observer: Observer) -> pd.DataFrame:
        """What an observer saw of every run, as one table.

        Raises
        ------
        UserError
            If a run was not observed so, or gave tensors: for these there is :meth:`tensors`.
        """
        found = self._observations(observer)
        if not all(isinstance(o, pd.DataFrame) for o in found.values()):
            raise UserError(f"observer: {observer.kind!r} gives tensors, not tables")
        return self._table(lambda entry: found[entry.key])

    def tensors(self, observer: Observer) -> dict[Label, dict[str, Tensor]]:
        """What an observer saw of every run, as tensors by label and name; raises as :meth:`observed`."""
        found = self._observations(observer)
        if any(isinstance(o, pd.DataFrame) for o in found.values()):
            raise UserError(f"observer: {observer.kind!r} gives tables, not tensors")
        return {label: found[entry.key] for label, entry in self.items()}

    def _observations(self, observer: Observer) -> dict[str, Any]:
        found = {entry.key: entry.observation(observer.key) for entry in self.values()}
        if missing := [key[:12] for key, o in found.items() if o is None]:
            raise UserError(f"observer: {observer.kind!r} did not see {len(missing)} of the runs, {missing[0]} first")
        return found


def _history(entry: Entry) -> pd.DataFrame:
    table = entry.history
    return table.assign(**{"-elbo": table["test_distortion"] + table["test_rate"]})
