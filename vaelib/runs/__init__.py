"""Runs: experiments, the store that keeps them, and studies of many."""

from vaelib.runs.execution import Job, trained
from vaelib.runs.experiment import COMPARED, Experiment
from vaelib.runs.schedule import train
from vaelib.runs.store import Entry, Store
from vaelib.runs.study import NotStored, Results, Study
