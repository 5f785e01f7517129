import json
import os
import re

import pytest
from click.testing import CliRunner

from vaelib import Experiment, Store, Study, paths
from vaelib.cli import main
from vaelib.companion import notebooks, plan, processes
from vaelib.companion.plan import Planned
from vaelib.errors import Invalid
from vaelib.measures import Errors, Samples
from vaelib.runs import Job, execution, schedule

IMPORTS = "from vaelib import Adam, Experiment, Study\nfrom vaelib.measures import Errors, Samples"
PARAMETERS = 'dataset: str = "TINY"  # which\nseeds: list = [0, 1]  # of the runs\nprofile: str = "quick"  # where'
BASE = 'base = Experiment(data=dataset, network={"kind": "mlp", "units": [8]}, latent={"kind": "gaussian", "size": 2})'
STUDY = (
    f'{BASE}\nbase = base.replace(epochs=1)\nfirst = Study({{s: base.replace(seed=s) for s in seeds}}, names=["seed"])'
)
BETTER = """best = int(first.stored().final.sort_values("test_loss")["seed"].iloc[0])
second = Study({best: base.replace(seed=best + 10)}, names=["seed"])"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty project."""
    (tmp_path / "notebooks" / "profiles").mkdir(parents=True)
    (tmp_path / "notebooks" / "profiles" / "quick.yaml").write_text("{}\n")
    monkeypatch.setattr(paths, "project", lambda: tmp_path)
    return tmp_path


@pytest.fixture
def notebook(project, tiny):
    """Write a notebook of cells, each a tag and its source, after those of the parameters and the imports."""

    def write(stem, *cells, dataset=tiny):
        tagged = [("parameters", PARAMETERS.replace("TINY", dataset)), ("imports", IMPORTS), *cells]
        content = {
            "nbformat": 4,
            "nbformat_minor": 5,
            "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
            "cells": [
                {
                    "cell_type": "code" if tag != "text" else "markdown",
                    "id": f"c{number}",
                    "metadata": {"tags": [tag]} if tag not in ("", "text") else {},
                    "source": source.splitlines(keepends=True),
                    **({"outputs": [], "execution_count": None} if tag != "text" else {}),
                }
                for number, (tag, source) in enumerate(tagged)
            ],
        }
        file = project / "notebooks" / f"{stem}.ipynb"
        file.write_text(json.dumps(content))
        return file

    return write


def call(*arguments):
    return CliRunner().invoke(main, ["train", *arguments])


def study(*seeds, observe=(), **changes):
    return Study({s: Experiment(seed=s, **changes) for s in seeds}, names=["seed"], observe=observe)


def seeds(jobs):
    return [job.experiment.seed for job in jobs]


# Planning


def test_what_there_are_runs_for_is_drawn_with_its_whole_seeds(notebook, monkeypatch):
    """Less than a whole profile could be drawn by training the rest only, for weeks."""
    objective = '{"kind": "bound", "weight": w}'
    each = f"{{(w, s): base.replace(objective={objective}, seed=s) for w in weights for s in seeds}}"
    more = f'second = Study({each}, names=["weight", "seed"])'
    notebook("01_a", ("parameters", "weights: list = [2.0]"), ("study", f"{STUDY}\n{more}"))
    profile = paths.project() / "notebooks" / "profiles" / "quick.yaml"
    profile.write_text("optional: {01_a: {weights: []}}\n")
    work, drawn = notebooks.work("quick"), []
    monkeypatch.setattr(processes, "prepare", lambda: None)
    monkeypatch.setattr(notebooks, "run_all", lambda work, *_: (one for one in work if drawn.append(one)))

    def draw():
        drawn.clear()
        return CliRunner().invoke(main, ["figures", "--stored"])

    result = draw()
    assert result.exit_code == 1
    assert result.stdout == "01_a is left out (4 of 4 runs are not in the store)\n"
    assert re.match("Error: stored: the store, .*, has no notebook's runs whole\n", result.stderr)
    assert call("-p", "seeds", "[0]", "-p", "weights", "[]").exit_code == 0
    assert draw().stdout.startswith("01_a: no weights, 1 of 2 seeds (3 of 4 runs are not in the store)\nrunning 1 ")
    assert [one.parameters for one in drawn] == [{"profile": "quick", "seeds": [0], "weights": []}]
    assert call("-p", "weights", "[]").exit_code == 0
    assert draw().stdout.startswith("01_a: no weights (2 of 4 runs are not in the store)\n")
    assert call().exit_code == 0
    assert draw().stdout.startswith("running 1 ")
    assert drawn == work


