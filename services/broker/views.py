"""Rows of the journal as the messages show them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from trainq.jobs import NEEDS_GPU, AnyEvent, JobEvent, JobKind, Origin, Priority
from trainq.journal import JobRow, Recorded
from trainq.messages import EventMessage, EventView, JobView, Progress


def job_view(row: JobRow, progress: Progress | None = None,
             needs_gpu: Collection[JobKind] = NEEDS_GPU) -> JobView:
    """A job as people see it; ``needs_gpu`` are the kinds that do, here."""
    return JobView(
        id=row.id, number=row.number, kind=row.kind, state=row.state, name=row.name,
        priority=Priority(row.priority).name.lower(),
        origin=(Origin.GENERATED if row.generated else Origin.PEOPLE).value, digest=row.digest,
        size_bytes=row.size_bytes, prepared=bool(row.prepared), rows=row.rows, tokens=row.tokens,
        attempts=row.attempts, failures=row.failures, submitted_at=row.submitted_at, started_at=row.started_at,
        ended_at=row.ended_at, retry_at=row.retry_at, reason=row.reason, cancel_reason=row.cancel_reason,
        result=unpack(row.result), progress=progress,
        needs="gpu" if row.kind in needs_gpu else "cpu")


def event_view(recorded: Recorded) -> EventView:
    """A committed event as it is replayed."""
    body: dict[str, Any] = msgspec.to_builtins(recorded.event)
    return EventView(seq=recorded.seq, at=recorded.at, type=str(body["type"]), job=job_of(recorded.event), body=body)


def event_message(recorded: Recorded, session: str) -> EventMessage:
    """The same as it is published by this life of the broker (``session``): with the bytes that the journal has."""
    return EventMessage(seq=recorded.seq, at=recorded.at, type=type(recorded.event).__name__,
                        job=job_of(recorded.event), body=msgspec.Raw(recorded.body), session=session)


def job_of(event: AnyEvent) -> str:
    """The id of the job that the event is about; empty if it is about none."""
    return event.job if isinstance(event, JobEvent) else ""


def unpack(packed: bytes | None) -> dict[str, Any] | None:
    """A map that a projection keeps as msgpack."""
    return None if packed is None else msgspec.msgpack.decode(packed, type=dict[str, Any])
