"""The tables that are folded from the events: what is true now.

:meth:`Fold.apply` is the fold's one step. It depends on nothing but the tables and the event, so that folding all
events again gives the same tables; ``fsck`` does that. What every event changes (``counts``, ``line``) is kept in
memory during a transaction and written once, by :meth:`Fold.flush`, before it is committed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import apsw
import msgspec

from trainq.errors import DamageError, NotFoundError, TransitionError
from trainq.jobs import (
    ENDED,
    AgeingSet,
    AnyEvent,
    AttemptFailed,
    CancelRequested,
    CheckpointDamaged,
    CheckpointPublished,
    DuplicateSubmitted,
    FileRefused,
    HeadAdopted,
    HoldLifted,
    HoldPlaced,
    JobCancelled,
    JobEvent,
    JobFailed,
    JobKind,
    JobPrepared,
    JobQuarantined,
    JobReinstated,
    JobRejected,
    JobRetried,
    JobState,
    JobSubmitted,
    JobSucceeded,
    JobTakenOut,
    JobUncovered,
    LeaseEnded,
    LeaseGranted,
    LineRebased,
    LineRestored,
    PreparationReopened,
    Priority,
    TaskSubmitted,
    UserNoted,
    class_jobs,
    rank,
    transition,
)
from trainq.journal import control, enclosing, keeping, keys, learning, lineage

# Of a job that is trained again from its first row: nothing that earlier attempts did counts for or against it.
_CLEAN_SLATE = {"failures=?": 0, "best_step=?": 0, "deaths=?": 0, "death_step=?": None}
# How many of the jobs that failed in a row are remembered; more than anybody counts to.
MAX_FAILED_JOBS = 16
# Generations are far below this, so that an uncovered job's place is below 0.
BEFORE_ALL = 1 << 60

_NEW_JOB = """
INSERT INTO jobs (key, kind, state, name, front, generated, priority, rank, started_before, digest, content,
    size_bytes, blockers, submitted_seq, submitted_at, prepared, shard, shard_digest, rows, tokens, attempts, failures,
    best_step, generation, deaths, worker, session, token, retry_at, reason)
VALUES (?, ?, 'queued', ?, 1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, '', '', 0, 0, 0, 0, 0, 0, 0, '', '', 0, 0.0, '')
"""

# The changes of a row, as "column=expression with one ?" and the value for it.
_Changes = dict[str, Any]


class LineRow(msgspec.Struct, frozen=True, kw_only=True):
    """The model line and the queue as a whole; ``failed_jobs`` are separated by spaces."""

    next_number: int
    paused_reason: str | None
    generation: int
    checkpoint: str
    step: int
    newest: int
    started: int
    held_reason: str | None
    hold_spent: int
    failed_jobs: str
    ageing_jobs: int
    next_task: int
    inbox_waiting: int
    paused_until: float = 0.0
    drained_reason: str | None = None
    stopped_session: str = ""
    stopped_reason: str = ""
    checkpoint_asked: int = 0


_Mark = tuple[LineRow, LineRow, dict[tuple[str, str], int], set[tuple[str, str]]]
_LINE_COLUMNS = LineRow.__struct_fields__


class _Job(NamedTuple):
    """What the fold asks of a job's row before it changes it."""

    kind: str
    state: str
    front: int
    blockers: int
    generation: int
    prepared: int
    priority: int
    started_before: int
    death_step: int | None