def test_only_what_defines_studies_is_executed(notebook):
    file = notebook(
        "01_a", ("text", "raise"), ("", "raise SystemExit"), ("study", STUDY), ("figure", "raise SystemExit")
    )
    found = plan.planned("a", file, {"seeds": [3, 4, 5]})
    assert (found.name, found.waits, found.fails) == ("a", None, None)
    assert [*found.studies] == ["first"]
    assert seeds(found.studies["first"].jobs) == [3, 4, 5], "a given parameter comes in the place of the cell's"
    assert len(plan.planned("a", file, {}).studies["first"]) == 2


def test_what_cannot_be_planned_is_said_and_the_rest_is_planned(notebook, tmp_path):
    lost = f"images = data.load('npz:{tmp_path}/lost.npz')\nshape = images.shape"
    after = "more = Study({0: base.replace(seed=shape[0])})"
    cells = ("study", STUDY), ("study", f"from vaelib import data\n{lost}"), ("study", after)
    found = plan.planned("a", notebook("01_a", *cells), {})
    assert re.search(r"lost\.npz does not exist", found.fails)
    assert [*found.studies] == ["first"]
    with pytest.raises(NameError, match="shape"):  # without a reason it is a defect of the notebook
        plan.planned("a", notebook("01_a", ("study", STUDY), ("study", after)), {})


def test_a_study_made_of_results_waits_for_them_and_is_trained_then(notebook, capsys):
    work = [("01_a", notebook("01_a", ("study", STUDY), ("study", BETTER), ("study", "third = second")), {})]
    (before,) = plan.collect(work)
    assert [*before.studies] == ["first"]
    assert before.waits.startswith("2 of 2 runs are not in")
    (after,) = plan.train(work, ["01_a.second"], workers=1)
    assert after.waits is None
    assert [*after.studies] == ["first", "second", "third"]
    assert all(Store().get(job.experiment.key) for job in after.studies["second"].jobs)
    said = capsys.readouterr().out
    assert re.findall(r"runs: .*", said) == [
        "runs: 0 found in the store, 2 to run (2 new)",
        "runs: 2 found in the store, 1 to run (1 new)",
    ]


def test_training_ends_though_a_study_waits_for_what_nobody_trains(notebook):
    never = "other = Study({0: base.replace(seed=99)}).stored()"
    work = [("01_a", notebook("01_a", ("study", STUDY), ("study", never)), {})]
    (found,) = plan.train(work, workers=1)
    assert found.waits.startswith("1 of 1 runs are not in")


# Order and union


def test_the_most_valuable_comes_first_and_all_else_as_it_is_planned():
    made = [
        Planned("01_a", {"one": study(0), "two": study(1)}),
        Planned("02_b", {"one": study(2), "two": study(3)}),
        Planned("02_b-2", {"one": study(4)}),
    ]
    assert seeds(plan.ordered(made)) == [0, 1, 2, 3, 4]
    assert seeds(plan.ordered(made, ["02_b-2", "02_b.two", "01_a.two"])) == [4, 3, 1, 0, 2]
    assert seeds(plan.ordered(made, ["02_b"])) == [2, 3, 0, 1, 4]
    assert seeds(plan.ordered(made[:1], ["02_b.two", "01_a.two"])) == [1, 0], "a notebook may be left out"


def test_an_order_that_names_no_study_is_refused():
    with pytest.raises(Invalid, match=r"order: '01_a\.tow' is not allowed; it has to be 01_a\. and one of one, two"):
        plan.ordered([Planned("01_a", {"one": study(0), "two": study(1)})], ["01_a.tow"])
    assert seeds(plan.ordered([Planned("01_a", {"one": study(0)}, waits="for others")], ["01_a.two"])) == [0]
    assert seeds(plan.ordered([Planned("01_a", {"one": study(0)}, fails="no data")], ["01_a.two"])) == [0]


def test_a_run_of_several_studies_is_one_job_with_all_observers():
    made = [
        Planned("01_a", {"one": study(0, 1, observe=[Errors()])}),
        Planned("02_b", {"two": study(1, 2, observe=[Samples(2), Errors()])}),
    ]
    found = plan.ordered(made, ["02_b.two"])
    assert [(job.experiment.seed, {*job.observers}) for job in found] == [
        (1, {Errors(), Samples(2)}),
        (2, {Errors(), Samples(2)}),
        (0, {Errors()}),
    ]
    assert [*found.values()] == [("02_b", "two"), ("02_b", "two"), ("01_a", "one")]


