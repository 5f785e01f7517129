"""A simulated cohort with known structure, written in the format that real ones are read from."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vaelib.data.studies import COLUMNS, FILES, OUTCOME


def simulate(folder: Path, patients: int = 400, genes: int = 200, features: int = 200, seed: int = 0) -> None:
    """Write a cohort of known structure in the format of the study.

    Four subtypes with their own hazard of relapse, and a continuous activity that raises it, move the means of genes;
    half of the copy-number features follow a gene. A third of the patients is censored early, a tenth of the clinical
    entries is missing.

    Parameters
    ----------
    folder
        Where the four files go; made if it is not there.
    patients, genes, features
        Sizes.
    seed
        Of all draws.
    """
    rng = np.random.default_rng(seed)
    subtype, activity = rng.choice(4, patients, p=[0.4, 0.3, 0.2, 0.1]), rng.normal(size=patients)
    by_subtype, by_activity = rng.normal(size=(4, genes)), rng.normal(size=genes)
    rna = 8 + by_subtype[subtype] + 0.7 * activity[:, None] * by_activity + rng.normal(size=(patients, genes))
    follows = rng.integers(genes, size=features)
    calls = (rna - 8)[:, follows] / 1.5 * rng.choice([0, 1], features) + rng.normal(size=(patients, features)) / 2
    cna = np.clip(calls.round(), -2, 2).astype(int)
    hazard = np.exp(np.array([-0.7, 0, 0.4, 0.9])[subtype] + 0.8 * activity) / 150
    relapse, early = rng.exponential(1 / hazard), rng.random(patients) < 1 / 3
    seen = np.where(early, rng.uniform(1, 60, patients), rng.uniform(60, 240, patients))
    relapsed, months = relapse < seen, np.minimum(relapse, seen)
    ids = [f"SIM-{k:04d}" for k in range(patients)]
    names = np.array(["LumA", "LumB", "Her2", "Basal"])[subtype]
    positive = rng.random(patients) < np.array([0.95, 0.9, 0.4, 0.05])[subtype]
    size = np.exp(3 + 0.3 * activity + 0.4 * rng.normal(size=patients)).round(1)
    nodes = rng.poisson(np.exp(0.5 * activity))
    grade = np.clip(np.round(2 + 0.4 * activity + 0.5 * rng.normal(size=patients)), 1, 3)

    def yes(share: float) -> NDArray[np.str_]:
        return np.where(rng.random(patients) < share, "YES", "NO")

    table = pd.DataFrame(
        {
            "PATIENT_ID": ids,
            "LYMPH_NODES_EXAMINED_POSITIVE": nodes,
            "NPI": (0.02 * size + 1 + (nodes > 0) + (nodes > 3) + grade).round(2),
            "CELLULARITY": rng.choice(["High", "Moderate", "Low"], patients),
            "CHEMOTHERAPY": yes(0.2),
            "ER_IHC": np.where(positive, "Positve", "Negative"),
            "HER2_SNP6": np.where(subtype == 2, "GAIN", "NEUTRAL"),
            "HORMONE_THERAPY": yes(0.6),
            "INFERRED_MENOPAUSAL_STATE": rng.choice(["Post", "Pre"], patients, p=[0.8, 0.2]),
            "INTCLUST": (subtype + 1).astype(str),
            "AGE_AT_DIAGNOSIS": np.clip(rng.normal(60, 12, patients), 25, 95).round(2),
            "CLAUDIN_SUBTYPE": names,
            "THREEGENE": np.where(positive, "ER+/HER2- Low Prolif", "ER-/HER2-"),
            "LATERALITY": rng.choice(["Left", "Right"], patients),
            "RADIO_THERAPY": yes(0.6),
            "HISTOLOGICAL_SUBTYPE": rng.choice(["Ductal/NST", "Lobular", "Mixed"], patients, p=[0.8, 0.1, 0.1]),
            "BREAST_SURGERY": rng.choice(["MASTECTOMY", "BREAST CONSERVING"], patients),
            "RFS_STATUS": np.where(relapsed, "1:Recurred", "0:Not Recurred"),
            "RFS_MONTHS": months.round(2),
            "SAMPLE_ID": ids,
            "ER_STATUS": np.where(positive, "Positive", "Negative"),
            "HER2_STATUS": np.where(subtype == 2, "Positive", "Negative"),
            "GRADE": grade,
            "PR_STATUS": rng.choice(["Positive", "Negative"], patients),
            "TUMOR_SIZE": size,
            "TUMOR_STAGE": 1 + (size > 20) + (size > 50) + (nodes > 9),
        }
    )
    gaps = table.columns.difference(["PATIENT_ID", "SAMPLE_ID", *OUTCOME])
    table[gaps] = table[gaps].astype("object").mask(rng.random((patients, len(gaps))) < 0.1)
    folder.mkdir(parents=True, exist_ok=True)
    for kind, columns in COLUMNS.items():
        with (folder / FILES[kind][0]).open("w") as file:
            file.write("#simulated patients: names, descriptions, types and priorities are left out\n" * 4)
            table[list(columns)].to_csv(file, sep="\t", index=False)
    for kind, values in (("rna", rna), ("cna", cna)):
        matrix = pd.DataFrame(values.T, [f"{kind.upper()}{k}" for k in range(values.shape[1])], ids)
        matrix.insert(0, "Entrez_Gene_Id", "")
        matrix.to_csv(folder / FILES[kind][0], sep="\t", index_label="Hugo_Symbol", float_format="%.4f")
