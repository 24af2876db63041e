"""Answering what only asks: jobs, events, and the broker's part of the status picture."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from services.broker import championing, greeting, keeping, tasks, timetable, views
from services.broker.choosing import Chooser
from services.broker.guarding import DiskGuard
from services.broker.headmarks import HeadMarks
from services.broker.learned import Learned
from services.broker.roster import Roster
from services.broker.standing import StandingOrders
from trainq import messages
from trainq.clock import Clock
from trainq.config import Configuration
from trainq.jobs import FAILED, TASKS, JobKind, JobState, JobSubmitted, Priority
from trainq.journal import JobRow, Journal, Queries, enclosing
from trainq.journal.figures import waiting_by_priority
from trainq.messages import AnyReply, AnyRequest, TrainSpec

TASKS_SHOWN = 10
# Counted one by one at each question: some 10 ms.
QUEUE_LOOKED_AT = 10_000
MAX_PAGE_BYTES = messages.MAX_MESSAGE_BYTES // 2

READS = (messages.ListJobs, messages.ShowJob, messages.Replay, messages.GetOverview, messages.GetKept,
         messages.GetHeldJobs, messages.GetForks, messages.PlanRestore, messages.GetSchedules, messages.GetUsedShards,
         messages.GetQueue, *championing.READS)

Entry = TypeVar("Entry", bound=msgspec.Struct)


class Reader:
    """Makes the replies to :data:`READS`; changes nothing."""

    def __init__(self, journal: Journal, queries: Queries, roster: Roster, clock: Clock,
                 configuration: Configuration, guard: DiskGuard, chooser: Chooser,
                 orders: StandingOrders) -> None:
        self._journal = journal
        self._queries = queries
        self._roster = roster
        self._clock = clock
        self._configuration = configuration
        self._guard = guard
        self._chooser = chooser
        self._orders = orders
        self._began_at = clock.monotonic()
        self._head_marks = HeadMarks(configuration.home.checkpoints)
        self.learned = Learned(journal, configuration.settings.datagen)
        # How often each of the jobs that were last shown goes through its file: as frozen, so it never changes.
        self._epochs: dict[str, int] = {}

    def answer(self, request: AnyRequest) -> AnyReply:
        """The reply to one request of :data:`READS`."""
        match request:
            case messages.ListJobs():
                return messages.JobList(jobs=_fitting([self._view(row) for row in self._listed(request)]))
            case messages.ShowJob():
                row = self._queries.job(request.job)
                if row.kind in TASKS:
                    event = self._queries.task(row)
                    return messages.JobDetail(job=self._view(row), waits_for=[], after_any=False, report=None,
                                              task=tasks.task_of(event), cause=event.cause)
                submission = self._queries.submission(row)
                return messages.JobDetail(
                    job=self._view(row), waits_for=self._queries.waits_for(row.id), after_any=submission.after_any,
                    report=views.unpack(row.report), spec=spec_of(submission),
                    effects=tuple(messages.EffectView(kind=effect.kind, step=effect.step, value=effect.value,
                                                      reason=reason) for effect, reason in self._queries.effects(row)),
                    enclosed=enclosing.enclosed_of(self._journal.connection, f"train-{row.number}"))
            case messages.Replay():
                found = self._journal.replay(request.after_seq, request.limit, request.job)
                return messages.Events(journal_id=self._journal.journal_id, head_seq=self._journal.head_seq,
                                       events=_fitting([views.event_view(entry) for entry in found]))
            case messages.GetOverview() | messages.GetQueue():
                return self._overview() if isinstance(request, messages.GetOverview) else self._queue()
            case messages.GetKept():
                return keeping.kept(self._journal, self._queries)
            case messages.GetUsedShards():
                return messages.UsedShards(shards=sorted(self._queries.used_shards(request.shards)))
            case messages.GetHeldJobs():
                return greeting.held_jobs(self._queries, request)
            case messages.GetForks():
                return greeting.forks(self._queries, request)
            case messages.GetSchedules():
                return timetable.listed(self._queries, self._configuration.settings.schedule, self._clock.wall())
            case messages.PlanRestore():
                return greeting.plan(self._queries, self._configuration.home, request.store, request.name)
            case _:
                return championing.read(self._journal, self._queries, self.learned, request)

    def _listed(self, request: messages.ListJobs) -> list[JobRow]:
        if request.digest is None:
            return self._queries.listing(
                kinds=request.kinds, states=request.states, failed_only=request.failed_only,
                before_number=request.before_number, limit=request.limit)
        return [row for row in reversed(self._queries.carrying(request.digest))
                if row.kind in request.kinds and (not request.states or row.state in request.states)
                and (not request.failed_only or row.failures or row.state in FAILED)
                and (request.before_number is None or row.number < request.before_number)][:request.limit]

    def _view(self, row: JobRow) -> messages.JobView:
        return views.job_view(row, self._roster.progress(row.id), self._chooser.needs_gpu)

    def _overview(self) -> messages.Overview:
        line = self._queries.line()
        running = [row for row in self._queries.running() if row.kind not in TASKS]
        training = any(row.kind is JobKind.TRAIN for row in running)
        waiting = self._queries.waiting_line(messages.WAITING_SHOWN)
        return messages.Overview(
            journal_id=self._journal.journal_id, seq=self._journal.head_seq, at=self._clock.wall(),
            paused_reason=line.paused_reason, counts=self._queries.counts(),
            running=[self._view(row) for row in running],
            waiting=[views.job_view(row) for row in waiting],
            waiting_reason="" if training else self._chooser.choose(JobKind.TRAIN).reason, generation=line.generation,
            checkpoint=line.checkpoint, step=line.step, background_tasks=self._tasks(),
            services=self._roster.views(self._clock.monotonic()), disk=self._guard.view(),
            pause=self._orders.why_paused(), drain=line.drained_reason or "",
            stop=self._orders.why_stopped(), marks=self._head_marks.of(line.checkpoint),
            half_done=self._chooser.half_done(), up_seconds=round(self._clock.monotonic() - self._began_at, 3),
            held=line.held_reason or "", planned_tokens=self._planned_tokens([*running, *waiting]),
            learning=self.learned.figures())

    def _planned_tokens(self, rows: list[JobRow]) -> dict[str, int]:
        """What each of these is to train; only of train jobs that are prepared."""
        prepared = [row for row in rows if row.kind is JobKind.TRAIN and row.prepared]
        self._epochs = {row.id: self._epochs.get(row.id) or spec_of(self._queries.submission(row)).train.epochs
                        for row in prepared}
        return {row.id: row.tokens * self._epochs[row.id] for row in prepared}

    def _queue(self) -> messages.Queue:
        classes = [messages.WaitingClass(priority=Priority(priority).name.lower(), jobs=jobs, oldest_at=oldest_at)
                   for priority, jobs, oldest_at in waiting_by_priority(self._journal, QUEUE_LOOKED_AT)]
        queued = self._queries.counts().get(JobKind.TRAIN, {}).get(JobState.QUEUED, 0)
        return messages.Queue(classes=classes, beyond=max(0, queued - sum(each.jobs for each in classes)))

    def _tasks(self) -> messages.BackgroundTasks:
        return messages.BackgroundTasks(
            queue_size=tasks.waiting(self._queries.counts()),
            running=[self._view(row) for row in self._queries.running_tasks()],
            recent=[self._view(row) for row in self._queries.recent_tasks(TASKS_SHOWN)])


def spec_of(submission: JobSubmitted) -> TrainSpec:
    """The settings that were frozen with a job."""
    return msgspec.convert(submission.spec, TrainSpec)


def _fitting(page: list[Entry]) -> list[Entry]:
    """As many of the first as one message holds, at least one: a reply that is too long never arrives at all."""
    size_bytes = 0
    for at, entry in enumerate(page):
        size_bytes += len(messages.encode(entry))
        if size_bytes > MAX_PAGE_BYTES and at > 0:
            return page[:at]
    return page
