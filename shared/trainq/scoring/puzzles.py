"""SYLLO puzzles: an answer is checked against the puzzle itself; the reference is one right answer of maybe several.

Where the list does not know a clue, the checker takes any tiles of the bank for a word. So there the reference's word
is demanded: a model that lays tiles in the right form, and knows no word, must not be found right.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from trainq.samples import Message
from trainq.scoring.base import Case, Score, read_options
from trainq.syllo import checking, words

# Of the checker's rules; the list of words has a digest of its own.
_VERSION = 2


class _Options(msgspec.Struct, frozen=True):
    pass


class Syllo:
    """1 if the whole puzzle is solved, else 0. What is half right is kept beside it as credit, and does not count."""

    name, chance = "syllo", 0.0

    def __init__(self, options: Mapping[str, Any]) -> None:
        read_options(options, _Options)
        self.version = f"{_VERSION} {words.digest()[:16]}"

    def said(self, reference: str) -> str:
        return " ".join(reference.split())

    def lure(self, case: Case) -> str:
        """The reference with each of its tiles one place further on: legal tiles, a sound inventory, wrong words."""
        answer = json.loads(case.reference)
        entries = answer["solutions"]
        tiles = [tile for entry in entries for tile in entry["syllables"]]
        before, start = [entry["answer"] for entry in entries], 0
        tiles = tiles[1:] + tiles[:1]
        for entry in entries:
            entry["syllables"] = tiles[start:start + len(entry["syllables"])]
            entry["answer"] = "".join(entry["syllables"]).upper()
            start += len(entry["syllables"])
        return "" if before == [entry["answer"] for entry in entries] else json.dumps(answer)

    def scores(self, cases: Sequence[Case], answers: Sequence[str]) -> list[Score]:
        verdicts = [checking.check(puzzle_of(case.prompt), answer, checking.words_of(case.reference))
                    for case, answer in zip(cases, answers, strict=True)]
        return [Score(float(verdict.exact), verdict.credit) for verdict in verdicts]


def puzzle_of(prompt: Sequence[Message]) -> str:
    """The text of the puzzle: what the user said last."""
    return next((message.content for message in reversed(prompt) if message.role == "user"), "")
