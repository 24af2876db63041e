"""The tables that are folded from the events: what is true now.

``apply`` is the fold's one step. It depends on nothing but the tables and the event, so that folding all events again
gives the same tables; ``fsck`` does that. Table by table:

* ``jobs``: one row a job. ``number`` is its submission; ``front`` is below 1 while it goes ahead of everything and may
  have steps in the weights (0 and a little less: it was given back half done, the last one first; far less: its
  generation was lost), ``rank`` its place in the line otherwise, from its priority and how many jobs were
  ``started_before`` it came, ``blockers`` the number of jobs that it still waits for. ``best_step`` is the highest
  published step of all attempts, ``generation`` the one that covers it; ``deaths`` in a row of its worker fell in
  ``death_step``.
* ``requests``: request ids, kept for ever. ``dependencies``: who waits for whom.
* ``counts``: how many jobs of each kind and state, so that counting costs the same with ten or ten million.
* ``line``: one row: the head's generation, the ``newest`` that ever was, the queue's pause and hold, the next number,
  how many train jobs were started, how they age, and which have failed since the last one that succeeded.
* ``damaged``: generations that did not verify.
"""

from __future__ import annotations

from typing import Any

import apsw
import msgspec

from trainq.errors import NotFoundError, TransitionError
from trainq.jobs import (
    ENDED,
    FAILED,
    AgeingSet,
    AnyEvent,
    AttemptFailed,
    CancelRequested,
    CheckpointDamaged,
    CheckpointPublished,
    DuplicateSubmitted,
    FileRefused,
    HeadAdopted,
    HoldPlaced,
    JobCancelled,
    JobEvent,
    JobFailed,
    JobKind,
    JobPrepared,
    JobQuarantined,
    JobRejected,
    JobRetried,
    JobState,
    JobSubmitted,
    JobSucceeded,
    JobUncovered,
    LeaseEnded,
    LeaseGranted,
    PreparationReopened,
    Priority,
    QueueHeld,
    QueueHoldLifted,
    QueuePaused,
    QueueResumed,
    class_jobs,
    rank,
    transition,
)

# Jobs that people ask for by ``list --failed``: an index serves exactly this condition.
FAILED_CONDITION = f"(failures>0 OR state IN ({', '.join(repr(state.value) for state in sorted(FAILED))}))"

SCHEMA = f"""
CREATE TABLE jobs (
    id TEXT PRIMARY KEY, number INTEGER NOT NULL, kind TEXT NOT NULL, state TEXT NOT NULL, name TEXT NOT NULL,
    front INTEGER NOT NULL, generated INTEGER NOT NULL, priority INTEGER NOT NULL, rank INTEGER NOT NULL,
    started_before INTEGER NOT NULL,
    digest TEXT NOT NULL,
    size_bytes INTEGER NOT NULL, blockers INTEGER NOT NULL, submitted_seq INTEGER NOT NULL, submitted_at REAL NOT NULL,
    prepared INTEGER NOT NULL, shard TEXT NOT NULL, shard_digest TEXT NOT NULL, rows INTEGER NOT NULL,
    tokens INTEGER NOT NULL, attempts INTEGER NOT NULL, failures INTEGER NOT NULL, best_step INTEGER NOT NULL,
    generation INTEGER NOT NULL, deaths INTEGER NOT NULL, death_step INTEGER, worker TEXT NOT NULL,
    session TEXT NOT NULL, token INTEGER NOT NULL, cancel_reason TEXT, started_at REAL, ended_at REAL,
    retry_at REAL NOT NULL, reason TEXT NOT NULL, report BLOB, result BLOB
) STRICT;
CREATE INDEX jobs_line ON jobs(kind, front, generated, rank, number) WHERE state='queued' AND blockers=0;
CREATE INDEX jobs_by_number ON jobs(kind, number);
CREATE INDEX jobs_by_state ON jobs(state, kind, number);
CREATE INDEX jobs_failed ON jobs(kind, number) WHERE {FAILED_CONDITION};
CREATE INDEX jobs_running ON jobs(worker) WHERE state='running';
CREATE INDEX jobs_by_digest ON jobs(digest, number) WHERE kind='train';
CREATE INDEX jobs_by_generation ON jobs(generation) WHERE kind='train' AND state='succeeded';
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
    generation INTEGER NOT NULL, checkpoint TEXT NOT NULL, step INTEGER NOT NULL, newest INTEGER NOT NULL,
    started INTEGER NOT NULL, held_reason TEXT, hold_spent INTEGER NOT NULL, failed_jobs TEXT NOT NULL,
    ageing_jobs INTEGER NOT NULL
) STRICT;
INSERT INTO line VALUES (1, 1, NULL, 0, '', 0, 0, 0, NULL, 0, '', 20);
CREATE TABLE damaged (generation INTEGER NOT NULL, name TEXT NOT NULL, reason TEXT NOT NULL,
    PRIMARY KEY (generation, name)) STRICT, WITHOUT ROWID;
"""

