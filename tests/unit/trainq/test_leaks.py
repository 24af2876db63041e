"""Rows of evaluation suites are found again in training files, and rows that only look like them are not."""

from __future__ import annotations

import gzip
import json
import os
import time
import unicodedata
from pathlib import Path
from typing import Any

import pytest
import zstandard

from tests import rights
from trainq import files, leaks, suites
from trainq.errors import DamageError
from trainq.leaks import Guarded, LeakIndex, Place, SuitesReader
from trainq.samples import ChatSample, Message, Sample, TextSample

SUM = "What is 3 + 4, when all that is asked for is the sum?"
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
    suite(tmp_path, "maths", [{"prompt": SUM, "completion": "#### 7"}, "{broken",
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
    (chat("what is  3 + 4 when all that is asked for is the sum", "seven"), Place("maths", "test.jsonl", 1)),
    (chat(f"“{SUM}”", "#### 7"), Place("maths", "test.jsonl", 1)),
    (TextSample(f"{SUM} #### 7"), Place("maths", "test.jsonl", 1)),
    (chat("How many apples has Ann left over by then", "no idea"), Place("maths", "test.jsonl", 3)),
    (chat("Hello", "Hi!", "How many apples has Ann left over by then?", "5"), Place("maths", "test.jsonl", 3)),
    (chat(f"SYLLO  puzzle 1 {RULES}1. ___ — clue 1", "?"), Place("puzzles", "test.jsonl", 2)),
    (TextSample("a TEXT that stands\nby itself"), Place("texts", "test.jsonl", 1))])
def test_the_same_in_other_clothes_is_found(index: LeakIndex, sample: Sample, place: Place) -> None:
    assert index.find(sample) == place


@pytest.mark.parametrize("sample", [
    chat(SUM.replace("+", "-"), "-1"), chat(SUM.replace("4", "41"), "44"), chat("You are helpful.", "Yes."),
    chat(f"SYLLO Puzzle 7\n{RULES}1. ___ — clue 7", "{7}"), chat(f"{RULES}", "?"), chat("#### 7", "?"),
    chat("Hello", "Hi!", "Thanks a lot.", "7"), chat("", "nothing was asked"),
    TextSample("A text that stands by itself. And more.")])
def test_what_only_looks_like_it_is_not(index: LeakIndex, sample: Sample) -> None:
    assert index.find(sample) is None


@pytest.mark.parametrize("text", ["A (b), C: 1.5 * x_2 - 'y'!", "a\x1cb\x0b\x0cc\x85", "  ", "\x00\x7f~", "####  7"])
def test_ascii_is_normalised_like_the_rest(text: str) -> None:
    assert leaks.normalised(text + " \u00a0\u2026").decode() == leaks.normalised(text).decode()
    assert leaks.normalised("\uff21 \u00df").decode() == "a ss"


@pytest.mark.parametrize("unit", [
    "\u0301\u0323", "\u0f73", "\ufdfa", "\u3099\u0323", "a\u0301 ", "(", "8 - (", "3.5", ",.", ".1", "\u2212(", "x "])
