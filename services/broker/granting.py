"""Granting: a worker asks for work, and gets a lease on whoever is next, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from services.broker import endings, gating, tasks
from services.broker.choosing import Chooser
from services.broker.reading import spec_of
from services.broker.recording import Recorder
from trainq.config import BrokerSettings
from trainq.jobs import (
    ENDED,
    TASKS,
    JobCancelled,
    JobFailed,
    JobKind,
    JobOvertaken,
    JobQuarantined,
    JobState,
    LeaseGranted,
)
from trainq.journal import JobRow, Journal, Queries
from trainq.messages import Lease, Leased, TaskLease


class Granter:
    """Gives leases. Runs inside the desk's transaction. ``lose_worker`` records that a job's worker is gone."""

    def __init__(self, journal: Journal, queries: Queries, recorder: Recorder, settings: BrokerSettings,
                 chooser: Chooser, lose_worker: Callable[[JobRow, str], None]) -> None:
        self._journal = journal
        self._queries = queries
        self._recorder = recorder
        self._settings = settings
        self._chooser = chooser
        self._lose_worker = lose_worker

    def lease(self, worker: str, session: str, kinds: Sequence[JobKind], job: str = "") -> Leased:
        """A lease for this life of a worker, of the first kind that has a job for it; or why there is none.

        With ``job`` for that one alone.
        """
        for row in self._queries.running(worker):
            if row.kind not in kinds:
                continue
            if row.session == session:
                return Leased(lease=self._lease_message(row))  # the reply was lost; this is the same lease
            self._lose_worker(row, f"{worker} was restarted")
            returned = self._queries.job(row.id)
            # Beside a loan nothing is gone on with: what ends a job at rest needs a training process, too.
            lent = row.kind is JobKind.TRAIN and self._chooser.why_lent()
            if returned.state is JobState.QUEUED and returned.front < 1 and not lent:
                return self._grant(returned, worker, session)
        if session == self._queries.line().stopped_session:
            return Leased(lease=None, reason="this life of the trainer is stopped")
        for lost in self._chooser.lenders_gone():
            self._recorder.append(JobCancelled(job=lost.id, reason="the command line that waited for it is gone"))
        reason = "nothing to do"
        for kind in kinds:
            choice = self._chooser.choose_lent(job) if kind is JobKind.LEND else self._chooser.choose(kind)
            while choice.job is not None and kind is JobKind.PREPARE and self._queries.is_dropped(choice.job.digest):
                self._give_up(choice.job, worker, session)
                choice = self._chooser.choose(kind)
            if choice.job is not None:
                if choice.overtaken is not None:
                    self._recorder.append(JobOvertaken(job=choice.overtaken.id, by=choice.job.id))
                return self._grant(choice.job, worker, session)
            reason = choice.reason
        return Leased(lease=None, reason=reason)

    def _give_up(self, row: JobRow, worker: str, session: str) -> None:
        """It was trained, then its content was let go of, and now the generations that held it are lost."""
        self._recorder.append(LeaseGranted(job=row.id, worker=worker, session=session, attempt=row.attempts + 1))
        reason = "retention had deleted its content ([retention] data_days): submit it again"
        self._recorder.append(JobFailed(job=row.id, reason=reason))
        train = self._queries.job(f"train-{row.number}")
        if train.state not in ENDED:
            self._recorder.append(JobQuarantined(job=train.id, reason=reason))

    def _grant(self, row: JobRow, worker: str, session: str) -> Leased:
        self._recorder.append(LeaseGranted(job=row.id, worker=worker, session=session, attempt=row.attempts + 1))
        return Leased(lease=self._lease_message(self._queries.job(row.id)))

    def _lease_message(self, row: JobRow) -> Lease | TaskLease:
        settings = self._settings
        if row.kind in TASKS:
            return TaskLease(
                job=row.id, kind=row.kind, token=row.token, attempt=row.attempts, name=row.name,
                task=tasks.task_of(self._queries.task(row)), seq=self._journal.head_seq,
                generation=self._queries.line().newest, gpu=row.kind in self._chooser.needs_gpu,
                lease_seconds=settings.lease_seconds, heartbeat_seconds=settings.heartbeat_seconds)
        return Lease(
            job=row.id, kind=row.kind, token=row.token, attempt=row.attempts, name=row.name, digest=row.digest,
            size_bytes=row.size_bytes, spec=spec_of(self._queries.submission(row)), shard=row.shard,
            shard_digest=row.shard_digest, seq=self._journal.head_seq, generation=self._queries.line().newest,
            best_step=row.best_step, cancel=row.cancel_reason is not None, keep=bool(row.keep),
            effects=tuple(effect for effect, _ in self._queries.effects(row)), failure=endings.failure_of(row),
            enclosed=gating.enclosed_again(self._journal, self._queries, row), lease_seconds=settings.lease_seconds,
            heartbeat_seconds=settings.heartbeat_seconds)