class Fold:
    """The tables, with ``line`` and the counts in memory until :meth:`flush`. Not thread safe."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        row = connection.execute(f"SELECT {', '.join(_LINE_COLUMNS)} FROM line").fetchone()
        if row is None:
            raise DamageError("line", "the journal's table lacks its only row")
        self.line = self._written_line = LineRow(**dict(zip(_LINE_COLUMNS, row, strict=True)))
        self._counts: dict[tuple[str, str], int] = {
            (kind, state): n for kind, state, n in connection.execute("SELECT kind, state, n FROM counts")}
        self._changed: set[tuple[str, str]] = set()
        # How often something in memory was changed.
        self.changes = 0

    def mark(self) -> _Mark:
        """What is in memory now, for :meth:`restore`."""
        return self.line, self._written_line, self._counts.copy(), self._changed.copy()

    def restore(self, mark: _Mark) -> None:
        """Be as it was at ``mark``; the caller undoes the tables."""
        self.line, self._written_line, self._counts, self._changed = mark

    def flush(self) -> None:
        """Write what is kept in memory; to be called before each commit."""
        if self.line is not self._written_line:
            assignments = ", ".join(f"{name}=?" for name in _LINE_COLUMNS)
            self._connection.execute(f"UPDATE line SET {assignments}", msgspec.structs.astuple(self.line))
            self._written_line = self.line
        for kind, state in sorted(self._changed):
            self._connection.execute("INSERT OR REPLACE INTO counts VALUES (?, ?, ?)",
                                     (kind, state, self._counts[kind, state]))
        self._changed.clear()

    def counts(self) -> dict[str, dict[str, int]]:
        """{kind: {state: how many}}, only those that are not zero."""
        result: dict[str, dict[str, int]] = {}
        for (kind, state), n in sorted(self._counts.items()):
            if n:
                result.setdefault(kind, {})[state] = n
        return result

    def apply(self, seq: int, at: float, event: AnyEvent) -> JobState | None:
        """Fold one event into the tables; gives the state of its job after it.

        Raises:
            TransitionError: the job's state does not allow it; nothing was changed.
            NotFoundError: the event names a job that does not exist; nothing was changed.
        """
        match event:
            case JobSubmitted():
                self._submit(seq, at, event)
                return JobState.QUEUED
            case TaskSubmitted():
                self._submit_task(seq, at, event)
                return JobState.QUEUED
            case JobEvent():
                return self._change(seq, at, event)
            case FileRefused() | UserNoted():
                self._remember_request(seq, event, "")
            case CheckpointDamaged():
                self._connection.execute("INSERT OR REPLACE INTO damaged VALUES (?, ?, ?)",
                                         (event.generation, event.name, event.reason))
            case HeadAdopted() | LineRestored() | LineRebased():
                self._set_head(event)
            case AgeingSet():
                self._set_line(ageing_jobs=event.ageing_jobs)
                self._connection.execute("UPDATE jobs SET rank=priority*?+started_before "
                                         "WHERE state IN ('held', 'queued', 'running')",
                                         (class_jobs(event.ageing_jobs),))
            case _ if (changes := control.line_changes(event, seq, at, self.line.hold_spent)) is not None:
                self._set_line(**changes)
            case _:
                if not learning.fold(self._connection, seq, at, event):
                    keeping.fold(self._connection, seq, at, event)
        return None

    def _submit(self, seq: int, at: float, event: JobSubmitted) -> None:
        job = keys.key_of(event.job)
        blocked_by = [other for other in map(keys.key_of, event.after) if self._blocks(other, event)]
        for other in blocked_by:
            self._connection.execute("INSERT INTO dependencies VALUES (?, ?, ?)", (other, job, event.after_any))
        place, started = self._place(event.priority)
        common = (int(event.origin == "generated"), int(event.priority), place, started, event.digest,
                  keys.content_of(event.digest), event.size_bytes)
        self._connection.executemany(_NEW_JOB, (
            (job, JobKind.TRAIN.value, event.name, *common, len(blocked_by), seq, at),
            (keys.key_of(event.prepare), JobKind.PREPARE.value, event.name, *common, 0, seq, at)))
        self._count(JobKind.TRAIN.value, JobState.QUEUED.value, 1)
        self._count(JobKind.PREPARE.value, JobState.QUEUED.value, 1)
        self._set_line(next_number=event.number + 1)
        self._connection.execute("DELETE FROM dropped WHERE digest=?", (event.digest,))
        self._remember_request(seq, event, event.job)

    def _submit_task(self, seq: int, at: float, event: TaskSubmitted) -> None:
        place, started = self._place(Priority.NORMAL)
        self._connection.execute(_NEW_JOB, (keys.key_of(event.job), event.kind.value, event.name, 0,
                                            int(Priority.NORMAL), place, started, "", 0, 0, 0, seq, at))
        self._count(event.kind.value, JobState.QUEUED.value, 1)
        self._set_line(next_task=event.number + 1)
        self._remember_request(seq, event, event.job)

    def _blocks(self, other: int, event: JobSubmitted) -> bool:
        """Whether ``event``'s job waits for ``other``; an error if it would wait for ever."""
        row = self._connection.execute("SELECT state FROM jobs WHERE key=?", (other,)).fetchone()
        if row is None:
            raise NotFoundError(f"there is no job {keys.id_of(other)}")
        state = JobState(row[0])
        if state is JobState.SUCCEEDED or (event.after_any and state in ENDED):
            return False
        if state in ENDED:
            raise TransitionError(keys.id_of(other), state.value, f"waiting for its success ({event.job})")
        return True

    def _change(self, seq: int, at: float, event: JobEvent) -> JobState:
        key = keys.key_of(event.job)
        found = self._connection.execute(
            f"SELECT {', '.join(_Job._fields)} FROM jobs WHERE key=?", (key,)).fetchone()
        if found is None:
            raise NotFoundError(f"there is no job {event.job}")
        row = _Job(*found)
        before = JobState(row.state)
        after = transition(event.job, before, event)
        if isinstance(event, DuplicateSubmitted):
            self._remember_request(seq, event, event.job)
            return after
        columns: _Changes = self._columns(seq, at, event, key, row)
        if row.kind == JobKind.TRAIN:
            self._note_outcome(event)
            control.note_effects(self._connection, key, event)
        if after in ENDED:
            # It waits for nobody any more (see below), also if it is tried again.
            columns |= {"ended_at=?": at, "worker=?": "", "session=?": "", **_if_changed(row, front=1, blockers=0)}
        elif before in ENDED:
            columns |= {"ended_at=?": None, "result=?": None}
        if before is not after:
            columns["state=?"] = after.value
            self._count(row.kind, before.value, -1)
            self._count(row.kind, after.value, 1)
        if columns:
            self._connection.execute(f"UPDATE jobs SET {', '.join(columns)} WHERE key=?", (*columns.values(), key))
        if after in ENDED:
            self._release_dependants(key, after)
            if row.blockers:
                self._connection.execute("DELETE FROM dependencies WHERE job=?", (key,))
        return after

    def _columns(self, seq: int, at: float, event: JobEvent, key: int, row: _Job) -> _Changes:
        """What the event changes in its job's row besides the state."""
        match event:
            case JobPrepared():
                enclosing.note_prepared(self._connection, key, event)
                return {"prepared=?": 1, "shard=?": event.shard, "shard_digest=?": event.shard_digest,
                        "rows=?": event.rows, "tokens=?": event.tokens, "report=?": _pack(event.report)}
            case PreparationReopened():
                self._connection.execute("UPDATE jobs SET prepared=0 WHERE key=?", (keys.sibling(key, JobKind.TRAIN),))
                # While it was ended its rank followed no change of ageing.
                place = rank(Priority(row.priority), row.started_before, self.line.ageing_jobs)
                return {"retry_at=?": 0.0, "reason=?": event.reason, "rank=?": place}
            case JobRejected():
                return {"reason=?": event.reason, "report=?": _pack(event.report)}
            case (LeaseGranted() | LeaseEnded() | AttemptFailed() | JobUncovered() | JobRetried() | JobTakenOut()
                  | JobReinstated()):
                return self._line_columns(seq, at, event, row)
            case CheckpointPublished():
                self._set_head(event)
                return {"best_step=max(best_step, ?)": event.job_step}
            case CancelRequested():
                return {"cancel_reason=?": event.reason, "keep=?": int(event.keep)}
            case JobSucceeded():
                generation = int(event.result.get("generation", 0))
                if row.kind == JobKind.TRAIN:
                    lineage.note_trained(self._connection, generation, key)
                return {"result=?": _pack(event.result), "reason=?": "", "cancel_reason=?": None, "keep=?": 0,
                        **_if_changed(row, generation=generation)}
            case JobFailed() | JobQuarantined():
                # Of one that runs, the attempt that sets it aside has failed, too.
                return {"reason=?": event.reason, "failures=failures+?": int(row.state == JobState.RUNNING)}
            case HoldPlaced() | JobCancelled():
                return {"reason=?": event.reason}
            case HoldLifted():
                enclosing.note_released(self._connection, key)
                return {"reason=?": ""}
            case _:
                return {}

    def _line_columns(self, seq: int, at: float,
                      event: LeaseGranted | LeaseEnded | AttemptFailed | JobUncovered | JobRetried | JobTakenOut
                      | JobReinstated,
                      row: _Job) -> _Changes:
        """What changes when a job leaves the line, or comes back into it."""
        match event:
            case LeaseGranted():
                if row.kind == JobKind.TRAIN and row.front == 1:
                    self._set_line(started=self.line.started + 1)
                return {"started_at=coalesce(started_at, ?)": at, "worker=?": event.worker, "session=?": event.session,
                        "token=?": seq, "attempts=?": event.attempt, "reason=?": "", **_if_changed(row, front=1)}
            case LeaseEnded():
                deaths: _Changes = {}
                if event.died and event.step is not None:
                    again = event.step == row.death_step
                    deaths = {"deaths=deaths*?+1": int(again), "death_step=?": event.step}
                # What was given back half done goes first: before others that were, whose steps are below its own or
                # out of the line by now, and before those whose generation was lost.
                lowest = self._connection.execute("SELECT min(front) FROM jobs WHERE kind='train' AND state='queued' "
                                                  "AND blockers=0 AND front<1").fetchone()
                front = 0 if lowest is None or lowest[0] is None else int(lowest[0]) - 1
                return {**deaths, "worker=?": "", "session=?": "", "front=?": front, "reason=?": event.reason}
            case AttemptFailed():
                return {"failures=failures+?": int(event.counts), "worker=?": "", "session=?": "",
                        "retry_at=?": event.retry_at, "priority=?": int(Priority.LOW), **self._behind(Priority.LOW),
                        "reason=?": event.reason, "deaths=?": 0, "death_step=?": None}
            case JobUncovered():
                # Before every job that was given back, and among themselves in the order of what was lost.
                return {**_CLEAN_SLATE, "front=?": event.generation - BEFORE_ALL, "reason=?": event.reason,
                        "generation=?": 0, "retry_at=?": 0.0, "cancel_reason=?": None, "keep=?": 0}
            case JobTakenOut():
                return {**_CLEAN_SLATE, "reason=?": event.reason, "generation=?": 0, "result=?": None}
            case JobReinstated():
                return {"reason=?": event.reason, "cancel_reason=?": None, "keep=?": 0,
                        **_if_changed(row, generation=event.generation)}
            case JobRetried():
                # What is prepared again may come out otherwise now: the retry begins from the first row.
                anew: _Changes = {} if row.prepared else {"shard_digest=?": ""}
                return {**_CLEAN_SLATE, **anew, "retry_at=?": 0.0, "cancel_reason=?": None, "keep=?": 0, "reason=?": "",
                        **self._behind(Priority(row.priority))}

    def _set_line(self, **changes: Any) -> None:
        self.line = msgspec.structs.replace(self.line, **changes)
        self.changes += 1

    def _set_head(self, head: CheckpointPublished | HeadAdopted | LineRestored | LineRebased) -> None:
        if isinstance(head, LineRestored):
            lineage.note_fork(self._connection, head.generation, head.source)
        elif head.generation > self.line.newest > self.line.generation:
            # Those in between, of which nobody has told, descend from there as well.
            lineage.note_fork(self._connection, self.line.newest + 1, self.line.generation)
        self._set_line(generation=head.generation, checkpoint=head.name, step=head.step,
                       newest=max(self.line.newest, head.generation))

    def _note_outcome(self, event: JobEvent) -> None:
        """Keep the list of the different train jobs that have failed since the last one that succeeded."""
        if isinstance(event, JobSucceeded):
            self._set_line(failed_jobs="", hold_spent=0)
        elif isinstance(event, AttemptFailed | JobQuarantined):
            known = self.line.failed_jobs.split()
            if event.job not in known:
                self._set_line(failed_jobs=" ".join([*known, event.job][-MAX_FAILED_JOBS:]))

    def _place(self, priority: Priority) -> tuple[int, int]:
        """The rank of a job that comes now, and how many jobs were started before."""
        return rank(priority, self.line.started, self.line.ageing_jobs), self.line.started

    def _behind(self, priority: Priority) -> _Changes:
        """The place of a job that comes into the line again, as if it came now."""
        place, started = self._place(priority)
        return {"rank=?": place, "started_before=?": started}

    def _release_dependants(self, key: int, ended: JobState) -> None:
        """Those who waited for it wait for one less; the broker cancels those for whom its end was the wrong one."""
        wanted = "after=?" if ended is JobState.SUCCEEDED else "after=? AND any=1"
        released = self._connection.execute(f"SELECT job FROM dependencies WHERE {wanted}", (key,)).fetchall()
        if released:
            self._connection.executemany("UPDATE jobs SET blockers=blockers-1 WHERE key=?", released)
            self._connection.execute(f"DELETE FROM dependencies WHERE {wanted}", (key,))

    def _remember_request(self, seq: int, event: JobSubmitted | TaskSubmitted | DuplicateSubmitted | FileRefused
                          | UserNoted, job: str) -> None:
        self._connection.execute("INSERT INTO requests VALUES (?, ?, ?, ?)",
                                 (event.request_id, event.request_digest, job, seq))

    def _count(self, kind: str, state: str, change: int) -> None:
        self._counts[kind, state] = self._counts.get((kind, state), 0) + change
        self._changed.add((kind, state))
        self.changes += 1


def _if_changed(row: _Job, **values: int) -> _Changes:
    """Only what differs: SQLite moves a row in each index of a column that is assigned, whatever the value is."""
    return {f"{name}=?": value for name, value in values.items() if getattr(row, name) != value}


def _pack(value: dict[str, Any]) -> bytes:
    return msgspec.msgpack.encode(value)
