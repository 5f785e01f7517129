"""The cohorts of patients, and how a fold of one becomes a data set.

METABRIC and the simulated cohort are folders in the format of the cBioPortal study brca_metabric, read by the same
reader; the third cohort comes with scikit-survival. Everything that is fitted to the data (bins, categories, the
choice of features, scales) is fitted on the training patients of a fold.
"""

import re
import tarfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from vaelib import paths
from vaelib.data.dataset import Block, Dataset, Months
from vaelib.data.downloads import Check, Download, fingerprint, resumed
from vaelib.data.simulated import simulate
from vaelib.data.studies import FILES, Cohort, read_study, study_files
from vaelib.errors import DataError
from vaelib.files import lock, replacing

FOLDS = 5
FEATURES = 1_000
"""So many genes, and so many copy-number features, of the highest variance are kept."""

URL = "https://cbioportal-datahub.s3.amazonaws.com/brca_metabric.tar.gz"

LIKELIHOODS = {"clin": "bernoulli", "rna": "gaussian", "cna": "bernoulli", "named": "bernoulli"}
"""What each modality's block is modelled with, in the papers; ``named`` are copy-number calls, see :func:`named`."""


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
    return gse7390() if kind == "gse7390" else _read_once(kind, fingerprint(files(name)))


_STUDIES = {
    "metabric": ("brca_metabric", "METABRIC (Curtis et al., 2012), cBioPortal"),
    "simulated_cohort": ("simulated_cohort", "a simulated cohort"),
}
"""The folder of each study, and where it came from."""


@lru_cache(maxsize=2)
def _read_once(kind: str, held: str) -> Cohort:
    """A study's tables, kept for the next fold for as long as `held`, what the files hold, stays the same."""
    folder, source = _STUDIES[kind]
    return read_study(paths.data() / folder, kind, source)


def files(name: str, **_: Any) -> list[Path]:
    """The files of a study; those of the simulated one are made where there are none.

    Raises
    ------
    DataError
        When one is missing.
    """
    kind = name.partition(":")[0]
    folder = paths.data() / _STUDIES[kind][0]
    if kind == "simulated_cohort" and not folder.exists():
        with lock(folder):
            if not folder.exists():  # another process was faster
                with replacing(folder) as draft:
                    simulate(draft)
    return list(study_files(folder).values())


def folds(patients: Cohort) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Training and test patients of each of five folds, stratified by outcome: always the same."""
    from sklearn.model_selection import StratifiedKFold

    count, relapsed = len(patients), patients.relapsed.sum()
    if not FOLDS <= relapsed <= count - FOLDS:
        raise DataError(f"{patients.name}: {relapsed} of {count} patients relapsed; folds need {FOLDS} of either kind.")
    splitter = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    return list(splitter.split(np.zeros(len(patients)), patients.relapsed))


def preprocessing(modality: str, features: int) -> Any:
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


def named(patients: Cohort) -> list[str]:
    """The copy-number features that are called by a gene's symbol, and not by a number as ``cna007``.

    The release with 231 features has 200 without names, which are taken over from a published model of prognosis and
    were probably chosen with the outcome in sight. In the full study all features have names.
    """
    return [name for name in patients.modalities["cna"] if not re.fullmatch(r"cna\d{3}", name)]


def chosen(argument: str | None, known: tuple[str, ...] = ("clin", "rna", "cna")) -> dict[str, Any]:
    """The modalities and the fold in ``clin+rna/0`` or the like: all and the first where there is no argument.

    Where there is ``cna``, its features with names can be had alone, as ``named``.
    """
    found = re.fullmatch(rf"([a-z+]+)(?:/([0-{FOLDS - 1}]))?", "+".join(known) if argument is None else argument)
    modalities, allowed = found[1].split("+") if found else [], {*known, *(["named"] if "cna" in known else [])}
    if not found or len(allowed.intersection(modalities)) < len(modalities):
        raise ValueError(f"with one or more of {', '.join(known)}, each once, and a FOLD from 0 to {FOLDS - 1}")
    return {"modalities": modalities, "fold": int(found[2] or 0)}


def fold(name: str, modalities: Sequence[str], fold: int) -> Dataset:
    """One fold of a cohort: some of its modalities, and the test is this one of the five folds."""
    patients = cohort(name)
    train, test = folds(patients)[fold]
    blocks, parts = [], []
    for modality in modalities:
        table = patients.modalities["cna"][named(patients)] if modality == "named" else patients.modalities[modality]
        pipeline = preprocessing(modality, table.shape[1])
        pair = pipeline.fit_transform(table.iloc[train]), pipeline.transform(table.iloc[test])
        parts.append(pair)
        blocks.append(Block(modality, pair[0].shape[1], LIKELIHOODS[modality]))
    fitted, held = (torch.from_numpy(np.hstack(side).astype(np.float32)) for side in zip(*parts))
    labels = torch.from_numpy(patients.relapsed.to_numpy(dtype=np.int64))
    months = torch.tensor(patients.months.to_numpy(dtype=np.float64))
    seen = Months(months[train], months[test])
    source = f"{patients.source}; fold {fold} of {FOLDS}"
    return Dataset(name, fitted, held, labels[train], labels[test], None, seen, tuple(blocks), source)


def _get_metabric(folder: Path) -> None:
    """Fetch the study's archive, going on where it broke off, and unpack the files that are read."""
    archive = resumed(URL, paths.data() / "brca_metabric.tar.gz")
    wanted = {name for names in FILES.values() for name in names}
    with tarfile.open(archive) as tar:
        for member in tar:
            if Path(member.name).name in wanted and member.isfile():
                member.name = f"brca_metabric/{Path(member.name).name}"
                tar.extract(member, folder, filter="data")
                with (folder / member.name).open("a") as file:
                    file.write("\n")  # the archive is whole: a last line that does not end is not cut off
    archive.unlink()


def _complete(file: Path) -> str | None:
    """Nobody publishes checksums of the study, whose archive changes between releases: reading checks the contents."""
    return None if file.stat().st_size else "is empty"


def _files() -> dict[str, Check]:
    """METABRIC's files under the names that are there, or under the newest."""
    root, folder = paths.data(), _STUDIES["metabric"][0]
    places = [[f"{folder}/{name}" for name in names] for names in FILES.values()]
    return {next((file for file in files if (root / file).is_file()), files[0]): _complete for files in places}


METABRIC = Download(_files, _get_metabric)
