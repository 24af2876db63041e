"""How jobs, services, schedules and the disk look to those who ask: parts of the broker's answers."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from trainq.jobs import EffectKind, JobKind, JobState
from trainq.messages.work import Lifecycle, PauseCause, Progress


class JobView(msgspec.Struct, frozen=True, kw_only=True):
    """A job as people see it. Times are wall seconds since 1970."""

    id: str
    number: int
    kind: JobKind
    state: JobState
    name: str
    priority: str
    origin: str
    digest: str
    size_bytes: int
    prepared: bool
    rows: int
    tokens: int
    attempts: int
    failures: int
    submitted_at: float
    started_at: float | None
    ended_at: float | None
    retry_at: float
    reason: str
    cancel_reason: str | None
    result: dict[str, Any] | None
    progress: Progress | None = None
    needs: Literal["gpu", "cpu"] = "cpu"


class ServiceView(msgspec.Struct, frozen=True, kw_only=True):
    """What the broker last heard of a process; ``age_seconds`` ago. ``gpu``: a model of its is in the memory.

    ``rests``: something that the broker does not know of keeps it from beginning anything; ``until_told``: until
    somebody orders otherwise; ``cause``: why it is PAUSED.
    """

    name: str
    session: str
    pid: int
    state: Lifecycle
    detail: str
    started_at: float
    age_seconds: float
    gpu: bool = False
    rests: bool = False
    until_told: bool = False
    cause: PauseCause | None = None


class EffectView(msgspec.Struct, frozen=True, kw_only=True):
    """From its ``step`` on (counted from 0) the job was done otherwise, and why: see
    :class:`~trainq.jobs.EffectKind`.
    """

    kind: EffectKind
    step: int
    value: int
    reason: str


class ScheduleView(msgspec.Struct, frozen=True, kw_only=True):
    """One rule: what it asks for, when next, and what came of its last slot.

    ``next_at`` and ``last_slot`` are seconds since 1970, for ``after_jobs`` numbers of trained files; null: never.
    ``last_job`` was asked for last; ``reason`` says why the last slot asked for nothing, if it did not.
    """

    name: str
    task: str
    when: str
    enabled: bool
    next_at: int | None
    last_slot: int | None
    last_job: str
    last_state: str
    reason: str


class DiskView(msgspec.Struct, frozen=True, kw_only=True):
    """The home's disk. ``state`` is ``ok``, ``warn`` or ``hold`` (nothing that needs room is begun).

    ``full_in_hours``: if it goes on like in the last hours; null: not in sight.
    """

    state: str
    free_bytes: int
    total_bytes: int
    warn_below_bytes: int
    hold_below_bytes: int
    full_in_hours: float | None
