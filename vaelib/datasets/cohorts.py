"""Cohorts of patients: tables by modality with an outcome, and how a fold of them becomes a data set.

METABRIC and the simulated cohort are folders in the format of the cBioPortal study brca_metabric, read by the same
reader; the third cohort comes with scikit-survival. Everything that is fitted to the data (bins, categories, the
choice of features, scales) is fitted on the training patients of a fold.
"""

import os
import tarfile
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from vaelib import paths
from vaelib.datasets.dataset import Block, Dataset
from vaelib.datasets.downloads import Check, DataError, Download, resumed

FOLDS = 5
FEATURES = 1_000
"""So many genes, and so many copy-number features, of the highest variance are kept."""

URL = "https://cbioportal-datahub.s3.amazonaws.com/brca_metabric.tar.gz"

# Names that the files have had in the releases of the study, the newest first.
_FILES = {
    "patients": ("data_clinical_patient.txt", "data_bcr_clinical_data_patient.txt"),
    "samples": ("data_clinical_sample.txt", "data_bcr_clinical_data_sample.txt"),
    "rna": ("data_mrna_illumina_microarray.txt", "data_mrna_agilent_microarray.txt", "data_expression.txt"),
    "cna": ("data_cna.txt", "data_CNA.txt"),
}
_PATIENTS = (
    "LYMPH_NODES_EXAMINED_POSITIVE",
    "NPI",
    "CELLULARITY",
    "CHEMOTHERAPY",
    "ER_IHC",
    "HER2_SNP6",
    "HORMONE_THERAPY",
    "INFERRED_MENOPAUSAL_STATE",
    "INTCLUST",
    "AGE_AT_DIAGNOSIS",
    "CLAUDIN_SUBTYPE",
    "THREEGENE",
    "LATERALITY",
    "RADIO_THERAPY",
    "HISTOLOGICAL_SUBTYPE",
    "BREAST_SURGERY",
)
_SAMPLES = ("ER_STATUS", "HER2_STATUS", "GRADE", "PR_STATUS", "TUMOR_SIZE", "TUMOR_STAGE")
_OUTCOME = ("RFS_STATUS", "RFS_MONTHS")

LIKELIHOODS = {"clin": "bernoulli", "rna": "gaussian", "cna": "bernoulli"}
"""What each modality's block is modelled with, in the papers."""


@dataclass(frozen=True, eq=False)
class Cohort:
    """Patients, one row each in every table, in the same order.

    Attributes
    ----------
    name, source
        What it was loaded by, and where it came from, in a sentence.
    modalities
        ``clin``, ``rna``, ``cna``, those that there are: clinical variables as read (numbers, or categories as text;
        missing ones NaN), log intensities or z-scores, GISTIC calls from -2 to 2.
    relapsed
        Whether the patient relapsed within the observed time, bool.
    months
        Until the relapse, or until the patient was last seen without.
    subtype
        A label of the tumour, to colour figures by.
    """

    name: str
    source: str
    modalities: dict[str, pd.DataFrame]
    relapsed: pd.Series
    months: pd.Series
    subtype: pd.Series

    def __len__(self) -> int:
        """How many patients."""
        return len(self.relapsed)


