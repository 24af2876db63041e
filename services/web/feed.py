"""What those who listen are told: the newest events of the journal, and the newest status picture.

A listener has a place in the journal and no queue: it takes what lies behind its place, here while that is recent, else
by ``Replay``. So a slow or stuck one costs nothing, and one that comes back misses nothing. All of this belongs to the
serving loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from trainq.messages import EventView

# One event may have a report of 256 KiB.
KEPT_BYTES = 8 * 1024 * 1024
KEPT_EVENTS = 4096


class Entry(NamedTuple):
    """An event as it is sent."""

    seq: int
    job: str
    content: bytes


def entry_of(event: EventView) -> Entry:
    """An event in JSON, with its place and its job."""
    return Entry(event.seq, event.job, msgspec.json.encode(event))


class Bell:
    """Wakes whoever waits for something newer than what it has seen."""

    def __init__(self) -> None:
        self.rung = 0
        self._event = asyncio.Event()

    def ring(self) -> None:
        self.rung += 1
        self._event.set()
        self._event = asyncio.Event()

    async def wait(self, seen: int, seconds: float) -> None:
        """Until it was rung more than ``seen`` times, at most ``seconds``."""
        if self.rung == seen:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._event.wait(), seconds)


class Feed:
    """The newest events without a gap between them, and the newest picture."""

    def __init__(self) -> None:
        self.events_bell = Bell()
        self.picture_bell = Bell()
        self.closing = False
        self.head = 0
        self._journal_id = ""
        self._kept: deque[Entry] = deque()
        self._bytes = 0

    def add(self, events: Sequence[EventView]) -> None:
        """Take in events as they were published; whoever listens is woken once."""
        for event in events:
            if self._kept and event.seq != self._kept[-1].seq + 1:
                # Some were lost on the way, or it is another journal's: what is kept has no gap.
                self._kept.clear()
                self._bytes = 0
            entry = entry_of(event)
            self._kept.append(entry)
            self._bytes += len(entry.content)
            while self._bytes > KEPT_BYTES or len(self._kept) > KEPT_EVENTS:
                self._bytes -= len(self._kept.popleft().content)
            self.head = event.seq
        if events:
            self.events_bell.ring()

    def note_journal(self, journal_id: str, seq: int) -> None:
        """The journal is this one, and goes to ``seq`` at least, whatever was published of it."""
        if journal_id != self._journal_id:
            self._journal_id, self.head = journal_id, seq
            self._kept.clear()
            self._bytes = 0
        elif seq > self.head:
            self.head = seq
        else:
            return
        self.events_bell.ring()

    def after(self, seq: int) -> list[Entry] | None:
        """The events behind ``seq``; None: the journal must be asked."""
        if seq == self.head:
            return []
        if not self._kept or not self._kept[0].seq <= seq + 1 <= self._kept[-1].seq or self._kept[-1].seq != self.head:
            return None
        return [entry for entry in self._kept if entry.seq > seq]

    def close(self) -> None:
        """Let all who listen come to their end."""
        self.closing = True
        self.events_bell.ring()
        self.picture_bell.ring()
