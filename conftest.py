"""How ``pytest --nbval`` compares a notebook with its committed outputs."""

import re
from decimal import Decimal

from vaelib.companion.verdicts import FACTS, FINDINGS

_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")
_FINDING = re.compile(rf"\b(?:{'|'.join(FINDINGS + FACTS)})\b")
_SIDE = {"agrees": 1, "same direction": 1, "disagrees": -1, "undecided": 0}


class Shown(str):
    """A text that equals another if it differs only by spaces, and by one unit in the last digit of its decimals.

    Another processor adds in another order, so that some number somewhere is rounded the other way. Whole numbers are
    counts, and have to be the same. After some epochs of training two processors differ by about a tenth of a per cent,
    which two seeds can turn into another interval. So of a table of verdicts only the findings are compared: none may
    have changed its side, though it may have become *undecided*, or have been so. Those of theory have to be the same.
    """

    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, str):
            return NotImplemented
        found, before = _FINDING.findall(self), _FINDING.findall(other)
        if "finding" in self and "finding" in other and found:
            return len(found) == len(before) and all(map(_same_side, found, before))
        numbers, others = _NUMBER.findall(self), _NUMBER.findall(other)
        return _words(self) == _words(other) and len(numbers) == len(others) and all(map(_close, numbers, others))

    def __ne__(self, other: object) -> bool:
        return not self == other


def _same_side(one: str, other: str) -> bool:
    return one == other or (one in _SIDE and other in _SIDE and _SIDE[one] * _SIDE[other] >= 0)


def _words(text: str) -> list[str]:
    return _NUMBER.sub(" # ", text).split()


def _close(one: str, other: str) -> bool:
    if one.lstrip("-").isdigit() and other.lstrip("-").isdigit():
        return one == other
    a, b = Decimal(one), Decimal(other)
    return abs(a - b) <= Decimal(10) ** min(a.as_tuple().exponent, b.as_tuple().exponent)


def pytest_collectstart(collector):
    """Leave warnings and progress out: they go to stderr, and say nothing about a result."""
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += ("stderr",)


def pytest_itemcollected(item):
    """Compare what a cell shows as :class:`Shown`."""
    if hasattr(item, "compare_outputs"):
        sanitize = item.sanitize
        item.sanitize = lambda text: Shown(sanitize(text)) if isinstance(text, str) else sanitize(text)


collect_ignore = ["vaelib/companion/preloaded.py"]  # it changes the environment of the process that imports it
