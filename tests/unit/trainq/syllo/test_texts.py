"""The format: its sections in their order, and a question read back as it was written."""

from collections import Counter

import orjson
import pytest

from trainq.syllo import puzzles, texts
from trainq.syllo.puzzles import Puzzle
from trainq.syllo.texts import Asked, Slot

EASY, HARD = puzzles.make(1, 3, 2), puzzles.make(10, 3, 2)


def test_the_sections_come_in_their_order() -> None:
    lines = texts.question(HARD).split("\n")
    assert lines[0] == "SYLLO Puzzle syllo_l10_s3_00002"
    assert lines[3] == "Difficulty: Hard (level 10 of 10: words of 4 to 6 syllables)"
    heads = ["Rules:", "Word slots:", "Note: 6 tiles are red herrings and must stay unused.",
             "Syllable bank (shuffled):", "Output contract:"]
    places = [lines.index(head) for head in heads]
    assert places == sorted(places)
    assert [line[:2] for line in lines[places[0] + 1:places[0] + 5]] == ["- "] * 4
    first = HARD.words[0]
    assert lines[places[1] + 1] == f"1. {' '.join(['___'] * len(first.syllables))} — {first.clue}"
    assert lines[places[3] + 1] == " | ".join(HARD.bank)


@pytest.mark.parametrize(("level", "note"), [
    (1, "Note: there are no red herrings; use every tile exactly once."),
    (2, "Note: 1 tile is a red herring and must stay unused.")])
def test_the_note_says_how_many_red_herrings_there_are(level: int, note: str) -> None:
    assert note in texts.question(puzzles.make(level, 1, 1)).split("\n")


@pytest.mark.parametrize("puzzle", [EASY, HARD])
def test_the_answer_adds_up(puzzle: Puzzle) -> None:
    answer = orjson.loads(texts.answer(puzzle))
    assert list(answer) == ["solutions", "inventory_check"]
    assert [list(entry) for entry in answer["solutions"]] == [["ans_num", "syllables", "answer"]] * len(puzzle.words)
    assert [entry["answer"] for entry in answer["solutions"]] == [word.word.upper() for word in puzzle.words]
    inventory = answer["inventory_check"]
    assert list(inventory) == ["total_tiles", "usage", "used", "unused_tiles", "status"]
    assert inventory["total_tiles"] == len(puzzle.bank) == sum(inventory["usage"].values())
    assert Counter(inventory["usage"]) - Counter(inventory["used"]) == Counter(inventory["unused_tiles"])
    assert sorted(inventory["unused_tiles"]) == sorted(puzzle.red_herrings)


def test_the_metadata_say_all_that_the_text_does_not() -> None:
    made = texts.metadata(HARD)
    assert made["word_count"] == 10
    assert made["syllable_bank_size"] == len(HARD.bank)
    assert made["red_herring_count"] == len(made["red_herrings"]) == 6
    assert made["rules"] == {"word_count": 10, "syllable_bank_size": len(HARD.bank), "red_herring_count": 6,
                             "notes": "6 tiles are red herrings and must stay unused."}
    assert made["difficulty_config"] == {"target_word_count": 10, "syllable_range": [4, 6], "min_zipf": 2.0,
                                         "max_overlap_target": 0.8, "actual_overlap": HARD.overlap}
    first = HARD.words[0]
    assert made["words"][0] == {"label": first.word, "definition": first.clue, "syllable_count": len(first.syllables),
                                "syllables": list(first.syllables), "zipf_score": first.zipf}


@pytest.mark.parametrize("puzzle", [EASY, HARD])
def test_what_was_written_is_read_back(puzzle: Puzzle) -> None:
    asked = Asked(tuple(Slot(len(word.syllables), word.clue) for word in puzzle.words), puzzle.bank)
    assert texts.read(texts.question(puzzle)) == asked
    assert texts.read(texts.question(puzzle).replace("\n", "\r\n")) == asked


@pytest.mark.parametrize(("text", "why"), [
    ("", "no line 'Word slots:'"), ("Word slots:\n1. ___ — a", "no line 'Syllable bank (shuffled):'"),
    ("Word slots:\nSyllable bank (shuffled):\na", "no slots"),
    ("Word slots:\n2. ___ — a\nSyllable bank (shuffled):\na", "slot 1 is numbered 2"),
    ("Word slots:\n1. ___ — a\nSyllable bank (shuffled):\na | | b", "an empty tile"),
    ("Word slots:\n1. ___ — a\nSyllable bank (shuffled):", "an empty tile"),
    ("Word slots:\n1. ___ ___ — a\nSyllable bank (shuffled):\na", "more blanks than tiles"),
    ("x" * (texts.MAX_CHARACTERS + 1), "longer than"),
])
def test_what_is_no_puzzle_is_told(text: str, why: str) -> None:
    said = texts.read(text)
    assert isinstance(said, str)
    assert why in said