def test_no_text_takes_more_time_than_its_length(unit: str) -> None:
    # One letter becomes eighteen where it is a whole sentence.
    text = unit * (1_000_000 // len(unicodedata.normalize("NFKC", unit).encode()))
    began = time.process_time()
    leaks.normalised(text)
    assert time.process_time() - began < 1.0


def test_words_of_any_script_are_normalised_as_a_whole() -> None:
    text = "Cafe\u0301 \ufb01ne \u1112\u1161\u11ab \u2460 x\u0323\u0307 " * 50
    assert leaks.normalised(text) == leaks.normalised(unicodedata.normalize("NFC", text))
    assert leaks.normalised(text).split()[:2] == ["caf\u00e9".encode(), b"fine"]


@pytest.mark.parametrize(("one", "other"), [
    ("3.5", "3 5"), ("3.5", "35"), ("1,000", "1 000"), ("8 - (3 - 2)", "8 - 3 - 2"), ("(8 - 3) * 2", "8 - 3 * 2"),
    ("2(3 + 4)", "2 3 + 4"), ("((1 + 2) * 3 + 4) * 5", "(1 + 2) * (3 + 4) * 5"), ("8 \u2212 (x)", "8 \u2212 x"),
    ("-(a + b)", "-a + b")])
def test_what_is_calculated_otherwise_is_another_text(one: str, other: str) -> None:
    assert leaks.normalised(one) != leaks.normalised(other)
    assert leaks.normalised(f"{one}, \u00e9?") != leaks.normalised(f"{other}, \u00e9?")


@pytest.mark.parametrize(("one", "other"), [
    ("8 - (3 - 2).", "8 - ( 3 - 2 )"), ("It is 3.5.", "It is 3.5"), ("Yes, 3, 5.", "yes 3 5"),
    ("f(x), (see)", "f x see"), ("\uff13.\uff15", "3.5"), ("A.B,C", "a b c"), ("8 -\n  (3)", "8 - (3)")])
def test_what_is_only_written_otherwise_is_the_same_text(one: str, other: str) -> None:
    assert leaks.normalised(one) == leaks.normalised(other)
    assert leaks.normalised(f"{one} \u00e9") == leaks.normalised(f"\u201c{other} \u00e9\u201d")


def test_many_turns_take_no_more_time_than_few(index: LeakIndex) -> None:
    turns = ["How many apples has Ann got left over?", "Five."] * 20_000
    began = time.process_time()
    assert index.find(chat(*turns)) is None
    assert time.process_time() - began < 1.0
    turns += ["How many apples has Ann left over by then?", "5"]
    assert index.find(chat(*turns)) == Place("maths", "test.jsonl", 3)


def test_a_row_that_asks_little_is_found_by_the_whole_of_it(tmp_path: Path) -> None:
    suite(tmp_path, "greetings", [{"prompt": "Hi!", "completion": "Hello, how can I help?"}])
    index = leaks.read_suites(tmp_path)
    assert index is not None
    assert index.find(chat("hi", "Hello, how can I help?")) == Place("greetings", "test.jsonl", 1)
    assert index.find(chat("Hi!", "Good morning.", "What is the capital of France?", "Paris.")) is None
    assert index.find(chat("Hi!", "Good morning.")) is None


def test_suites_that_come_and_go_with_each_file_change_no_index(tmp_path: Path) -> None:
    reader = SuitesReader(tmp_path)
    suite(tmp_path, "job-interviews", [{"text": "A person's suite."}])
    first = reader.read()
    assert first.index is not None
    for name in ("job-train-1", f"job-all-{'0' * 16}"):
        suite(tmp_path, name, [{"prompt": "Write a joke.", "completion": "Knock, knock."}])
    assert reader.read() is first
    assert first.index.rows() == {"job-interviews": 1}


def test_only_what_has_changed_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    plain = leaks.digest_file
    monkeypatch.setattr(leaks, "digest_file", lambda path: (read.append(path.parent.name), plain(path))[1])
    for name in ("a", "b"):
        suite(tmp_path, name, [{"text": f"text of {name}"}])
    reader = SuitesReader(tmp_path)
    reader.read()
    suite(tmp_path, "b", [{"text": "another text"}])
    suite(tmp_path, "c", [{"text": "text of c"}])
    found = reader.read().index
    assert read == ["a", "b", "b", "c"]
    assert found is not None
    assert found.find(TextSample("text of a")) == Place("a", "test.jsonl", 1)


def test_the_index_is_the_same_after_it_was_stored(index: LeakIndex) -> None:
    again = LeakIndex.of_content(index.content(), "stored")
    assert again.content() == index.content()
    assert again.suites == index.suites
    assert again.rows() == {"maths": 2, "puzzles": 3, "texts": 1}
    for broken in (b"", b"{}\n", index.content().replace(b'"format":2', b'"format":3'), index.content()[:-9]):
        with pytest.raises(DamageError):
            LeakIndex.of_content(broken, "stored")


def test_a_suite_that_changes_is_another_index(tmp_path: Path) -> None:
    assert leaks.read_suites(tmp_path / "none") is None
    reader = SuitesReader(tmp_path)
    suite(tmp_path, "a", [])
    assert reader.read() == Guarded(None, {"a": "no row of it could be read"})
    suite(tmp_path, "a", [{"text": "one"}])
    suite(tmp_path, "b", [{"text": "in b"}])
    first = reader.read()
    assert reader.read() is first
    (tmp_path / "a" / "suite.toml").write_text('kind = "loss"')
    same = reader.read()
    suite(tmp_path, "a", [{"text": "two"}])
    second = reader.read()
    assert first.index is not None
    assert same.index is not None
    assert second.index is not None
    assert same.index.content() == first.index.content()
    assert first.index.suites["a"] != second.index.suites["a"]
    assert first.index.suites["b"] == second.index.suites["b"]
    assert first.index.content() != second.index.content()
    anew = leaks.read_suites(tmp_path)
    assert anew is not None
    assert anew.content() == second.index.content(), "what was remembered is what is read"


def test_suites_are_read_as_who_scores_them_reads_them(tmp_path: Path) -> None:
    """Other columns, other names, compressed: what the evaluator asks is guarded."""
    content = b'{"q": "A question of some length, with a number in it: 17?", "a": "#### 4", "text": "aside"}\n'
    for name, packed in (("rows.jsonl.gz", gzip.compress(content)), ("ROWS.NDJSON", content),
                         ("rows.jsonl.zst", zstandard.compress(content))):
        path = tmp_path / name / "exam"
        path.mkdir(parents=True)
        (path / name).write_bytes(packed)
        (path / "notes.txt").write_bytes(content)
        settings = 'kind = "generate"\nscorer = "final-number"\nmap = {prompt = "q", completion = "a"}\n'
        (path / "suite.toml").write_text(settings)
        sample = suites.load(path).rows[0].sample
        reader = SuitesReader(path.parent)
        guarded = reader.read()
        assert guarded.index is not None
        assert guarded.unread == {}
        assert guarded.index.find(sample) == Place("exam", name, 1)
        assert guarded.index.find(TextSample("aside")) is None
        (path / "suite.toml").write_text(settings.replace("q", "question"))
        assert reader.read() == Guarded(None, {"exam": "no row of it could be read"}), "which is said"
    (path / "suite.toml").write_text("map = 7")
    assert reader.read().index is not None, "its rows are guarded as far as they can be read"


@pytest.mark.parametrize(("closed", "said"), [("test.jsonl", "b/test.jsonl"), (".", "b/suite.toml"),
                                               ("suite.toml", "b/suite.toml")])
def test_what_may_not_be_read_guards_nothing_until_it_may(tmp_path: Path, closed: str, said: str) -> None:
    for name in ("a", "b"):
        suite(tmp_path, name, [{"text": f"text of {name}"}])
        (tmp_path / name / "suite.toml").write_text('kind = "loss"')
    mode = (tmp_path / "b" / closed).stat().st_mode
    (tmp_path / "b" / closed).chmod(0)
    reader = SuitesReader(tmp_path)
    with rights.as_they_are():
        guarded = reader.read()
        assert reader.read() is guarded
    assert guarded.unread.keys() == {"b"}
    assert f"{tmp_path / said}: it may not be read (give it" in guarded.unread["b"]
    assert guarded.index is not None
    assert guarded.index.rows() == {"a": 1} | ({"b": 1} if closed == "suite.toml" else {})
    (tmp_path / "b" / closed).chmod(mode)
    with rights.as_they_are():
        guarded = reader.read()
    assert guarded.index is not None
    assert (guarded.index.rows(), guarded.unread) == ({"a": 1, "b": 1}, {})


def test_what_goes_away_meanwhile_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The evaluator takes the suites of old files away while they are read."""
    for name in ("a", "b", "c"):
        suite(tmp_path, name, [{"text": f"text of {name}"}])
        (tmp_path / name / "suite.toml").write_text('kind = "loss"')
    for victim, function in (("a", "_stamp"), ("b", "digest_file")):
        plain = getattr(leaks, function)

        def taking_away(path: Path, plain: Any = plain, victim: str = victim) -> Any:
            if path.parent.name == victim:
                files.remove_tree(path.parent)
            return plain(path)

        monkeypatch.setattr(leaks, function, taking_away)
    index = leaks.read_suites(tmp_path)
    assert index is not None
    assert index.rows() == {"c": 1}


def test_names_need_not_be_text(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"ex\xffam")
    folder.mkdir()
    (folder / os.fsdecode(b"\xfe.jsonl")).write_text('{"text": "a text"}\n')
    index = leaks.read_suites(tmp_path)
    assert index is not None
    assert LeakIndex.of_content(index.content(), "stored").find(TextSample("a text")) == Place(
        "ex\\xffam", "\\xfe.jsonl", 1)
