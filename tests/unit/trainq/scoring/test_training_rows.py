"""Rows of training files that say what their answer is are held to it; others are not judged."""

from __future__ import annotations

from typing import Any

import pytest

from trainq.samples import ChatSample, Message
from trainq.scoring import Case, check_row, check_sample
from trainq.scoring.puzzles import Syllo
from trainq.syllo import puzzles, texts
from trainq.syllo.words import Word


def chat(asked: str, said: str, **metadata: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": said}],
            "metadata": metadata}


@pytest.mark.parametrize(("row", "fault"), [
    (chat("2+2?", "#### 4", answer=4), ""), (chat("2+2?", "#### 4.0", answer="4"), ""),
    (chat("2+2?", "#### 5", answer=4), "the number behind #### is 5, and its metadata say 4"),
    (chat("2+2?", "It is 4, which is below 5", answer="4"), ""), (chat("2+2?", "#### 5"), ""),
    (chat("Where?", "#### 1, Rome", answer="Paris"), ""), (chat("2?", "#### 5", answer=True), ""),
    ({"prompt": "2+2?", "completion": "#### 5", "metadata": {"answer": 4}},
     "the number behind #### is 5, and its metadata say 4"),
    ({"text": "5", "metadata": {"answer": 4}}, ""), ({"q": "5", "metadata": {"answer": 4}}, ""),
    ({"messages": [], "metadata": {"answer": 4}}, ""), ({"text": "5", "metadata": "answer"}, ""), ({}, ""),
])
def test_a_number_is_held_to_what_the_row_says(row: dict[str, Any], fault: str) -> None:
    assert check_row(row) == fault


def test_columns_may_have_other_names() -> None:
    row = {"q": "2+2?", "a": "#### 5", "metadata": {"answer": 4}}
    assert check_row(row, {"prompt": "q", "completion": "a"}) == "the number behind #### is 5, and its metadata say 4"


def test_a_puzzle_is_checked_whatever_its_answer() -> None:
    puzzle = puzzles.make(2, 1, 0)
    right = chat(texts.question(puzzle), texts.answer(puzzle), dataset="syllo_v1")
    assert check_row(right) == ""
    wrong = chat(texts.question(puzzle), "{}", dataset="SYLLO")
    assert check_row(wrong).startswith("the puzzle is not solved: ")
    assert check_row(chat(texts.question(puzzle), "{}", dataset="arithmetic")) == ""


def clue(word: Word) -> str:
    return f"read backwards: {word.word[::-1]}"


def other_clues(puzzle: puzzles.Puzzle) -> str:
    """A puzzle as others have made them: with clues of their own."""
    asked = texts.question(puzzle)
    for word in puzzle.words:
        asked = asked.replace(word.clue, clue(word))
    return asked


def test_a_puzzle_that_cannot_be_judged_is_neither_right_nor_wrong() -> None:
    """One of other rules, and one with clues that nobody knows: there any tiles would do."""
    puzzle = puzzles.make(2, 1, 0)
    said = Syllo({}).lure(Case(row=0, prompt=(), reference=texts.answer(puzzle), metadata={}))
    words = [{"label": word.word.upper(), "definition": clue(word)} for word in puzzle.words]
    for asked, metadata in (("Lay the tiles: a | b", {}), (other_clues(puzzle), {}),
                            (other_clues(puzzle), {"words": [*words[:1], {"label": 7}, "word"]}),
                            (other_clues(puzzle), {"words": "none"}),
                            (other_clues(puzzle), {"words": [*words, words[0] | {"label": "OTHER"}]})):
        for answer in (said, texts.answer(puzzle)):
            row = chat(asked, answer, dataset="syllo", **metadata)
            sample = ChatSample(tuple(Message(**message) for message in row["messages"]))
            assert check_row(row) == ""
            assert check_sample(sample, row["metadata"]) is None


def test_where_a_row_names_its_words_it_is_held_to_them() -> None:
    puzzle = puzzles.make(2, 1, 0)
    words = [{"label": word.word.upper(), "definition": clue(word)} for word in puzzle.words]
    row = chat(other_clues(puzzle), texts.answer(puzzle), dataset="syllo", words=words)
    assert check_row(row) == ""
    said = Syllo({}).lure(Case(row=0, prompt=(), reference=texts.answer(puzzle), metadata={}))
    assert "is not the word" in check_row(chat(other_clues(puzzle), said, dataset="syllo", words=words))
