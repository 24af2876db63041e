"""How the queue stands, as figures: no message of every second, and none that lists jobs."""

from __future__ import annotations

import msgspec

from trainq.messages.work import Message


class WaitingClass(msgspec.Struct, frozen=True, kw_only=True):
    """The files of one priority that wait: how many, and when the oldest was submitted (seconds since 1970)."""

    priority: str
    jobs: int
    oldest_at: float


class Queue(Message, frozen=True, kw_only=True, tag=True):
    """The files that wait, by priority, among the oldest so many; how many there are ``beyond`` those."""

    classes: list[WaitingClass]
    beyond: int
