"""Rows: what a line of a data file may be, and what is wrong with it if it is not.

A line becomes a :class:`Sample` or a :class:`BadRow`, never an exception. Formats are told by the row's own columns:

=============  ==============================================  =====================================================
format         columns                                         becomes
=============  ==============================================  =====================================================
chat           ``messages``: [{role, content}]                 :class:`ChatSample`
ShareGPT       ``conversations``: [{from, value}]              :class:`ChatSample`
completion     ``prompt``, ``completion``                      :class:`ChatSample` of one turn
instruction    ``instruction``, ``output``, maybe ``input``    :class:`ChatSample` of one turn; a non-empty input
                                                               follows the instruction after a blank line
text           ``text``                                        :class:`TextSample`
=============  ==============================================  =====================================================

Prompts and instructions become a chat of one turn, so that the model meets every question in the same template in which
it will be asked, and so that one row written in two formats is one row (its digest is the same). A column that is null
counts as absent, and unknown columns are metadata and ignored.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import msgspec
import orjson
from blake3 import blake3

from trainq.config import mapping_faults
from trainq.errors import UsageError
from trainq.jsonl import MAX_LINE_BYTES, Line, read_lines
from trainq.jsonplaces import RowPath, column_of, path_name

Role: TypeAlias = Literal["system", "user", "assistant"]


class Message(msgspec.Struct, frozen=True):
    """One turn of a chat."""

    role: Role
    content: str


class ChatSample(msgspec.Struct, frozen=True, tag="chat"):
    """A chat: system only first, at least one assistant turn that says something."""

    messages: tuple[Message, ...]


class TextSample(msgspec.Struct, frozen=True, tag="text"):
    """A text to be learned as it stands; not blank."""

    text: str


Sample: TypeAlias = ChatSample | TextSample


class BadRow(msgspec.Struct, frozen=True, kw_only=True):
    """Why a line is no sample. ``line`` and ``column`` (characters) count from 1; ``field`` is a path in the row."""

    line: int
    column: int
    field: str
    reason: str
    mend: str


class Row(NamedTuple):
    """A line of a file and what it is."""

    line: Line
    verdict: Sample | BadRow


def canonical(sample: Sample) -> bytes:
    """The sample as compact JSON: one line, UTF-8, keys in the order of the classes above. It reads as a row itself."""
    return _encoder.encode(sample)


def digest_of(text: bytes) -> bytes:
    """BLAKE3 (32 bytes) of a canonical text, by which a row is known."""
    return blake3(text).digest()


def row_digest(sample: Sample) -> bytes:
    """BLAKE3 (32 bytes) of the sample's canonical text."""
    return digest_of(canonical(sample))


def read_rows(path: Path, mapping: Mapping[str, str], on_bytes: Callable[[int], None]) -> Iterator[Row]:
    """Judge every line of ``path``; see :func:`trainq.jsonl.read_lines` for ``on_bytes`` and what is raised.

    Raises:
        UsageError: ``mapping`` is not possible.
    """
    judge = RowJudge(mapping)
    for line in read_lines(path, on_bytes):
        yield Row(line, judge.judge(line))


_encoder = msgspec.json.Encoder()


class _Format(NamedTuple):
    required: tuple[str, ...]
    optional: tuple[str, ...]
    build: Callable[[Mapping[str, Any], Mapping[str, str]], Sample]


class _UnfitError(Exception):
    """Something in the row is not as it must be; ``path`` leads to it (columns and list positions)."""

    def __init__(self, path: RowPath, reason: str, mend: str) -> None:
        self.path, self.reason, self.mend = path, reason, mend
        super().__init__(reason)


