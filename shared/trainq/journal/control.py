"""What the control events change: the line's row, and the effects that a job's steps have."""

from __future__ import annotations

from typing import Any

import apsw

from trainq.jobs import (
    AgeingSet,
    AnyEvent,
    CheckpointRequested,
    Effect,
    EffectDecided,
    EffectKind,
    InboxCounted,
    JobEvent,
    QueueDrained,
    QueueHeld,
    QueueHoldLifted,
    QueuePaused,
    QueueResumed,
    TrainerStopped,
    effects_left,
)


def line_changes(event: AnyEvent, seq: int, at: float, hold_spent: int) -> dict[str, Any] | None:
    """The columns of ``line`` that an event of the whole queue changes; None for every other event.

    Args:
        event: what happened.
        seq: its number.
        at: when, in wall seconds since 1970.
        hold_spent: the column's value until now.
    """
    match event:
        case QueuePaused():
            return {"paused_reason": event.reason, "paused_until": at + event.seconds if event.seconds else 0.0}
        case QueueDrained():
            return {"drained_reason": event.reason}
        case QueueResumed(after_yield=True):
            return {"paused_reason": None, "paused_until": 0.0}
        case QueueResumed():
            return {"paused_reason": None, "paused_until": 0.0, "drained_reason": None, "stopped_session": "",
                    "stopped_reason": ""}
        case TrainerStopped():
            return {"stopped_session": event.session, "stopped_reason": event.reason}
        case CheckpointRequested():
            return {"checkpoint_asked": seq}
        case QueueHeld():
            return {"held_reason": event.reason, "hold_spent": max(hold_spent, int(event.failures_in_a_row))}
        case QueueHoldLifted():
            return {"held_reason": None}
        case InboxCounted():
            return {"inbox_waiting": event.waiting}
        case AgeingSet():
            return {"ageing_jobs": event.ageing_jobs}
        case _:
            return None


def note_effects(connection: apsw.Connection, key: int, event: JobEvent) -> None:
    """What an event of a train job does to its effects: one more; or the job begins anew, and none is left."""
    if isinstance(event, EffectDecided):
        connection.execute("INSERT OR REPLACE INTO effects VALUES (?, ?, ?, ?, ?)",
                           (key, event.effective_step, event.kind.value, event.value, event.reason))
    elif (left := effects_left(event)) is not None:
        connection.execute("DELETE FROM effects WHERE job=?", (key,))
        connection.executemany("INSERT INTO effects VALUES (?, ?, ?, ?, '')",
                               [(key, effect.step, effect.kind.value, effect.value) for effect in left])


def effects_of(connection: apsw.Connection, key: int) -> tuple[tuple[Effect, str], ...]:
    """The job's effects with their reasons, by step."""
    found = connection.execute("SELECT step, kind, value, reason FROM effects WHERE job=? ORDER BY step, kind", (key,))
    return tuple((Effect(kind=EffectKind(kind), step=step, value=value), reason) for step, kind, value, reason in found)
