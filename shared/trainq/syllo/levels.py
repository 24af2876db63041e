"""The ten levels: what is asked for at the first and at the last, and linearly between (whole numbers are rounded)."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

Difficulty: TypeAlias = Literal["easy", "medium", "hard"]

COUNT = 10


class Level(msgspec.Struct, frozen=True, kw_only=True):
    """What a puzzle of this level consists of.

    ``min_zipf``: no word is rarer. ``max_overlap``: of its words' tiles at most this share is of a syllable that more
    than one of the words has. ``red_herrings``: tiles in the bank that belong to no word.
    """

    number: int
    difficulty: Difficulty
    word_count: int
    fewest_syllables: int
    most_syllables: int
    min_zipf: float
    max_overlap: float
    red_herrings: int


def _between(first: float, last: float, number: int) -> float:
    return first + (last - first) * (number - 1) / (COUNT - 1)


def _difficulty(number: int) -> Difficulty:
    if number <= 3:
        return "easy"
    return "medium" if number <= 7 else "hard"


def _level(number: int) -> Level:
    return Level(
        number=number, difficulty=_difficulty(number), word_count=round(_between(4, 10, number)),
        fewest_syllables=round(_between(2, 4, number)), most_syllables=round(_between(3, 6, number)),
        min_zipf=round(_between(5.5, 2.0, number), 2), max_overlap=round(_between(0.0, 0.8, number), 2),
        red_herrings=round(_between(0, 6, number)))


LEVELS = tuple(_level(number) for number in range(1, COUNT + 1))