class RowJudge:
    """Turns lines into samples under one column mapping, ``{field: column}``; fields not in it keep their name.

    With a mapping, only the formats with a mapped field are considered, so that a stray ``text`` column does not win.

    Raises:
        UsageError: a field is not known, a column is empty, or two fields are to come from one column.
    """

    def __init__(self, mapping: Mapping[str, str]) -> None:
        _check_mapping(mapping)
        self._columns = {field: mapping.get(field, field) for field in KNOWN_FIELDS}
        self._formats = tuple(format_ for format_ in _FORMATS
                              if not mapping or mapping.keys() & {*format_.required, *format_.optional})
        self._required = tuple((format_, [self._columns[field] for field in format_.required])
                               for format_ in self._formats)

    def judge(self, line: Line) -> Sample | BadRow:
        """What the line is. Never raises for anything that can stand in a line."""
        try:
            if line.too_long:
                raise _UnfitError((), f"the line is longer than {MAX_LINE_BYTES // 2**20} MiB", "split the row")
            row = orjson.loads(line.content)
            if not isinstance(row, dict):
                kind = "null" if row is None else _kind(row)
                raise _UnfitError((), f"it is {kind}, not an object", _ONE_OBJECT)
            return self._format_of(row).build(row, self._columns)
        except orjson.JSONDecodeError as error:
            return _broken(line, error)
        except _UnfitError as unfit:
            column = 1 if line.too_long else column_of(line.content.decode(), unfit.path)
            return BadRow(line=line.number, column=column, field=path_name(unfit.path), reason=unfit.reason,
                          mend=unfit.mend)

    def _format_of(self, row: Mapping[str, Any]) -> _Format:
        for format_, columns in self._required:
            if None not in map(row.get, columns):
                return format_
        raise self._no_format(row)

    def _no_format(self, row: Mapping[str, Any]) -> _UnfitError:
        missing: list[str] = []
        for _, columns in self._required:
            absent = [column for column in columns if row.get(column) is None]
            if len(absent) < len(columns):
                missing += absent
        if missing:
            return _UnfitError((), f"the column {missing[0]!r} is missing or null", "add it, or map another column")
        wanted = " or ".join("+".join(self._columns[field] for field in format_.required) for format_ in self._formats)
        return _UnfitError((), f"none of its columns is known: it needs {wanted}", "map its columns to these fields")


def _check_mapping(mapping: Mapping[str, str]) -> None:
    for _field, problem, mend in mapping_faults(mapping):
        raise UsageError(problem, mend=mend)


def _chat(row: Mapping[str, Any], columns: Mapping[str, str]) -> Sample:
    return _conversation(row, columns["messages"], "role", "content", _CHAT_ROLES)


def _sharegpt(row: Mapping[str, Any], columns: Mapping[str, str]) -> Sample:
    return _conversation(row, columns["conversations"], "from", "value", _SHAREGPT_ROLES)


def _conversation(row: Mapping[str, Any], column: str, role_key: str, text_key: str,
                  roles: Mapping[str, Role]) -> ChatSample:
    turns = row[column]
    if not isinstance(turns, list):
        raise _UnfitError((column,), f"it is {_kind(turns)}, not a list of messages", "make it a list")
    messages: list[Message] = []
    for position, turn in enumerate(turns):
        path = (column, position)
        if not isinstance(turn, dict):
            raise _UnfitError(path, f"it is {_kind(turn)}, not an object", f"write {role_key} and {text_key}")
        name = turn.get(role_key)
        role = roles.get(name) if isinstance(name, str) else None
        if role is None:
            reason = f"the role {name[:40]!r} is not known" if isinstance(name, str) else f"{role_key} is {_kind(name)}"
            raise _UnfitError((*path, role_key) if role_key in turn else path, reason, f"known are: {', '.join(roles)}")
        if role == "system" and position:
            raise _UnfitError((*path, role_key), "a system message stands behind others",
                             "put it first, or leave it out")
        messages.append(Message(role, _string(turn.get(text_key), (*path, text_key))))
    if not any(message.role == "assistant" and message.content.strip() for message in messages):
        raise _UnfitError((column,), "no assistant message says anything, so there is nothing to learn",
                         "add the answer")
    return ChatSample(tuple(messages))


