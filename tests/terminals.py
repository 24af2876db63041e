"""A terminal of a given size for a command that runs in it: what it writes there, and the keys that are pressed."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping
from typing import Any

# CSI and OSC sequences, and the other escapes (ECMA-48).
ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-~])")


class Terminal:
    """Our end of it. ``seen`` is all that was written so far."""

    def __init__(self, columns: int, lines: int) -> None:
        self.ours, self.theirs = pty.openpty()
        self.seen = b""
        self.resize(columns, lines)

    def resize(self, columns: int, lines: int) -> None:
        termios.tcsetwinsize(self.ours, (lines, columns))

    def modes(self) -> list[Any]:
        return termios.tcgetattr(self.ours)

    def press(self, keys: bytes) -> None:
        os.write(self.ours, keys)

    def read_until(self, wanted: str, seconds: float = 30.0) -> str:
        """What was written since the last call, up to ``wanted``, without escape sequences."""
        start, deadline = len(self.seen), time.monotonic() + seconds
        while wanted not in (text := self._text(start)):
            if not select.select([self.ours], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise AssertionError(f"{wanted!r} is not in {text!r}")
            self.seen += os.read(self.ours, 65536)
        return text

    def rest(self) -> str:
        """All else that was written, once the command has ended."""
        start = len(self.seen)
        with contextlib.suppress(OSError):  # EIO: nobody has the other end any more
            while select.select([self.ours], [], [], 0.2)[0] and (chunk := os.read(self.ours, 65536)):
                self.seen += chunk
        return self._text(start)

    def _text(self, start: int) -> str:
        return ESCAPES.sub("", self.seen[start:].decode(errors="replace"))


@contextlib.contextmanager
def terminal(columns: int = 80, lines: int = 24) -> Iterator[Terminal]:
    """One that goes with the block."""
    made = Terminal(columns, lines)
    try:
        yield made
    finally:
        os.close(made.ours)
        with contextlib.suppress(OSError):
            os.close(made.theirs)


@contextlib.contextmanager
def on_terminal(made: Terminal, environment: Mapping[str, str], *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A command of trainq with its three streams on the terminal, in a session of its own."""
    kept = {name: value for name, value in environment.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    # Of a session of its own the terminal becomes the controlling one, so that Ctrl-C and Ctrl-Z are signals.
    code = ("import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
            "os.execv(sys.executable, [sys.executable, '-m', 'trainq.cli', *sys.argv[1:]])")
    process = subprocess.Popen([sys.executable, "-c", code, *words], env={**kept, "TERM": "xterm-256color"},
                               stdin=made.theirs, stdout=made.theirs, stderr=made.theirs, start_new_session=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait(30)
