"""Time on a cohort of METABRIC's size: its files, and the models of notebook 05, alone and in a sweep.

The cohort is simulated (1,980 patients, 1,000 genes, 1,000 copy-number features), written and read in the study's
format. Run with ``make bench``.
"""

import itertools
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vaelib import datasets
from vaelib.datasets.simulated import simulate
from vaelib.experiments import METHODS, Experiment
from vaelib.sweeps import sweep

EPOCHS = 10
INTEGRATIONS = {"clin+rna": "linear", "clin+cna": "bernoulli", "rna+cna": "linear"}
COMPARED = ("kl", "forward_kl", "mmd", "learned_js", "learned_dual")
FOLDS, SEEDS, PAPER_EPOCHS = 5, 3, 150


def fold(seed: int, method: str) -> list[Experiment]:
    """The six models of a method on one fold."""
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
        for (integration, likelihood), network in itertools.product(INTEGRATIONS.items(), ("cnc", "x"))
    ]


@contextmanager
def timed(what: str) -> Iterator[dict[str, float]]:
    """Print and return the seconds that a block takes."""
    found, started = {}, time.perf_counter()
    yield found
    found["seconds"] = time.perf_counter() - started
    print(f"{what}: {found['seconds']:.1f} s")


def main() -> None:
    """Print the times."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"VAELIB_DATA": folder, "VAELIB_RUNS": f"{folder}/runs"}
        with timed("writing the files"):
            simulate(Path(folder) / "simulated_cohort", patients=1980, genes=1000, features=1000)
        with timed("reading them"):
            cohort = datasets.cohort("simulated_cohort")
        with timed("preparing a fold of each integration"):
            for integration in INTEGRATIONS:
                datasets.load(f"simulated_cohort:{integration}/0")
        print(cohort.source)
        design = [e for method in COMPARED for e in fold(0, method)]
        with timed(f"{len(design)} runs of {EPOCHS} epochs, one after another") as alone:
            sweep(design, workers=1)
        with timed("as many in a sweep") as together:
            sweep([e for method in COMPARED for e in fold(1, method)])
        share = len(design) * EPOCHS / (2 * len(INTEGRATIONS) * len(COMPARED) * FOLDS * SEEDS * PAPER_EPOCHS)
        print(f"the sweep is {alone['seconds'] / together['seconds']:.2f} times as fast")
        print(f"the paper profile at that speed: {together['seconds'] / share / 3600:.1f} hours")


if __name__ == "__main__":
    main()
