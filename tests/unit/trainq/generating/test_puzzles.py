"""Puzzles for the model: which are asked, and what a row says of who has answered."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from trainq import leaks, scoring
from trainq.errors import InputError
from trainq.generating import base, child, puzzles
from trainq.generating.arithmetic import Arithmetic
from trainq.generating.base import GenerateRequest
from trainq.generating.puzzles import AnsweredBy

WANTED = GenerateRequest(count=20, level=2, seed=7)


def test_puzzles_of_a_suite_are_not_asked(tmp_path: Path) -> None:
    suite = tmp_path / "fixed"
    suite.mkdir()
    child.write(child.Request(generator="arithmetic", count=5, level=2, seed=7, path=str(suite / "rows.jsonl")))
    everything, left_out = puzzles.draw(Arithmetic(), WANTED, None)
    assert (len(everything), left_out) == (20, 0)
    asked, left_out = puzzles.draw(Arithmetic(), WANTED, leaks.read_suites(tmp_path))
    assert (asked, left_out) == (everything[5:], 5)


class Twice:
    """Makes rows that ask the same, and answer it otherwise."""

    name, version, levels = "twice", "1", 1

    def __init__(self, asks: bool = True) -> None:
        self._asks = asks

    def rows(self, request: GenerateRequest) -> Iterator[dict[str, Any]]:
        for index in range(request.count):
            said = base.chat("Which?", str(index)) if self._asks else [{"role": "assistant", "content": str(index)}]
            yield {"messages": said, "metadata": base.provenance(self, request, index, "twice")}


def test_no_question_comes_twice_and_what_asks_nothing_is_refused() -> None:
    wanted = GenerateRequest(count=3, level=1, seed=0)
    (puzzle,), _ = puzzles.draw(Twice(), wanted, None)
    assert puzzle.reference == "0"
    with pytest.raises(InputError, match="no questions with their answers"):
        puzzles.draw(Twice(asks=False), wanted, None)


def test_a_row_says_who_has_answered_and_can_still_be_checked() -> None:
    puzzle = puzzles.draw(Arithmetic(), WANTED, None).asked[0]
    right, wrong = (puzzles.row(puzzle, answer, AnsweredBy("g000002-s00000010", "ab" * 32, 0.5), 3)
                    for answer in (puzzle.reference, "#### 123456"))
    assert right["messages"][-1] == {"role": "assistant", "content": puzzle.reference}
    metadata = right["metadata"]
    assert {name: value for name, value in metadata.items() if name != "answer"} == {
        "generator": "selfplay", "generator_version": "1", "source": "arithmetic", "source_version": Arithmetic.version,
        "champion": "g000002-s00000010", "weights": "ab" * 32, "temperature": 0.5, "attempt": 3, "level": 2, "seed": 7,
        "sample_index": puzzle.metadata["sample_index"], "dataset": "arithmetic"}
    assert scoring.check_row(right) == ""
    assert "123456" in scoring.check_row(wrong)
    assert orjson.dumps(right)