def read_study(folder: Path, name: str, source: str) -> Cohort:
    """Read a folder in the format of the cBioPortal study brca_metabric.

    Columns are found by name, whatever release they come from; patients without one of the three modalities, or
    without an outcome, are left out.

    Raises
    ------
    DataError
        When a file or column is missing, a patient has two samples, a code is unknown, or nobody is left.
    """
    files = {kind: _file(folder, kind) for kind in _FILES}
    patients = _clinical(files["patients"], ["PATIENT_ID", *_PATIENTS, *_OUTCOME])
    samples = _clinical(files["samples"], ["PATIENT_ID", "SAMPLE_ID", *_SAMPLES])
    for table, file in ((patients, files["patients"]), (samples, files["samples"])):
        twice = table["PATIENT_ID"][table["PATIENT_ID"].duplicated()]
        if len(twice):
            raise DataError(f"{file}: PATIENT_ID {twice.iloc[0]} has {len(twice) + 1} rows; each patient has one.")
    clin = patients.merge(samples, on="PATIENT_ID").set_index("SAMPLE_ID")
    rna, cna = _matrix(files["rna"], clin.index), _matrix(files["cna"], clin.index)
    calls = np.unique(cna.to_numpy())
    if wrong := set(calls[~np.isnan(calls)]) - {-2, -1, 0, 1, 2}:
        raise DataError(f"{files['cna']} holds the call {min(wrong):g}; allowed are -2, -1, 0, 1, 2 and NA.")
    status = clin["RFS_STATUS"].astype("string").str.extract(r"^([01])(?::|$)")[0]
    unknown = clin["RFS_STATUS"].notna() & status.isna()
    if unknown.any():
        value = clin["RFS_STATUS"][unknown].iloc[0]
        raise DataError(f"{files['patients']}: RFS_STATUS {value!r} is unknown; allowed begin with '0:' or '1:'.")
    months = pd.to_numeric(clin["RFS_MONTHS"], errors="coerce")
    known = clin.index[status.notna() & months.ge(0)].intersection(rna.index).intersection(cna.index)
    if known.empty:
        raise DataError(f"{folder} has no patient with all of clinical variables, RNA, CNA and an outcome.")
    clin = clin.loc[known]
    return Cohort(
        name,
        f"{source}: {len(known):,} patients with RNA ({rna.shape[1]:,} genes), CNA ({cna.shape[1]:,} features), "
        f"clinical variables and an outcome",
        {"clin": clin[[*_PATIENTS, *_SAMPLES]], "rna": rna.loc[known], "cna": cna.loc[known]},
        status.loc[known].eq("1").astype(bool),
        months.loc[known],
        clin["CLAUDIN_SUBTYPE"].fillna("unknown"),
    )


def _file(folder: Path, kind: str) -> Path:
    for name in _FILES[kind]:
        if (folder / name).is_file():
            return folder / name
    raise DataError(f"{folder} has no {kind} file; it has to hold one of {', '.join(_FILES[kind])}.")