def test_shards_are_disjoint_and_together_everything(monkeypatch):
    """They went by places in the union: as soon as more was planned, a run could be in no shard at all."""
    made, done = [Planned("01_a", {"one": study(*range(20))})], list[list[Job]]()
    monkeypatch.setattr(plan, "collect", lambda work: made)
    monkeypatch.setattr(schedule, "train", lambda jobs, **_: done.append(jobs))
    for i in (1, 2, 3):
        plan.train([("01_a", None, {})], shard=(i, 3))
    assert sorted(seed for jobs in done for seed in seeds(jobs)) == [*range(20)]
    assert all(len(jobs) > 1 for jobs in done)
    made.append(Planned("00_b", {"more": study(*range(20, 31))}))
    plan.train([("00_b", None, {}), ("01_a", None, {})], ["00_b"], shard=(2, 3))
    assert [seed for seed in seeds(done[-1]) if seed < 20] == seeds(done[1]), "whatever else is planned"


# The table, and the command


def test_the_table_counts_each_run_once_and_what_there_is_to_do(tiny, store):
    short = {"data": tiny, "network": "mlp", "epochs": 1}
    both, other = study(0, 1, **short), study(1, 2, **short | {"epochs": 2})
    both.select(seed=0).run(store=store)
    made = [Planned("01_a", {"both": both}), Planned("02_b", {"again": both, "other": other})]
    table = plan.table(made, store=store, workers=2)
    assert table[["runs", "found", "to train", "no data", "images"]].astype(int).values.tolist() == [
        [2, 1, 1, 0, 200],
        [4, 1, 3, 0, 200 + 2 * 400],
        [4, 1, 3, 0, 1000],
    ]
    assert [*table.index] == ["01_a", "02_b", "all"]
    assert table.loc["02_b", "hours"] == pytest.approx(5 * table.loc["01_a", "hours"])
    assert plan.table(made, store=store).loc["all", "hours"] == pytest.approx(2 * table.loc["all", "hours"])


def test_what_is_only_to_be_observed_costs_nothing(tiny, store):
    short = study(0, data=tiny, network="mlp", epochs=1)
    short.run(store=store)
    row = plan.table([Planned("01_a", {"seen": short.observing(Errors())})], store=store).loc["all"]
    assert (row["found"], row["to train"], row["images"], row["hours"]) == (0, 1, 0, 0)


@pytest.fixture
def no_network(monkeypatch):
    monkeypatch.setattr("socket.create_connection", lambda *_: pytest.fail("the network was touched"))


def test_a_dry_run_does_nothing_and_needs_no_data(notebook, no_network, monkeypatch):
    monkeypatch.setattr(execution, "do", lambda *_: pytest.fail("trained"))
    notebook("01_a", ("study", STUDY), ("study", BETTER))
    notebook("02_b", ("study", STUDY), dataset="mnist")
    result = call("--dry-run")
    assert result.exit_code == 0, result.output
    rows = {line.split()[0]: line.split()[1:5] for line in result.output.splitlines()[1:4]}
    assert rows == {"01_a": ["2", "0", "2", "0"], "02_b": ["2", "0", "2", "2"], "all": ["4", "0", "4", "2"]}
    assert "nan" not in result.output.lower()
    assert "01_a: more is planned once other runs are there (2 of 2 runs are not in" in result.output
    assert Store().entries() == []


def test_a_dry_run_fetches_nothing_that_a_study_looks_at(notebook, no_network):
    """It fetched what a cell loads."""
    notebook("01_a", ("study", STUDY))
    notebook("02_b", ("study", "from vaelib import data\nimages = data.load(dataset)"), dataset="mnist")
    result = call("--dry-run")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[1].split()[:5] == ["01_a", "2", "0", "2", "0"]
    said = "Error: not everything can be planned; 02_b: mnist is not here, and is fetched by vaelib data fetch mnist.\n"
    assert result.stderr == said


def test_training_goes_on_beside_what_cannot_be_planned(notebook, tmp_path):
    notebook("01_a", ("study", STUDY))
    notebook("02_b", ("study", "from vaelib import data\ndata.load(dataset)"), dataset=f"npz:{tmp_path}/lost.npz")
    result = call("--workers", "1")
    assert result.exit_code == 1
    assert len(Store().entries()) == 2
    assert re.fullmatch(r"Error: not everything can be planned; 02_b: .*lost\.npz does not exist.*\n", result.stderr)


