"""Suites: what is wrong with one is named, and its digest is over all that decides a score and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from tests import rights
from trainq import suites
from trainq.config import Home, PromotionSettings
from trainq.errors import InputError, NotFoundError, UsageError
from trainq.samples import ChatSample, Message, TextSample
from trainq.suites import Suite

GENERATE = 'kind = "generate"\nscorer = "final-number"\n'
ROWS = [{"prompt": "2+2?", "completion": "4", "metadata": {"level": 1}}, {"prompt": "2+3?", "completion": "5"}]


def lay(folder: Path, settings: str = GENERATE, rows: list[Any] | bytes = ROWS, name: str = "sums") -> Path:
    path = folder / name
    path.mkdir(exist_ok=True)
    (path / "suite.toml").write_text(settings)
    content = rows if isinstance(rows, bytes) else b"".join(orjson.dumps(row) + b"\n" for row in rows)
    (path / "rows.jsonl").write_bytes(content)
    return path


def test_a_suite_is_read_with_its_rows_as_cases(tmp_path: Path) -> None:
    suite = suites.load(lay(tmp_path, GENERATE + 'limit = 0.02\ndescription = "sums"\nmax_new_tokens = 8\n'))
    assert (suite.name, suite.kind, suite.scorer, suite.max_new_tokens, suite.limit, suite.description) == (
        "sums", "generate", "final-number", 8, 0.02, "sums")
    first, second = suite.cases()
    assert (first.row, first.prompt, first.reference, first.metadata) == (
        0, (Message("user", "2+2?"),), "4", {"level": 1})
    assert (second.row, second.metadata, suite.rows[1].place) == (1, {}, "rows.jsonl:2")
    assert [score.value for score in suite.make_scorer().scores([first, second], ["4", "4"])] == [1.0, 0.0]


def test_losses_need_no_question_and_columns_may_have_other_names(tmp_path: Path) -> None:
    path = lay(tmp_path, 'kind = "loss"\nmap = {text = "body"}\n', [{"body": "a text"}])
    (path / "more.jsonl").write_bytes(b'{"body": "another"}\n')
    (path / ".hidden.jsonl").write_bytes(b"nonsense")
    suite = suites.load(path)
    assert [row.sample for row in suite.rows] == [TextSample("another"), TextSample("a text")]
    assert (suite.kind, suite.scorer, suite.max_new_tokens, suite.limit) == ("loss", "", 0, None)


def test_of_a_chat_the_last_turn_is_the_reference(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "1"},
             {"role": "user", "content": "b"}, {"role": "assistant", "content": "2"}]
    case, = suites.load(lay(tmp_path, rows=[{"messages": turns}])).cases()
    assert ([message.content for message in case.prompt], case.reference) == (["a", "1", "b"], "2")


@pytest.mark.parametrize(("settings", "words"), [
    ("", "Object missing required field `kind`"),
    ("kind 'loss'", "suite.toml:1:6: not valid TOML"),
    ('kind = "other"', "kind: Invalid enum value 'other'"),
    ('kind = "generate"', "scorer: it is missing"),
    ('kind = "generate"\nscorer = "exakt"', "scorer: there is no scorer 'exakt' (did you mean exact?)"),
    ('kind = "generate"\nscorer = "exact"\n[options]\nignore = 1', "options.ignore: no such option"),
    ('kind = "loss"\nscorer = "exact"', 'scorer: a suite of kind "loss" has none'),
    (GENERATE + "max_tokens = 3", "max_tokens: no such setting (did you mean max_new_tokens?)"),
    (GENERATE + "limit = -1", "limit: Expected `float` >= 0"),
    (GENERATE + "max_new_tokens = 0", "max_new_tokens: Expected `int` >= 1"),
    (GENERATE + 'map = {question = "q"}', "map.question:"),
    (GENERATE + "description = '" + "x" * 70_000 + "'", "larger than 64 KiB"),
])
def test_settings_that_are_wrong_are_named(tmp_path: Path, settings: str, words: str) -> None:
    path = lay(tmp_path, settings)
    with pytest.raises(InputError) as caught:
        suites.load(path)
    assert words in str(caught.value)
    assert caught.value.file == str(path / "suite.toml")


@pytest.mark.parametrize(("rows", "line", "words"), [
    (b'{"prompt": "a"}\n', 1, "the column 'completion' is missing"),
    (b'{"prompt": "a", "completion": "b"}\n{"prompt": 1, "completion": "b"}\n', 2, "prompt: it is a number"),
    (b'{"text": "a"}\n', 1, "it is a text, which asks nothing"),
    (b'{"messages": [{"role": "assistant", "content": "a"}]}\n', 1, "nobody asks anything"),
    (b'{"messages": [{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}]}\n', 1, "is no answer"),
    (b'{"prompt": "a", "completion": "b"}\n\n{"prompt": "a", "completion": "b"}\n', 3,
     "the same row stands in rows.jsonl:1"),
    (b"\n", 0, "it has no rows"),
])
def test_rows_that_are_wrong_are_named(tmp_path: Path, rows: bytes, line: int, words: str) -> None:
    path = lay(tmp_path, rows=rows)
    with pytest.raises(InputError) as caught:
        suites.load(path)
    assert words in str(caught.value)
    assert (caught.value.file, caught.value.line) == (str(path / "rows.jsonl"), line)


def test_what_is_no_suite_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="there is no suite sums"):
        suites.load(tmp_path / "sums")
    path = lay(tmp_path)
    (path / "rows.jsonl").unlink()
    with pytest.raises(InputError, match="no file of rows"):
        suites.load(path)
    with pytest.raises(InputError, match="other characters"):
        suites.load(lay(tmp_path, name="a b"))


def test_the_digest_is_over_what_decides_a_score(tmp_path: Path) -> None:
    def digest(settings: str = GENERATE, rows: list[Any] | bytes = ROWS, name: str = "sums") -> str:
        return suites.load(lay(tmp_path, settings, rows, name)).digest

    plain = digest()
    as_chat = {"messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}],
               "metadata": {"level": 1}}
    same = [digest(name="other"), digest(GENERATE + "limit = 0.1\n"), digest(GENERATE + 'description = "words"\n'),
            digest(GENERATE + "max_new_tokens = 256\n"), digest(rows=[as_chat, ROWS[1]]),
            digest(rows=b'{"completion":"4","prompt":"2+2?","metadata":{"level":1},"more":1}\r\n'
                        b'{"prompt":"2+3?","completion":"5"}')]
    assert set(same) == {plain}
    others = [digest(rows=ROWS[::-1]), digest(rows=ROWS[:1]), digest('kind = "loss"'),
              digest('kind = "generate"\nscorer = "exact"\n'), digest(GENERATE + "max_new_tokens = 255\n"),
              digest('kind = "generate"\nscorer = "exact"\n[options]\nignore_case = true\n'),
              digest(rows=[{**ROWS[0], "metadata": {"level": 2}}, ROWS[1]])]
    assert len({plain, *others}) == 1 + len(others)


def test_for_a_program_everything_in_the_folder_decides(tmp_path: Path) -> None:
    settings = 'kind = "generate"\nscorer = "command"\n[options]\ncommand = ["./score"]\n'

    def digest() -> str:
        return suites.load(lay(tmp_path, settings)).digest

    plain = digest()
    path = tmp_path / "sums"
    (path / "tables").mkdir()
    (path / "tables" / "score").write_text("1")
    first = digest()
    (path / "tables" / "score").write_text("2")
    second = digest()
    assert len({plain, first, second}) == 3
    (path / "__pycache__").mkdir()
    (path / "__pycache__" / "score.pyc").write_text("1")
    (path / ".notes").write_text("1")
    assert digest() == second


def test_files_that_a_program_s_command_names_decide_wherever_they_lie(tmp_path: Path) -> None:
    (tmp_path / "judge").write_text("1")
    (tmp_path / "rules").write_text("1")

    def digest(words: list[str]) -> str:
        return suites.load(lay(tmp_path, 'kind = "generate"\nscorer = "command"\n[options]\n'
                                         f"command = {words!r}\n")).digest

    words = ["python3", str(tmp_path / "judge"), "--rules=../rules", "--more", "x" * 5000]
    before = digest(words)
    assert digest(words) == before
    (tmp_path / "rules").write_text("2")
    after = digest(words)
    (tmp_path / "judge").write_text("2")
    assert len({before, after, digest(words)}) == 3
    (tmp_path / "sums" / ".hidden").write_text("1")
    before = digest(["./.hidden"])
    (tmp_path / "sums" / ".hidden").write_text("2")
    assert digest(["./.hidden"]) != before
    assert digest(["python3", "."]), "all of that is in the digest"
    with pytest.raises(InputError, match=r"'\.\.' names a folder outside of the suite's"):
        digest(["python3", ".."])


def test_one_that_is_written_is_read_again_and_never_changed(tmp_path: Path) -> None:
    def write(rows: list[Any], **more: Any) -> Suite:
        return suites.write(tmp_path / "suites" / "sums", rows, kind="generate", scorer="exact",
                            options={"ignore_case": True}, **more)

    made = write([*ROWS, ROWS[0]], limit=0.5, description='so "many"\n\x7f', max_new_tokens=9)
    assert [row.place for row in made.rows] == ["rows.jsonl:1", "rows.jsonl:2"]
    assert (made.limit, made.description, made.max_new_tokens, made.options) == (
        0.5, 'so "many"\n\x7f', 9, {"ignore_case": True})
    assert write(ROWS, max_new_tokens=9).limit == 0.5
    with pytest.raises(UsageError, match="another suite sums already"):
        write(ROWS)
    assert suites.names(tmp_path / "suites") == ["sums"]
    with pytest.raises(InputError, match="its last turn is no answer"):
        suites.write(tmp_path / "suites" / "none", [{"messages": [{"role": "assistant", "content": "a"},
                                                                  {"role": "user", "content": "b"}]}],
                     kind="generate", scorer="exact")
    assert [path.name for path in (tmp_path / "suites").iterdir()] == ["sums"]
    loss = suites.write(Home(tmp_path).suites / "texts", [{"text": "a"}], kind="loss")
    assert isinstance(loss.rows[0].sample, TextSample)
    assert isinstance(made.rows[0].sample, ChatSample)


@pytest.mark.parametrize("closed", ["suite.toml", "rows.jsonl", "score.py", "."])
def test_a_suite_that_may_not_be_read_is_named_with_its_file_and_hides_no_other(tmp_path: Path, closed: str) -> None:
    lay(tmp_path, name="open")
    path = lay(tmp_path, 'kind = "generate"\nscorer = "command"\noptions = {command = ["./score.py"]}\n')
    (path / "score.py").write_text("#!/bin/sh\n")
    (path / closed).chmod(0)
    with rights.as_they_are():
        assert suites.names(tmp_path) == ["open", "sums"]
        with pytest.raises(InputError) as caught:
            suites.load(path)
        views = suites.survey(tmp_path, {}, PromotionSettings())
    expected = path / ("suite.toml" if closed == "." else closed)
    assert str(caught.value) == (
        f"{expected}: it may not be read (give it, and its folder, to the user who runs trainq (chown), or let "
        "everybody read (chmod a+rX))")
    assert [(view.suite, view.state) for view in views] == [("open", "new"), ("sums", "broken")]
    (path / closed).chmod(0o700)
    assert suites.load(path).name == "sums"


def test_a_suite_of_so_few_rows_that_nobody_becomes_champion_is_told(tmp_path: Path) -> None:
    lay(tmp_path, name="watched")
    lay(tmp_path, GENERATE + "limit = 0.02\n", name="guard")
    lay(tmp_path, name="decides")

    def warnings(**settings: Any) -> dict[str, str]:
        promotion = PromotionSettings(suites=("decides", "guard"), **settings)
        return {view.suite: view.warning for view in suites.survey(tmp_path, {}, promotion) if view.warning}

    assert warnings() == {
        "decides": "2 rows are fewer than [promotion] min_rows, 300: nothing it shows makes a champion (give it more "
                   "rows or lower that)",
        "guard": "2 rows are fewer than [promotion] min_rows, 300: no other checkpoint becomes champion (give it more "
                 "rows, lower that, or take its limit out)"}
    assert warnings(min_rows=2) == warnings(mode="off") == {}
