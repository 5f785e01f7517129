"""Every strategy at toy size: the runs of the golden table, and the one way to write it anew.

A run's numbers may change only together with the store's ``SCHEMA``: raise that, say so in CHANGELOG.md, and run
``python tests/golden/strategies.py`` in the project's folder.
"""

import json
import tempfile
from pathlib import Path

import torch

from vaelib import (
    CNC,
    MLP,
    MMD,
    XVAE,
    Adam,
    Adversary,
    Bits,
    Bound,
    Burgess,
    Category,
    Covariance,
    DualGeometricJS,
    Experiment,
    ExtendedGeometricJS,
    Gaussian,
    GaussianLikelihood,
    Geco,
    GeometricJS,
    Hybrid,
    Information,
    Joint,
    Learned,
    LearnedTotalCorrelation,
    LeaveOneOut,
    Newton,
    NormalisedConvolutions,
    Point,
    Relaxation,
    SampledRate,
    Score,
    Store,
    Study,
    TotalCorrelation,
    VarianceLoss,
)
from vaelib.runs import store

FILE = Path(__file__).with_name("table.json")
BASE = Experiment(data="sprites:300", network="mlp", latent=Gaussian(4), optimiser=Adam(1e-3), epochs=2)
COHORT = BASE.replace(data="gse7390:clin+rna/0", likelihood="balanced")
SOFT = Relaxation(0.7, 0.3)
OBJECTIVES = {
    "kl": Bound(),
    "weight": Bound(weight=4.0),
    "capacity": Bound(capacity=5.0),
    "forward_kl": Bound("forward_kl"),
    "resistor_average": Bound("resistor_average"),
    "js": Bound(GeometricJS(0.3)),
    "js_learned": Bound(GeometricJS(Learned(0.5, 1e-2))),
    "js_newton": Bound(GeometricJS(Newton())),
    "dual": Bound(DualGeometricJS(0.3)),
    "dual_learned": Bound(DualGeometricJS(Learned(0.5, 1e-2))),
    "dual_newton": Bound(DualGeometricJS(Newton())),
    "extended_newton": Bound(ExtendedGeometricJS(Newton())),
    "js_datum": Bound(GeometricJS(Newton(per="datum"))),
    "dual_latent": Bound(DualGeometricJS(Newton(per="latent"))),
    "dual_both": Bound(DualGeometricJS(Newton(per="both"))),
    "extended_both": Bound(ExtendedGeometricJS(Newton(per="both"))),
    "self_weighted": Bound("self_weighted_kl"),
    "split": Bound("split_kl"),
    "mmd": Bound("mmd", weight=500.0),
    "mmd_moments": Bound("mmd_moments", weight=500.0),
    "corruption": Bound(corruption=1.0),
    "draws": Bound(draws=3),
    "sampled_rate": SampledRate(draws=3),
    "score": Score(draws=2),
    "leave_one_out": LeaveOneOut(draws=3),
    "variance": VarianceLoss(draws=3),
    "hybrid": Hybrid(draws=3),
    "hybrid_proposal": Hybrid(draws=3, proposal=0.5),
    "information": Bound(information=Information((0, 1), 0.5)),
    "warmup": Bound(weight=4.0, warmup=0.5),
    "free_bits": Bound("free_bits"),
    "geco": Geco(1500.0),
    "total_correlation": Bound(regularisers=(TotalCorrelation(weight=5.0),)),
    "learned_total_correlation": Bound(regularisers=(LearnedTotalCorrelation(weight=5.0, units=32),)),
    "dip_1": Bound(regularisers=(Covariance("means", diagonal=10.0, weight=10.0),)),
    "dip_2": Bound(regularisers=(Covariance("codes", weight=10.0),)),
    "adversary": Bound(weight=0.0, regularisers=(Adversary(weight=10.0, units=32, rate=3e-4),)),
}
RUNS = {name: BASE.replace(objective=objective) for name, objective in OBJECTIVES.items()} | {
    "point": BASE.replace(latent=Point(4), objective=Bound(weight=0.0)),
    "point_mmd": BASE.replace(latent=Point(4), objective=Bound(MMD("inverse_multiquadratic"), weight=10.0)),
    "bits": BASE.replace(latent=Bits(8, SOFT)),
    "bits_straight": BASE.replace(latent=Bits(8, Relaxation(0.7, straight_through=True))),
    "bits_hybrid": BASE.replace(latent=Bits(8), objective=Hybrid(draws=3)),
    "category": BASE.replace(latent=Category(8, SOFT)),
    "categories": BASE.replace(latent=Joint(tuple(Category(4, SOFT) for _ in range(3)))),
    "category_information": BASE.replace(
        latent=Joint((Gaussian(4), Category(3, SOFT))),
        objective=Bound(information=Information("category", 3.0, "aggregate")),
    ),
    "gaussian_likelihood": BASE.replace(likelihood="gaussian"),
    "scaled_gaussian": BASE.replace(likelihood="scaled_gaussian"),
    "shared_gaussian": BASE.replace(likelihood="shared_gaussian"),
    "tanh": BASE.replace(network=MLP(64, "tanh")),
    "normalised": BASE.replace(network=MLP((64, 32), batch_norm=True)),
    "burgess": BASE.replace(network=Burgess(filters=8, units=32), epochs=1),
    "convolutions": BASE.replace(network=NormalisedConvolutions((8, 16)), epochs=1),
    "cnc": COHORT.replace(network=CNC(64)),
    "x": COHORT.replace(network=XVAE(64)),
    "linear": COHORT.replace(likelihood=GaussianLikelihood(sigmoid=False)),
    "optimiser": BASE.replace(optimiser=Adam(1e-3, decay=1e-2, weight_decay=1e-2)),
}


def measured(folder: Path) -> dict[str, dict[str, float]]:
    """What training saw and what the test set shows of every run."""
    torch.set_num_threads(1)
    results = Study(RUNS, names=["strategy"]).run(store=Store(folder), weights=False, workers=1)
    names = ("train_loss", "test_loss", "test_rate", "test_reconstruction", "skew")
    return {run: {n: e.metrics[n] for n in names if n in e.metrics} for (run,), e in results.items()}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        table = {run: {n: float(f"{v:.6g}") for n, v in row.items()} for run, row in measured(Path(folder)).items()}
    FILE.write_text(json.dumps({"schema": store.SCHEMA, "runs": table}, indent=1) + "\n")
