"""How the lives of a service have ended, and what follows for the next one. The rules are pure; the record is a file.

supervisord starts again whatever ends, at once and for ever. A service that ends by its own doing (an exit, an
exception, a fatal signal, a hang that the watchdog ended) five times without having done anything that lasts would do
so a sixth time: it stays up, PAUSED, until somebody restarts it. What the machine did (a disk that fails or is full) it
comes out of by itself, after longer and longer pauses; and what somebody else did (a kill) counts for nothing.

The record is ``run/<service>.ends``. A fatal signal leaves its stacks in ``run/<service>.crash``, written by
:mod:`faulthandler`: SIGKILL leaves none, so what lies there was the service's own doing.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
from pathlib import Path

import msgspec

from trainq import files
from trainq.errors import StorageError, StorageFullError

MOST_OWN = 5
# A life of this length has served, whatever it had to do.
GOOD_LIFE_SECONDS = 600.0
_MAX_WAIT_SECONDS = 60.0
_MAX_REASON = 500


class Ends(msgspec.Struct, frozen=True, kw_only=True):
    """Ends in a row: by its ``own`` doing, and by the ``machine``'s; ``reason`` is that of the last one."""

    own: int = 0
    machine: int = 0
    reason: str = ""

    def by_itself(self, reason: str) -> Ends:
        """One more, by its own doing."""
        return Ends(own=self.own + 1, machine=self.machine, reason=_bounded(reason))

    def by_machine(self, reason: str) -> Ends:
        """One more, by the machine's."""
        return Ends(own=self.own, machine=self.machine + 1, reason=_bounded(reason))

    def why_paused(self, service: str) -> str:
        """Why the next life is not begun until somebody says so; empty if it is."""
        if self.own < MOST_OWN:
            return ""
        return (f"it has ended {self.own} times by its own doing and done nothing that lasts, the last time: "
                f"{self.reason}; trainq services restart {service} tries again")

    @property
    def wait_seconds(self) -> float:
        """How long the next life waits before it begins: not at all after one end, longer after more."""
        return min(_MAX_WAIT_SECONDS, 2.0 ** min(max(self.own + self.machine - 1, 0), 6) - 1)


def _bounded(reason: str) -> str:
    return reason.encode("utf-8", "backslashreplace").decode()[:_MAX_REASON]


class Record:
    """What lies on the disk of one service's ends. Whoever holds the service's lock owns it."""

    def __init__(self, run: Path, service: str) -> None:
        self._path, self._crash = run / f"{service}.ends", run / f"{service}.crash"
        self.ends = read(run, service)

    def open(self) -> str:
        """Begin a life; the stacks of the one before, if a fatal signal ended that.

        From now on a fatal signal of this process leaves its stacks.
        """
        stacks = _text(self._crash)
        if stacks:
            self.put(self.ends.by_itself(stacks.splitlines()[0]))
        with contextlib.suppress(OSError):  # no room for it: then a crash is taken for a kill
            descriptor = os.open(self._crash, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            faulthandler.enable(descriptor)
        return stacks

    def put(self, ends: Ends) -> None:
        """Keep ``ends``; a disk that does not take it makes the next life think better of this one than it was."""
        if ends == self.ends:
            return
        self.ends = ends
        with contextlib.suppress(StorageError, StorageFullError):
            files.replace_file(self._path, msgspec.json.encode(ends) + b"\n")


def read(run: Path, service: str) -> Ends:
    """What is recorded of a service; nothing if it cannot be read."""
    try:
        return msgspec.json.decode((run / f"{service}.ends").read_bytes(), type=Ends)
    except (OSError, msgspec.MsgspecError, RecursionError):
        return Ends()


def forget(run: Path, service: str) -> None:
    """A person begins the service anew, and nobody holds its lock: what lies behind it counts no more."""
    with contextlib.suppress(StorageError, StorageFullError):  # it is begun all the same
        files.remove_file(run / f"{service}.ends")


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
