"""The live screen of ``trainq watch``: the only module that imports rich, and the only one that changes the terminal.

Whatever ends it (``q``, Ctrl-C, SIGTERM, SIGHUP, an error), the terminal is left as it was; Ctrl-Z gives it back until
the program goes on. Signals only wake the loop, which does what they mean between two pictures.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from types import FrameType
from typing import Any

from rich.console import Console as RichConsole
from rich.live import Live
from rich.text import Text

from trainq.cli.context import Context
from trainq.cli.feeding import Feed
from trainq.cli.screen import Line, screen

# How often the picture is drawn although nothing came: its ages grow.
_DRAW_SECONDS = 1.0
_STYLES = {"good": "green", "bad": "red", "busy": "cyan", "waiting": "yellow", "faint": "dim", "strong": "bold", "": ""}
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_WAKING = (*_ENDING, signal.SIGWINCH, signal.SIGTSTP, signal.SIGCONT)


class Signals:
    """Those that came since they were looked at last; their coming makes :attr:`descriptor` readable."""

    def __init__(self) -> None:
        self.descriptor, self._writes = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._came: set[int] = set()
        self._before = {number: signal.signal(number, self._note) for number in _WAKING}
        self._wakeup = signal.set_wakeup_fd(self._writes, warn_on_full_buffer=False)

    def close(self) -> None:
        """As it was before."""
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        os.close(self.descriptor)
        os.close(self._writes)

    def take(self) -> set[int]:
        """The numbers of those that came."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self.descriptor, 512):
                pass
        came, self._came = self._came, set()
        return came

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._came.add(number)


class Keys:
    """The keyboard, key by key and without an echo, as long as it is :meth:`taken`."""

    def __init__(self) -> None:
        # Without a keyboard (standard input is a file) only signals end it.
        self.descriptor = sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else None
        self._before: list[Any] | None = None

    def take(self) -> None:
        """From now on keys are read one by one."""
        if self.descriptor is not None:
            if self._before is None:
                self._before = termios.tcgetattr(self.descriptor)
            tty.setcbreak(self.descriptor, termios.TCSANOW)

    def give_back(self) -> None:
        """The terminal reads as it did before; what was typed since is thrown away."""
        if self.descriptor is not None and self._before is not None:
            with contextlib.suppress(termios.error):  # it has gone
                termios.tcsetattr(self.descriptor, termios.TCSAFLUSH, self._before)
            self._before = None

    def read(self) -> bytes:
        """The keys that were pressed, if some were.

        Raises:
            OSError: the terminal has gone.
        """
        if self.descriptor is None or not select.select([self.descriptor], [], [], 0)[0]:
            return b""
        if not (pressed := os.read(self.descriptor, 64)):
            raise OSError(errno.EIO, "the terminal has gone")
        return pressed


def watch(context: Context) -> int:
    """Show the screen until somebody ends it; the exit code.

    Raises:
        KeyboardInterrupt: that was Ctrl-C.
    """
    keys = Keys()
    with Feed(context) as feed, contextlib.closing(Signals()) as signals:
        console = RichConsole(file=sys.stdout, highlight=False, markup=False, emoji=False,
                              no_color=not context.console.colour)
        live = Live(console=console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
        feed.poller.watch_descriptor(signals.descriptor)
        try:
            with _screen(live, keys, feed):
                ended_by = _loop(feed, signals, keys, console, live)
        except OSError:
            return 0  # the terminal has gone: nobody looks any more
    if ended_by == signal.SIGINT:
        raise KeyboardInterrupt
    return 128 + ended_by if ended_by else 0


@contextlib.contextmanager
def _screen(live: Live, keys: Keys, feed: Feed) -> Iterator[None]:
    """The terminal is the screen's in the block."""
    try:
        keys.take()
        if keys.descriptor is not None:
            feed.poller.watch_descriptor(keys.descriptor)
        live.start()
        yield
    finally:
        try:
            live.stop()
        finally:
            keys.give_back()


def _loop(feed: Feed, signals: Signals, keys: Keys, console: RichConsole, live: Live) -> int:
    """Draw until a key or a signal ends it; the signal's number, 0 for the key."""
    while True:
        view = feed.view()
        width, height = console.size
        live.update(_text(screen(view, width, height)), refresh=True)
        feed.poller.wait(_DRAW_SECONDS)
        came = signals.take()
        if ending := came.intersection(_ENDING):
            return int(min(ending))
        if signal.SIGTSTP in came:
            _stop_for_a_while(live, keys)
        elif signal.SIGCONT in came:
            keys.take()  # it was stopped uncaught, and somebody else had the terminal meanwhile
        if b"q" in keys.read().lower():
            return 0


def _stop_for_a_while(live: Live, keys: Keys) -> None:
    """Ctrl-Z: give the terminal back, stop as if nothing had been caught, and take it again when that is over."""
    live.stop()
    keys.give_back()
    os.kill(os.getpid(), signal.SIGSTOP)
    keys.take()
    live.start()


def _text(lines: list[Line]) -> Text:
    text = Text(no_wrap=True, overflow="crop", end="")
    for at, line in enumerate(lines):
        text.append("\n" if at else "")
        for piece, style in line:
            text.append(piece, _STYLES[style])
    return text
