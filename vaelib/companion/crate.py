"""A paper's evidence for others to take over: its claims, what was measured of them, figures and runs, as an RO-Crate.

A crate (RO-Crate 1.2) is a zip file with a description in JSON-LD. A claim is a ``Claim``, a record of it a
``ClaimReview`` whose two ratings are the finding and the scale, and each figure the result of a ``CreateAction``.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from importlib import resources
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from rocrate.model.contextentity import ContextEntity
from rocrate.rocrate import ROCrate

from vaelib import __version__, files, paths
from vaelib.companion import check, claims, report
from vaelib.companion.check import Answer, Found
from vaelib.companion.verdicts import RULE
from vaelib.errors import Invalid, UserError
from vaelib.provenance import commit
from vaelib.runs.store import Store

_LICENCES = {"MIT": "https://spdx.org/licenses/MIT"}
_FORMATS = {".json": "application/json", ".csv": "text/csv", ".png": "image/png", ".cff": "application/yaml"}
_SHA256 = {"sha256": "http://schema.org/sha256"}


def write(paper: str, archive: Path, store: Store | None = None) -> tuple[int, int, int]:
    """Write the crate of a paper.

    Parameters
    ----------
    paper
        Its short name: ``avae``.
    archive
        A file whose name ends in ``.zip``; it appears when it is complete.
    store
        Whose runs go along, without weights; the others are named by their keys. By default the usual one.

    Returns
    -------
    tuple of int
        How many claims there are in it, how many records of them, and how many runs whole.

    Raises
    ------
    Invalid
        If there is no such paper, or the archive is called otherwise.
    UserError
        If there is no ``CITATION.cff``, as vaelib was installed without its project.
    """
    if archive.suffix != ".zip":
        raise Invalid("archive", str(archive), "a name that ends in .zip")
    if not (file := paths.project() / "CITATION.cff").exists():
        raise UserError(f"crate: there is no {file}, which names authors and papers")
    citation = yaml.safe_load(cited := file.read_text(encoding="utf-8"))
    papers = {one["abbreviation"]: one for one in citation["references"]}
    if paper not in papers:
        raise Invalid("paper", paper, f"one of {', '.join(papers)}")
    answers = check.answer(check.matching(["*"], paper))
    with TemporaryDirectory() as folder:
        made = _Crate(cited, papers[paper], answers)
        runs = made.runs(store or Store(), Path(folder))
        made.actions()
        for one in answers:
            made.claim(one)
        with files.replacing(archive) as draft:
            made.crate.write_zip(draft)
    return len(answers), sum(len(one.found) for one in answers), runs


class _Crate:
    """A crate in the making; each method adds what it is called after."""

    def __init__(self, cited: str, reference: Mapping[str, Any], answers: Sequence[Answer]):
        citation = yaml.safe_load(cited)
        self.crate = ROCrate(version="1.2")
        self.crate.metadata.extra_terms.update(_SHA256)
        self.answers = answers
        self.found = [found for one in answers for found in one.found]
        licence, words = citation["license"], "Of the software, and of all that it made."
        self.licence = self.entity(_LICENCES[licence], "CreativeWork", name=f"{licence} licence", description=words)
        self.authors = _plain([self.author(one) for one in citation["authors"]])
        self.home = self.text("CITATION.cff", cited, "how to cite the software, and the papers")
        self.software = self.version(__version__, commit(), name="vaelib", description=citation["title"])
        self.paper = self.article(reference)
        root = self.crate.root_dataset
        root["name"] = f"Does it hold? The claims of: {reference['title']}"
        root["description"] = f"{citation['abstract'].strip()} How a verdict is reached: {RULE}"
        root["license"], root["author"], root["publisher"] = self.licence, self.authors, self.authors
        root["about"], root["mentions"] = self.paper, [self.software]
        root["datePublished"] = date.today().isoformat()
        known = json.dumps(check.as_json(answers), indent=1, ensure_ascii=False) + "\n"
        schema = resources.files("vaelib.companion").joinpath("claims.schema.json").read_text(encoding="utf-8")
        self.records = self.text("claims.json", known, "claims, records and verdicts")
        self.text("claims.schema.json", schema, "the JSON Schema of claims, records and verdicts")

    def entity(self, place: str, kind: str, /, **properties: Any) -> ContextEntity:
        """A contextual entity, once; what is empty is left out."""
        described = {"@type": kind} | {key: _plain(value) for key, value in properties.items() if value}
        return self.crate.get(place) or self.crate.add(ContextEntity(self.crate, place, properties=described))

    def author(self, one: Mapping[str, str]) -> ContextEntity:
        """A person or an organisation of CITATION.cff."""
        if "name" in one:
            return self.entity(f"#{one['name'].replace(' ', '-')}", "Organization", name=one["name"])
        given, family = one["given-names"], one["family-names"]
        place = one.get("affiliation", "")
        affiliation = place and self.entity(f"#{place.replace(' ', '-')}", "Organization", name=place)
        identifier, name = f"#{given}-{family}", f"{given} {family}"
        return self.entity(identifier, "Person", name=name, givenName=given, familyName=family, affiliation=affiliation)

    def article(self, reference: Mapping[str, Any]) -> ContextEntity:
        """The paper, as CITATION.cff has it."""
        institution = reference.get("institution", {}).get("name", "")
        return self.entity(
            f"#{reference['abbreviation']}",
            "ScholarlyArticle",
            name=reference["title"],
            author=[self.author(one) for one in reference["authors"]],
            datePublished=str(reference.get("date-released", reference.get("year", ""))),
            identifier=[one["value"] for one in reference.get("identifiers", ())],
            publisher=institution
            and self.entity(f"#{institution.replace(' ', '-')}", "Organization", name=institution),
            genre=reference.get("thesis-type", reference["type"]),
        )

    def version(self, number: str, at: str | None, **properties: Any) -> ContextEntity:
        """The software at a version and a commit."""
        name = f"#vaelib-{number}" + (f"-{at}" if at else "")
        given = {"name": f"vaelib {number}", "softwareVersion": number, "version": at or number} | properties
        return self.entity(
            name, "SoftwareApplication", **given, url=self.home, license=self.licence, author=self.authors
        )

    def file(self, source: Path | StringIO, place: str, content: bytes, name: str) -> Any:
        """A file, with its size and checksum."""
        return self.crate.add_file(
            source,
            place,
            properties={
                "name": Path(place).name,
                "description": name,
                "encodingFormat": _FORMATS.get(Path(place).suffix, "application/gzip"),
                "contentSize": str(len(content)),
                "sha256": hashlib.sha256(content).hexdigest(),
            },
        )

    def text(self, place: str, text: str, name: str) -> Any:
        """A file that is made here."""
        return self.file(StringIO(text), place, text.encode(), name)

    def runs(self, store: Store, folder: Path) -> int:
        """All runs by key, and whole those that a store holds."""
        keys = sorted({key for found in self.found for key in found.record.runs})
        here = [key for key in keys if store.get(key)]
        if here:
            store.export(archive := folder / "runs.tar.gz", here, weights=False)
            packed = self.file(archive, archive.name, archive.read_bytes(), f"{len(here)} runs: `vaelib runs import`")
        for key in keys:
            self.run(key, isPartOf=packed if key in here else None)
        return len(here)

    def run(self, key: str, **properties: Any) -> ContextEntity:
        """A trained model with its history, by its key."""
        return self.entity(f"#run-{key}", "CreativeWork", name=f"run {key[:12]}", identifier=key, **properties)

    def actions(self) -> None:
        """For each figure its files, and how they were made."""
        pictures = {picture: found.folder for found in self.found for picture in found.pictures}
        notes = {
            folder.parent / figure["path"]: figure["note"]
            for folder in dict.fromkeys(pictures.values())
            for figure in report.shown(folder)
        }
        for picture in sorted(pictures):
            note, place = notes[picture], picture.relative_to(paths.figures()).with_suffix("")
            parts = [picture.with_suffix(ending) for ending in (".png", ".csv", ".json")]
            made = [
                self.file(
                    part, f"figures/{place}{part.suffix}", part.read_bytes(), f"{note['caption']} ({part.suffix[1:]})"
                )
                for part in parts
                if part.exists()
            ]
            action = self.entity(
                f"#made/{place.as_posix()}",
                "CreateAction",
                name=f"Draw {place.name}",
                description=". ".join(filter(None, [note["caption"], note["setting"]])),
                instrument=self.version(note["vaelib"], note.get("commit")),
                object=[self.run(key) for key in note["runs"]],
                result=made,
                agent=self.authors,
            )
            self.crate.root_dataset.append_to("mentions", action)

    def claim(self, one: Answer) -> None:
        """A claim, and a review for each record of it."""
        claim = one.claim
        stated = self.entity(
            f"#{claim.id}",
            "Claim",
            name=claim.says,
            text=f"{claim.says}: {claim.stated}",
            identifier=claim.id,
            appearance=self.paper,
            description=". ".join(filter(None, [claim.where, claims.setting_in_words(claim), claim.missing])),
        )
        self.crate.root_dataset.append_to("mentions", stated)
        for number, found in enumerate(one.found, start=1):
            self.review(stated, found, f"#review/{claim.id}/{number}")

    def review(self, stated: ContextEntity, found: Found, name: str) -> None:
        """What was found of a claim, and at which scale."""
        row = claims.verdict_table([found.record], digits=3).iloc[0]
        verdict, place = found.verdict, found.folder.relative_to(paths.figures()).as_posix()
        made = self._shown(found.pictures)
        review = self.entity(
            name,
            "ClaimReview",
            name=f"{verdict.finding} ({verdict.scaled or 'theory'}), by {place}",
            claimReviewed=stated["text"],
            itemReviewed=stated,
            author=self.authors,
            reviewBody=f"measured: {row['measured']}, on {row['on']}",
            reviewRating=[
                self.rating(f"{name}/finding", "finding", verdict.finding, verdict.reason),
                self.rating(f"{name}/scale", "scale", verdict.scale, ", ".join(verdict.differences)),
            ],
            isBasedOn=[self.records, *made, *(self.run(key) for key in found.record.runs)],
        )
        self.crate.root_dataset.append_to("mentions", review)

    def rating(self, name: str, aspect: str, value: str, why: str) -> ContextEntity:
        """One axis of a verdict."""
        return self.entity(name, "Rating", name=value, reviewAspect=aspect, ratingValue=value, ratingExplanation=why)

    def _shown(self, pictures: Iterable[Path]) -> list[Any]:
        return [self.crate.get(f"figures/{p.relative_to(paths.figures()).as_posix()}") for p in pictures]


def _plain(value: Any) -> Any:
    """A list of one as that one."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value
