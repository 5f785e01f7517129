import io
import re
import shutil
import tarfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import numpy as np
import pandas as pd
import pytest
import torch

from vaelib import data, paths
from vaelib.data import DataError, cohorts, load
from vaelib.data.downloads import resumed
from vaelib.data.simulated import simulate
from vaelib.data.studies import Cohort, read_study
from vaelib.errors import Invalid


@pytest.fixture
def study(tmp_path):
    """A study of 60 simulated patients in a folder."""
    simulate(tmp_path / "study", patients=60, genes=12, features=9)
    return tmp_path / "study"


def read(folder):
    return read_study(folder, "study", "a study")


def edit(file, change):
    """Rewrite a clinical table below its comment lines."""
    comments = [line for line in file.read_text().splitlines(keepends=True) if line.startswith("#")]
    table = change(pd.read_csv(file, sep="\t", comment="#"))
    file.write_text("".join(comments) + table.to_csv(sep="\t", index=False))


def test_a_study_is_read(study):
    patients = read(study)
    assert {name: table.shape for name, table in patients.modalities.items()} == {
        "clin": (60, 22), "rna": (60, 12), "cna": (60, 9)
    }  # fmt: skip
    assert all((table.index == patients.relapsed.index).all() for table in patients.modalities.values())
    assert patients.relapsed.dtype == bool
    assert 0.2 < patients.relapsed.mean() < 0.8
    assert "60 patients" in patients.source


def test_values_come_back_as_they_were_written(study):
    patients = read(study)
    text = (study / "data_mrna_illumina_microarray.txt").read_text().splitlines()
    header, third = text[0].split("\t"), text[3].split("\t")
    sample = header[7]
    assert patients.modalities["rna"].loc[sample, third[0]] == pytest.approx(float(third[7]), abs=1e-5)


@pytest.mark.parametrize(
    ("new", "old"),
    [
        ("data_mrna_illumina_microarray.txt", "data_expression.txt"),
        ("data_mrna_illumina_microarray.txt", "data_mrna_agilent_microarray.txt"),
        ("data_cna.txt", "data_CNA.txt"),
    ],
)
def test_older_releases_have_other_names(study, new, old):
    (study / new).rename(study / old)
    assert len(read(study)) == 60


def test_columns_may_move_and_come_on_top(study):
    edit(study / "data_clinical_patient.txt", lambda t: t[t.columns[::-1]].assign(NEW="x"))
    file = study / "data_mrna_illumina_microarray.txt"
    table = pd.read_csv(file, sep="\t")
    table[["Entrez_Gene_Id", *table.columns[:1:-1], "Hugo_Symbol"]].to_csv(file, sep="\t", index=False)
    assert len(read(study)) == 60


def test_patients_without_a_modality_or_an_outcome_are_left_out(study):
    file = study / "data_cna.txt"
    pd.read_csv(file, sep="\t").drop(columns=["SIM-0003"]).to_csv(file, sep="\t", index=False)

    def forget(table):
        table.loc[5, "RFS_STATUS"] = None
        table.loc[6, "RFS_MONTHS"] = None
        return table

    edit(study / "data_clinical_patient.txt", forget)
    patients = read(study)
    assert len(patients) == 57
    assert not {"SIM-0003", "SIM-0005", "SIM-0006"} & set(patients.relapsed.index)


def test_genes_with_two_probes_keep_both(study):
    file = study / "data_mrna_illumina_microarray.txt"
    table = pd.read_csv(file, sep="\t")
    table["Hugo_Symbol"] = ["TP53", "TP53", None, None, *table["Hugo_Symbol"][4:]]
    table.to_csv(file, sep="\t", index=False)
    assert list(read(study).modalities["rna"].columns[:4]) == ["TP53", "TP53.2", "unnamed", "unnamed.2"]


def _without(column):
    return lambda folder: edit(folder / "data_clinical_patient.txt", lambda t: t.drop(columns=[column]))


def _set(column, value):
    return lambda folder: edit(
        folder / "data_clinical_patient.txt", lambda t: t.assign(**{column: [value, *t[column][1:]]})
    )


def _twice(folder):
    edit(folder / "data_clinical_sample.txt", lambda t: pd.concat([t, t.iloc[[4]]]))


