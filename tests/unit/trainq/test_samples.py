"""Each format becomes its sample, and each mistake is named with line, column, field, reason and mend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from trainq.errors import InputError, UsageError
from trainq.jsonl import MAX_LINE_BYTES, Line
from trainq.samples import (
    KNOWN_FIELDS,
    BadRow,
    ChatSample,
    Message,
    RowJudge,
    Sample,
    TextSample,
    read_rows,
    row_digest,
)

QUESTION = ChatSample((Message("user", "2+2?"), Message("assistant", "4")))


def ignore(_: int) -> None:
    pass


def judge(row: Any, mapping: dict[str, str] | None = None) -> Sample | BadRow:
    content = row if isinstance(row, bytes) else orjson.dumps(row)
    return RowJudge(mapping or {}).judge(Line(7, content, len(content)))


def bad(row: Any, mapping: dict[str, str] | None = None) -> BadRow:
    verdict = judge(row, mapping)
    assert isinstance(verdict, BadRow)
    assert verdict.line == 7
    assert verdict.column >= 1
    assert verdict.reason
    assert verdict.mend
    return verdict


@pytest.mark.parametrize("row", [
    {"messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]},
    {"messages": [{"role": "user", "content": "2+2?", "name": "Jo"}, {"role": "assistant", "content": "4"}], "id": 1},
    {"conversations": [{"from": "human", "value": "2+2?"}, {"from": "gpt", "value": "4"}]},
    {"conversations": [{"from": "user", "value": "2+2?"}, {"from": "assistant", "value": "4"}]},
    {"prompt": "2+2?", "completion": "4"},
    {"prompt": "2+2?", "completion": "4", "messages": None, "text": "metadata, in this row"},
    {"instruction": "2+2?", "output": "4"},
    {"instruction": "2+2?", "input": "", "output": "4"},
    {"instruction": "2+2?", "input": " \n", "output": "4"},
    {"instruction": "2+2?", "input": None, "output": "4"},
])
def test_one_question_is_one_sample_in_every_format(row: dict[str, Any]) -> None:
    assert judge(row) == QUESTION


def test_an_input_follows_its_instruction_after_a_blank_line() -> None:
    assert judge({"instruction": "Add.", "input": "2, 2", "output": "4"}) == ChatSample(
        (Message("user", "Add.\n\n2, 2"), Message("assistant", "4")))


def test_a_chat_may_have_a_system_message_and_many_turns() -> None:
    turns = [("system", "Be brief."), ("user", "a"), ("assistant", ""), ("user", ""), ("assistant", "b"), ("user", "c")]
    rows = ({"messages": [{"role": role, "content": content} for role, content in turns]},
            {"conversations": [{"from": role, "value": content} for role, content in turns]})
    for row in rows:
        assert judge(row) == ChatSample(tuple(Message(role, content) for role, content in turns))  # type: ignore[arg-type] # known roles


def test_text_is_kept_as_it_stands() -> None:
    assert judge({"text": " two\r\nlines \u2028 \U0001f600 ", "meta": [1]}) == TextSample(
        " two\r\nlines \u2028 \U0001f600 ")


@pytest.mark.parametrize(("mapping", "row", "sample"), [
    ({"prompt": "question", "completion": "answer"}, {"question": "2+2?", "answer": "4", "text": "x"}, QUESTION),
    ({"completion": "answer"}, {"prompt": "2+2?", "answer": "4", "completion": 3}, QUESTION),
    ({"instruction": "task", "input": "on", "output": "result"}, {"task": "2+2?", "result": "4", "input": "x"},
     QUESTION),
    ({"text": "body"}, {"body": "x", "prompt": "2+2?", "completion": "4"}, TextSample("x")),
    ({"messages": "chat"}, {"chat": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]},
     QUESTION),
    ({"conversations": "talk"}, {"talk": [{"from": "human", "value": "2+2?"}, {"from": "gpt", "value": "4"}]},
     QUESTION),
    ({"text": "prompt"}, {"prompt": "x", "completion": "y"}, TextSample("x")),
])
def test_a_mapping_names_the_columns_and_with_them_the_format(mapping: dict[str, str], row: dict[str, Any],
                                                              sample: Sample) -> None:
    assert judge(row, mapping) == sample


@pytest.mark.parametrize(("mapping", "wrong"), [
    ({"promt": "question"}, "promt"), ({"prompt": ""}, "prompt"), ({"prompt": "a", "completion": "a"}, "one column"),
])
def test_an_impossible_mapping_is_refused(mapping: dict[str, str], wrong: str) -> None:
    with pytest.raises(UsageError, match=wrong):
        RowJudge(mapping)


def test_an_unknown_field_in_a_mapping_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UsageError) as caught:
        RowJudge({"question": "prompt"})
    for field in KNOWN_FIELDS:
        assert field in str(caught.value)


@pytest.mark.parametrize(("row", "column", "field", "reason"), [
    (b'{"text": "a",}', 13, "", "not valid JSON: trailing comma"),
    (b'{"text": "a"', 13, "", "not valid JSON: unexpected end"),
    (b'{"text": "a"} {"text": "b"}', 15, "", "not valid JSON: unexpected content"),
    ('{"é": "\u00ff", "text": oops}'.encode(), 20, "", "not valid JSON"),
    (b"not json", 1, "", "not valid JSON"),
    (b'{"text": "\xc3\xa9\xff"}', 12, "", "not UTF-8 text (byte 0xff)"),
    (b'{"text": "a\xc3', 12, "", "not UTF-8 text (byte 0xc3)"),
    (b'{"text": "a\tb"}', 12, "", "control character"),
    (b'{"text": "a\x00b"}', 12, "", "control character"),
    (b'{"text": "\\ud800"}', 0, "", "surrogate"),
    (b'{"text": "a", "score": NaN}', 24, "", "NaN is not JSON"),
    (b'{"text": "a", "score": Infinity}', 24, "", "Infinity is not JSON"),
    (b'{"text": "a", "score": -Infinity}', 24, "", "-Infinity is not JSON"),
    (b'{"text": "a", "score": 1e999}', 0, "", "not valid JSON"),
    (b"[" * 3000, 0, "", "not valid JSON"),
    (b' [{"text": "a"}]', 2, "", "a list, not an object"),
    (b'"text"', 1, "", "a string, not an object"),
    (b"3", 1, "", "a number, not an object"),
    (b"null", 1, "", "null"),
    ({}, 1, "", "none of its columns is known: it needs messages or conversations or prompt+completion or"),
    ({"question": "a", "answer": "b"}, 1, "", "none of its columns"),
    ({"prompt": "a"}, 1, "", "'completion' is missing"),
    ({"prompt": "a", "completion": None}, 1, "", "'completion' is missing or null"),
    ({"instruction": "a"}, 1, "", "'output' is missing"),
    ({"text": 3}, 9, "text", "a number, not a string"),
    ({"text": "a\0b"}, 9, "text", "NUL"),
    ({"text": " \n"}, 9, "text", "empty"),
    ({"prompt": ["a"], "completion": "b"}, 11, "prompt", "a list, not a string"),
    ({"prompt": "a", "completion": ""}, 28, "completion", "empty"),
    ({"prompt": "a", "completion": True}, 28, "completion", "a boolean"),
    ({"instruction": "a", "input": 1.5, "output": "b"}, 28, "input", "a number"),
    ({"messages": {}}, 13, "messages", "an object, not a list"),
    ({"messages": []}, 13, "messages", "no assistant message"),
    ({"messages": [{"role": "user", "content": "a"}]}, 13, "messages", "no assistant message"),
    ({"messages": [{"role": "assistant", "content": "  "}]}, 13, "messages", "no assistant message"),
    ({"messages": ["hi"]}, 14, "messages[0]", "a string, not an object"),
    ({"messages": [{"content": "a"}]}, 14, "messages[0]", "role is null or absent"),
    ({"messages": [{"role": 5, "content": "a"}]}, 22, "messages[0].role", "role is a number"),
    ({"messages": [{"role": "tool", "content": "a"}]}, 22, "messages[0].role", "'tool' is not known"),
    ({"messages": [{"role": "user"}]}, 14, "messages[0].content", "null or absent"),
    ({"messages": [{"role": "user", "content": None}]}, 39, "messages[0].content", "null or absent"),
    ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, 39, "messages[0].content", "a list"),
    ({"messages": [{"role": "user", "content": "a"}, {"role": "system", "content": "b"}]}, 52, "messages[1].role",
     "stands behind others"),
    ({"conversations": [{"from": "bot", "value": "a"}]}, 27, "conversations[0].from", "'bot' is not known"),
    ({"conversations": [{"from": "human", "value": 1}]}, 43, "conversations[0].value", "a number"),
])
def test_every_mistake_has_its_place_and_reason(row: Any, column: int, field: str, reason: str) -> None:
    verdict = bad(row)
    assert reason in verdict.reason
    assert verdict.field == field
    if column:
        assert verdict.column == column


def test_mistakes_are_named_by_the_files_own_columns() -> None:
    mapping = {"prompt": "question", "completion": "answer"}
    assert bad({"question": "a", "answer": 1}, mapping).field == "answer"
    assert "'answer' is missing" in bad({"question": "a"}, mapping).reason
    assert "question+answer" in bad({"text": "a"}, mapping).reason


def test_a_line_that_is_too_long_is_a_bad_row() -> None:
    verdict = RowJudge({}).judge(Line(7, b'{"text": "aaa', MAX_LINE_BYTES + 1))
    assert isinstance(verdict, BadRow)
    assert (verdict.line, verdict.column, verdict.reason) == (7, 1, "the line is longer than 16 MiB")


def test_what_is_not_needed_may_be_anything() -> None:
    row = b'{"text": "a", "id": ' + b"9" * 300 + b', "nested": ' + b"[" * 500 + b"]" * 500 + b"}"
    assert judge(row) == TextSample("a")
    assert bad(row.replace(b'"a"', b'""')).column == 10


def test_the_digest_of_a_row_is_the_same_for_ever() -> None:
    # It decides for ever which rows are held out, and which are the same: these constants may never change.
    assert row_digest(QUESTION).hex() == "afad1878e5a06a51405be4eafe9903a8b4db08f1d5244921433c512f7d6c015d"
    assert row_digest(TextSample("é\n\U0001f600")).hex() == ("ee0194a541099be30c7ce86c059ad9c3"
                                                          "ec73fd034563091f9795648868c74231")


def test_other_samples_have_other_digests() -> None:
    samples: list[Sample] = [QUESTION, TextSample("2+2?4"), TextSample("2+2?"), ChatSample(QUESTION.messages[::-1]),
               ChatSample((*QUESTION.messages, *QUESTION.messages))]
    assert len({row_digest(sample) for sample in samples}) == len(samples)


def test_a_file_is_read_row_by_row(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"q": "2+2?", "a": "4"}\r\n\n{"q": "x"}\n')
    good, wrong = read_rows(path, {"prompt": "q", "completion": "a"}, ignore)
    assert (good.line.number, good.verdict) == (1, QUESTION)
    assert isinstance(wrong.verdict, BadRow)
    assert wrong.verdict.line == wrong.line.number == 3
    path.write_bytes(b"")
    with pytest.raises(InputError, match="no rows"):
        list(read_rows(path, {}, ignore))