def test_parameters_are_those_of_the_profile_and_the_command(notebook, project):
    notebook("01_a", ("study", STUDY))
    profile = project / "notebooks" / "profiles" / "twice.yaml"
    profile.write_text("order: [01_a-2]\n01_a:\n  - seeds: [0]\n  - seeds: [0, 1, 2]\n")
    result = call("--profile", "twice", "--dry-run")
    assert [line.split()[:2] for line in result.output.splitlines()[1:]] == [
        ["01_a", "1"],
        ["01_a-2", "3"],
        ["all", "3"],
    ]
    result = call("--dry-run", "-p", "seeds", "[5, 6, 7, 8]")
    assert result.output.splitlines()[1].split()[:2] == ["01_a", "4"]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--profile", "papers"), 1, "profile: 'papers' is not allowed; it has to be one of quick"),
        (("--only", "07"), 1, "only: '07' is not allowed; it has to be the beginning of 01_a"),
        (("-p", "seedz", "[1]"), 1, "parameter: 'seedz' is not allowed"),
        (("-p", "seeds", "1"), 1, "01_a.seeds: '1' is not allowed; it has to be of type list"),
        *(
            (("--shard", shard), 1, f"shard: {shard!r} is not allowed; it has to be I/N with 1 <= I <= N, such as 2/8")
            for shard in ("3/2", "0/2", "1", "1/0", "-1/2", "1.5/2", "one/two", "²/3", "")
        ),
        (
            ("--device", "gpu"),
            1,
            "device: 'gpu' is not allowed; it has to be one that torch finds here: cpu, or perhaps",
        ),
        (("--device", "cuda:99"), 1, "device: 'cuda:99' is not allowed"),
        (("--max-hours", "0"), 2, "Invalid value for '--max-hours': 0.0 is not in the range x>0"),
        (("--max-hours", "-1"), 2, "Invalid value for '--max-hours'"),
        (("--workers", "0"), 2, "Invalid value for '--workers': 0 is not in the range x>=1"),
        (("--workers", "many"), 2, "Invalid value for '--workers': 'many' is not a valid integer"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_trained(notebook, arguments, code, says, monkeypatch):
    monkeypatch.setattr(execution, "do", lambda *_: pytest.fail("trained"))
    notebook("01_a", ("study", STUDY))
    result = call(*arguments)
    assert result.exit_code == code
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1
    assert says in errors[0]
    assert result.stderr.splitlines() == errors or code == 2, "click shows the usage as well"


def test_an_order_with_a_mistake_is_said(notebook, project):
    notebook("01_a", ("study", STUDY))
    (project / "notebooks" / "profiles" / "quick.yaml").write_text("order: [01_a.thrid]\n")
    result = call()
    assert result.exit_code == 1
    assert result.stderr == "Error: order: '01_a.thrid' is not allowed; it has to be 01_a. and one of first\n"


def test_it_can_leave_the_machine_to_others(notebook, monkeypatch):
    nice = list[int]()
    monkeypatch.setattr(os, "nice", nice.append)
    notebook("01_a", ("study", STUDY))
    assert call("--dry-run", "--nice").exit_code == 0
    assert nice == [19]


def test_time_that_is_up_is_one_sentence(notebook, monkeypatch):
    notebook("01_a", ("study", STUDY))
    result = call("--max-hours", "1e-9", "--workers", "1")
    assert result.exit_code == 130
    said = "stopped: the time was up with 2 of 2 runs still to be finished; the same command goes on from there\n"
    assert result.stderr == said


def test_a_loss_that_is_not_finite_is_one_sentence(notebook):
    """It was a traceback."""
    broken = STUDY + "\nbase = base.replace(optimiser=Adam(1e30), seed=7)\nbroken = Study({0: base})"
    notebook("01_a", ("study", broken))
    result = call("--workers", "1")
    assert result.exit_code == 1, result.exception
    assert re.fullmatch(r"Error: 1 of 3 runs failed, such as \w{12}: .* is (nan|inf) in epoch 1.*\n", result.stderr)
    assert len(Store().entries()) == 2


def test_a_project_without_notebooks_is_said(project):
    result = call()
    assert result.exit_code == 1
    assert result.stderr == f"Error: notebooks: there are none in {project}/notebooks\n"
