"""SYLLO puzzles: an answer is checked against the puzzle itself; the reference is one right answer of maybe several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from trainq.samples import Message
from trainq.scoring.base import Case, Score, read_options
from trainq.syllo import checking


class _Options(msgspec.Struct, frozen=True):
    pass


class Syllo:
    """1 if the whole puzzle is solved, else 0. What is half right is kept beside it as credit, and does not count."""

    name, version, chance = "syllo", 1, 0.0

    def __init__(self, options: Mapping[str, Any]) -> None:
        read_options(options, _Options)

    def said(self, reference: str) -> str:
        return " ".join(reference.split())

    def scores(self, cases: Sequence[Case], answers: Sequence[str]) -> list[Score]:
        verdicts = [checking.check(puzzle_of(case.prompt), answer)
                    for case, answer in zip(cases, answers, strict=True)]
        return [Score(float(verdict.exact), verdict.credit) for verdict in verdicts]


def puzzle_of(prompt: Sequence[Message]) -> str:
    """The text of the puzzle: what the user said last."""
    return next((message.content for message in reversed(prompt) if message.role == "user"), "")
