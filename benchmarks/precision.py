"""Does bfloat16 change what is found? Pairs of runs that differ in nothing but their precision, seed by seed.

Four objectives on two networks, full MNIST, 20 epochs, four seeds: 64 runs, hours on two cores; what is stored is not
trained again, so it can be interrupted. For each measure on test images (evaluated in float32) it prints the mean of
both precisions and the mean difference within pairs with its 95 % interval, beside the spread of a seed; and writes
them to ``precision.csv`` beside this file, from what is there of whole pairs. Run with
``python benchmarks/precision.py``.
"""

import itertools
from pathlib import Path

import click
import pandas as pd
from scipy.stats import t

from vaelib import COMPARED, MLP, Adam, Bound, DualGeometricJS, Experiment, Gaussian, Learned, Newton, Study
from vaelib.runs import Store

NETWORKS = {
    "burgess": Experiment(data="mnist", network="burgess", likelihood="gaussian", optimiser=Adam(1e-4)),
    "fgvae": Experiment(
        data="mnist:28",
        network=MLP((512, 256, 128), batch_norm=True),
        latent=Gaussian(20),
        optimiser=Adam(1e-3, weight_decay=1e-5),
        batch_size=128,
    ),
}


def objectives(rate: float) -> dict[str, Bound]:
    """What is compared, by name; a learned skew has the rate of the networks."""
    return {
        "learned dual": Bound(DualGeometricJS(Learned(rate=rate))),
        "KL": Bound(),
        "MMD": COMPARED["mmd"],
        "Newton's dual": Bound(DualGeometricJS(Newton())),
    }


MEASURES = {"test_reconstruction": "squared error", "test_rate": "rate, nats", "skew": "skew"}


def study(networks: list[str], seeds: int, epochs: int) -> Study:
    """All pairs, seed by seed, so that an interrupted run leaves whole ones."""
    labels = itertools.product(range(seeds), networks, objectives(0), ("fp32", "bf16"))
    experiments = {}
    for seed, network, name, precision in labels:
        base = NETWORKS[network]
        objective = objectives(base.optimiser.rate)[name]
        settings = {"objective": objective, "seed": seed, "precision": precision, "epochs": epochs}
        experiments[network, name, seed, precision] = base.replace(**settings)
    return Study(experiments, names=("network", "objective", "seed", "precision"))


def table(pairs: Study) -> pd.DataFrame:
    """The paired comparison of the pairs of which both runs are stored."""
    store = Store()
    stored = Study({label: e for label, e in pairs.items() if store.get(e.key)}, names=pairs.names)
    final = stored.stored(store).final
    rows = []
    for (network, objective), runs in final.groupby(["network", "objective"], sort=False):
        for column, measure in MEASURES.items():
            if column not in runs or runs[column].isna().any():
                continue
            both = runs.pivot(index="seed", columns="precision", values=column).reindex(columns=["fp32", "bf16"])
            both = both.dropna()
            difference = both["bf16"] - both["fp32"]
            n = len(both)
            rows.append(
                {
                    "network": network,
                    "objective": objective,
                    "measure": measure,
                    "pairs": n,
                    "fp32": both["fp32"].mean(),
                    "bf16": both["bf16"].mean(),
                    "difference": difference.mean(),
                    "half width of its 95 % interval": difference.sem() * t.ppf(0.975, n - 1) if n > 1 else None,
                    "sd over seeds, fp32": both["fp32"].std(),
                }
            )
    return pd.DataFrame(rows)


@click.command()
@click.option("--network", "networks", multiple=True, type=click.Choice(list(NETWORKS)), default=list(NETWORKS))
@click.option("--seeds", default=4, show_default=True)
@click.option("--epochs", default=20, show_default=True)
@click.option("--no-training", is_flag=True, help="Only the table of what is stored.")
def main(networks: tuple[str, ...], seeds: int, epochs: int, no_training: bool) -> None:
    """Train the pairs and write their table."""
    pairs = study(list(networks), seeds, epochs)
    if not no_training:
        pairs.run()
    found = table(pairs)
    found.to_csv(Path(__file__).with_suffix(".csv"), index=False, float_format="%.5g")
    click.echo(found.to_string(index=False, float_format="%.4g"))


if __name__ == "__main__":
    main()
