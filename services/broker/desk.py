"""The desk: each request's way from message to journal to reply.

It asks the deciding modules (``admission``, ``leasing``, ``endings``) what a request means, appends the events that
they return, and makes the reply. It runs inside the app's transaction and sends nothing itself; what it holds in
memory (deadlines, heartbeats, progress) is changed for committed events only, in :meth:`Desk.committed`.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from typing import Any

from services.broker import championing, dropping, endings, gating, keeping, leasing, standing, tasks
from services.broker.admitting import Admitter
from services.broker.choosing import Chooser
from services.broker.copying import Copier
from services.broker.following import Follower
from services.broker.gating import Gatekeeper
from services.broker.granting import Granter
from services.broker.greeting import Greeter
from services.broker.guarding import DiskGuard
from services.broker.noting import Noter
from services.broker.reading import READS, Reader
from services.broker.recording import Recorder
from services.broker.roster import Roster
from services.broker.timetable import Timetable
from trainq import __version__, messages
from trainq.clock import Clock
from trainq.config import Configuration
from trainq.errors import (
    DamageError,
    NotFoundError,
    StaleLeaseError,
    StorageError,
    StorageFullError,
    TrainqError,
    UsageError,
)
from trainq.jobs import (
    AgeingSet,
    AnyEvent,
    BrokerStarted,
    CheckpointPublished,
    FileRefused,
    FingerprintChanged,
    InboxCounted,
    JobEvent,
    JobKind,
    JobState,
    LeaseGranted,
    QueueHeld,
    QueueHoldLifted,
    Store,
)
from trainq.journal import JobRow, Journal, JournalFailure, PartialWriteError, Queries, Recorded
from trainq.logs import EventLog
from trainq.manifests import digest_bytes
from trainq.messages import AnyReply, AnyRequest, Done, Leased


class Desk:
    """Answers requests. Owned by the broker's only thread."""

    def __init__(self, journal: Journal, configuration: Configuration, clock: Clock, log: EventLog) -> None:
        self._journal = journal
        self._log = log
        self._queries = Queries(journal)
        self._configuration = configuration
        self._clock = clock
        self._jitter = random.Random()
        settings = configuration.settings.broker
        self.deadlines = leasing.Deadlines(settings.lease_seconds)
        self.roster = Roster()
        self._hold_until: float | None = None
        # Why nothing may be written: the journal is older than the checkpoints beside it.
        self.unfit: DamageError | None = None
        self._recorder = Recorder(journal, self._queries, clock)
        guard = DiskGuard(configuration.home.root, configuration.settings.disk, clock.monotonic)
        self.orders = standing.StandingOrders(self._queries, self._recorder, self.roster, configuration.settings, clock)
        self._chooser = chooser = Chooser(self._queries, configuration.settings, clock, guard, self.roster, self.orders)
        self._granter = Granter(journal, self._queries, self._recorder, settings, chooser, self._lose_worker)
        self._reader = Reader(journal, self._queries, self.roster, clock, configuration, guard, chooser, self.orders)
        self.timetable = Timetable(self._queries, self._recorder, configuration.settings.schedule, clock)
        self._keeper = keeping.Keeper(journal, self._queries, self._recorder, configuration.home)
        dropper = dropping.Dropper(journal, self._queries, self._recorder, configuration, clock)
        self.copier = Copier(journal, self._queries, configuration.home)
        self._greeter = Greeter(journal, self._queries, self._recorder, configuration.home)
        self._admitter = Admitter(journal, self._queries, self._recorder, configuration)
        self._follower = Follower(journal, self._queries, configuration.settings, self._admitter,
                                  self._greeter)
        self._gatekeeper = Gatekeeper(journal, self._queries, self._recorder, configuration.home)
        # Those whose requests need nothing else of the desk.
        self._others: tuple[tuple[tuple[type, ...], Callable[[Any], AnyReply]], ...] = (
            (keeping.REQUESTS, self._keeper.answer), (dropping.REQUESTS, dropper.answer),
            (gating.REQUESTS, self._gatekeeper.answer), (standing.REQUESTS, self.orders.answer),
            (championing.REQUESTS, championing.Champions(
                journal, self._queries, self._recorder, configuration).answer),
            ((messages.CopyJournal,), self.copier.answer),
            ((messages.Hello,), self._greeter.greet),
            ((messages.Emit,), Noter(journal, self._queries, self._recorder, clock).answer),
            ((messages.ReportInbox,), self._count_inbox))
        # The leases of the broker's former life get a full term.
        for row in self._queries.running():
            self.deadlines.start(row.id, row.token, clock.monotonic())
        if self._queries.line().held_reason is not None:
            self._hold_until = clock.monotonic() + endings.HOLD_SECONDS

    def opening(self) -> list[AnyEvent]:
        """What a new life of the broker records first."""
        events: list[AnyEvent] = [BrokerStarted(version=__version__, pid=os.getpid())]
        ageing_jobs = self._configuration.settings.broker.ageing_jobs
        if self._queries.line().ageing_jobs != ageing_jobs:
            events.append(AgeingSet(ageing_jobs=ageing_jobs))
        return events

    def take_recorded(self) -> list[Recorded]:
        """The events appended since the last call, in order."""
        return self._recorder.take()

    def committed(self, recorded: Sequence[Recorded]) -> None:
        """These events are on disk: let the memory follow."""
        now = self._clock.monotonic()
        for entry in recorded:
            self.timetable.committed(entry)
            self.orders.committed(entry.event)
            self._reader.learned.committed(entry)
            event = entry.event
            if isinstance(event, LeaseGranted):
                self.deadlines.start(event.job, entry.seq, now)
                # What was heard of it belongs to the lease before.
                self.roster.forget_progress(event.job)
            elif isinstance(event, QueueHeld):
                self._hold_until = now + event.seconds
            elif isinstance(event, QueueHoldLifted):
                self._hold_until = None
            elif isinstance(event, JobEvent) and entry.state is not JobState.RUNNING:
                self.deadlines.stop(event.job)
                self.roster.forget_progress(event.job)
                self.roster.forget(event.job)

    def answer(self, request: AnyRequest) -> AnyReply:
        """The reply to one valid request; a refusal changes nothing.

        Runs in the app's transaction. An error of the disk is raised, every other one becomes a refusal: a request that
        meets a bug must not end the broker, because its sender would send it again.
        """
        try:
            with self._journal.atomic():
                return self._dispatch(request)
        except (JournalFailure, PartialWriteError, StorageError, StorageFullError):
            raise
        except TrainqError as error:
            if isinstance(error, DamageError):
                self._log.error("journal_damaged", request=type(request).__name__, error=str(error))
            reply = messages.refusal(error)
        except Exception as error:
            self._log.error("request_met_a_bug", request=type(request).__name__)
            reply = messages.refusal(TrainqError(f"the broker has a bug: {type(error).__name__}: {error}",
                                                 mend="its log has the traceback; please report it"))
        self._recorder.forget_undone()
        return reply

    def expire_leases(self) -> None:
        """End the leases whose workers were not heard of in time."""
        for job, token in self.deadlines.expired(self._clock.monotonic()):
            row = self._queries.job(job)
            if row.state is JobState.RUNNING and row.token == token:
                self._lose_worker(row, f"nothing was heard of {row.worker} for {self.deadlines.lease_seconds:g} s")
            else:
                self.deadlines.stop(job)

    @property
    def next_due(self) -> float | None:
        """When :meth:`expire_leases` or :meth:`lift_hold` has something to do, in monotonic seconds."""
        known = (self.deadlines.next_expiry(), self._hold_until, self.orders.due)
        return min((at for at in known if at is not None), default=None)

    @property
    def is_due(self) -> bool:
        """Whether one of them, or the timetable, has something to do now."""
        return self.timetable.is_due or ((due := self.next_due) is not None and self._clock.monotonic() >= due)

    def lift_hold(self) -> None:
        """Let the queue go when the time of its hold or of a yield is over. Not by the wall clock, which may be set."""
        if self._hold_until is not None and self._clock.monotonic() >= self._hold_until:
            self._recorder.append(QueueHoldLifted())
        self.orders.tick()

    def postpone(self) -> None:
        """What is due could not be recorded (no room): every lease and the hold get some more time."""
        now = self._clock.monotonic()
        self.deadlines.forgive(now)
        self.timetable.postpone()
        self.orders.postpone(now + self.deadlines.lease_seconds)
        if self._hold_until is not None:
            self._hold_until = max(self._hold_until, now + self.deadlines.lease_seconds)

    def _lose_worker(self, row: JobRow, reason: str) -> None:
        progress = self.roster.progress(row.id)
        # A training that has not done a step since its lease began was lost while it loaded, not in a step.
        step = None
        if progress is not None and (row.kind is not JobKind.TRAIN or progress.step):
            step = progress.step if row.kind is JobKind.TRAIN else 0
        for event in endings.lose_worker(row, self._train_of(row), reason, step, self._policy()):
            self._recorder.append(event)

    def _policy(self) -> endings.Policy:
        settings, line = self._configuration.settings.broker, self._queries.line()
        return endings.Policy(
            max_attempts=settings.max_attempts, now_wall=self._clock.wall(), jitter=self._jitter.uniform(-1, 1),
            line=line)

    def _dispatch(self, request: AnyRequest) -> AnyReply:
        match request:
            case messages.Heartbeat():
                return self._heartbeat(request)
            case _ if isinstance(request, READS):
                return self._reader.answer(request)
            case _:
                if self.unfit is not None:
                    raise self.unfit
                return self._write(request)

    def _write(self, request: AnyRequest) -> AnyReply:
        for types, answer in self._others:
            if isinstance(request, types):
                return answer(request)
        match request:
            case messages.Submit():
                return messages.Submitted(receipts=[self._admitter.submit(item) for item in request.items])
            case messages.SubmitTask():
                return self._submit_task(request)
            case messages.TakeLease():
                return self._granter.lease(request.worker, request.session, request.kinds, request.job)
            case messages.Complete():
                return self._complete(request)
            case messages.LeaseRequest():
                return self._end_lease(request)
            case messages.Cancel():
                row = self._queries.job(request.job)
                return self._recorder.record(*endings.cancel_by_request(row, request.reason, keep=request.keep))
            case messages.Retry():
                return self._retry(request.job)
            case messages.ReportRefusedFile():
                return self._refuse_file(request)
            case _:
                raise UsageError(f"{type(request).__name__} is not known here")

    # ------------------------------------------------------------------------------------------------------- submitting

    def _submit_task(self, request: messages.SubmitTask) -> messages.Accepted:
        outcome = tasks.submit(request, earlier=self._queries.request(request.request_id),
                               line=self._queries.line())
        if isinstance(outcome, str):
            return messages.Accepted(job=outcome, state=self._queries.job(outcome).state.value)
        if isinstance(request.task, messages.RestoreTask):
            self._greeter.refuse_unfit(request.task)
        named = str(outcome.task.get("checkpoint", ""))
        if self._queries.removal_in_trash(Store.CHECKPOINTS, named) is not None:
            # It may lie in its place still, where retention was killed: it goes, and is nobody's champion.
            raise NotFoundError(f"{named} is in the trash", mend="trainq retention trash and undelete")
        self._recorder.append(outcome)
        if isinstance(request.task, messages.RestoreTask):
            # What it does now is to be undone anyway.
            for row in self._queries.running():
                if row.kind is JobKind.TRAIN:
                    self._recorder.append(endings.end_lease(row, f"{outcome.job} goes first"))
        return messages.Accepted(job=outcome.job, state=JobState.QUEUED.value)

    # ---------------------------------------------------------------------------------------------------------- leasing

    def _heartbeat(self, beat: messages.Heartbeat) -> messages.HeartbeatReply:
        now = self._clock.monotonic()
        self.roster.heard(beat, now)
        lost, cancel, keep = [], [], []
        for lease in beat.leases:
            try:
                row = self._queries.job(lease.job)
                endings.check_lease(row, lease.token)
            except (NotFoundError, StaleLeaseError):
                lost.append(lease.job)
                continue
            self.roster.progressed(lease.job, lease.progress)
            self.deadlines.renew(lease.job, lease.token, now)
            # A job at rest is ended by a training process, which must not be started beside a loan.
            if row.cancel_reason is not None and not (row.kind is JobKind.TRAIN and self._chooser.why_lent()):
                cancel.append(lease.job)
                keep += [lease.job] if row.keep else []
        pause, stop, checkpoint = self.orders.reply(beat)
        gpu, lent = 0, False
        if beat.service == standing.TRAINER:
            lent = not pause and bool(pause := self._chooser.why_gpu_is_wanted())
            gpu = 0 if self._chooser.why_lent() else beat.gpu
        return messages.HeartbeatReply(lost=tuple(lost), cancel=tuple(cancel), keep=tuple(keep), pause=pause, stop=stop,
                                       checkpoint=checkpoint, gpu=gpu, lent=lent)

    # ----------------------------------------------------------------------------------------------------------- ending

    def _complete(self, request: messages.Complete) -> Leased:
        row = self._queries.job(request.job)
        train = self._train_of(row)
        events = endings.complete(row, train, request.token, self._follower.kept(row, request.result),
                                  released=self._gatekeeper.was_released(train))
        if events:
            self._gatekeeper.refuse_lost(request.result)
        if events and isinstance(request.result, messages.TaskResult):
            events += self._follower.follow(row, request.result)
        self._recorder.record(*events)
        if not request.next_kinds:
            return Leased(lease=None)
        return self._granter.lease(request.worker, request.session, request.next_kinds)

    def _end_lease(self, request: messages.LeaseRequest) -> Done:
        row = self._queries.job(request.job)
        match request:
            case messages.Fail():
                return self._recorder.record(*endings.fail(row, self._train_of(row), request.token, request.reason,
                                                  self._policy(), counts=request.counts,
                                                  final=request.final))
            case messages.Release():
                return self._recorder.record(*endings.release(row, request.token, request.reason, request.hold_seconds))
            case messages.ReportFingerprint():
                endings.check_lease(row, request.token)
                return self._recorder.record(FingerprintChanged(job=row.id, before=request.before, after=request.after))
            case messages.ReportEffects():
                known = [effect for effect, _ in self._queries.effects(row)]
                return self._recorder.record(*endings.decide_effects(row, request.token, request.effects, known,
                                                                     request.reason))
            case messages.AcknowledgeCancel():
                return self._recorder.record(*endings.acknowledge_cancel(row, request.token))
            case messages.ReportLostShard():
                return self._recorder.record(*endings.lose_shard(
                    row, self._queries.job(f"prepare-{row.number}"), request.token, request.reason))
            case messages.ReportCheckpoint():
                endings.check_lease(row, request.token)
                if row.kind is not JobKind.TRAIN:
                    raise UsageError(f"{row.id} is no train job: it publishes no checkpoints")
                if request.generation <= self._queries.line().newest:
                    return Done(changed=False, seq=self._journal.head_seq)
                return self._recorder.record(CheckpointPublished(
                    job=row.id, generation=request.generation, name=request.name, step=request.step,
                    job_step=request.job_step, done=request.done, reason=request.reason,
                    stall_seconds=request.stall_seconds, write_seconds=request.write_seconds,
                    size_bytes=request.size_bytes))
            case _:
                raise UsageError(f"{type(request).__name__} is not known here")

    def _retry(self, job: str) -> Done:
        row = self._queries.job(job)
        if self._queries.is_dropped(row.digest):
            raise UsageError(f"retention has deleted the content of {job}", mend="submit it again from where it came")
        duplicate = self._queries.duplicate_of(row.digest)
        return self._recorder.record(*endings.retry(row, self._queries.job(f"prepare-{row.number}"), duplicate))

    def _count_inbox(self, request: messages.ReportInbox) -> Done:
        changed = bool(request.waiting) != bool(self._queries.line().inbox_waiting)
        return self._recorder.record(*([InboxCounted(waiting=request.waiting)] if changed else []))

    def _refuse_file(self, request: messages.ReportRefusedFile) -> Done:
        digest = digest_bytes(messages.encode(request))
        if self._queries.request(request.request_id) is not None:
            return Done(changed=False, seq=self._journal.head_seq)
        return self._recorder.record(FileRefused(
            request_id=request.request_id, request_digest=digest, name=request.name, reason=request.reason,
            report=request.report))

    def _train_of(self, row: JobRow) -> JobRow:
        return self._queries.job(f"train-{row.number}") if row.kind is JobKind.PREPARE else row
