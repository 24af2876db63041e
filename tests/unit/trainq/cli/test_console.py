"""Streams: what may be written to a terminal, and what JSON must always be."""

from __future__ import annotations

import io
import json
import os
import pty
import termios
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainq.cli.console import Console, printable, terminal_columns
from trainq.errors import ConfigurationError, ConfigurationProblem, InputError


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        return True


def streams(encoding: str = "utf-8") -> tuple[io.TextIOWrapper, io.TextIOWrapper]:
    return io.TextIOWrapper(io.BytesIO(), encoding), io.TextIOWrapper(io.BytesIO(), encoding)


def written(stream: io.TextIOWrapper) -> bytes:
    stream.flush()
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue()


@pytest.mark.parametrize(("text", "shown"), [
    ("plain.jsonl", "plain.jsonl"), ("größe 数据", "größe 数据"), ("a\x1b[31mred", r"a\x1b[31mred"),
    ("two\nlines\t", r"two\nlines\t"), ("\u202egnp.exe", r"\u202egnp.exe"), ("a\u2066b\u2069", r"a\u2066b\u2069"),
    ("\x9b0m", r"\x9b0m"), ("bad\udcff", r"bad\udcff"), ("zero\u200bwidth", r"zero\u200bwidth")])
def test_what_a_terminal_would_obey_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text())
def test_nothing_printable_steers_a_terminal(text: str) -> None:
    assert all(unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Zl", "Zp") for char in printable(text))


def test_json_is_utf8_whatever_the_locale() -> None:
    out, err = streams("ascii")
    console = Console(out, err, json=True, environment={})
    console.emit({"name": "größe", "file": "bad\udcff", "parts": ({"\udcff": 1},)})
    assert json.loads(written(out).decode("utf-8")) == {
        "v": 1, "name": "größe", "file": "bad\\udcff", "parts": [{"\\udcff": 1}]}


def test_people_get_escapes_where_the_locale_has_no_letter() -> None:
    out, err = streams("ascii")
    console = Console(out, err, json=False, environment={})
    console.line("größe")
    console.say("größe")
    assert written(out) == b"gr\\xf6\\xdfe\n"
    assert written(err) == b"trainq: gr\\xf6\\xdfe\n"


def test_an_error_is_one_line_and_a_document() -> None:
    out, err = streams()
    console = Console(out, err, json=True, environment={})
    console.fail(InputError("it is\x1b empty", file="a.jsonl", mend="fill it"), receipts=[])
    assert written(err) == b"trainq: a.jsonl: it is\\x1b empty (fill it)\n"
    assert json.loads(written(out)) == {
        "v": 1, "receipts": [],
        "error": {"code": "input", "message": "a.jsonl: it is\x1b empty", "mend": "fill it"}}


def test_every_mistake_of_a_configuration_has_its_line() -> None:
    out, err = streams()
    console = Console(out, err, json=False, environment={})
    console.fail(ConfigurationError([ConfigurationProblem(key="a.b", problem="no", mend="yes"),
                                     ConfigurationProblem(key="c.d", problem="not", mend="do")]))
    assert written(err) == b"trainq: a.b: no; yes\ntrainq: c.d: not; do\n"
    assert written(out) == b""


def test_colours_only_on_a_terminal_that_wants_them() -> None:
    plain, terminal = io.StringIO(), Terminal()
    assert Console(plain, plain, json=False, environment={}).paint("x", "good") == "x"
    assert Console(terminal, plain, json=False, environment={"NO_COLOR": "1"}).paint("x", "good") == "x"
    assert Console(terminal, plain, json=False, environment={"NO_COLOR": ""}).paint("x", "good") == "\x1b[32mx\x1b[0m"
    assert Console(terminal, plain, json=False, environment={}).paint("x", "") == "x"


def test_the_moving_line_makes_room_for_data_and_talk() -> None:
    terminal = Terminal()
    console = Console(terminal, terminal, json=False, environment={})
    console.show("working")
    console.line("done")
    console.show("again")
    console.say("hm")
    assert terminal.getvalue() == "\rworking\x1b[K\r\x1b[Kdone\n\ragain\x1b[K\r\x1b[Ktrainq: hm\n"


def test_there_is_no_moving_line_in_a_file() -> None:
    file = io.StringIO()
    Console(file, file, json=False, environment={}).show("working")
    assert file.getvalue() == ""


def test_the_width_is_the_terminals_unless_columns_says_otherwise() -> None:
    ours, terminal = pty.openpty()
    try:
        with os.fdopen(terminal, "w") as stream:
            assert terminal_columns(stream, {}) == 80, "a terminal that does not know"
            termios.tcsetwinsize(ours, (24, 132))
            assert terminal_columns(stream, {}) == 132
            assert terminal_columns(stream, {"COLUMNS": "40"}) == 40
            assert terminal_columns(stream, {"COLUMNS": "0"}) == terminal_columns(stream, {"COLUMNS": "wide"}) == 132
    finally:
        os.close(ours)
    assert terminal_columns(io.StringIO(), {}) == 80
