"""Time on a cohort of METABRIC's size: its files, and the models of notebook 05, alone and in a sweep.

The cohort is simulated (1,980 patients, 1,000 genes, 1,000 copy-number features), written and read in the study's
format. Run with ``make bench``.
"""

import itertools
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vaelib import datasets
from vaelib.datasets.simulated import simulate
from vaelib.experiments import METHODS, Experiment
from vaelib.sweeps import sweep

EPOCHS = 10
INTEGRATIONS = {"clin+rna": "linear", "clin+cna": "bernoulli", "rna+cna": "linear"}
COMPARED = ("kl", "forward_kl", "mmd", "learned_js", "learned_dual")
FOLDS, SEEDS, PAPER_EPOCHS = 5, 3, 150


def fold(seed: int) -> list[Experiment]:
    """The models of one fold and seed."""
    return [
        Experiment(
            dataset=f"simulated_cohort:{integration}/0",
            network=network,
            likelihood="balanced" if network == "x" else likelihood,
            latents=32,
            epochs=EPOCHS,
            learning_rate=1e-3,
            decay=1e-3,
            seed=seed,
            **METHODS[method],
        )
        for method, (integration, likelihood), network in itertools.product(
            COMPARED, INTEGRATIONS.items(), ("cnc", "x")
        )
    ]


def timed(what: str, call: Callable[[], Any]) -> float:
    """Print and return the seconds that a call takes."""
    started = time.perf_counter()
    call()
    seconds = time.perf_counter() - started
    print(f"{what}: {seconds:.1f} s")
    return seconds


def main() -> None:
    """Print the times."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"VAELIB_DATA": folder, "VAELIB_RUNS": f"{folder}/runs"}
        written = Path(folder) / "simulated_cohort"
        timed("writing the files", lambda: simulate(written, patients=1980, genes=1000, features=1000))
        timed("reading them", lambda: datasets.cohort("simulated_cohort"))
        names = [f"simulated_cohort:{integration}/0" for integration in INTEGRATIONS]
        timed("preparing a fold of each integration", lambda: [datasets.load(name) for name in names])
        alone = timed(f"a fold's runs of {EPOCHS} epochs, one after another", lambda: sweep(fold(0), workers=1))
        together = timed("as many in a sweep", lambda: sweep(fold(1)))
        print(f"the sweep is {alone / together:.2f} times as fast")
        hours = together * FOLDS * SEEDS * PAPER_EPOCHS / EPOCHS / 3600
        print(f"the paper profile at that speed: {hours:.1f} hours")


if __name__ == "__main__":
    main()