def _clinical(file: Path, needed: list[str]) -> pd.DataFrame:
    """A clinical table: comment lines, a header, one row a patient or sample."""
    try:
        table = pd.read_csv(file, sep="\t", comment="#", low_memory=False)
    except (ValueError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read as a table separated by tabs ({str(error).strip()}).") from error
    if missing := [column for column in needed if column not in table]:
        raise DataError(f"{file} has no column {', '.join(missing)}; it has {', '.join(map(str, table.columns))}.")
    return table[needed]


def _matrix(file: Path, samples: Iterable[str]) -> pd.DataFrame:
    """A table of features by samples as float32 samples by features: the samples that are named, in their order.

    Read in parts: the RNA of the full study is 700 MB of text.
    """
    wanted = set(samples)
    try:
        header = pd.read_csv(file, sep="\t", nrows=0).columns
        if "Hugo_Symbol" not in header:
            raise DataError(f"{file} has no column Hugo_Symbol; it has {', '.join(header[:5])}, ...")
        columns = [column for column in header if column in wanted]
        types = {"Hugo_Symbol": "string", **dict.fromkeys(columns, np.float32)}
        parts = pd.read_csv(file, sep="\t", usecols=["Hugo_Symbol", *columns], dtype=types, chunksize=1_000)
        names, values = [], []
        for part in parts:
            names += part["Hugo_Symbol"].fillna("unnamed").tolist()
            values.append(part[columns].to_numpy())
    except (ValueError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read as features by samples ({str(error).strip()}).") from error
    if not columns or not names:
        raise DataError(f"{file} has {len(names)} features of {len(columns)} known samples; it needs some of both.")
    seen: dict[str, int] = {}
    for k, symbol in enumerate(names):  # a gene may have more than one probe
        seen[symbol] = seen.get(symbol, 0) + 1
        names[k] = symbol if seen[symbol] == 1 else f"{symbol}.{seen[symbol]}"
    return pd.DataFrame(np.concatenate(values).T, index=columns, columns=names)


def gse7390() -> Cohort:
    """198 patients of GSE7390 (Desmedt et al., 2007) as scikit-survival has them: 76 genes, distant metastasis."""
    from sksurv.datasets import load_breast_cancer

    table, outcome = load_breast_cancer()
    clinical = ["age", "er", "grade", "size"]
    clin = table[clinical].astype({"er": "object", "grade": "object"})
    return Cohort(
        "gse7390",
        "GSE7390 (Desmedt et al., 2007): 198 patients with RNA (76 genes), clinical variables and an outcome",
        {"clin": clin, "rna": table.drop(columns=clinical).astype(np.float32)},
        pd.Series(outcome["e.tdm"], index=table.index),
        pd.Series(outcome["t.tdm"] / 30.44, index=table.index),
        clin["er"].astype(str),
    )


def cohort(name: str) -> Cohort:
    """The tables of a cohort: ``metabric``, whose files are there, ``simulated_cohort``, made here, or ``gse7390``.

    Raises
    ------
    DataError
        As :func:`read_study`.
    """
    kind = name.partition(":")[0]
    if kind == "gse7390":
        return gse7390()
    folder = paths.data() / _FOLDERS[kind]
    if kind == "simulated_cohort" and not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".making-") as draft:
            simulate(Path(draft) / "cohort")
            with suppress(OSError):  # another process was faster, and made the same
                os.replace(Path(draft) / "cohort", folder)
    stamps = tuple((file.name, file.stat().st_mtime_ns) for file in sorted(folder.glob("data_*.txt")))
    return _read_once(kind, folder, stamps)


_FOLDERS = {"metabric": "brca_metabric", "simulated_cohort": "simulated_cohort"}
_SOURCES = {"metabric": "METABRIC (Curtis et al., 2012), cBioPortal", "simulated_cohort": "a simulated cohort"}


@lru_cache(maxsize=2)
def _read_once(kind: str, folder: Path, stamps: tuple[tuple[str, int], ...]) -> Cohort:
    """A study's tables, kept for the next fold; `stamps` tell whether the files have changed."""
    return read_study(folder, kind, _SOURCES[kind])


def folds(patients: Cohort) -> list[tuple[np.ndarray, np.ndarray]]:
    """Training and test patients of each of five folds, stratified by outcome: always the same."""
    from sklearn.model_selection import StratifiedKFold

    splitter = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    return list(splitter.split(np.zeros(len(patients)), patients.relapsed))


def preprocessing(modality: str, features: int):
    """The scikit-learn pipeline that turns a modality's table into numbers in [0, 1]; nothing is fitted yet.

    Clinical variables are binned and one-hot, missing ones as a category of their own. Of genes and copy-number
    features the :data:`FEATURES` of the highest variance are kept; genes are scaled by their range, calls are
    (x + 2) / 4.
    """
    from sklearn.feature_selection import SelectKBest
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, OneHotEncoder

    if modality == "clin":
        return make_pipeline(FunctionTransformer(_binned), OneHotEncoder(handle_unknown="ignore", sparse_output=False))
    filled = SimpleImputer(strategy="median" if modality == "rna" else "most_frequent", keep_empty_features=True)
    kept = SelectKBest(lambda x, _: x.var(axis=0), k=min(FEATURES, features))
    scaled = MinMaxScaler(clip=True) if modality == "rna" else FunctionTransformer(lambda calls: (calls + 2) / 4)
    return make_pipeline(filled, kept, scaled)


# Upper ends of the bins of clinical numbers: decades of age, the groups of the Nottingham index, sizes and
# nodes as tumours are staged by. Fixed, so that nothing is fitted here.
_BINS = {
    "AGE_AT_DIAGNOSIS": (40, 50, 60, 70),
    "age": (40, 50, 60),
    "NPI": (2.4, 3.4, 4.4, 5.4),
    "TUMOR_SIZE": (10, 20, 30, 50),
    "size": (1, 2, 3),
    "LYMPH_NODES_EXAMINED_POSITIVE": (0, 3, 9),
}


def _binned(table: pd.DataFrame) -> pd.DataFrame:
    """Clinical variables as categories: numbers by their bins, what is missing as ``missing``."""
    columns = {}
    for name, values in table.items():
        if name in _BINS:
            values = pd.cut(values, [-np.inf, *_BINS[name], np.inf]).astype("object")
        columns[name] = values.astype("object").where(values.notna(), "missing").map(str)
    return pd.DataFrame(columns, index=table.index)


def fold(name: str, argument: str) -> Dataset:
    """One fold of a cohort; `argument` like ``clin+rna/0``: modalities, and which of the five folds is the test."""
    patients = cohort(name)
    wanted, _, number = argument.partition("/")
    modalities = wanted.split("+") if wanted else list(patients.modalities)
    if not set(modalities) <= set(patients.modalities) or len(set(modalities)) < len(modalities):
        allowed = f"one or more of {', '.join(patients.modalities)}, joined by +, each once"
        raise ValueError(f"{name}: the modalities {wanted!r} are not allowed; they have to be {allowed}.")
    if number and number not in map(str, range(FOLDS)):
        raise ValueError(f"{name}: fold {number!r} is not allowed; it has to be from 0 to {FOLDS - 1}.")
    train, test = folds(patients)[int(number or 0)]
    blocks, parts = [], []
    for modality in modalities:
        table = patients.modalities[modality]
        pipeline = preprocessing(modality, table.shape[1])
        pair = pipeline.fit_transform(table.iloc[train]), pipeline.transform(table.iloc[test])
        parts.append(pair)
        blocks.append(Block(modality, pair[0].shape[1], LIKELIHOODS[modality]))
    fitted, held = (torch.from_numpy(np.hstack(side).astype(np.float32)) for side in zip(*parts))
    labels = torch.from_numpy(patients.relapsed.to_numpy(dtype=np.int64))
    source = f"{patients.source}; fold {number or 0} of {FOLDS}"
    return Dataset(name, fitted, held, labels[train], labels[test], blocks=tuple(blocks), source=source)


def _get_metabric(folder: Path) -> None:
    """Fetch the study's archive, going on where it broke off, and unpack the files that are read."""
    archive = resumed(URL, paths.data() / "brca_metabric.tar.gz")
    wanted = {name for names in _FILES.values() for name in names}
    with tarfile.open(archive) as tar:
        for member in tar:
            if Path(member.name).name in wanted and member.isfile():
                member.name = f"brca_metabric/{Path(member.name).name}"
                tar.extract(member, folder, filter="data")
    archive.unlink()


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
    cna = np.clip(
        np.round(
            (rna - 8)[:, follows] / 1.5 * rng.choice([0, 1], features) + rng.normal(size=(patients, features)) / 2
        ),
        -2,
        2,
    )
    hazard = np.exp(np.array([-0.7, 0, 0.4, 0.9])[subtype] + 0.8 * activity) / 150
    relapse, seen = (
        rng.exponential(1 / hazard),
        np.where(rng.random(patients) < 1 / 3, rng.uniform(1, 60, patients), rng.uniform(60, 240, patients)),
    )
    relapsed, months = relapse < seen, np.minimum(relapse, seen)
    ids = [f"SIM-{k:04d}" for k in range(patients)]
    names = np.array(["LumA", "LumB", "Her2", "Basal"])[subtype]
    positive = rng.random(patients) < np.array([0.95, 0.9, 0.4, 0.05])[subtype]
    size = np.exp(3 + 0.3 * activity + 0.4 * rng.normal(size=patients)).round(1)
    nodes = rng.poisson(np.exp(0.5 * activity))
    grade = np.clip(np.round(2 + 0.4 * activity + 0.5 * rng.normal(size=patients)), 1, 3)
    yes = lambda share: np.where(rng.random(patients) < share, "YES", "NO")  # noqa: E731
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
    gaps = table.columns.difference(["PATIENT_ID", "SAMPLE_ID", *_OUTCOME])
    table[gaps] = table[gaps].astype("object").mask(rng.random((patients, len(gaps))) < 0.1)
    folder.mkdir(parents=True, exist_ok=True)
    for kind, columns in (
        ("patients", ["PATIENT_ID", *_PATIENTS, *_OUTCOME]),
        ("samples", ["PATIENT_ID", "SAMPLE_ID", *_SAMPLES]),
    ):
        with (folder / _FILES[kind][0]).open("w") as file:
            file.write("#simulated patients: names, descriptions, types and priorities are left out\n" * 4)
            table[columns].to_csv(file, sep="\t", index=False)
    for kind, values, form in (("rna", rna, "%.4f"), ("cna", cna.astype(int), None)):
        matrix = pd.DataFrame(values.T, columns=ids)
        matrix.insert(0, "Hugo_Symbol", [f"{kind.upper()}{k}" for k in range(len(matrix))])
        matrix.insert(1, "Entrez_Gene_Id", "")
        matrix.to_csv(folder / _FILES[kind][0], sep="\t", index=False, float_format=form)


def _complete(file: Path) -> str | None:
    """Nobody publishes checksums of the study, whose archive changes between releases: reading checks the contents."""
    return None if file.stat().st_size else "is empty"


def _files() -> dict[str, Check]:
    """METABRIC's files under the names that are there, or under the newest."""
    root = paths.data()
    places = {kind: [f"{_FOLDERS['metabric']}/{name}" for name in names] for kind, names in _FILES.items()}
    return {next((p for p in p_all if (root / p).is_file()), p_all[0]): _complete for p_all in places.values()}


METABRIC = Download(_files, _get_metabric)