def _call(folder):
    text = (folder / "data_cna.txt").read_text().splitlines()
    text[1] = "\t".join([*text[1].split("\t")[:5], "7", *text[1].split("\t")[6:]])
    (folder / "data_cna.txt").write_text("\n".join(text) + "\n")


def _words(folder):
    text = (folder / "data_cna.txt").read_text().splitlines()
    text[1] = "\t".join([*text[1].split("\t")[:5], "high", *text[1].split("\t")[6:]])
    (folder / "data_cna.txt").write_text("\n".join(text) + "\n")


@pytest.mark.parametrize(
    ("breakage", "sentence"),
    [
        (lambda f: (f / "data_cna.txt").unlink(), "has no cna file; it has to hold one of data_cna.txt, data_CNA.txt"),
        (_without("NPI"), "has no column NPI; it has PATIENT_ID"),
        (_without("RFS_STATUS"), "has no column RFS_STATUS"),
        (_set("RFS_STATUS", "2:Unsure"), "RFS_STATUS '2:Unsure' is unknown; allowed begin with '0:' or '1:'"),
        (_set("PATIENT_ID", "SIM-0001"), "PATIENT_ID SIM-0001 has 2 rows; each patient has one"),
        (_twice, "PATIENT_ID SIM-0004 has 2 rows"),
        (_call, "holds the call 7; allowed are -2, -1, 0, 1, 2 and NA"),
        (_words, "cannot be read as features by samples"),
        (lambda f: (f / "data_cna.txt").write_text("Hugo_Symbol\tA\tB\n"), "0 features of 0 known samples"),
        (lambda f: (f / "data_cna.txt").write_text(""), "has no column Hugo_Symbol; it has none"),
        (lambda f: (f / "data_cna.txt").write_text("Gene\tSIM-0000\nA\t1\n"), "has no column Hugo_Symbol"),
        (
            lambda f: edit(f / "data_clinical_patient.txt", lambda t: t.assign(RFS_STATUS=None)),
            "has no patient with all of clinical variables, RNA, CNA and an outcome",
        ),
    ],
)
def test_a_broken_study_is_refused_in_a_sentence(study, breakage, sentence):
    breakage(study)
    with pytest.raises(DataError) as error:
        read(study)
    assert sentence in str(error.value)
    assert str(study) in str(error.value)


