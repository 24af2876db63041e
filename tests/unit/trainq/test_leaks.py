"""Rows of evaluation suites are found again in training files, and rows that only look like them are not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trainq import leaks
from trainq.errors import DamageError
from trainq.leaks import LeakIndex, Place
from trainq.samples import ChatSample, Message, Sample, TextSample

RULES = "Solve the puzzle. Each blank is one syllable, and every tile is used once at most.\n"


def chat(*turns: str) -> ChatSample:
    roles = ["user", "assistant"] * len(turns)
    return ChatSample(tuple(Message(role, turn) for role, turn in zip(roles, turns, strict=False)))  # type: ignore[arg-type]


def suite(home: Path, name: str, rows: list[Any]) -> None:
    (home / name).mkdir(parents=True, exist_ok=True)
    (home / name / "test.jsonl").write_text("".join(
        (row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))


@pytest.fixture
def index(tmp_path: Path) -> LeakIndex:
    suite(tmp_path, "maths", [{"prompt": "What is 3 + 4?", "completion": "#### 7"}, "{broken",
                              {"messages": [{"role": "system", "content": "You are helpful."},
                                            {"role": "user", "content": "How many apples has Ann left over by then?"},
                                            {"role": "assistant", "content": "five"}]}])
    suite(tmp_path, "puzzles", [{"prompt": f"SYLLO Puzzle {n}\n{RULES}1. ___ — clue {n}", "completion": f"{{{n}}}"}
                                for n in range(3)])
    suite(tmp_path, "texts", [{"text": "A text that stands by itself."}])
    found = leaks.read_suites(tmp_path)
    assert found is not None
    return found


@pytest.mark.parametrize(("sample", "place"), [
    (chat("what is  3 + 4", "seven"), Place("maths", "test.jsonl", 1)),
    (chat("“What is 3 + 4?”", "#### 7"), Place("maths", "test.jsonl", 1)),
    (TextSample("What is 3 + 4? #### 7"), Place("maths", "test.jsonl", 1)),
    (chat("How many apples has Ann left over by then", "no idea"), Place("maths", "test.jsonl", 3)),
    (chat("Hello", "Hi!", "How many apples has Ann left over by then?", "5"), Place("maths", "test.jsonl", 3)),
    (chat(f"SYLLO  puzzle 1 {RULES}1. ___ — clue 1", "?"), Place("puzzles", "test.jsonl", 2)),
    (TextSample("a TEXT that stands\nby itself"), Place("texts", "test.jsonl", 1))])
def test_the_same_in_other_clothes_is_found(index: LeakIndex, sample: Sample, place: Place) -> None:
    assert index.find(sample) == place


@pytest.mark.parametrize("sample", [
    chat("What is 3 - 4?", "-1"), chat("What is 3 + 41?", "44"), chat("You are helpful.", "Yes."),
    chat(f"SYLLO Puzzle 7\n{RULES}1. ___ — clue 7", "{7}"), chat(f"{RULES}", "?"), chat("#### 7", "?"),
    chat("Hello", "Hi!", "What is 3 + 4?", "7"), chat("", "nothing was asked"),
    TextSample("A text that stands by itself. And more.")])
def test_what_only_looks_like_it_is_not(index: LeakIndex, sample: Sample) -> None:
    assert index.find(sample) is None


@pytest.mark.parametrize("text", ["A (b), C: 1.5 * x_2 - 'y'!", "a\x1cb\x0b\x0cc\x85", "  ", "\x00\x7f~", "####  7"])
def test_ascii_is_normalised_like_the_rest(text: str) -> None:
    assert leaks.normalised(text + " \u00a0\u2026").decode() == leaks.normalised(text).decode()
    assert leaks.normalised("\uff21 \u00df").decode() == "a ss"


def test_held_out_rows_of_a_file_are_found_by_the_whole_of_them(tmp_path: Path) -> None:
    suite(tmp_path, "job-train-1", [{"prompt": "Write a joke.", "completion": "Knock, knock."}])
    index = leaks.read_suites(tmp_path)
    assert index is not None
    assert index.find(chat("write a joke", "knock knock")) == Place("job-train-1", "test.jsonl", 1)
    assert index.find(chat("Write a joke.", "A duck walks into a bar.")) is None


def test_the_index_is_the_same_after_it_was_stored(index: LeakIndex) -> None:
    again = LeakIndex.of_content(index.content(), "stored")
    assert again.content() == index.content()
    assert again.suites == index.suites
    assert again.rows() == {"maths": 2, "puzzles": 3, "texts": 1}
    for broken in (b"", b"{}\n", index.content().replace(b'"format":1', b'"format":2'), index.content()[:-9]):
        with pytest.raises(DamageError):
            LeakIndex.of_content(broken, "stored")


def test_a_suite_that_changes_is_another_index(tmp_path: Path) -> None:
    assert leaks.read_suites(tmp_path / "none") is None
    suite(tmp_path, "a", [])
    assert leaks.read_suites(tmp_path) is None
    before = leaks.signature_of(tmp_path)
    suite(tmp_path, "a", [{"text": "one"}])
    (tmp_path / "a" / "suite.toml").write_text('kind = "loss"')
    first = leaks.read_suites(tmp_path)
    assert leaks.signature_of(tmp_path) != before
    suite(tmp_path, "a", [{"text": "two"}])
    second = leaks.read_suites(tmp_path)
    assert first is not None
    assert second is not None
    assert first.suites != second.suites
    assert first.content() != second.content()
