"""Rows of training files that say what their answer is are held to it; others are not judged."""

from __future__ import annotations

from typing import Any

import pytest

from trainq.scoring import check_row
from trainq.syllo import puzzles, texts


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
