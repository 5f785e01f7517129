"""The rule: from what a paper states and what was measured to a verdict on two axes, *finding* and *scale*.

It is computed from the records alone, and never mixes the two: what was found does not depend on how faithful the
setting was. ``verdicts.json`` beside this module holds examples that another implementation has to reproduce.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import stats

from vaelib.companion.statements import STAND_INS, Claim, Frozen, Record, Setting, unpadded

FINDINGS = ("agrees", "same direction", "disagrees", "undecided")
"""Of printed values and of statements."""
FACTS = ("proved", "holds in all trials", "refuted", "vacuous", "misprint confirmed", "not a misprint")
"""Of pure theory and of errata."""
SCALES = ("paper", "reduced", "stand-in", "theory")

RULE = (
    "*Finding.* A unit is a seed (METABRIC: a fold, seeds averaged within); starts, networks and repeats are averaged "
    "first. A printed value *agrees* if the 95 % interval (t, over units) of what was measured lies inside the band "
    "around it: twice the paper's standard deviation, or the ledger's tolerance (by default 5 %) if that is more. It "
    "*disagrees* if interval and band do not meet; it has the *same direction* if the mean lies in the band and the "
    "interval wholly on the value's side of neutral; otherwise it is *undecided*. One unit has no interval: it "
    "*disagrees* beyond three bands, and is *undecided* otherwise. A statement is turned into margins that are "
    "positive where it holds: it *agrees* if the interval of each lies above zero and its mean is worth having, "
    "*disagrees* if that of one lies below, and is *undecided* otherwise. Whatever a precondition fails for (a skew "
    "that has not converged, a broken fit, too few effective draws) is *undecided*. Of theory: *proved*, *holds in "
    "all trials* or *refuted*; *vacuous* cannot fail. *Scale.* `paper`: the paper's data set, network, likelihood and "
    "rate, and at least its epochs, all of them stated; `reduced`: its data set, each difference named; `stand-in`: "
    "other data. *Robust.* By how much the band would have to grow (+) or shrink (-) to change the finding; for a "
    "statement, by how much less (+) or more (-) would have to be asked of its margins; and how many units would "
    "decide an undecided one at the spread seen."
)
"""How a verdict is reached."""

PRECONDITIONS: Mapping[str, tuple[Callable[[float], bool], str]] = {
    "newton_distance": (lambda d: d <= 0.01, "a skew is {:.3g} from its Newton skew"),
    "late_movement": (lambda d: d <= 0.005, "a skew moved by {:.3g} over the last tenth of the epochs"),
    "rate": (lambda nats: nats <= 1000, "a rate of {:.4g} nats is a broken fit"),
    "effective": (lambda draws: draws >= 30, "log p(x) rests on {:.0f} effective draws"),
}
"""By name: whether the worst run may have this value, and what to say of it where not."""

_MOST = 100
"""The most units that are tried for the number that would decide."""


@cache
def _quantile(degrees: int) -> float:
    """Of Student's t distribution, for a 95 % interval; kept, as it takes longer than all the rest of a verdict."""
    return float(stats.t.ppf(0.975, degrees))


@dataclass(frozen=True)
class Spread:
    """The mean, standard deviation and number of values.

    Examples
    --------
    >>> Spread.of([1.0, 2.0, 3.0]).reach
    2.484...
    """

    mean: float
    sd: float
    n: int

    @classmethod
    def of(cls, values: tuple[float, ...] | list[float]) -> "Spread":
        """Of some values."""
        return cls(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else math.inf, len(values))

    @property
    def reach(self) -> float:
        """Half the width of the mean's 95 % interval; infinite for one value."""
        return _quantile(self.n - 1) * self.sd / math.sqrt(self.n) if self.n > 1 else math.inf

    def with_units(self, n: int) -> "Spread":
        """The same with another number of units."""
        return Spread(self.mean, self.sd, n)


class Verdict(Frozen):
    """What the rule says of a record.

    Attributes
    ----------
    finding
        One of :data:`FINDINGS` or :data:`FACTS`.
    scale
        One of :data:`SCALES`.
    differences
        What makes the scale less than the paper's.
    reason
        Why it could not be decided, where a precondition fails.
    shift
        How much wider the band would have to be for another finding (negative: narrower); for a statement, how much
        less would have to be asked of its margins.
    units
        How many units would decide, at the spread seen; none where that is more than a hundred, or nothing to decide.
    """

    finding: str
    scale: str
    differences: tuple[str, ...] = ()
    reason: str = ""
    shift: float | None = None
    units: int | None = None

    @property
    def scaled(self) -> str:
        """The scale in words: ``reduced: 15 of 100 epochs, mlp for burgess``."""
        return ": ".join(filter(None, [self.scale if self.scale != "theory" else "", ", ".join(self.differences)]))


def judge(claim: Claim, record: Record) -> Verdict:
    """The verdict on a claim by :data:`RULE`."""
    scale, differences = _scale(claim, record)
    if claim.kind in ("fact", "erratum"):
        least = min(map(min, record.measured.values()))
        return Verdict(finding=_fact(claim, least), scale=scale)
    spreads = {part: Spread.of(values) for part, values in record.measured.items()}
    reason = _failed(claim, record)
    finding = "undecided" if reason else _finding(claim, spreads)
    shift = units = None
    if not reason:
        shift = _shift(claim, spreads, finding)
        units = _deciding(claim, spreads) if finding == "undecided" else None
    return Verdict(finding=finding, scale=scale, differences=differences, reason=reason, shift=shift, units=units)


