"""The answer is the reference, word for word: white space counts as one space, at the ends as none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from trainq.scoring.base import Case, Score, read_options


class _Options(msgspec.Struct, frozen=True):
    ignore_case: bool = False


class Exact:
    """1 if an answer is the reference, else 0. With ``ignore_case``, capital letters are the same as small ones."""

    name, version, chance = "exact", "1", 0.0

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._ignores_case = read_options(options, _Options).ignore_case

    def said(self, reference: str) -> str:
        text = " ".join(reference.split())
        return text.casefold() if self._ignores_case else text

    def lure(self, case: Case) -> str:  # noqa: ARG002  # a scorer's: nothing looks right here but what is
        return ""

    def scores(self, cases: Sequence[Case], answers: Sequence[str]) -> list[Score]:
        return [Score(float(self.said(answer) == self.said(case.reference)))
                for case, answer in zip(cases, answers, strict=True)]
