"""The format of a puzzle, both ways: what is asked, what is answered, and a question read back.

A question's sections come in this order: title, task, difficulty, rules, slots, a note on red herrings, the bank, the
output contract. The answer is one JSON object. Both are those of the puzzles that came before this project, so that
their files train on, and are judged, beside its own.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import msgspec

from trainq.syllo.levels import COUNT
from trainq.syllo.puzzles import Puzzle

_SLOTS, _BANK = "Word slots:", "Syllable bank (shuffled):"
_BLANK, _CLUE, _BETWEEN = "___", " — ", " | "
_SLOT = re.compile(r"(\d{1,2})\. (___(?: ___)*) — (\S.*)")
# Ten times the longest question of the highest level.
MAX_CHARACTERS = 32_768


class Slot(msgspec.Struct, frozen=True):
    """A slot of a question: how many tiles it takes, and its clue."""

    blanks: int
    clue: str


class Asked(msgspec.Struct, frozen=True):
    """What a question asks; the first slot has the number 1."""

    slots: tuple[Slot, ...]
    bank: tuple[str, ...]


def question(puzzle: Puzzle) -> str:
    """What the user says."""
    level, herrings = puzzle.level, len(puzzle.red_herrings)
    slots = [f"{number}. {' '.join([_BLANK] * len(word.syllables))}{_CLUE}{word.clue}"
             for number, word in enumerate(puzzle.words, start=1)]
    return "\n".join((
        f"SYLLO Puzzle {puzzle.puzzle_id}",
        "Find the target words: lay tiles of the syllable bank into the slots, so that each word fits its clue.",
        "",
        f"Difficulty: {level.difficulty.capitalize()} (level {level.number} of {COUNT}: words of "
        f"{level.fewest_syllables} to {level.most_syllables} syllables)",
        "",
        "Rules:",
        *(f"- {rule}" for rule in _rules(puzzle)),
        "",
        _SLOTS,
        *slots,
        "",
        f"Note: {_note(herrings)}",
        "",
        _BANK,
        _BETWEEN.join(puzzle.bank),
        "",
        "Output contract:",
        "- One JSON object with the keys `solutions` and `inventory_check`, and nothing before or after it.",
        "- `solutions`: a list with one entry for each slot, in order, with the keys `ans_num` (the slot's number), "
        "`syllables` (its tiles, in order) and `answer` (the word in CAPITALS).",
        "- `inventory_check`: an object with the keys `total_tiles` (how many tiles the bank has), `usage` (each tile: "
        "how often it is in the bank), `used` (each tile that is used: how often), `unused_tiles` (a list) and "
        "`status` (a short sentence).",
    ))


def _rules(puzzle: Puzzle) -> tuple[str, ...]:
    return (
        f"There are {len(puzzle.words)} target words.",
        "Each blank is one syllable: a slot takes as many tiles as it has blanks.",
        "A tile may be in the bank more than once; each of them is used at most once.",
        "Answer in JSON, with `solutions` and `inventory_check`.",
    )


def _note(herrings: int) -> str:
    if not herrings:
        return "there are no red herrings; use every tile exactly once."
    return f"{herrings} {'tile is a red herring' if herrings == 1 else 'tiles are red herrings'} and must stay unused."


def answer(puzzle: Puzzle) -> str:
    """What the assistant says."""
    used = Counter(tile for word in puzzle.words for tile in word.syllables)
    unused = [tile for tile in puzzle.bank if tile in puzzle.red_herrings]
    status = f"red herrings unused: {', '.join(unused)}." if unused else "every tile is used."
    return msgspec.json.encode({
        "solutions": [{"ans_num": number, "syllables": word.syllables, "answer": word.word.upper()}
                      for number, word in enumerate(puzzle.words, start=1)],
        "inventory_check": {"total_tiles": len(puzzle.bank), "usage": dict(Counter(puzzle.bank)), "used": dict(used),
                            "unused_tiles": unused, "status": f"All target words completed; {status}"},
    }).decode()


def metadata(puzzle: Puzzle) -> dict[str, Any]:
    """What is known of a puzzle beside its text; its dataset, level and seed are its generator's to say."""
    level = puzzle.level
    counts = {"word_count": len(puzzle.words), "syllable_bank_size": len(puzzle.bank),
              "red_herring_count": len(puzzle.red_herrings)}
    return {
        "puzzle_id": puzzle.puzzle_id, "difficulty": level.difficulty, **counts,
        "rules": {**counts, "notes": _note(len(puzzle.red_herrings))},
        "difficulty_config": {
            "target_word_count": level.word_count, "syllable_range": [level.fewest_syllables, level.most_syllables],
            "min_zipf": level.min_zipf, "max_overlap_target": level.max_overlap, "actual_overlap": puzzle.overlap},
        "red_herrings": list(puzzle.red_herrings),
        "words": [{"label": word.word, "definition": word.clue, "syllable_count": len(word.syllables),
                   "syllables": list(word.syllables), "zipf_score": word.zipf} for word in puzzle.words],
    }


def read(text: str) -> Asked | str:
    """What a question asks, or why it is none. Never raises; it takes time in proportion to the text."""
    if len(text) > MAX_CHARACTERS:
        return f"it is longer than {MAX_CHARACTERS} characters"
    lines = [line.strip() for line in text.split("\n")]
    if _SLOTS not in lines or _BANK not in lines:
        return f"it has no line {_SLOTS if _SLOTS not in lines else _BANK!r}"
    slots: list[Slot] = []
    for line in filter(None, lines[lines.index(_SLOTS) + 1:]):
        found = _SLOT.fullmatch(line)
        if found is None:
            break
        if int(found[1]) != len(slots) + 1:
            return f"slot {len(slots) + 1} is numbered {int(found[1])}"
        slots.append(Slot(found[2].count(_BLANK), found[3]))
    bank = next(filter(None, lines[lines.index(_BANK) + 1:]), "")
    tiles = tuple(tile.strip() for tile in bank.split(_BETWEEN.strip()))
    if not slots or not all(tiles):
        return "it has no slots" if not slots else "its bank has an empty tile"
    if sum(slot.blanks for slot in slots) > len(tiles):
        return "it has more blanks than tiles"
    return Asked(tuple(slots), tiles)
