"""The events of what is kept and what goes: pins, removals, dropped content; and of the schedules."""

from __future__ import annotations

from trainq.jobs.base import Event
from trainq.jobs.states import Store


class DataDropped(Event, frozen=True, kw_only=True, tag=True):
    """The content of these digests is about to be deleted from ``data/``: no job needs it. Until :class:`DataGone` a
    submit that names one of them is told to send it again.
    """

    digests: tuple[str, ...]
    reason: str


class DataGone(Event, frozen=True, kw_only=True, tag=True):
    """The content of these digests is deleted. It may come again like any other."""

    digests: tuple[str, ...]


class CopyPinned(Event, frozen=True, kw_only=True, tag=True):
    """Somebody wants this checkpoint or snapshot kept, whatever the rules say."""

    store: Store
    name: str
    reason: str


class CopyUnpinned(Event, frozen=True, kw_only=True, tag=True):
    """The rules decide over it again."""

    store: Store
    name: str


class RemovalDecided(Event, frozen=True, kw_only=True, tag=True):
    """A checkpoint or snapshot goes to the trash; this event's number is the removal's, and names it there."""

    store: Store
    name: str
    size_bytes: int
    reason: str


class RemovalUndone(Event, frozen=True, kw_only=True, tag=True):
    """It is, or comes, back in its place."""

    removal: int
    reason: str


class RemovalPurged(Event, frozen=True, kw_only=True, tag=True):
    """Its time in the trash is over: it is gone for good."""

    removal: int


class ScheduleSet(Event, frozen=True, kw_only=True, tag=True):
    """A rule of the schedule is new, or another than before: its slots up to now count as done.

    ``rule`` is what it says, ``slot`` its newest slot (0: there is none yet).
    """

    name: str
    rule: str
    slot: int


class ScheduleFired(Event, frozen=True, kw_only=True, tag=True):
    """The time of a slot has come, and ``job`` was asked for. Each slot fires once."""

    name: str
    slot: int
    job: str


class ScheduleSkipped(Event, frozen=True, kw_only=True, tag=True):
    """The time of a slot has come or passed, and nothing was asked for."""

    name: str
    slot: int
    reason: str
