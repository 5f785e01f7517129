"""Cohorts of patients, and the reader of their files: the format of the cBioPortal study brca_metabric.

Columns are found by name, because they move between the releases of the study.
"""

import csv
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from vaelib.data.downloads import reason
from vaelib.errors import DataError

FILES: dict[str, tuple[str, ...]] = {
    "patients": ("data_clinical_patient.txt", "data_bcr_clinical_data_patient.txt"),
    "samples": ("data_clinical_sample.txt", "data_bcr_clinical_data_sample.txt"),
    "rna": ("data_mrna_illumina_microarray.txt", "data_mrna_agilent_microarray.txt", "data_expression.txt"),
    "cna": ("data_cna.txt", "data_CNA.txt"),
}
"""Names that the files have had in the releases of the study, the newest first."""

PATIENTS = (
    "LYMPH_NODES_EXAMINED_POSITIVE", "NPI", "CELLULARITY", "CHEMOTHERAPY", "ER_IHC", "HER2_SNP6", "HORMONE_THERAPY",
    "INFERRED_MENOPAUSAL_STATE", "INTCLUST", "AGE_AT_DIAGNOSIS", "CLAUDIN_SUBTYPE", "THREEGENE", "LATERALITY",
    "RADIO_THERAPY", "HISTOLOGICAL_SUBTYPE", "BREAST_SURGERY",
)  # fmt: skip
SAMPLES = ("ER_STATUS", "HER2_STATUS", "GRADE", "PR_STATUS", "TUMOR_SIZE", "TUMOR_STAGE")
OUTCOME = ("RFS_STATUS", "RFS_MONTHS")
COLUMNS = {"patients": ("PATIENT_ID", *PATIENTS, *OUTCOME), "samples": ("PATIENT_ID", "SAMPLE_ID", *SAMPLES)}
"""The columns that are read of the two clinical files; the outcome is in the patients'."""

