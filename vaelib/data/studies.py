"""Cohorts of patients, and the reader of their files: the format of the cBioPortal study brca_metabric.

Columns are found by name, because they move between the releases of the study.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from vaelib.data.downloads import DataError

FILES: dict[str, tuple[str, ...]] = {
    "patients": ("data_clinical_patient.txt", "data_bcr_clinical_data_patient.txt"),
    "samples": ("data_clinical_sample.txt", "data_bcr_clinical_data_sample.txt"),
    "rna": ("data_mrna_illumina_microarray.txt", "data_mrna_agilent_microarray.txt", "data_expression.txt"),
    "cna": ("data_cna.txt", "data_CNA.txt"),
}
"""Names that the files have had in the releases of the study, the newest first."""

PATIENTS = (
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
SAMPLES = ("ER_STATUS", "HER2_STATUS", "GRADE", "PR_STATUS", "TUMOR_SIZE", "TUMOR_STAGE")
OUTCOME = ("RFS_STATUS", "RFS_MONTHS")
"""The columns that are read, of the patients' file, the samples' file, and of the outcome, in the patients'."""


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
    files = {kind: _file(folder, kind) for kind in FILES}
    patients = _clinical(files["patients"], ["PATIENT_ID", *PATIENTS, *OUTCOME])
    samples = _clinical(files["samples"], ["PATIENT_ID", "SAMPLE_ID", *SAMPLES])
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
        {"clin": clin[[*PATIENTS, *SAMPLES]], "rna": rna.loc[known], "cna": cna.loc[known]},
        status.loc[known].eq("1").astype(bool),
        months.loc[known],
        clin["CLAUDIN_SUBTYPE"].fillna("unknown"),
    )


def _file(folder: Path, kind: str) -> Path:
    for name in FILES[kind]:
        if (folder / name).is_file():
            return folder / name
    raise DataError(f"{folder} has no {kind} file; it has to hold one of {', '.join(FILES[kind])}.")


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