def _completion(row: Mapping[str, Any], columns: Mapping[str, str]) -> Sample:
    prompt = _string(row[columns["prompt"]], (columns["prompt"],))
    return _one_turn(prompt, _content(row, columns["completion"]))


def _instruction(row: Mapping[str, Any], columns: Mapping[str, str]) -> Sample:
    instruction = _string(row[columns["instruction"]], (columns["instruction"],))
    more = row.get(columns["input"])
    if more is not None and _string(more, (columns["input"],)).strip():
        instruction = f"{instruction}\n\n{more}"
    return _one_turn(instruction, _content(row, columns["output"]))


def _text(row: Mapping[str, Any], columns: Mapping[str, str]) -> Sample:
    return TextSample(_content(row, columns["text"]))


def _one_turn(question: str, answer: str) -> ChatSample:
    return ChatSample((Message("user", question), Message("assistant", answer)))


def _content(row: Mapping[str, Any], column: str) -> str:
    text = _string(row[column], (column,))
    if not text.strip():
        raise _UnfitError((column,), "it is empty, so there is nothing to learn", "fill it, or leave the row out")
    return text


def _string(value: Any, path: RowPath) -> str:
    if not isinstance(value, str):
        raise _UnfitError(path, f"it is {_kind(value)}, not a string", "write a string")
    if "\0" in value:
        raise _UnfitError(path, "it has a NUL character", "leave NUL characters out")
    return value


_FORMATS = (
    _Format(("messages",), (), _chat),
    _Format(("conversations",), (), _sharegpt),
    _Format(("prompt", "completion"), (), _completion),
    _Format(("instruction", "output"), ("input",), _instruction),
    _Format(("text",), (), _text),
)
KNOWN_FIELDS = tuple(field for format_ in _FORMATS for field in (*format_.required, *format_.optional))
_CHAT_ROLES: dict[str, Role] = {role: role for role in get_args(Role)}
_SHAREGPT_ROLES: dict[str, Role] = {"system": "system", "human": "user", "user": "user", "gpt": "assistant",
                                    "assistant": "assistant"}
_KINDS: dict[type, str] = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", int: "a number",
                           float: "a number", type(None): "null or absent"}
_ONE_OBJECT = "put one JSON object on each line"
_NOT_FINITE = re.compile(r"-?(NaN|Infinity)")


def _kind(value: Any) -> str:
    return _KINDS[type(value)]


def _broken(line: Line, error: orjson.JSONDecodeError) -> BadRow:
    """A line that is no JSON: say where and why, better than the fast parser does."""
    try:
        text = line.content.decode()
    except UnicodeDecodeError as wrong:
        return BadRow(line=line.number, column=len(line.content[:wrong.start].decode()) + 1, field="",
                      reason=f"not UTF-8 text (byte 0x{line.content[wrong.start]:02x})", mend="save the file as UTF-8")
    for start in (error.pos - 1, error.pos):
        if start >= 0 and (number := _NOT_FINITE.match(text, start)):
            return BadRow(line=line.number, column=start + 1, field="", reason=f"{number[0]} is not JSON",
                          mend="write null, or leave the field out")
    return BadRow(line=line.number, column=error.pos + 1, field="", reason=f"not valid JSON: {error.msg}",
                  mend=_mend_of(text, error))


def _mend_of(text: str, error: orjson.JSONDecodeError) -> str:
    """What most likely is to be done to a line that is no JSON."""
    if "depth" in error.msg:
        return "nest it less deeply"
    if not text.lstrip().startswith("{") or text.strip() == "{":
        return _ONE_OBJECT
    if "\r" in text[:error.pos]:
        return "end lines with LF, not with CR alone"
    if text[error.pos:error.pos + 1] == "'":
        return "write double quotes"
    return "correct the line"
