"""Granting: a worker asks for work, and gets a lease on whoever is next, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from services.broker import endings, leasing, tasks
from services.broker.guarding import DiskGuard
from services.broker.reading import spec_of
from services.broker.recording import Recorder
from trainq.clock import Clock
from trainq.config import Settings
from trainq.jobs import TASKS, JobKind, JobOvertaken, JobState, LeaseGranted
from trainq.journal import JobRow, Journal, Queries
from trainq.messages import Lease, Leased, TaskLease

# What writes much; retention makes room, a restore is a person's wish and looks for itself, a proof only reads.
_NEEDS_ROOM = frozenset({JobKind.TRAIN, JobKind.PREPARE, JobKind.SNAPSHOT, JobKind.BACKUP})


class Granter:
    """Gives leases. Runs inside the desk's transaction. ``lose_worker`` records that a job's worker is gone."""

    def __init__(self, journal: Journal, queries: Queries, recorder: Recorder, settings: Settings, clock: Clock,
                 guard: DiskGuard, lose_worker: Callable[[JobRow, str], None]) -> None:
        self._journal = journal
        self._queries = queries
        self._recorder = recorder
        self._settings = settings
        self._clock = clock
        self._guard = guard
        self._lose_worker = lose_worker
        self._head_wait = leasing.HeadWait()

    def lease(self, worker: str, session: str, kinds: Sequence[JobKind]) -> Leased:
        """A lease for this life of a worker, of the first kind that has a job for it; or why there is none."""
        for row in self._queries.running(worker):
            if row.kind not in kinds:
                continue
            if row.session == session:
                return Leased(lease=self._lease_message(row))  # the reply was lost; this is the same lease
            self._lose_worker(row, f"{worker} was restarted")
            returned = self._queries.job(row.id)
            if returned.state is JobState.QUEUED and returned.front < 1:
                return self._grant(returned, worker, session)
        reason = "nothing to do"
        for kind in kinds:
            choice = self.choose(kind)
            if choice.job is not None:
                if choice.overtaken is not None:
                    self._recorder.append(JobOvertaken(job=choice.overtaken.id, by=choice.job.id))
                return self._grant(choice.job, worker, session)
            reason = choice.reason
        return Leased(lease=None, reason=reason)

    def choose(self, kind: JobKind) -> leasing.Choice:
        """Who of this kind would be granted now, or why nobody; changes nothing in the journal."""
        now_wall = self._clock.wall()
        if kind in _NEEDS_ROOM and (held := self._guard.why_held()):
            return leasing.Choice(reason=held)
        head = self._queries.head(kind, now_wall)
        if kind in TASKS:
            running = self._queries.running_tasks()
            reason = tasks.why_not(kind, running, self._settings.maintenance.max_workers)
            return leasing.Choice(job=None if reason else head, reason=reason)
        if kind is not JobKind.TRAIN:
            return leasing.Choice(job=head, reason="" if head else "nothing to prepare")
        restores = self._queries.open_tasks(JobKind.RESTORE)
        if restores:
            return leasing.Choice(reason=f"{restores[0].id} ({restores[0].name}) goes first")
        line = self._queries.line()
        return leasing.choose_train(
            paused_reason=line.paused_reason, held_reason=line.held_reason, head=head,
            prepared=self._queries.first_prepared(now_wall), waiting=self._queries.first_waiting(kind),
            head_waited_seconds=self._head_wait.seconds(head, self._clock.monotonic()),
            prepare_wait_seconds=self._settings.broker.prepare_wait_seconds, now_wall=now_wall)

    def _grant(self, row: JobRow, worker: str, session: str) -> Leased:
        self._recorder.append(LeaseGranted(job=row.id, worker=worker, session=session, attempt=row.attempts + 1))
        return Leased(lease=self._lease_message(self._queries.job(row.id)))

    def _lease_message(self, row: JobRow) -> Lease | TaskLease:
        settings = self._settings.broker
        if row.kind in TASKS:
            return TaskLease(
                job=row.id, kind=row.kind, token=row.token, attempt=row.attempts, name=row.name,
                task=tasks.task_of(self._queries.task(row)), seq=self._journal.head_seq,
                generation=self._queries.line().newest,
                lease_seconds=settings.lease_seconds, heartbeat_seconds=settings.heartbeat_seconds)
        return Lease(
            job=row.id, kind=row.kind, token=row.token, attempt=row.attempts, name=row.name, digest=row.digest,
            size_bytes=row.size_bytes, spec=spec_of(self._queries.submission(row)), shard=row.shard,
            shard_digest=row.shard_digest, seq=self._journal.head_seq, generation=self._queries.line().newest,
            best_step=row.best_step, cancel=row.cancel_reason is not None, failure=endings.failure_of(row),
            lease_seconds=settings.lease_seconds,
            heartbeat_seconds=settings.heartbeat_seconds)
