"""vaelib: a companion that makes five papers on variational auto-encoders checkable.

The way of the data is one line: an :class:`~vaelib.experiments.Experiment` names a data set, a model and an
objective; :func:`~vaelib.experiments.sweep` trains it once and keeps the run in the store; tables, figures and
verdicts are drawn from the store. Nothing is imported here, so that ``import vaelib`` costs nothing.
"""

__version__ = "0.1.0"