# Of a job that is trained again from its first row: nothing that earlier attempts did counts for or against it.
_CLEAN_SLATE = {"failures": 0, "best_step": 0, "deaths": 0, "death_step": None}
# How many of the jobs that failed in a row are remembered; more than anybody counts to.
MAX_FAILED_JOBS = 16
# Generations are far below this, so that an uncovered job's place is below 0.
_BEFORE_ALL = 1 << 60

_NEW_JOB = """
INSERT INTO jobs (id, number, kind, state, name, front, generated, priority, rank, started_before, digest, size_bytes,
    blockers, submitted_seq, submitted_at, prepared, shard, shard_digest, rows, tokens, attempts, failures, best_step,
    generation, deaths, worker, session, token, retry_at, reason)
VALUES (?, ?, ?, 'queued', ?, 1, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, '', '', 0, 0, 0, 0, 0, 0, 0, '', '', 0, 0.0, '')
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
        case QueueHeld():
            connection.execute("UPDATE line SET held_reason=?, hold_spent=max(hold_spent, ?)",
                               (event.reason, event.failures_in_a_row))
        case QueueHoldLifted():
            connection.execute("UPDATE line SET held_reason=NULL")
        case CheckpointDamaged():
            connection.execute("INSERT OR REPLACE INTO damaged VALUES (?, ?, ?)",
                               (event.generation, event.name, event.reason))
        case HeadAdopted():
            _set_head(connection, event)
        case AgeingSet():
            connection.execute("UPDATE line SET ageing_jobs=?", (event.ageing_jobs,))
            connection.execute("UPDATE jobs SET rank=priority*?+started_before "
                               "WHERE state IN ('held', 'queued', 'running')", (class_jobs(event.ageing_jobs),))
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
    place, started = _place(connection, event.priority)
    for id_, kind, waits in ((event.job, JobKind.TRAIN, blockers), (event.prepare, JobKind.PREPARE, 0)):
        connection.execute(_NEW_JOB, (id_, event.number, kind.value, event.name, generated, int(event.priority),
                                      place, started, event.digest, event.size_bytes, waits, seq,
                                      at))
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
    if kind == JobKind.TRAIN:
        _note_outcome(connection, event)
    if after in ENDED:
        # It waits for nobody any more (see below), also if it is tried again.
        columns |= {"ended_at": at, "worker": "", "session": "", "front": 1, "blockers": 0}
    elif before in ENDED:
        columns |= {"ended_at": None, "result": None}
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
            return {"retry_at": 0.0, "reason": event.reason, "rank": _old_place(connection, event.job)}
        case JobRejected():
            return {"reason": event.reason, "report": _pack(event.report)}
        case LeaseGranted() | LeaseEnded() | AttemptFailed() | JobUncovered() | JobRetried():
            return _line_columns(connection, seq, at, event)
        case CheckpointPublished():
            _set_head(connection, event)
            connection.execute("UPDATE jobs SET best_step=max(best_step, ?) WHERE id=?", (event.job_step, event.job))
            return {}
        case CancelRequested():
            return {"cancel_reason": event.reason}
        case JobSucceeded():
            return {"result": _pack(event.result), "reason": "", "cancel_reason": None,
                    "generation": int(event.result.get("generation", 0))}
        case JobFailed() | JobQuarantined():
            # Of one that runs, the attempt that sets it aside has failed, too.
            connection.execute("UPDATE jobs SET failures=failures+1 WHERE id=? AND state='running'", (event.job,))
            return {"reason": event.reason}
        case HoldPlaced() | JobCancelled():
            return {"reason": event.reason}
        case _:
            return {}


def _line_columns(connection: apsw.Connection, seq: int, at: float,
                  event: LeaseGranted | LeaseEnded | AttemptFailed | JobUncovered | JobRetried) -> dict[str, Any]:
    """What changes when a job leaves the line, or comes back into it."""
    match event:
        case LeaseGranted():
            connection.execute("UPDATE line SET started=started+1 WHERE EXISTS "
                               "(SELECT 1 FROM jobs WHERE id=? AND kind='train' AND front=1)", (event.job,))
            connection.execute("UPDATE jobs SET started_at=? WHERE id=? AND started_at IS NULL", (at, event.job))
            return {"worker": event.worker, "session": event.session, "token": seq, "attempts": event.attempt,
                    "front": 1, "reason": ""}
        case LeaseEnded():
            if event.died and event.step is not None:
                connection.execute("UPDATE jobs SET deaths=CASE WHEN death_step IS ? THEN deaths+1 ELSE 1 END, "
                                   "death_step=? WHERE id=?", (event.step, event.step, event.job))
            # What was given back half done goes first: before others that were, whose steps are below its own or out
            # of the line by now, and before those whose generation was lost.
            lowest = connection.execute("SELECT min(front) FROM jobs WHERE kind='train' AND state='queued' AND "
                                        "blockers=0 AND front<1").fetchone()
            front = 0 if lowest is None or lowest[0] is None else int(lowest[0]) - 1
            return {"worker": "", "session": "", "front": front, "reason": event.reason}
        case AttemptFailed():
            connection.execute("UPDATE jobs SET failures=failures+? WHERE id=?", (event.counts, event.job))
            return {"worker": "", "session": "", "retry_at": event.retry_at, "priority": int(Priority.LOW),
                    **_behind(connection, Priority.LOW), "reason": event.reason, "deaths": 0, "death_step": None}
        case JobUncovered():
            # Before every job that was given back, and among themselves in the order of what was lost.
            return {**_CLEAN_SLATE, "front": event.generation - _BEFORE_ALL, "reason": event.reason, "generation": 0}
        case JobRetried():
            # What is prepared again may come out otherwise now: the retry begins from the first row.
            connection.execute("UPDATE jobs SET shard_digest='' WHERE id=? AND prepared=0", (event.job,))
            return {**_CLEAN_SLATE, "retry_at": 0.0, "cancel_reason": None, "reason": "",
                    **_behind(connection, Priority(_priority(connection, event.job)))}


def _set_head(connection: apsw.Connection, head: CheckpointPublished | HeadAdopted) -> None:
    connection.execute("UPDATE line SET generation=?, checkpoint=?, step=?, newest=max(newest, ?)",
                       (head.generation, head.name, head.step, head.generation))


def _note_outcome(connection: apsw.Connection, event: JobEvent) -> None:
    """Keep the list of the different train jobs that have failed since the last one that succeeded."""
    if isinstance(event, JobSucceeded):
        connection.execute("UPDATE line SET failed_jobs='', hold_spent=0")
    elif isinstance(event, AttemptFailed | JobQuarantined):
        row = connection.execute("SELECT failed_jobs FROM line").fetchone()
        known = str(row[0]).split() if row else []
        if event.job not in known:
            connection.execute("UPDATE line SET failed_jobs=?", (" ".join([*known, event.job][-MAX_FAILED_JOBS:]),))


def _place(connection: apsw.Connection, priority: Priority) -> tuple[int, int]:
    """The rank of a job that comes now, and how many jobs were started before."""
    row = connection.execute("SELECT started, ageing_jobs FROM line").fetchone()
    started, ageing_jobs = (int(row[0]), int(row[1])) if row else (0, 0)
    return rank(priority, started, ageing_jobs), started


def _behind(connection: apsw.Connection, priority: Priority) -> dict[str, int]:
    """The place of a job that comes into the line again, as if it came now."""
    place, started = _place(connection, priority)
    return {"rank": place, "started_before": started}


def _old_place(connection: apsw.Connection, job: str) -> int:
    """The rank of a job that comes back to where it was; while it was ended its rank followed no change of ageing."""
    row = connection.execute("SELECT priority, started_before, ageing_jobs FROM jobs, line WHERE id=?",
                             (job,)).fetchone()
    return rank(Priority(row[0]), int(row[1]), int(row[2])) if row else 0


def _priority(connection: apsw.Connection, job: str) -> int:
    row = connection.execute("SELECT priority FROM jobs WHERE id=?", (job,)).fetchone()
    return int(row[0]) if row else Priority.NORMAL


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
