"""Choosing: who of a kind would be granted now, or why nobody is. Looks at everything and changes nothing."""

from __future__ import annotations

from services.broker import consolidating, leasing, tasks
from services.broker.guarding import DiskGuard
from services.broker.roster import Roster
from services.broker.standing import StandingOrders
from trainq.clock import Clock
from trainq.config import Settings
from trainq.jobs import LINE_TASKS, TASKS, JobKind, JobState
from trainq.journal import JobRow, Queries
from trainq.messages import ConsolidateTask

# What writes much. Retention makes room; what changes the line looks for itself, and would hold up the training for as
# long as it was held; a proof only reads.
_NEEDS_ROOM = frozenset({JobKind.TRAIN, JobKind.PREPARE, JobKind.SNAPSHOT, JobKind.BACKUP, JobKind.CONSOLIDATE})
_CONSOLIDATOR = "consolidator"


class Chooser:
    """Runs inside the desk's transaction, and for those who only look."""

    def __init__(self, queries: Queries, settings: Settings, clock: Clock, guard: DiskGuard, roster: Roster,
                 orders: StandingOrders) -> None:
        self._queries = queries
        self._settings = settings
        self._clock = clock
        self._guard = guard
        self._roster = roster
        self._orders = orders
        self._head_wait = leasing.HeadWait()

    def choose(self, kind: JobKind) -> leasing.Choice:
        """Who of this kind would be granted now, or why nobody."""
        if kind in _NEEDS_ROOM and (held := self._guard.why_held()):
            return leasing.Choice(reason=held)
        if kind in TASKS:
            return self._choose_task(kind)
        head = self._queries.head(kind, self._clock.wall())
        if kind is JobKind.PREPARE:
            return leasing.Choice(job=head, reason="" if head else "nothing to prepare")
        reason = self._what_goes_first()
        return leasing.Choice(reason=reason) if reason else self._choose_train(head)

    def _choose_task(self, kind: JobKind) -> leasing.Choice:
        head = self._queries.head(kind, self._clock.wall())
        reason = tasks.why_not(kind, self._queries.running_tasks(), self._settings.maintenance.max_workers)
        if kind is JobKind.CONSOLIDATE and head is not None and not reason:
            reason = self._why_not_consolidated()
        return leasing.Choice(job=None if reason else head, reason=reason)

    def _choose_train(self, head: JobRow | None) -> leasing.Choice:
        now_wall, line = self._clock.wall(), self._queries.line()
        return leasing.choose_train(
            standing_reason=self._orders.why_nothing_new(), held_reason=line.held_reason, head=head,
            prepared=self._queries.first_prepared(now_wall), waiting=self._queries.first_waiting(JobKind.TRAIN),
            head_waited_seconds=self._head_wait.seconds(head, self._clock.monotonic()),
            prepare_wait_seconds=self._settings.broker.prepare_wait_seconds, now_wall=now_wall)

    def _line_task(self) -> JobRow | None:
        return next((row for kind in sorted(LINE_TASKS) for row in self._queries.open_tasks(kind)), None)

    def _what_goes_first(self) -> str:
        """What no training may go beside or before; empty if nothing."""
        line_task = self._line_task()
        if line_task is not None:
            return f"{line_task.id} ({line_task.name}) goes first"
        for row in self._queries.open_tasks(JobKind.CONSOLIDATE):
            if row.state is JobState.RUNNING:
                return f"{row.id} is merging the adapter"
        # Only for somebody who is there to do it: training must not wait for a worker that is not.
        up = self._roster.is_up(_CONSOLIDATOR, self._clock.monotonic(), self._settings.broker.lease_seconds)
        choice = self._choose_task(JobKind.CONSOLIDATE) if up else leasing.Choice()
        if choice.job is not None and self._is_impatient():
            return f"{choice.job.id} ({choice.job.name}) goes first"
        return ""

    def _is_impatient(self) -> bool:
        """Whether any of the consolidations that wait goes before the files: the first one is what it asks for."""
        waiting = [(row, tasks.task_of(self._queries.task(row)))
                   for row in self._queries.open_tasks(JobKind.CONSOLIDATE)]
        return any(consolidating.is_impatient(row, task, self._settings.consolidation.overdue_hours, self._clock.wall())
                   for row, task in waiting if isinstance(task, ConsolidateTask))

    def _why_not_consolidated(self) -> str:
        return consolidating.why_not(
            line=self._queries.line(), line_task=self._line_task(),
            training=next((each for each in self._queries.running() if each.kind is JobKind.TRAIN), None),
            head=self._queries.head(JobKind.TRAIN, self._clock.wall()), waiting=self._queries.waiting_of_people(),
            impatient=self._is_impatient())
