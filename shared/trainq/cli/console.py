"""Where a command writes: data to stdout, talk to stderr, one moving line on a terminal.

Everything written for people goes through :func:`printable`: names and reasons come from outside, and a terminal
obeys control characters and shows bidirectional ones in a false order.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any, TextIO

from trainq.errors import ConfigurationError, TrainqError

_STYLES = {"good": "32", "bad": "31", "busy": "36", "waiting": "33", "faint": "2", "strong": "1"}


def printable(text: str) -> str:
    """``text`` with everything that does not print as itself (controls, bidi marks, surrogates) as an escape."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def terminal_columns(stream: TextIO, environment: Mapping[str, str]) -> int:
    """How wide the terminal behind ``stream`` is; ``COLUMNS`` wins, 80 where nobody knows.

    As :func:`shutil.get_terminal_size`, whose module takes three milliseconds with its compression libraries.
    """
    columns = environment.get("COLUMNS", "")
    if columns.isdecimal() and int(columns):
        return int(columns)
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


class Console:
    """The two streams of one run. ``width`` is the terminal's in columns, None where stdout is none."""

    def __init__(self, out: TextIO, err: TextIO, *, json: bool, environment: Mapping[str, str]) -> None:
        self._out, self._err, self._environment = out, err, environment
        for stream in (out, err):
            # Under LANG=C a name with an umlaut must not end the command.
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
        self.json = json
        self.width = terminal_columns(out, environment) if out.isatty() else None
        is_dumb = environment.get("TERM") == "dumb"  # obeys no escape sequence
        # https://no-color.org: any value but the empty one
        self.colour = out.isatty() and not is_dumb and not environment.get("NO_COLOR")
        self.lively = err.isatty() and not is_dumb and not json
        # Whether somebody sits there who can be asked.
        self.can_ask = err.isatty() and sys.stdin is not None and sys.stdin.isatty() and not json
        self._moving = False

    def line(self, text: str = "") -> None:
        """One line of data for people; the caller has escaped what came from outside."""
        self.clear()
        self._out.write(text + "\n")

    def emit(self, document: Mapping[str, Any]) -> None:
        """One line of JSON, in UTF-8 whatever the locale says."""
        self.clear()
        self._out.flush()
        content = _json_line({"v": 1, **document})
        buffer = getattr(self._out, "buffer", None)
        if buffer is None:
            self._out.write(content.decode())
        else:
            buffer.write(content)
        self.flush()

    def say(self, text: str) -> None:
        """One line of talk."""
        self.clear()
        self._err.write(f"trainq: {printable(text)}\n")
        self._err.flush()

    def show(self, text: str) -> None:
        """Replace the moving line (only on a terminal; already escaped and cut to :attr:`talk_width`)."""
        if self.lively:
            self._out.flush()
            self._err.write(f"\r{text}\x1b[K")
            self._err.flush()
            self._moving = True

    @property
    def talk_width(self) -> int:
        """Columns for the moving line; one is left free, since a full line would wrap."""
        return max(20, terminal_columns(self._err, self._environment) - 1)

    def clear(self) -> None:
        """Take the moving line away."""
        if self._moving:
            self._err.write("\r\x1b[K")
            self._err.flush()
            self._moving = False

    def ask(self, question: str) -> bool:
        """Whether the person at the terminal says yes (only if :attr:`can_ask`); no by default, and at the end."""
        self.clear()
        self._out.flush()
        self._err.write(f"trainq: {printable(question)} [y/N] ")
        self._err.flush()
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    def fail(self, error: TrainqError, **partial: object) -> None:
        """Report an error: a line on stderr for each thing wrong, and with ``--json`` a document with what there is."""
        for part in str(error).split("\n"):
            self.say(part)
        if self.json:
            self.emit({**partial, "error": error_document(error)})

    def report_bug(self, error: Exception) -> None:
        """Report what should not have happened, with the traceback that its mending needs."""
        import traceback

        self.clear()
        self._err.write("".join(traceback.format_exception(error)))
        self.fail(TrainqError(f"this is a bug: {type(error).__name__}: {error}",
                              mend="please report it with the lines above"))

    def paint(self, text: str, style: str) -> str:
        """``text`` in a colour, where there are colours."""
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if self.colour and style else text

    def flush(self) -> None:
        self._out.flush()


def _json_line(document: dict[str, Any]) -> bytes:
    import orjson

    options = orjson.OPT_NON_STR_KEYS | orjson.OPT_APPEND_NEWLINE
    try:
        return orjson.dumps(document, default=str, option=options)
    except orjson.JSONEncodeError:
        # A file name that is no UTF-8 has lone surrogates, which JSON cannot hold.
        return orjson.dumps(_without_surrogates(document), default=str, option=options)


def _without_surrogates(value: Any) -> Any:
    match value:
        case str():
            return value.encode("utf-8", "backslashreplace").decode()
        case dict():
            return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
        case list() | tuple():
            return [_without_surrogates(item) for item in value]
        case _:
            return value


def error_document(error: TrainqError) -> dict[str, Any]:
    """An error as JSON shows it; a configuration's mistakes one by one."""
    document: dict[str, Any] = {"code": error.code, "message": error.message, "mend": error.mend}
    if isinstance(error, ConfigurationError):
        document["problems"] = [{"key": problem.key, "problem": problem.problem, "mend": problem.mend}
                                for problem in error.problems]
    return document
