"""Does a claim hold? What was measured of it at each scale, and what it would take to measure it at the paper's."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import chain
from pathlib import Path
from typing import Any

from vaelib import data, paths
from vaelib.companion import claims, notebooks, plan, report
from vaelib.companion.statements import Claim, Record, counterpart, get, ids, unpadded
from vaelib.companion.verdicts import SCALES, Verdict, judge
from vaelib.errors import Invalid, UserError
from vaelib.runs.execution import Job
from vaelib.runs.schedule import Cost, estimated, train
from vaelib.runs.store import Store

AGREES, DISAGREES, UNDECIDED, CANNOT = range(4)
"""Exit codes."""

_CODES = {
    "agrees": AGREES,
    "proved": AGREES,
    "holds in all trials": AGREES,
    "misprint confirmed": AGREES,
    "disagrees": DISAGREES,
    "refuted": DISAGREES,
    "not a misprint": DISAGREES,
}


def code(verdict: Verdict) -> int:
    """The exit code for a verdict; what is vacuous, or has the same direction only, is undecided."""
    return _CODES.get(verdict.finding, UNDECIDED)


def urgent(codes: Iterable[int]) -> int:
    """Of several claims' codes the one that counts: a disagreement first, then a doubt."""
    return min(codes, key=(DISAGREES, UNDECIDED, CANNOT, AGREES).index)


@dataclass(frozen=True)
class Found:
    """What one run of a notebook recorded of a claim.

    Attributes
    ----------
    folder
        Where: ``figures/<profile>/<notebook>``.
    record, verdict
        What was measured, and what the rule says of it.
    pictures
        The figures that show it.
    """

    folder: Path
    record: Record
    verdict: Verdict
    pictures: tuple[Path, ...]


@dataclass(frozen=True)
class Answer:
    """Everything that is known of a claim, the scale that is nearest to the paper's first."""

    claim: Claim
    found: tuple[Found, ...]

    @property
    def nearest(self) -> list[Verdict]:
        """The verdicts at the scale that is nearest to the paper's."""
        return [f.verdict for f in self.found if f.verdict.scale == self.found[0].verdict.scale]

    @property
    def code(self) -> int:
        """An exit code for the nearest scale; of several records there a disagreement counts first, then a doubt."""
        if not self.found:
            return CANNOT if self.claim.missing or not self.claim.needs else UNDECIDED
        return urgent(code(verdict) for verdict in self.nearest)


def matching(patterns: Iterable[str], paper: str | None = None) -> list[Claim]:
    """The claims whose ids fit one of the patterns (``avae/t3/*``), of one paper if it is named.

    Raises
    ------
    Invalid
        If a pattern fits none; the sentence names ids that are close.
    """
    chosen: dict[str, None] = {}
    for pattern in patterns:
        fitting = [name for name in ids() if fnmatchcase(name, pattern)]
        for name in fitting or [get(pattern).id]:  # which says what is close
            chosen[name] = None
    papers = sorted({name.split("/")[0] for name in ids()})
    if paper is not None and paper not in papers:
        raise Invalid("paper", paper, f"one of {', '.join(papers)}")
    return [claim for claim in map(get, chosen) if paper in (None, claim.paper)]


def search(words: Iterable[str]) -> list[Claim]:
    """The claims that all words occur in: in the id, the statement, its place or its setting."""
    wanted = [word.casefold() for word in words]
    texts = {claim: f"{claim.id} {claim.says} {claim.where} {claim.setting}".casefold() for claim in map(get, ids())}
    return [claim for claim, text in texts.items() if all(word in text for word in wanted)]


def answer(chosen: Sequence[Claim]) -> list[Answer]:
    """What the notebooks have recorded of claims, in the folders of all profiles."""
    wanted = {claim.id for claim in chosen}
    found: dict[str, list[Found]] = {name: [] for name in wanted}
    for folder, records in chain.from_iterable(report.records(profile).items() for profile in report.profiles()):
        figures = report.shown(folder)
        for record in records:
            if record.claim in wanted:
                verdict, pictures = judge(get(record.claim), record), report.pictures(folder, figures, record)
                found[record.claim].append(Found(folder, record, verdict, pictures))
    for known in found.values():
        known.sort(key=lambda f: SCALES.index(f.verdict.scale))
    return [Answer(claim, tuple(found[claim.id])) for claim in chosen]


def own(claim: Claim, measured: Sequence[float]) -> Verdict:
    """The verdict on numbers of somebody's own, one a seed, measured as the paper did.

    Raises
    ------
    Invalid
        If the claim is none of numbers, or has several parts.
    """
    if claim.kind not in ("value", "statement") or claim.parts:
        raise Invalid("claim", claim.id, "one with a printed value, or a single margin, to be judged on your numbers")
    # Whether a skew has converged, say, only their owner can know.
    trusting = claim.model_copy(update={"requires": ()})
    return judge(trusting, Record(claim=claim.id, measured={"": tuple(measured)}, setting=claim.setting))