@pytest.mark.parametrize("file", ["data_clinical_patient.txt", "data_clinical_sample.txt", "data_cna.txt"])
@pytest.mark.parametrize(
    "cut",
    [
        lambda lines: [*lines[:-1], lines[-1].rsplit(b"\t", 2)[0] + b"\n"],  # its last line has too few columns
        lambda lines: [*lines[:-1], lines[-1][: len(lines[-1]) // 2]],  # it breaks off in the middle of the last line
        lambda lines: [*lines[:-1], lines[-1][:-1]],  # or so late that nobody could tell from the columns
        lambda lines: [*lines[:-1], lines[-1].replace(b"\n", b"\tmore\n")],
    ],
)
def test_a_cut_off_table_is_refused_by_its_line(study, file, cut):
    """pandas fills what a line lacks with missing values."""
    lines = (study / file).read_bytes().splitlines(keepends=True)
    (study / file).write_bytes(b"".join(cut(lines)))
    with pytest.raises(
        DataError, match=rf"{file}: line {len(lines)} is cut off or too long with \d+ columns; it has to"
    ):
        read(study)


def test_only_at_the_top_does_a_hash_begin_a_comment(study):
    for file in study.iterdir():
        lines = file.read_text().splitlines(keepends=True)
        file.write_text("".join(line if line.startswith("#") else line.replace("SIM-0003", "#3") for line in lines))
    edit_text(study / "data_clinical_patient.txt", "Ductal/NST", "5#3")
    patients = read(study)
    assert len(patients) == 60
    assert "#3" in patients.relapsed.index
    assert (patients.modalities["clin"]["HISTOLOGICAL_SUBTYPE"] == "5#3").sum() > 20


def edit_text(file, old, new):
    file.write_text(file.read_text().replace(old, new))


def test_numbers_for_names_and_quotation_marks_are_taken_as_they_are(study):
    for k, name in ((7, "007"), (8, '"8'), (9, "9")):
        for file in study.iterdir():
            edit_text(file, f"SIM-{k:04}", name)
    assert {"007", '"8', "9"} < set(read(study).relapsed.index)


def test_two_patients_with_one_sample_are_refused(study):
    edit(study / "data_clinical_sample.txt", lambda t: t.assign(SAMPLE_ID=["SIM-0001", *t["SAMPLE_ID"][1:]]))
    with pytest.raises(DataError, match=r"sample.txt: SAMPLE_ID SIM-0001 has 2 rows; each patient has one"):
        read(study)


def test_a_column_that_is_there_twice_is_refused(study):
    edit_text(study / "data_cna.txt", "SIM-0002", "SIM-0001")
    with pytest.raises(DataError, match=r"data_cna.txt has more than one column SIM-0001"):
        read(study)


@pytest.mark.parametrize(
    ("column", "file"),
    [
        ("AGE_AT_DIAGNOSIS", "data_clinical_patient.txt"),
        ("NPI", "data_clinical_patient.txt"),
        ("LYMPH_NODES_EXAMINED_POSITIVE", "data_clinical_patient.txt"),
        ("RFS_MONTHS", "data_clinical_patient.txt"),
        ("TUMOR_SIZE", "data_clinical_sample.txt"),
    ],
)
def test_text_among_numbers_is_refused(study, column, file):
    edit(study / file, lambda t: t.assign(**{column: [*t[column][:-1], "about 3"]}))
    with pytest.raises(DataError, match=rf"{file}: {column} holds 'about 3'; allowed are numbers and NA"):
        read(study)


@pytest.mark.filterwarnings("ignore:overflow")
def test_a_value_beyond_32_bits_is_refused(study):
    text = (study / "data_mrna_illumina_microarray.txt").read_text()
    value = text.splitlines()[1].split("\t")[5]
    edit_text(study / "data_mrna_illumina_microarray.txt", f"\t{value}\t", "\t1e300\t")
    with pytest.raises(DataError, match=r"microarray.txt holds an infinite value"):
        read(study)


def test_a_cohort_too_small_for_folds_is_refused(study):
    shutil.copytree(study, paths.data() / "simulated_cohort")
    edit(paths.data() / "simulated_cohort" / "data_clinical_patient.txt", lambda t: t[:6])
    with pytest.raises(DataError, match=r"simulated_cohort: \d of 6 patients relapsed; folds need 5 of either kind"):
        load("simulated_cohort:clin/0")


@pytest.mark.parametrize("name", ["simulated_cohort", "simulated_cohort:rna/1", "metabric", "metabric:clin/3"])
def test_the_fingerprint_of_a_cohort_is_of_its_files(study, name):
    folder = paths.data() / {"m": "brca_metabric", "s": "simulated_cohort"}[name[0]]
    shutil.copytree(study, folder)
    before, size = data.fingerprint(name), len(load(name).train)
    assert data.fingerprint(name) == before
    edit(folder / "data_clinical_patient.txt", lambda t: t[: len(t) // 2])
    assert data.fingerprint(name) not in (None, before)
    assert len(load(name).train) == size / 2
    shutil.rmtree(folder)
    shutil.copytree(study, folder)
    assert data.fingerprint(name) == before


def test_the_simulated_cohort_is_made_before_its_fingerprint_is_taken():
    before = data.fingerprint("simulated_cohort:rna/0")
    load("simulated_cohort:rna/0")
    assert data.fingerprint("simulated_cohort:rna/0") == before is not None


@pytest.mark.parametrize("name", ["simulated_cohort", "metabric:clin/3"])
def test_verify_reads_a_cohort(study, name):
    folder = paths.data() / {"m": "brca_metabric", "s": "simulated_cohort"}[name[0]]
    shutil.copytree(study, folder)
    assert re.fullmatch(rf"{re.escape(name)}: 48 and 12 samples \(\d+,\) can be read\.", data.verify(name))
    (folder / "data_cna.txt").write_bytes((folder / "data_cna.txt").read_bytes()[:-40])
    with pytest.raises(DataError, match=r"data_cna.txt: line 10 is cut off"):
        data.verify(name)


def test_verify_fetches_no_cohort():
    with pytest.raises(DataError, match=r"brca_metabric/data_clinical_patient.txt is missing"):
        data.verify("metabric")


def test_a_fold_is_a_data_set_with_a_block_for_each_modality():
    fold = load("simulated_cohort:rna+cna/2")
    assert [(b.name, b.size, b.likelihood) for b in fold.blocks] == [
        ("rna", 200, "gaussian"),
        ("cna", 200, "bernoulli"),
    ]
    assert fold.shape == (400,)
    assert set(fold.train[:, 200:].unique().tolist()) <= {0, 0.25, 0.5, 0.75, 1}
    assert (fold.train.min(), fold.train.max()) == (0, 1)
    assert 0 <= fold.test.min() <= fold.test.max() <= 1
    assert "simulated" in fold.source


def test_copy_number_features_without_a_name_can_be_left_out(study):
    """A release has features called cna000 to cna199, which were chosen with the outcome in sight."""
    text = (study / "data_cna.txt").read_text()
    (study / "data_cna.txt").write_text(re.sub(r"^CNA([0-4])\b", r"cna00\1", text, flags=re.M))
    assert cohorts.named(read(study)) == ["CNA5", "CNA6", "CNA7", "CNA8"]
    assert torch.equal(load("simulated_cohort:clin+named/0").train, load("simulated_cohort:clin+cna/0").train)
    with pytest.raises(Invalid, match="with one or more of clin, rna, each once"):
        data.check("gse7390:clin+named/0")


def test_folds_share_out_the_patients_and_their_outcomes():
    patients = data.cohort("simulated_cohort")
    tests = [test for _, test in cohorts.folds(patients)]
    assert sorted(np.concatenate(tests)) == list(range(len(patients)))
    shares = [patients.relapsed.iloc[test].mean() for test in tests]
    assert max(shares) - min(shares) < 0.03
    for k, test in enumerate(tests):
        labels = load(f"simulated_cohort:clin/{k}").test_labels
        assert labels.tolist() == patients.relapsed.iloc[test].astype(int).tolist()


def test_nothing_of_the_test_patients_leaks_into_what_is_fitted(tmp_path, monkeypatch):
    """A gene of huge values, and a category, that only patients of the test fold have."""
    clean = load("simulated_cohort:clin+rna+cna/0")
    patients = data.cohort("simulated_cohort")
    _, test = cohorts.folds(patients)[0]
    planted = {name: table.copy() for name, table in patients.modalities.items()}
    column = planted["rna"].columns[0]
    planted["rna"].iloc[test, 0] = 1e6
    planted["cna"].iloc[test] = 2
    planted["clin"].iloc[test, planted["clin"].columns.get_loc("CELLULARITY")] = "planted"
    changed = Cohort("c", "s", planted, patients.relapsed, patients.months, patients.subtype)
    monkeypatch.setattr(cohorts, "cohort", lambda name: changed)
    monkeypatch.setattr(cohorts, "FEATURES", 150)  # so that features are chosen, too
    leaky = cohorts.fold("simulated_cohort", ["clin", "rna", "cna"], 0)
    monkeypatch.setattr(cohorts, "cohort", lambda name: patients)
    clean = cohorts.fold("simulated_cohort", ["clin", "rna", "cna"], 0)
    assert torch.equal(leaky.train, clean.train)
    assert leaky.blocks == clean.blocks
    assert not torch.equal(leaky.test, clean.test)
    assert column in planted["rna"]


def test_clinical_variables_are_binned_and_missing_ones_are_a_category():
    table = pd.DataFrame({"NPI": [2.0, 3.0, np.nan, 6.0], "ER_STATUS": ["Positive", None, "Negative", "Positive"]})
    binned = cohorts._binned(table)
    assert binned["NPI"].tolist() == ["(-inf, 2.4]", "(2.4, 3.4]", "missing", "(5.4, inf]"]
    assert binned["ER_STATUS"].tolist() == ["Positive", "missing", "Negative", "Positive"]
    coded = cohorts.preprocessing("clin", 2).fit_transform(table)
    assert coded.shape == (4, 7)
    assert (coded.sum(1) == 2).all()


def test_the_patients_that_come_with_scikit_survival():
    patients = data.cohort("gse7390")
    assert len(patients) == 198
    assert patients.relapsed.sum() == 51
    assert [b.size for b in load("gse7390:clin+rna/4").blocks] == [13, 76]


@pytest.mark.parametrize(
    ("name", "modalities"),
    [
        ("simulated_cohort:clin+dna/0", "clin, rna, cna"),
        ("simulated_cohort:clin+clin/0", "clin, rna, cna"),
        ("simulated_cohort:clin/5", "clin, rna, cna"),
        ("metabric:", "clin, rna, cna"),
        ("metabric:/1", "clin, rna, cna"),
        ("metabric:clin/", "clin, rna, cna"),
        ("gse7390:cna/0", "clin, rna"),
    ],
)
def test_a_wrong_fold_is_refused(name, modalities):
    for action in (data.check, load, data.cohort, data.fingerprint, data.verify):
        with pytest.raises(Invalid, match=f"data: '{re.escape(name)}' is not allowed; it has to be ") as error:
            action(name)
        assert str(error.value).endswith(f"/FOLD with one or more of {modalities}, each once, and a FOLD from 0 to 4")
    assert not paths.data().exists()


def test_only_cohorts_have_tables():
    with pytest.raises(Invalid, match="data: 'mnist5k' is not allowed; it has to be metabric"):
        data.cohort("mnist5k")


def test_the_simulated_outcome_follows_its_structure():
    """A Cox model on the expression of genes must see the hazard that was put in."""
    from sksurv.linear_model import CoxPHSurvivalAnalysis
    from sksurv.util import Surv

    patients = data.cohort("simulated_cohort")
    train, test = cohorts.folds(patients)[0]
    x = patients.modalities["rna"].to_numpy() - 8
    y = Surv.from_arrays(patients.relapsed, patients.months)
    assert CoxPHSurvivalAnalysis(alpha=10).fit(x[train], y[train]).score(x[test], y[test]) > 0.6


@pytest.fixture
def server():
    """A server of one file that understands ranges; its `broken` makes it hang up after so many bytes."""

    class Handler(BaseHTTPRequestHandler):
        content, broken, asked = b"", None, []

        def do_GET(self):
            asked = self.headers.get("Range")
            type(self).asked.append(asked)
            start = int(asked.split("=")[1].rstrip("-")) if asked else 0
            if start > len(self.content):
                self.send_error(416)
                return
            self.send_response(206 if asked else 200)
            self.send_header("Content-Length", str(len(self.content) - start))
            self.end_headers()
            self.wfile.write(self.content[start : type(self).broken])

        def log_message(self, *_):
            pass

    served = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=served.serve_forever, daemon=True).start()
    Handler.asked = []
    yield served, Handler
    served.shutdown()


def test_a_broken_download_goes_on_where_it_broke_off(server, tmp_path):
    served, handler = server
    handler.content, handler.broken = bytes(range(256)) * 5000, 600_000
    url = f"http://127.0.0.1:{served.server_port}/file"
    with pytest.raises(Exception, match=r"bytes|broken|Read"):
        resumed(url, tmp_path / "file")
    part = (tmp_path / "file.part").stat().st_size
    assert 0 < part <= 600_000
    handler.broken = None
    assert resumed(url, tmp_path / "file").read_bytes() == handler.content
    assert handler.asked == [None, f"bytes={part}-"]
    assert not (tmp_path / "file.part").exists()


def test_metabric_is_fetched_and_unpacked(server, study, monkeypatch):
    served, handler = server
    cna = study / "data_cna.txt"
    cna.write_bytes(cna.read_bytes().rstrip(b"\n"))  # nobody promised that published tables end in a line break
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        tar.add(study, arcname="brca_metabric")
        tar.addfile(tarfile.TarInfo("brca_metabric/LICENSE"))
    handler.content = archive.getvalue()
    monkeypatch.setattr(cohorts, "URL", f"http://127.0.0.1:{served.server_port}/brca_metabric.tar.gz")
    assert [b.size for b in load("metabric:rna+cna/1").blocks] == [12, 9]
    assert sorted(f.name for f in paths.data().iterdir()) == [".metabric.lock", "brca_metabric"]
    assert len(list((paths.data() / "brca_metabric").iterdir())) == 4
