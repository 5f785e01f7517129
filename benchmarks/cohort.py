"""Time on a cohort of METABRIC's size: its files, and the models of notebook 05, alone and together.

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

from vaelib import COMPARED, Adam, Experiment, Gaussian, GaussianLikelihood, Study, data
from vaelib.data.simulated import simulate

EPOCHS = 10
INTEGRATIONS = {
    "clin+rna": GaussianLikelihood(sigmoid=False),
    "clin+cna": "bernoulli",
    "rna+cna": GaussianLikelihood(sigmoid=False),
}
METHODS = ("kl", "forward_kl", "mmd", "learned_js", "learned_dual")
FOLDS, SEEDS, PAPER_EPOCHS = 5, 3, 150


def fold(seed: int) -> Study:
    """The models of one fold and seed."""
    base = Experiment(latent=Gaussian(32), optimiser=Adam(1e-3, decay=1e-3), epochs=EPOCHS, seed=seed)
    return Study(
        {
            (method, integration, network): base.replace(
                data=f"simulated_cohort:{integration}/0",
                network=network,
                likelihood="balanced" if network == "x" else likelihood,
                objective=COMPARED[method],
            )
            for method, (integration, likelihood), network in itertools.product(
                METHODS, INTEGRATIONS.items(), ("cnc", "x")
            )
        },
        names=("method", "integration", "network"),
    )


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
        timed("reading them", lambda: data.cohort("simulated_cohort"))
        names = [f"simulated_cohort:{integration}/0" for integration in INTEGRATIONS]
        timed("preparing a fold of each integration", lambda: [data.load(name) for name in names])
        alone = timed(f"a fold's runs of {EPOCHS} epochs, one after another", lambda: fold(0).run(workers=1))
        together = timed("as many together", lambda: fold(1).run())
        print(f"together they are {alone / together:.2f} times as fast")
        hours = together * FOLDS * SEEDS * PAPER_EPOCHS / EPOCHS / 3600
        print(f"the paper profile at that speed: {hours:.1f} hours")


if __name__ == "__main__":
    main()
