"""Reading the projections: each question that the broker asks, answered by an index."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec

from trainq.errors import DamageError, NotFoundError
from trainq.jobs import (
    COUNTS_AS_DUPLICATE,
    TASKS,
    Effect,
    JobKind,
    JobState,
    JobSubmitted,
    PinView,
    RemovalView,
    Store,
    TaskSubmitted,
)
from trainq.journal import control, keys, lineage
from trainq.journal.events import decode_event
from trainq.journal.projections import LineRow
from trainq.journal.schema import FAILED_CONDITION
from trainq.journal.store import Journal


class JobRow(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """One job as the journal has it now. Times are wall seconds since 1970; ``token`` is the last lease's.

    ``array_like``, so that a row of SQLite's is converted at once.
    """

    id: str
    number: int
    kind: JobKind
    state: JobState
    name: str
    front: int
    generated: int
    priority: int
    rank: int
    started_before: int
    digest: str
    size_bytes: int
    blockers: int
    submitted_seq: int
    submitted_at: float
    prepared: int
    shard: str
    shard_digest: str
    rows: int
    tokens: int
    attempts: int
    failures: int
    best_step: int
    generation: int
    deaths: int
    death_step: int | None
    worker: str
    session: str
    token: int
    cancel_reason: str | None
    keep: int
    started_at: float | None
    ended_at: float | None
    retry_at: float
    reason: str
    report: bytes | None
    result: bytes | None


class ScheduleRow(msgspec.Struct, frozen=True, kw_only=True):
    """A rule of the schedule: its newest slot, the job that it last asked for, and why that slot asked for none."""

    name: str
    rule: str
    slot: int
    job: str
    reason: str
    at: float


_JOB_FIELDS = JobRow.__struct_fields__
_JOB_COLUMNS = ", ".join(_JOB_FIELDS)
_IN_LINE = "kind=? AND state='queued' AND blockers=0"
_LINE_ORDER = "front, generated, rank, key"


_PIN_FIELDS = PinView.__struct_fields__
_REMOVAL_FIELDS = RemovalView.__struct_fields__
_REMOVAL_COLUMNS = ", ".join(_REMOVAL_FIELDS)
_DUPLICATE = (f"SELECT key, state FROM jobs WHERE content=? AND digest=? AND kind='train' "
              "AND (cancel_reason IS NULL OR keep=1) "
              f"AND +state IN ({', '.join(repr(state.value) for state in sorted(COUNTS_AS_DUPLICATE))}) "
              "ORDER BY key LIMIT 1")


_Made = TypeVar("_Made", JobSubmitted, TaskSubmitted)
_View = TypeVar("_View", PinView, RemovalView, ScheduleRow)
_TASK_KINDS = ", ".join(repr(kind.value) for kind in sorted(TASKS))


class Queries:
    """All reads of the projections. They see the open transaction's own changes."""

    def __init__(self, journal: Journal) -> None:
        self._connection = journal.connection
        self._fold = journal.fold

    def job(self, job: str) -> JobRow:
        """The job of that id.

        Raises:
            NotFoundError: there is none.
        """
        row = self._one("key=?", (keys.key_of(job),))
        if row is None:
            raise NotFoundError(f"there is no job {job}", mend="trainq list shows them")
        return row

    def submission(self, row: JobRow) -> JobSubmitted:
        """The event that made this job (no task), with everything frozen then."""
        return self._made_by(row, JobSubmitted)

    def task(self, row: JobRow) -> TaskSubmitted:
        """The event that made this task."""
        return self._made_by(row, TaskSubmitted)

    def _made_by(self, row: JobRow, type_: type[_Made]) -> _Made:
        body = self._connection.execute("SELECT body FROM events WHERE seq=?", (row.submitted_seq,)).fetchone()
        if body is None:
            raise DamageError(row.id, f"its submission, event {row.submitted_seq}, is not in the journal")
        event = decode_event(body[0], row.submitted_seq)
        if not isinstance(event, type_):
            raise DamageError(row.id, f"event {row.submitted_seq} is not its submission")
        return event

    def request(self, request_id: str) -> tuple[str, str] | None:
        """(digest of the request, job) of an earlier submit under this id."""
        found = self._connection.execute("SELECT digest, job FROM requests WHERE id=?", (request_id,)).fetchone()
        return (str(found[0]), str(found[1])) if found else None

    def duplicate_of(self, digest: str) -> tuple[str, JobState] | None:
        """The first train job with this content that is waiting, running or trained, and that nobody has cancelled."""
        row = self._connection.execute(_DUPLICATE, (keys.content_of(digest), digest)).fetchone()
        return (keys.id_of(row[0]), JobState(row[1])) if row else None

    def head(self, kind: JobKind, now: float) -> JobRow | None:
        """Who is next of this kind: queued, waiting for nobody, and past its retry time (``now``: wall seconds)."""
        return self._one(f"{_IN_LINE} AND retry_at<=? ORDER BY {_LINE_ORDER}", (kind.value, now))

    def first_prepared(self, now: float) -> JobRow | None:
        """The first train job in the line that could start at once."""
        return self._one("kind='train' AND state='queued' AND blockers=0 AND prepared=1 AND retry_at<=? "
                         f"ORDER BY {_LINE_ORDER}", (now,), index="jobs_ready")

    def first_waiting(self, kind: JobKind) -> JobRow | None:
        """Any queued job of this kind, also one that waits for another job or for its retry time."""
        return self._one("state='queued' AND kind=? ORDER BY key", (kind.value,))

    def waiting_of_people(self) -> JobRow | None:
        """The first train job that people wait for, whatever it waits for itself."""
        return self._one("state='queued' AND kind='train' AND generated=0 ORDER BY key", ())

    def running(self, worker: str = "") -> list[JobRow]:
        """All running jobs, or those of one worker."""
        if worker:
            return self._many("state='running' AND worker=?", (worker,))
        return self._many("state='running'", ())

    def running_tasks(self) -> list[JobRow]:
        """The tasks that are being done."""
        return self._many(f"state='running' AND kind IN ({_TASK_KINDS}) ORDER BY key", ())

    def recent_tasks(self, limit: int) -> list[JobRow]:
        """The tasks that ended last, newest first."""
        return self._many("kind NOT IN ('train', 'prepare') AND ended_at IS NOT NULL ORDER BY ended_at DESC "
                          f"LIMIT {limit:d}", ())

    def ancestry(self, generation: int) -> list[lineage.Span]:
        """The spans of ``generation`` and all that it descends from, oldest first."""
        forks, line = self._pairs("SELECT first, source FROM forks", ()), self.line()
        if generation > line.newest > line.generation:
            # The journal has not heard of it: the first one since the line went back.
            forks.append((line.newest + 1, line.generation))
        return lineage.ancestry(forks, generation)

    def forks(self, after: int, limit: int) -> list[tuple[int, int]]:
        """The forks with a first generation above ``after``: (that one, the one that it descends from), in order."""
        return self._pairs(f"SELECT first, source FROM forks WHERE first>? ORDER BY first LIMIT {limit:d}", (after,))

    def is_fork(self, generation: int) -> bool:
        """Whether the journal knows that generation as one with which the line went back."""
        return bool(self._pairs("SELECT first, source FROM forks WHERE first=?", (generation,)))

    def uncovered(self, generation: int) -> list[JobRow]:
        """The trained jobs that ``generation`` does not hold, in the order in which they were trained."""
        return [row for hole in lineage.holes(self.ancestry(generation)) for row in self._many(
            "kind='train' AND state='succeeded' AND generation BETWEEN ? AND ? ORDER BY generation", tuple(hole),
            index="jobs_by_generation")]

    def reinstatable(self, generation: int) -> list[tuple[JobRow, int]]:
        """The train jobs that ``generation`` holds and that do not count as trained there, with where they were.

        Looks at every trained job: for the rare moments when the line goes back.
        """
        spans = self.ancestry(generation)
        held, values = _in_spans("t.generation", spans)
        counted, more = _in_spans("j.generation", spans)
        rows = self._pairs(
            f"SELECT t.job, max(t.generation) FROM trained t JOIN jobs j ON j.key=t.job WHERE {held} AND "
            f"NOT (j.state='succeeded' AND {counted}) GROUP BY t.job ORDER BY 2", (*values, *more))
        return [(self.job(keys.id_of(key)), trained) for key, trained in rows]

    def held_by(self, generation: int, after: int, limit: int) -> list[tuple[JobRow, int]]:
        """The train jobs that ``generation`` holds, with where they were trained: those trained after ``after``."""
        condition, values = _in_spans("generation", self.ancestry(generation))
        rows = self._pairs(f"SELECT job, generation FROM trained WHERE generation>? AND {condition} "
                           f"ORDER BY generation, job LIMIT {limit:d}", (after, *values))
        return [(self.job(keys.id_of(key)), trained) for key, trained in rows]

    def carried_files(self) -> Iterator[tuple[str, int, bool]]:
        """Digest, size and whether it is still to be trained, of each file that a job carries and that was not dropped.

        Reads all jobs: for a backup.
        """
        rows = self._connection.execute(
            "SELECT digest, size_bytes, max(state IN ('held', 'queued', 'running')) FROM jobs "
            "WHERE kind='train' AND digest NOT IN (SELECT digest FROM dropped) "
            "GROUP BY digest, size_bytes ORDER BY digest")
        for row in rows:
            yield msgspec.convert(row, tuple[str, int, bool], strict=False)

    def open_tasks(self, kind: JobKind) -> list[JobRow]:
        """The tasks of this kind that have not ended."""
        return self._many("state IN ('queued', 'running') AND kind=? ORDER BY key", (kind.value,))

    def damaged(self) -> set[tuple[int, str]]:
        """(generation, name) of each that was reported not to verify."""
        return {(int(row[0]), str(row[1])) for row in self._connection.execute("SELECT generation, name FROM damaged")}

    def pins(self) -> list[PinView]:
        """All pins, in the order of their names."""
        rows = self._connection.execute(f"SELECT {', '.join(_PIN_FIELDS)} FROM pins ORDER BY store, name")
        return [_named(_PIN_FIELDS, row, PinView) for row in rows]

    def pin(self, store: Store, name: str) -> PinView | None:
        """The pin on that copy, if there is one."""
        return next((pin for pin in self.pins() if (pin.store, pin.name) == (store, name)), None)

    def removals(self, limit: int) -> list[RemovalView]:
        """The newest removals, whatever became of them, newest first."""
        rows = self._connection.execute(
            f"SELECT {_REMOVAL_COLUMNS} FROM removals ORDER BY removal DESC LIMIT {limit:d}")
        return [_named(_REMOVAL_FIELDS, row, RemovalView) for row in rows]

    def schedule(self, name: str) -> ScheduleRow | None:
        """What came of that rule's last slot; None if the journal has not heard of it."""
        row = self._connection.execute(f"SELECT {', '.join(ScheduleRow.__struct_fields__)} FROM schedules WHERE name=?",
                                       (name,)).fetchone()
        return None if row is None else _named(ScheduleRow.__struct_fields__, row, ScheduleRow)

    def is_slot_done(self, name: str, slot: int) -> bool:
        """Whether this slot was fired, skipped, or before the rule's time."""
        found = self._connection.execute("SELECT 1 FROM slots WHERE name=? AND slot=?", (name, slot)).fetchone()
        return found is not None

    def trained_count(self) -> int:
        """How often a file was trained to its end. Counts them all: not for every second."""
        return int(self._pairs("SELECT count(*), 0 FROM trained", ())[0][0])

    def removed_generations(self) -> set[int]:
        """The checkpoints that retention has removed, and nobody has brought back."""
        rows = self._connection.execute("SELECT name FROM removals WHERE store=? AND state<>'undone'",
                                        (Store.CHECKPOINTS.value,))
        return {int(str(name)[1:].split("-")[0]) for name, in rows}

    def removal(self, removal: int) -> RemovalView:
        """The removal of that number.

        Raises:
            NotFoundError: there is none.
        """
        row = self._connection.execute(f"SELECT {_REMOVAL_COLUMNS} FROM removals WHERE removal=?",
                                       (removal,)).fetchone()
        if row is None:
            raise NotFoundError(f"there is no removal {removal}", mend="trainq retention trash shows them")
        return _named(_REMOVAL_FIELDS, row, RemovalView)

    def removal_in_trash(self, store: Store, name: str) -> int | None:
        """The number of the newest removal that has put this there and is neither undone nor purged."""
        row = self._connection.execute("SELECT removal FROM removals WHERE store=? AND name=? AND state='trash' "
                                       "ORDER BY removal DESC LIMIT 1", (store.value, name)).fetchone()
        return int(row[0]) if row else None

    def dropping(self, limit: int) -> list[str]:
        """Content that is about to be deleted: decided, and not reported to be gone."""
        rows = self._connection.execute("SELECT digest FROM dropped WHERE gone=0 ORDER BY digest LIMIT ?", (limit,))
        return [str(digest) for digest, in rows]

    def is_dropping(self, digest: str) -> bool:
        """Whether this content is about to be deleted."""
        return self._connection.execute("SELECT 1 FROM dropped WHERE digest=? AND gone=0",
                                        (digest,)).fetchone() is not None

    def is_dropped(self, digest: str) -> bool:
        """Whether retention has deleted this content, or is about to, and it has not come again."""
        return self._connection.execute("SELECT 1 FROM dropped WHERE digest=?", (digest,)).fetchone() is not None

    def carrying(self, digest: str) -> list[JobRow]:
        """All train jobs that carry this content."""
        return self._many("kind='train' AND content=? AND digest=? ORDER BY key", (keys.content_of(digest), digest))

    def used_shards(self, names: Sequence[str]) -> set[str]:
        """Those of these shards that a job has which has not ended."""
        marks = ", ".join("?" * len(names))
        rows = self._connection.execute(
            f"SELECT DISTINCT shard FROM jobs INDEXED BY jobs_by_shard WHERE shard<>'' AND shard IN ({marks}) "
            "AND state IN ('held', 'queued', 'running')", tuple(names))
        return {str(name) for name, in rows}

    def cancelled_by_end_of(self, job: str) -> list[str]:
        """Those that waited for the success of ``job``, which has ended otherwise."""
        rows = self._connection.execute("SELECT job FROM dependencies WHERE after=? AND any=0 ORDER BY job",
                                        (keys.key_of(job),))
        return [keys.id_of(row[0]) for row in rows]

    def waits_for(self, job: str) -> list[str]:
        """The jobs that ``job`` still waits for."""
        rows = self._connection.execute("SELECT after FROM dependencies WHERE job=? ORDER BY after",
                                        (keys.key_of(job),))
        return [keys.id_of(row[0]) for row in rows]

    def listing(self, *, kinds: Iterable[JobKind], states: Iterable[JobState], before_number: int | None,
                limit: int, failed_only: bool = False) -> list[JobRow]:
        """Jobs, newest first, of any of these kinds and (if any are named) states, below ``before_number``.

        ``failed_only``: with a failed attempt, or failed for good.
        """
        kind_marks, state_marks = list(kinds), list(states)
        conditions = [f"kind IN ({_marks(kind_marks)})"]
        values: list[Any] = [kind.value for kind in kind_marks]
        if state_marks:
            conditions.append(f"state IN ({_marks(state_marks)})")
            values += [state.value for state in state_marks]
        if failed_only:
            conditions.append(FAILED_CONDITION)
        if before_number is not None:
            conditions.append("key<?")
            values.append(min(before_number, keys.MAX_NUMBER) * keys.SPACING)
        order = f"{' AND '.join(conditions)} ORDER BY key DESC LIMIT {limit:d}"
        return self._many(order, tuple(values))

    def waiting_line(self, limit: int) -> list[JobRow]:
        """The first train jobs of the line in the order in which they will start."""
        return self._many(f"{_IN_LINE} ORDER BY {_LINE_ORDER} LIMIT {limit:d}", (JobKind.TRAIN.value,))

    def counts(self) -> dict[str, dict[str, int]]:
        """{kind: {state: how many}}, only those that are not zero."""
        return self._fold.counts()

    def effects(self, row: JobRow) -> tuple[tuple[Effect, str], ...]:
        """What makes the steps of the job others than its settings say, with the reasons, by step."""
        return control.effects_of(self._connection, keys.key_of(row.id))

    def line(self) -> LineRow:
        """The model line and the queue's pause."""
        return self._fold.line

    def _pairs(self, query: str, values: tuple[Any, ...]) -> list[tuple[int, int]]:
        return [msgspec.convert(row, tuple[int, int]) for row in self._connection.execute(query, values)]

    def _one(self, condition: str, values: tuple[Any, ...], *, index: str = "") -> JobRow | None:
        rows = self._many(f"{condition} LIMIT 1", values, index=index)
        return rows[0] if rows else None

    def _many(self, condition: str, values: tuple[Any, ...], *, index: str = "") -> list[JobRow]:
        """``index``: the one to use, where SQLite's planner would take another that is not as good."""
        table = f"jobs INDEXED BY {index}" if index else "jobs"
        rows = self._connection.execute(f"SELECT {_JOB_COLUMNS} FROM {table} WHERE {condition}", values)
        return [msgspec.convert(row, JobRow) for row in rows]


def _in_spans(column: str, spans: list[lineage.Span]) -> tuple[str, list[int]]:
    """The condition that a column is in one of the spans, and its values."""
    return (f"({' OR '.join([f'{column} BETWEEN ? AND ?'] * len(spans))})",
            [bound for span in spans for bound in span])


def _marks(values: list[Any]) -> str:
    return ", ".join("?" * len(values))


def _named(fields: tuple[str, ...], row: tuple[Any, ...], view: type[_View]) -> _View:
    return msgspec.convert(dict(zip(fields, row, strict=True)), view)