NUMBERS = ("LYMPH_NODES_EXAMINED_POSITIVE", "NPI", "AGE_AT_DIAGNOSIS", "TUMOR_SIZE", "RFS_MONTHS")
"""Those of them that hold numbers; the others are categories, however they are written."""


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
        When a file or column is missing, a line is cut off, a patient has two samples or two have one, a value is not
        what it should be, or nobody is left.
    """
    files = study_files(folder)
    patients, samples = (_clinical(files[kind], columns) for kind, columns in COLUMNS.items())
    clin = patients.merge(samples, on="PATIENT_ID").set_index("SAMPLE_ID")
    rna, cna = _matrix(files["rna"], clin.index), _matrix(files["cna"], clin.index)
    if np.isinf(rna.to_numpy()).any():
        raise DataError(f"{files['rna']} holds an infinite value; allowed are numbers that fit into 32 bits and NA.")
    calls = np.unique(cna.to_numpy())
    if wrong := set(calls[~np.isnan(calls)]) - {-2, -1, 0, 1, 2}:
        raise DataError(f"{files['cna']} holds the call {min(wrong):g}; allowed are -2, -1, 0, 1, 2 and NA.")
    status = clin["RFS_STATUS"].astype("string").str.extract(r"^([01])(?::|$)")[0]
    unknown = clin["RFS_STATUS"].notna() & status.isna()
    if unknown.any():
        value = clin["RFS_STATUS"][unknown].iloc[0]
        raise DataError(f"{files['patients']}: RFS_STATUS {value!r} is unknown; allowed begin with '0:' or '1:'.")
    known = clin.index[status.notna() & clin["RFS_MONTHS"].ge(0)].intersection(rna.index).intersection(cna.index)
    if known.empty:
        raise DataError(f"{folder} has no patient with all of clinical variables, RNA, CNA and an outcome.")
    clin = clin.loc[known]
    return Cohort(
        name,
        f"{source}: {len(known):,} patients with RNA ({rna.shape[1]:,} genes), CNA ({cna.shape[1]:,} features), "
        f"clinical variables and an outcome",
        {"clin": clin[[*PATIENTS, *SAMPLES]], "rna": rna.loc[known], "cna": cna.loc[known]},
        status.loc[known].eq("1").astype(bool),
        clin["RFS_MONTHS"],
        clin["CLAUDIN_SUBTYPE"].fillna("unknown"),
    )


def study_files(folder: Path) -> dict[str, Path]:
    """The four files of a study, whatever release they come from; :class:`DataError` where one is missing."""
    there = {kind: [folder / name for name in names if (folder / name).is_file()] for kind, names in FILES.items()}
    for kind, found in there.items():
        if not found:
            raise DataError(f"{folder} has no {kind} file; it has to hold one of {', '.join(FILES[kind])}.")
    return {kind: found[0] for kind, found in there.items()}


def _header(file: Path, needed: Sequence[str]) -> tuple[int, list[str]]:
    """How many lines come before the header of a table, and its columns: every line has to have as many.

    Only at the top of a file a # begins a comment.
    """
    before, header = 0, list[str]()
    with file.open("rb") as lines:
        for number, line in enumerate(lines):
            if not line.strip() or (not header and line.startswith(b"#")):
                continue
            if not header:
                before, header = number, line.decode("utf-8-sig", "replace").rstrip("\r\n").split("\t")
            if (width := line.count(b"\t") + 1) != len(header) or not line.endswith(b"\n"):
                needs = f"it has to have {len(header)}, and a line break at its end"
                raise DataError(f"{file}: line {number + 1} is cut off or too long with {width} columns; {needs}.")
    if missing := [column for column in needed if column not in header]:
        raise DataError(f"{file} has no column {', '.join(missing)}; it has {', '.join(header[:40]) or 'none'}.")
    if twice := [column for column, times in Counter(header).items() if times > 1]:
        raise DataError(f"{file} has more than one column {twice[0]}; it has to have one.")
    return before, header


def _clinical(file: Path, columns: Sequence[str]) -> pd.DataFrame:
    """A clinical table: comment lines, a header, one row a patient or sample; numbers where they have to be."""
    before, _ = _header(file, columns)
    try:
        table = pd.read_csv(file, sep="\t", quoting=csv.QUOTE_NONE, skiprows=before, usecols=list(columns), dtype=str)
    except ValueError as error:
        raise DataError(f"{file} cannot be read as a table separated by tabs ({reason(error)}).") from error
    for column in table.columns.intersection(["PATIENT_ID", "SAMPLE_ID"]):
        times = table[column].value_counts()
        if times.max() > 1:
            raise DataError(f"{file}: {column} {times.idxmax()} has {times.max()} rows; each patient has one.")
    for column in table.columns.intersection(NUMBERS):
        numbers = pd.to_numeric(table[column], errors="coerce")
        if (text := table[column][numbers.isna()].dropna()).size:
            raise DataError(f"{file}: {column} holds {text.iloc[0]!r}; allowed are numbers and NA.")
        table[column] = numbers
    return table


def _matrix(file: Path, samples: Iterable[str]) -> pd.DataFrame:
    """A table of features by samples as float32 samples by features: the samples that are named, in their order.

    Read in parts: the RNA of the full study is 700 MB of text.
    """
    wanted = set(samples)
    before, header = _header(file, ["Hugo_Symbol"])
    columns = [column for column in header if column in wanted]
    types = {"Hugo_Symbol": "string", **dict.fromkeys(columns, np.float32)}
    form = {"sep": "\t", "quoting": csv.QUOTE_NONE, "skiprows": before, "usecols": list(types), "dtype": types}
    names, values = [], []
    try:
        for part in pd.read_csv(file, chunksize=1_000, **form):
            names += part["Hugo_Symbol"].fillna("unnamed").tolist()
            values.append(part[columns].to_numpy())
    except ValueError as error:
        raise DataError(f"{file} cannot be read as features by samples ({reason(error)}).") from error
    if not columns or not names:
        raise DataError(f"{file} has {len(names)} features of {len(columns)} known samples; it needs some of both.")
    times = pd.Series(names).groupby(names).cumcount()  # a gene may have more than one probe
    names = [f"{symbol}.{k + 1}" if k else symbol for symbol, k in zip(names, times)]
    return pd.DataFrame(np.concatenate(values).T, index=columns, columns=names)
