"""The tables that are folded from the events: what is true now.

``apply`` is the fold's one step. It depends on nothing but the tables and the event, so that folding all events again
gives the same tables; ``fsck`` does that. Table by table:

* ``jobs``: one row a job. ``number`` is its submission, ``front`` 0 while it goes ahead of everything (it was given
  back half done), ``blockers`` the number of jobs that it still waits for.
* ``requests``: request ids, kept for ever. ``dependencies``: who waits for whom.
* ``counts``: how many jobs of each kind and state, so that counting costs the same with ten or ten million.
* ``line``: one row: the newest generation, the queue's pause, the next number.
"""

from __future__ import annotations

from typing import Any

import apsw
import msgspec

from trainq.errors import NotFoundError, TransitionError
from trainq.jobs import (
    ENDED,
    AnyEvent,
    AttemptFailed,
    CancelRequested,
    CheckpointPublished,
    DuplicateSubmitted,
    FileRefused,
    HoldPlaced,
    JobCancelled,
    JobEvent,
    JobFailed,
    JobKind,
    JobPrepared,
    JobQuarantined,
    JobRejected,
    JobState,
    JobSubmitted,
    JobSucceeded,
    LeaseEnded,
    LeaseGranted,
    PreparationReopened,
    Priority,
    QueuePaused,
    QueueResumed,
    transition,
)

SCHEMA = """
CREATE TABLE jobs (
    id TEXT PRIMARY KEY, number INTEGER NOT NULL, kind TEXT NOT NULL, state TEXT NOT NULL, name TEXT NOT NULL,
    front INTEGER NOT NULL, generated INTEGER NOT NULL, priority INTEGER NOT NULL, digest TEXT NOT NULL,
    size_bytes INTEGER NOT NULL, blockers INTEGER NOT NULL, submitted_seq INTEGER NOT NULL, submitted_at REAL NOT NULL,
    prepared INTEGER NOT NULL, shard TEXT NOT NULL, shard_digest TEXT NOT NULL, rows INTEGER NOT NULL,
    tokens INTEGER NOT NULL, attempts INTEGER NOT NULL, failures INTEGER NOT NULL, worker TEXT NOT NULL,
    session TEXT NOT NULL, token INTEGER NOT NULL, cancel_reason TEXT, started_at REAL, ended_at REAL,
    retry_at REAL NOT NULL, reason TEXT NOT NULL, report BLOB, result BLOB
) STRICT;
CREATE INDEX jobs_line ON jobs(kind, front, generated, priority, number) WHERE state='queued' AND blockers=0;
CREATE INDEX jobs_by_number ON jobs(kind, number);
CREATE INDEX jobs_by_state ON jobs(state, kind, number);
CREATE INDEX jobs_running ON jobs(worker) WHERE state='running';
CREATE INDEX jobs_by_digest ON jobs(digest, number) WHERE kind='train';
CREATE TABLE requests (id TEXT PRIMARY KEY, digest TEXT NOT NULL, job TEXT NOT NULL, seq INTEGER NOT NULL)
    STRICT, WITHOUT ROWID;
CREATE TABLE dependencies (
    after TEXT NOT NULL, job TEXT NOT NULL, any INTEGER NOT NULL, PRIMARY KEY (after, job)
) STRICT, WITHOUT ROWID;
CREATE INDEX dependencies_of ON dependencies(job);
CREATE TABLE counts (kind TEXT NOT NULL, state TEXT NOT NULL, n INTEGER NOT NULL, PRIMARY KEY (kind, state))
    STRICT, WITHOUT ROWID;
CREATE TABLE line (
    one INTEGER PRIMARY KEY CHECK (one = 1), next_number INTEGER NOT NULL, paused_reason TEXT,
    generation INTEGER NOT NULL, checkpoint TEXT NOT NULL, step INTEGER NOT NULL
) STRICT;
INSERT INTO line VALUES (1, 1, NULL, 0, '', 0);
"""

_NEW_JOB = """
INSERT INTO jobs (id, number, kind, state, name, front, generated, priority, digest, size_bytes, blockers,
    submitted_seq, submitted_at, prepared, shard, shard_digest, rows, tokens, attempts, failures, worker, session,
    token, retry_at, reason)
VALUES (?, ?, ?, 'queued', ?, 1, ?, ?, ?, ?, ?, ?, ?, 0, '', '', 0, 0, 0, 0, '', '', 0, 0.0, '')
"""


def apply(connection: apsw.Connection, seq: int, at: float, event: AnyEvent) -> None:
    """Fold one event into the tables.

    Raises:
        TransitionError: the job's state does not allow it; some tables may have changed, undo the savepoint.
        NotFoundError: the event names a job that does not exist.
    """
    match event:
        case JobSubmitted():
            _submit(connection, seq, at, event)
        case JobEvent():
            _change(connection, seq, at, event)
        case FileRefused():
            _remember_request(connection, seq, event, "")
        case QueuePaused():
            connection.execute("UPDATE line SET paused_reason=?", (event.reason,))
        case QueueResumed():
            connection.execute("UPDATE line SET paused_reason=NULL")
        case _:
            pass  # BrokerStarted is history only


