"""Choosing: who of a kind would be granted now, or why nobody is. Looks at everything and changes nothing."""

from __future__ import annotations

from services.broker import consolidating, endings, leasing, lending, tasks
from services.broker.guarding import DiskGuard
from services.broker.roster import Roster
from services.broker.standing import TRAINER, StandingOrders
from trainq import destinations
from trainq.clock import Clock
from trainq.config import Settings
from trainq.errors import TransitionError
from trainq.jobs import ENDED, LINE_TASKS, NEEDS_GPU, TASKS, JobKind, JobState
from trainq.journal import BEFORE_ALL, JobRow, Queries
from trainq.messages import ConsolidateTask

# What writes much. Retention makes room; what changes the line looks for itself, and would hold up the training for as
# long as it was held; a proof only reads. A delivery writes here where a place of publish_to is on this machine.
_NEEDS_ROOM = frozenset({JobKind.TRAIN, JobKind.PREPARE, JobKind.SNAPSHOT, JobKind.BACKUP, JobKind.CONSOLIDATE,
                         JobKind.GENERATE, JobKind.EVALUATE})
_CONSOLIDATOR, _EVALUATOR = "consolidator", "evaluator"
# Below are those whose generation was lost (trainq.journal.schema): they begin anew.
_FAR_AHEAD = -(1 << 40)
# The one among them whose steps are in the line, which stands in its middle.
_GOES_ON = -BEFORE_ALL


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
        # Who borrows the GPU from the trainer: programs of people's, and evaluations where they are computed there.
        self._borrowing = (JobKind.LEND, *([JobKind.EVALUATE] if settings.evaluation.device == "gpu" else []))
        self.needs_gpu = NEEDS_GPU | frozenset(self._borrowing)
        here = any(destinations.is_on_this_machine(place) for place in settings.promotion.publish_to)
        self._needs_room = _NEEDS_ROOM | ({JobKind.PUBLISH} if here else frozenset())
        self._began_at = clock.monotonic()

    def choose(self, kind: JobKind) -> leasing.Choice:
        """Who of this kind would be granted now, or why nobody."""
        if kind in self._needs_room and (held := self._guard.why_held()):
            return leasing.Choice(reason=held)
        if kind in TASKS:
            lent = self.why_lent() if kind in LINE_TASKS else ""
            choice = leasing.Choice(reason=lent) if lent else self._choose_task(kind)
            return self._lent_to(choice.job) if choice.job is not None and kind in self._borrowing else choice
        head = self._queries.head(kind, self._clock.wall())
        if kind is JobKind.PREPARE:
            return leasing.Choice(job=head, reason="" if head else "nothing to prepare")
        reason = self._what_goes_first()
        return leasing.Choice(reason=reason) if reason else self._choose_train(head)

    def choose_lent(self, job: str) -> leasing.Choice:
        """That job, if the GPU can be lent to it now; or why not."""
        row = self._queries.job(job)
        if row.state in ENDED:
            raise TransitionError(job, row.state.value, "having the GPU")
        return self._lent_to(row)

    def _lent_to(self, row: JobRow) -> leasing.Choice:
        waiting = self._lenders()
        if row not in waiting:
            return leasing.Choice(reason=f"{row.id} does not wait for the GPU")
        busy = next((each for each in self._queries.running()
                     if each.kind in self.needs_gpu and not self._is_at_rest(each)), None)
        reason = lending.why_not_lent(row, busy=busy, first=waiting[0], due=self._is_due(row),
                                      trainer_holds=self._trainer_holds())
        return leasing.Choice(job=None if reason else row, reason=reason)

    def why_gpu_is_wanted(self) -> str:
        """Why the trainer is to give its memory back; empty if it need not. Never while it has a job."""
        if lent := self.why_lent():
            return lent
        if any(row.kind in self.needs_gpu for row in self._queries.running()):
            return ""
        first = next(iter(self._lenders()), None)
        return f"{first.id} ({first.name}) waits for the GPU" if first is not None and self._is_due(first) else ""

    def half_done(self) -> str:
        """The train job that waits, and has steps in the line; empty if there is none."""
        head = self._queries.head(JobKind.TRAIN, self._clock.wall())
        return head.id if head is not None and _is_half_done(head) else ""

    def lenders_gone(self) -> list[JobRow]:
        """Who waits for the GPU, and is not there any more to use it."""
        term = self._settings.broker.lease_seconds
        if self._clock.monotonic() - self._began_at <= term:
            return []  # this life of the broker has not had the time to hear of them
        return [row for row in self._lenders(there=False)
                if row.kind is JobKind.LEND and self._clock.wall() - row.submitted_at > term]

    def why_lent(self) -> str:
        """Who has the GPU instead of the trainer; empty if nobody has."""
        return next((lending.has_it(row) for row in self._borrowers() if row.state is JobState.RUNNING), "")

    def _borrowers(self) -> list[JobRow]:
        """Who has the GPU, or waits for it, in the order in which they asked."""
        rows = [row for kind in self._borrowing for row in self._queries.open_tasks(kind)]
        return sorted(rows, key=lambda row: row.submitted_seq)

    def _lenders(self, *, there: bool = True) -> list[JobRow]:
        """Who waits for the GPU, the first one first, and is ``there`` to use it, or is not."""
        now, term = self._clock.monotonic(), self._settings.broker.lease_seconds
        # A program's own worker has the name of its job.
        return [row for row in self._borrowers() if row.state is JobState.QUEUED and self._roster.is_up(
            row.id if row.kind is JobKind.LEND else _EVALUATOR, now, term) is there]

    def _is_due(self, row: JobRow) -> bool:
        line = self._queries.line()
        # A trainer that rests by itself (a file says so, or the GPU's heat) begins none of them.
        waits = (self._choose_train(self._queries.head(JobKind.TRAIN, self._clock.wall())).job is not None
                 and not self._trainer_rests())
        return lending.is_due(row, line, self._settings.broker.gpu_wait_jobs, training_waits=waits)

    def _trainer_holds(self) -> bool:
        """A trainer of which this life of the broker has not heard yet may hold it."""
        now, term = self._clock.monotonic(), self._settings.broker.lease_seconds
        if not self._roster.knows(TRAINER) and now - self._began_at <= term:
            return True
        return self._roster.holds_gpu(TRAINER, now, term)

    def _is_at_rest(self, row: JobRow) -> bool:
        """Whether the job that runs is paused, its model out of the memory, and nothing to be done with it yet."""
        if row.kind is not JobKind.TRAIN or row.cancel_reason is not None or endings.failure_of(row):
            return False
        return (bool(self._orders.why_paused()) or self._trainer_rests()) and not self._trainer_holds()

    def _trainer_rests(self) -> bool:
        return self._roster.rests(TRAINER, self._clock.monotonic(), self._settings.broker.lease_seconds)

    def _choose_task(self, kind: JobKind) -> leasing.Choice:
        head = self._queries.head(kind, self._clock.wall())
        reason = tasks.why_not(kind, self._queries.running_tasks(), self._settings.maintenance.max_workers)
        if kind is JobKind.CONSOLIDATE and head is not None and not reason:
            reason = self._why_not_consolidated()
        return leasing.Choice(job=None if reason else head, reason=reason)

    def _choose_train(self, head: JobRow | None) -> leasing.Choice:
        now_wall, line = self._clock.wall(), self._queries.line()
        # Under a drain none begins in the place of the one that goes on to its end.
        prepared = self._queries.first_prepared(now_wall) if line.drained_reason is None else None
        return leasing.choose_train(
            standing_reason=self._orders.why_nothing_new(half_done=_is_half_done(head)),
            held_reason=line.held_reason, head=head, prepared=prepared,
            waiting=self._queries.first_waiting(JobKind.TRAIN),
            head_waited_seconds=self._head_wait.seconds(head, self._clock.monotonic()),
            prepare_wait_seconds=self._settings.broker.prepare_wait_seconds, now_wall=now_wall,
            held=self._queries.counts().get(JobKind.TRAIN, {}).get(JobState.HELD, 0))

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
        if reason := self.why_gpu_is_wanted():
            return reason
        # Only for somebody who is there to do it: training must not wait for a worker that is not.
        up = self._roster.is_up(_CONSOLIDATOR, self._clock.monotonic(), self._settings.broker.lease_seconds)
        choice = self._choose_task(JobKind.CONSOLIDATE) if up else leasing.Choice()
        if choice.job is not None and self._is_impatient():
            return f"{choice.job.id} ({choice.job.name}) goes first"
        return ""

    def _is_impatient(self) -> bool:
        """Whether any of the consolidations that wait goes before the files: the first one is what it asks for."""
        return any(consolidating.is_impatient(row, task, self._settings.consolidation.overdue_hours, self._clock.wall())
                   for row, task in self._consolidations())

    def _consolidations(self) -> list[tuple[JobRow, ConsolidateTask]]:
        waiting = [(row, tasks.task_of(self._queries.task(row)))
                   for row in self._queries.open_tasks(JobKind.CONSOLIDATE)]
        return [(row, task) for row, task in waiting if isinstance(task, ConsolidateTask)]

    def _why_not_consolidated(self) -> str:
        return consolidating.why_not(
            line=self._queries.line(), line_task=self._line_task(),
            training=next((each for each in self._queries.running() if each.kind is JobKind.TRAIN), None),
            head=self._queries.head(JobKind.TRAIN, self._clock.wall()), waiting=self._queries.waiting_of_people(),
            impatient=self._is_impatient())


def _is_half_done(head: JobRow | None) -> bool:
    return head is not None and (_FAR_AHEAD < head.front < 1 or head.front == _GOES_ON)
