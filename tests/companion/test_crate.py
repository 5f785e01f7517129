"""An RO-Crate holds what it lists, defines what it names, and has what the specification asks for (RO-Crate 1.2)."""

import hashlib
import json
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from rocrate.rocrate import ROCrate

from vaelib import Study
from vaelib.cli import main
from vaelib.companion import check, crate, statements
from vaelib.companion.claims import Ledger
from vaelib.errors import Invalid
from vaelib.runs.experiment import Experiment

ROOT = Path(__file__).parents[2]
PAPERS = [one["abbreviation"] for one in yaml.safe_load((ROOT / "CITATION.cff").read_text())["references"]]


@pytest.fixture(scope="module", params=PAPERS)
def unpacked(request, tmp_path_factory):
    """The crate of what is committed of a paper, as a folder, without runs."""
    folder = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VAELIB_FIGURES", str(ROOT / "figures"))
        patch.setenv("VAELIB_RUNS", str(folder / "runs"))
        crate.write(request.param, folder / "crate.zip")
    with zipfile.ZipFile(folder / "crate.zip") as archive:
        archive.extractall(folder / "crate")
    return request.param, folder / "crate"


@pytest.fixture
def graph(unpacked):
    """Its entities by their ids."""
    entities = json.loads((unpacked[1] / "ro-crate-metadata.json").read_text(encoding="utf-8"))["@graph"]
    assert len({one["@id"] for one in entities}) == len(entities)
    return {one["@id"]: one for one in entities}


def of(graph, kind):
    return [one for one in graph.values() if one["@type"] == kind]


def listed(value):
    return value if isinstance(value, list) else [value]


def test_every_file_is_there_as_it_was_and_none_besides(unpacked, graph):
    folder = unpacked[1]
    names = {one["@id"] for one in of(graph, "File")}
    there = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    assert names == there - {"ro-crate-metadata.json"}
    for one in of(graph, "File"):
        content = (folder / one["@id"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == one["sha256"]
        assert len(content) == int(one["contentSize"])
        if one["@id"].startswith("figures/"):
            assert content == (ROOT / one["@id"]).read_bytes()
    assert {one["@id"] for one in graph["./"]["hasPart"]} == names


def test_every_entity_that_is_named_is_described(graph):
    named = [
        value["@id"]
        for one in graph.values()
        for values in one.values()
        for value in listed(values)
        if isinstance(value, dict)
    ]
    assert {*named} - graph.keys() == {"https://w3id.org/ro/crate/1.2"}
    assert all(one["@type"] and one["@id"] for one in graph.values())


def test_the_root_has_what_the_specification_asks_for(graph):
    descriptor, root = graph["ro-crate-metadata.json"], graph["./"]
    assert descriptor["about"] == {"@id": "./"}
    assert descriptor["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.2"}
    assert root["@type"] == "Dataset"
    for name in ("name", "description", "datePublished", "license", "author", "publisher"):
        assert root[name], name
    assert all(one["url"] and one["version"] for one in of(graph, "SoftwareApplication"))
    assert all(one["name"] for one in graph.values() if one["@id"] not in ("ro-crate-metadata.json",))


def test_claims_and_reviews_say_what_the_ledger_says(unpacked, graph, monkeypatch):
    monkeypatch.setenv("VAELIB_FIGURES", str(ROOT / "figures"))
    paper, folder = unpacked
    answers = check.answer(check.matching(["*"], paper))
    assert json.loads((folder / "claims.json").read_text(encoding="utf-8")) == json.loads(
        json.dumps(check.as_json(answers))
    )
    assert {one["identifier"] for one in of(graph, "Claim")} == {one.claim.id for one in answers}
    for one in answers:
        stated = graph[f"#{one.claim.id}"]
        assert graph[stated["appearance"]["@id"]]["@type"] == "ScholarlyArticle"
        reviews = [review for review in of(graph, "ClaimReview") if review["itemReviewed"] == {"@id": stated["@id"]}]
        rated = [
            {graph[r["@id"]]["reviewAspect"]: graph[r["@id"]]["ratingValue"] for r in v["reviewRating"]}
            for v in reviews
        ]
        assert rated == [{"finding": f.verdict.finding, "scale": f.verdict.scale} for f in one.found]
        for review, found in zip(reviews, one.found):
            based = {value["@id"] for value in listed(review["isBasedOn"])}
            assert {f"#run-{key}" for key in found.record.runs} <= based


def test_a_figure_is_made_by_an_action_from_its_runs(graph):
    actions = of(graph, "CreateAction")
    made = {value["@id"] for one in actions for value in listed(one["result"])}
    assert made == {one["@id"] for one in of(graph, "File") if one["@id"].startswith("figures/")}
    for one in actions:
        picture = one["@id"].removeprefix("#made/")
        note = json.loads((ROOT / "figures" / f"{picture}.json").read_text(encoding="utf-8"))
        assert {graph[value["@id"]]["identifier"] for value in listed(one.get("object", []))} == {*note["runs"]}
        software = graph[one["instrument"]["@id"]]
        assert (software["softwareVersion"], software["version"]) == (note["vaelib"], note["commit"])


def test_rocrate_reads_it_back(unpacked, graph):
    read = ROCrate(unpacked[1])
    assert {entity.id for entity in read.get_entities()} == graph.keys()
    reference = next(
        one
        for one in yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["references"]
        if one["abbreviation"] == unpacked[0]
    )
    assert read.root_dataset["about"]["name"] == reference["title"]


def test_runs_that_the_store_holds_go_along_and_the_others_are_named(tiny, store, tmp_path):
    results = Study({0: Experiment(data=tiny, network="mlp", epochs=1)}).run(store=store)
    (key,) = results.run_keys
    Ledger(tmp_path / "figures" / "quick" / "02_test").record("avae/t3/mnist/js", [0.1], runs=[key, "f" * 64])
    assert crate.write("avae", tmp_path / "a.zip", store)[1:] == (1, 1)
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        graph = {one["@id"]: one for one in json.loads(archive.read("ro-crate-metadata.json"))["@graph"]}
        archive.extract("runs.tar.gz", tmp_path)
    with tarfile.open(tmp_path / "runs.tar.gz") as runs:
        assert runs.getnames() == [f"{key}.zip"]
    assert graph[f"#run-{key}"]["isPartOf"] == {"@id": "runs.tar.gz"}
    assert "isPartOf" not in graph[f"#run-{'f' * 64}"]


def test_what_has_no_crate_is_one_sentence(tmp_path):
    with pytest.raises(Invalid, match="paper: 'theory' is not allowed; it has to be one of thesis, avae"):
        crate.write("theory", tmp_path / "a.zip")
    with pytest.raises(Invalid, match=r"a name that ends in \.zip"):
        crate.write("avae", tmp_path / "a.tar")


def test_the_command_says_what_it_wrote(tmp_path):
    result = CliRunner().invoke(main, ["crate", "mivae", str(tmp_path / "a.zip")])
    claims = sum(statements.get(name).paper == "mivae" for name in statements.ids())
    assert result.output.startswith(f"{claims} claims, 0 records and 0 runs in ")
