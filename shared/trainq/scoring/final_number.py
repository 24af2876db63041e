"""The last number of an answer, as GSM8K has it: the one behind ``####``, else the last one that is said.

The form of the answers is that of https://github.com/openai/grade-school-math (``dataset.py``: the first ``#### `` and
the number behind it). Where a model was not taught that form, its last number is what it has answered.

Numbers are compared exactly, as fractions: 18, 18.0, $18.00 and 18 % are one; 1,000 is a thousand, and 3/4 is 0.75.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import msgspec

from trainq.scoring.base import Case, Score, read_options

_MARK = re.compile(r"####[ \t]*")
# A minus is a sign unless something stands right before it ("10-5", "(3)-1"): then it subtracts, or joins. A currency
# may stand on either side of it. Digits behind a letter belong to a name (H2O). U+2212 is the minus of typography.
_NUMBER = re.compile(
    r"(?<![\w.])(?P<sign>(?:(?<![)\]%])[-+\u2212])?[$\u20ac\u00a3\u00a5]?(?:(?<=[$\u20ac\u00a3\u00a5])[-\u2212])?)"
    r"(?P<whole>[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+|(?=\.[0-9]))(?P<part>\.[0-9]+)?(?:/(?P<below>[0-9]+))?")
# No number that a row asks for is longer; Python refuses to read one of over 4,300 digits.
_MOST_DIGITS = 200


class _Options(msgspec.Struct, frozen=True):
    pass


class FinalNumber:
    """1 if an answer's last number is that of the reference, else 0."""

    name, version, chance = "final-number", "1", 0.0

    def __init__(self, options: Mapping[str, Any]) -> None:
        read_options(options, _Options)

    def said(self, reference: str) -> str:
        return str(final_number(reference))

    def lure(self, case: Case) -> str:  # noqa: ARG002  # a scorer's: nothing looks right here but what is
        return ""

    def scores(self, cases: Sequence[Case], answers: Sequence[str]) -> list[Score]:
        return [Score(float(is_right(answer, case.reference))) for case, answer in zip(cases, answers, strict=True)]


def is_right(answer: str, reference: str) -> bool:
    """Whether both end in the same number."""
    wanted = final_number(reference)
    return wanted is not None and final_number(answer) == wanted


def final_number(text: str) -> Fraction | None:
    """The number that a text gives as its answer; None where there is none.

    That is the one right behind the first ``####`` that a number stands behind (to others it may be a heading), else
    the last number of the text.
    """
    last = _marked(text)
    if last is None:
        for last in _NUMBER.finditer(text):  # noqa: B007  # the last one is looked for
            pass
    return _value(last) if last else None


def marked_number(text: str) -> Fraction | None:
    """The number behind the first ``####`` that a number stands behind; None where nothing is marked."""
    match = _marked(text)
    return _value(match) if match else None


def only_number(text: str) -> Fraction | None:
    """The number that a text is, and nothing besides; None if it is anything else."""
    match = _NUMBER.fullmatch(text.strip())
    return _value(match) if match else None


def _marked(text: str) -> re.Match[str] | None:
    return next((match for mark in _MARK.finditer(text) if (match := _NUMBER.match(text, mark.end()))), None)


def _value(match: re.Match[str]) -> Fraction | None:
    whole, part, below = match["whole"].replace(",", ""), match["part"] or "", match["below"]
    if len(whole) + len(part) + len(below or "") > _MOST_DIGITS or (below is not None and not int(below)):
        return None
    value = Fraction(f"{whole or 0}{part}") / int(below or 1)
    return -value if {"-", "\u2212"} & set(match["sign"]) else value