def told_own(claim: Claim, verdict: Verdict) -> str:
    """The verdict on somebody's own numbers, in a few lines."""
    lines = [f"{claim.id}: {claim.says}", f"  paper: {claim.stated}", f"  {verdict.finding} on your numbers"]
    if claim.requires:
        lines += [f"  if these hold, which is for you to say: {', '.join(claim.requires).replace('_', ' ')}"]
    return "\n".join(lines)


def is_number(text: str) -> bool:
    """Whether a text is a finite number."""
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def outlook(one: Answer) -> str:
    """What it would take to measure a claim at the paper's scale, in a sentence."""
    if not one.claim.needs:
        return "  it is checked without training" if one.found else "  nothing here measures it"
    jobs = needed([one.claim])
    if not jobs:
        return f"  at the paper's scale: notebook {one.claim.needs} trains nothing"
    new = [cost for cost in jobs.values() if not cost.found]
    if not new:
        return f"  at the paper's scale: all {len(jobs)} runs are stored; --run draws them"
    if any(math.isnan(cost.seconds) for cost in new):
        return f"  at the paper's scale: {len(new)} of {len(jobs)} runs are missing, and their data are not here"
    hours = sum(cost.seconds for cost in new) / 3600
    return f"  at the paper's scale: --run trains {len(new)} of {len(jobs)} runs, {hours:.1f} hours of one core"


def run(chosen: Sequence[Claim]) -> None:
    """Train what claims need at the papers' scale, run their notebooks, which record what was measured, and report.

    Raises
    ------
    UserError
        If a notebook fails; the others have run, and what they recorded is in the reports.
    """
    train(list(needed(chosen)))
    stems = sorted({claim.needs.partition(".")[0] for claim in chosen if claim.needs})
    work = notebooks.work("paper", stems) if stems else []
    failed = [outcome for outcome in notebooks.run_all(work, notebooks.copies("paper"), 1) if outcome.error]
    if report.records("paper"):
        report.write("paper")
    if failed:
        said = (f"{one.output.stem} failed in {one.error}; its partial copy is {one.output}" for one in failed)
        raise UserError("; ".join(said))


def needed(chosen: Sequence[Claim], profile: str = "paper") -> dict[Job, Cost]:
    """The runs of a profile that claims are measured on, each once, with what it costs; none for pure theory.

    They are those of the study that the ledger names for a claim, on the data that the claim is about. Each notebook is
    planned once, however many claims it measures.
    """
    wanted = [
        (notebook, study, claim) for claim in chosen for notebook, _, study in [claim.needs.partition(".")] if study
    ]
    with data.offline():
        plans = {
            notebook: plan.collect(notebooks.work(profile, [notebook]))
            for notebook in dict.fromkeys(notebook for notebook, _, _ in wanted)
        }
        about = {
            job: None
            for notebook, study, claim in wanted
            for one in plans[notebook]
            if study in one.studies
            for job in one.studies[study].jobs
            if not claim.setting.data or _stands_for(job.experiment.data) in claim.setting.data
        }
        costs = estimated(list(about), Store())
    return {job: costs[job.experiment] for job in about}


def _stands_for(name: str) -> str:
    """The papers' data set, whatever part of it is meant: ``metabric`` for ``metabric:clin+rna/0``."""
    return counterpart(unpadded(name).partition(":")[0])


def told(one: Answer) -> str:
    """An answer in a few lines for a terminal."""
    claim = one.claim
    lines = [f"{claim.id}: {claim.says}"]
    said = ", ".join(filter(None, [claim.where, claims.setting_in_words(claim)]))
    lines += [f"  paper: {claim.stated}" + (f" ({said})" if said else "")]
    if claim.missing and not one.found:
        lines += [f"  not measured: {claim.missing}"]
    for f in one.found:
        row = claims.verdict_table([f.record], digits=3).iloc[0]
        about = f" ({f.record.variant})" if f.record.variant else ""
        lines += [f"  {row['finding']}{about}; {row['scale']}" if row["scale"] != "—" else f"  {row['finding']}{about}"]
        lines += [f"    measured: {row['measured']}, on {row['on']}"]
        lines += [f"    robust: {row['robust']}"] if row["robust"] != "—" else []
        place = f.folder.relative_to(paths.figures())
        runs = f", {len(f.record.runs)} runs: {f.record.runs[0][:12]} …" if f.record.runs else ""
        lines += [f"    from: {place}{runs}", *(f"    figure: {picture}" for picture in f.pictures)]
    return "\n".join(lines)


def as_json(answers: Iterable[Answer]) -> list[dict[str, Any]]:
    """Answers for machines; ``claims.schema.json`` describes their parts."""
    return [
        {
            "claim": one.claim.model_dump(mode="json", exclude_defaults=True),
            "code": one.code,
            "found": [
                {
                    "folder": str(f.folder.relative_to(paths.figures())),
                    "record": f.record.model_dump(mode="json", exclude_defaults=True),
                    "verdict": f.verdict.model_dump(mode="json"),
                    "figures": [str(p.relative_to(paths.figures())) for p in f.pictures],
                }
                for f in one.found
            ],
        }
        for one in answers
    ]