def _fact(claim: Claim, least: float) -> str:
    if claim.kind == "erratum":
        return "misprint confirmed" if least > 0 else "not a misprint"
    if least <= 0:
        return "refuted"
    return "vacuous" if claim.vacuous else "proved" if claim.proved else "holds in all trials"


def _failed(claim: Claim, record: Record) -> str:
    """Which precondition fails, or is not shown; empty where none does."""
    failed = [
        said.format(record.checks[name])
        for name, (allowed, said) in PRECONDITIONS.items()
        if name in record.checks and not allowed(record.checks[name])
    ]
    failed += [f"{name.replace('_', ' ')} not recorded" for name in claim.requires if name not in record.checks]
    failed += [f"not measured: {part}" for part in claim.parts if part not in record.measured]
    return "; ".join(failed)


def _finding(claim: Claim, spreads: Mapping[str, Spread]) -> str:
    if claim.value is None:
        if all(s.mean - s.reach > 0 and s.mean >= claim.worth for s in spreads.values()):
            return "agrees"
        return "disagrees" if any(s.mean + s.reach < 0 for s in spreads.values()) else "undecided"
    (s,) = spreads.values()
    off = abs(s.mean - claim.value)
    if off > (3 * claim.band if s.n == 1 else claim.band + s.reach):
        return "disagrees"
    if off + s.reach <= claim.band:
        return "agrees"
    # The mean has to lie in the band: an interval that reaches it by its width alone must not gain from its noise.
    return "same direction" if off <= claim.band and _sided(claim, s) else "undecided"


def _sided(claim: Claim, s: Spread) -> bool:
    """Whether the interval lies wholly on the printed value's side of the neutral one."""
    if claim.value is None or claim.neutral is None or claim.value == claim.neutral:
        return False
    return math.copysign(1.0, claim.value - claim.neutral) * (s.mean - claim.neutral) > s.reach


def _shift(claim: Claim, spreads: Mapping[str, Spread], finding: str) -> float | None:
    """The smallest change of the band, or of what is asked of the margins, that changes the finding."""
    if claim.value is None:
        agree = max(max(s.reach - s.mean, claim.worth - s.mean) for s in spreads.values())
        differ = max(-s.mean - s.reach for s in spreads.values())
    else:
        (s,) = spreads.values()
        off = abs(s.mean - claim.value)
        towards = 0.0 if finding == "undecided" and _sided(claim, s) else s.reach
        agree = off + towards - claim.band
        differ = (off / 3 if s.n == 1 else max(off - s.reach, 0.0)) - claim.band
        if finding == "same direction":
            differ = off - claim.band
        elif off == 0 or off <= s.reach < math.inf:
            differ = -math.inf  # the value itself is covered: no band, however narrow, misses it
    moves = {"agrees": [agree], "disagrees": [differ]}.get(finding, [agree, differ])
    moves = [move for move in moves if math.isfinite(move)]
    return min(moves, key=abs) if moves else None


def _deciding(claim: Claim, spreads: Mapping[str, Spread]) -> int | None:
    """The smallest number of units that would decide, if mean and spread stayed."""
    n = min(s.n for s in spreads.values())
    more = range(n + 1, _MOST + 1) if n > 1 else ()
    return next(
        (k for k in more if _finding(claim, {p: s.with_units(k) for p, s in spreads.items()}) != "undecided"), None
    )


def _scale(claim: Claim, record: Record) -> tuple[str, tuple[str, ...]]:
    if claim.kind in ("fact", "erratum"):
        return "theory", ()
    paper, ours = claim.setting, record.setting
    data = unpadded(ours.data[0]) if ours.data else ""
    other = record.stand_in or STAND_INS.get(data.split(":")[0], ("", ""))[1]
    if not other and paper.data and data not in paper.data:
        other = f"{data} for {' or '.join(paper.data)}"
    unstated = [name for name in ("data", "network", "likelihood", "epochs") if name in claim.unstated]
    differences = [*([other] if other else []), *_differences(paper, ours), *record.differs]
    if unstated:
        differences.append(f"not stated: {', '.join(unstated)}")
    return ("stand-in" if other else "reduced" if differences else "paper"), tuple(differences)


def _differences(paper: Setting, ours: Setting) -> list[str]:
    found = []
    if paper.epochs and ours.epochs and ours.epochs < paper.epochs:
        found.append(f"{ours.epochs} of {paper.epochs} epochs")
    words = {
        "network": "",
        "likelihood": "",
        "batch_size": "batches of ",
        "learning_rate": "rate ",
        "latents": "latents ",
    }
    for name, said in words.items():
        theirs, own = getattr(paper, name), getattr(ours, name)
        if theirs is not None and own is not None and theirs != own:
            found.append(f"{said}{own} for {theirs}")
    lost = [name for name in ("network", "likelihood", "epochs") if getattr(paper, name) and not getattr(ours, name)]
    return [*found, *([f"not recorded: {', '.join(lost)}"] if lost else [])]