def _submit(connection: apsw.Connection, seq: int, at: float, event: JobSubmitted) -> None:
    blockers = 0
    for other in event.after:
        state = _state(connection, other)
        satisfied = state is JobState.SUCCEEDED or (event.after_any and state in ENDED)
        if state in ENDED and not satisfied:
            raise TransitionError(other, state.value, f"waiting for its success ({event.job})")
        if not satisfied:
            connection.execute("INSERT INTO dependencies VALUES (?, ?, ?)", (other, event.job, event.after_any))
            blockers += 1
    generated = int(event.origin == "generated")
    for id_, kind, waits in ((event.job, JobKind.TRAIN, blockers), (event.prepare, JobKind.PREPARE, 0)):
        connection.execute(_NEW_JOB, (id_, event.number, kind.value, event.name, generated, int(event.priority),
                                      event.digest, event.size_bytes, waits, seq, at))
        _count(connection, kind.value, JobState.QUEUED, 1)
    connection.execute("UPDATE line SET next_number=?", (event.number + 1,))
    _remember_request(connection, seq, event, event.job)


def _change(connection: apsw.Connection, seq: int, at: float, event: JobEvent) -> None:
    row = connection.execute("SELECT kind, state FROM jobs WHERE id=?", (event.job,)).fetchone()
    if row is None:
        raise NotFoundError(f"there is no job {event.job}")
    kind, before = row[0], JobState(row[1])
    after = transition(event.job, before, event)
    if isinstance(event, DuplicateSubmitted):
        _remember_request(connection, seq, event, event.job)
        return
    columns = {"state": after.value, **_columns(connection, seq, at, event)}
    if after in ENDED:
        columns |= {"ended_at": at, "worker": "", "session": "", "front": 1}
    assignments = ", ".join(f"{name}=?" for name in columns)
    connection.execute(f"UPDATE jobs SET {assignments} WHERE id=?", (*columns.values(), event.job))
    if before is not after:
        _count(connection, kind, before, -1)
        _count(connection, kind, after, 1)
    if after in ENDED:
        _release_dependants(connection, event.job, after)
        connection.execute("DELETE FROM dependencies WHERE job=?", (event.job,))


def _columns(connection: apsw.Connection, seq: int, at: float, event: JobEvent) -> dict[str, Any]:
    """What the event changes in its job's row besides the state."""
    match event:
        case JobPrepared():
            return {"prepared": 1, "shard": event.shard, "shard_digest": event.shard_digest, "rows": event.rows,
                    "tokens": event.tokens, "report": _pack(event.report)}
        case PreparationReopened():
            connection.execute(
                "UPDATE jobs SET prepared=0 WHERE kind='train' AND number=(SELECT number FROM jobs WHERE id=?)",
                (event.job,))
            return {"ended_at": None, "result": None, "retry_at": 0.0, "reason": event.reason}
        case JobRejected():
            return {"reason": event.reason, "report": _pack(event.report)}
        case LeaseGranted():
            connection.execute("UPDATE jobs SET started_at=? WHERE id=? AND started_at IS NULL", (at, event.job))
            return {"worker": event.worker, "session": event.session, "token": seq, "attempts": event.attempt,
                    "front": 1, "reason": ""}
        case LeaseEnded():
            return {"worker": "", "session": "", "front": 0, "reason": event.reason}
        case AttemptFailed():
            connection.execute("UPDATE jobs SET failures=failures+1 WHERE id=?", (event.job,))
            return {"worker": "", "session": "", "retry_at": event.retry_at,
                    "priority": int(Priority.LOW), "reason": event.reason}
        case CheckpointPublished():
            connection.execute("UPDATE line SET generation=?, checkpoint=?, step=?",
                               (event.generation, event.name, event.step))
            return {}
        case CancelRequested():
            return {"cancel_reason": event.reason}
        case JobSucceeded():
            return {"result": _pack(event.result), "reason": ""}
        case HoldPlaced() | JobFailed() | JobQuarantined() | JobCancelled():
            return {"reason": event.reason}
        case _:
            return {}


def _release_dependants(connection: apsw.Connection, job: str, ended: JobState) -> None:
    """Those who waited for ``job`` wait for one less; the broker cancels those for whom its end was the wrong one."""
    wanted = "" if ended is JobState.SUCCEEDED else " AND any=1"
    connection.execute(
        f"UPDATE jobs SET blockers=blockers-1 WHERE id IN (SELECT job FROM dependencies WHERE after=?{wanted})", (job,))
    connection.execute(f"DELETE FROM dependencies WHERE after=?{wanted}", (job,))


def _remember_request(connection: apsw.Connection, seq: int, event: JobSubmitted | DuplicateSubmitted | FileRefused,
                      job: str) -> None:
    connection.execute("INSERT INTO requests VALUES (?, ?, ?, ?)", (event.request_id, event.request_digest, job, seq))


def _state(connection: apsw.Connection, job: str) -> JobState:
    row = connection.execute("SELECT state FROM jobs WHERE id=?", (job,)).fetchone()
    if row is None:
        raise NotFoundError(f"there is no job {job}")
    return JobState(row[0])


def _count(connection: apsw.Connection, kind: str, state: JobState, change: int) -> None:
    connection.execute(
        "INSERT INTO counts VALUES (?, ?, ?) ON CONFLICT (kind, state) DO UPDATE SET n=n+excluded.n",
        (kind, state.value, change))


def _pack(value: dict[str, Any]) -> bytes:
    return msgspec.msgpack.encode(value)
