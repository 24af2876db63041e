"""Greeting: the training process says from where it goes on, and the journal is made to agree; and what a restore does.

All events of one hello are one transaction, so that the jobs which count as trained are always those that the head of
the line holds.
"""

from __future__ import annotations

from services.broker import reconciling, tasks, views
from services.broker.blaming import not_the_journals
from services.broker.recording import Recorder
from trainq import messages, restoring
from trainq.checkpoints import CheckpointFacts
from trainq.config import Home
from trainq.errors import NotFoundError, UsageError
from trainq.jobs import JobKind, JobState, Store
from trainq.journal import JobRow, Journal, LineRow, Queries
from trainq.messages import (
    MAX_PAGE,
    Fork,
    Forks,
    Greeted,
    HeldJob,
    HeldJobs,
    Hello,
    RebaseTask,
    RestorePlan,
    RestoreTask,
)


class Greeter:
    """Answers :class:`~trainq.messages.Hello`. Runs inside the desk's transaction."""

    def __init__(self, journal: Journal, queries: Queries, recorder: Recorder, home: Home) -> None:
        self._journal = journal
        self._queries = queries
        self._recorder = recorder
        self._home = home

    def greet(self, hello: Hello) -> Greeted:
        """Have the journal agree with the head of which ``hello`` tells.

        Raises:
            DamageError: they cannot belong together.
        """
        line, reported = self._queries.line(), self._queries.damaged()
        rebased: tuple[JobRow, RebaseTask] | None = None
        if hello.made_by and not self._is_known(hello, line):
            by = self._queries.job(hello.made_by)
            match tasks.task_of(self._queries.task(by)):
                case RestoreTask() as task:
                    return self._restored(hello, by, task)
                case RebaseTask() as task:
                    rebased = (by, task)
                case task:
                    raise UsageError(f"{by.id} is a {type(task).__name__}: it publishes no generation")
        uncovered = self._queries.uncovered(hello.generation)
        # Only a head that is older than the line's may hold what was taken out of the line.
        reinstatable = self._queries.reinstatable(hello.generation) if hello.generation < line.generation else []
        reconciling.refuse_if_unfit(
            hello, line, self._journal.head_seq, uncovered, {generation for generation, _ in reported},
            removed=self._queries.removed_generations(), spans=self._queries.ancestry(line.generation),
            reinstatable=reinstatable)
        held = next((row for row in self._queries.running(hello.worker) if row.kind is JobKind.TRAIN), None)
        head_job = self._queries.job(hello.job) if hello.job else None
        known = [effect for effect, _ in self._queries.effects(head_job)] if head_job is not None else []
        self._recorder.record(*reconciling.reconcile(
            hello, line=line, head_job=head_job, held=held, uncovered=uncovered, reported=reported,
            reinstatable=reinstatable, rebased=rebased, known=known))
        lost = held is not None and self._queries.job(held.id).state is not JobState.RUNNING
        return Greeted(lost=lost, newest=self._queries.line().newest)

    def _is_known(self, hello: Hello, line: LineRow) -> bool:
        """Whether the journal has heard of this head before, as of what its task has made."""
        return self._queries.is_fork(hello.generation) if hello.restored_from else hello.generation <= line.newest

    def _restored(self, hello: Hello, by: JobRow, task: RestoreTask) -> Greeted:
        middle = self._queries.job(hello.job) if hello.job and not hello.done else None
        self._recorder.record(*reconciling.damaged(hello, self._queries.damaged()), *reconciling.restore(
            hello, by=by, task=task, middle=middle, uncovered=self._queries.uncovered(hello.restored_from),
            reinstatable=self._queries.reinstatable(hello.restored_from)))
        return Greeted(newest=self._queries.line().newest)

    def refuse_unfit(self, task: RestoreTask) -> None:
        """Raise if there is nothing that could be restored, before it is accepted and anything waits for it.

        Raises:
            NotFoundError: the copy is not there, or the journal knows no such generation.
            DamageError, NewerFormatError: its manifest cannot be read, or is a newer trainq's.
            UsageError: another restore has not ended, or what it is to train again is deleted.
        """
        facts = _facts(self._home, task.store, task.name)
        newest = self._queries.line().newest
        if facts.generation > newest:
            raise NotFoundError(f"the journal knows of generation {newest} at most: {task.name} is another line's",
                                mend="restore into the home that it came from, or a backup of it")
        _refuse_without_ground(self._home, facts, task.name)
        gone = [row.id for row in self._queries.uncovered(facts.generation) if self._queries.is_dropped(row.digest)]
        middle = "" if facts.cursor.done else facts.cursor.job
        if middle and self._queries.is_dropped(self._queries.job(middle).digest):
            raise UsageError(f"{task.name} was taken in the middle of {middle}, whose content retention has deleted",
                             mend="restore one that was taken between two jobs")
        if task.retrain and gone:
            raise UsageError(f"retention has deleted the content of {', '.join(gone[:5])} ({len(gone)} jobs): it "
                             "cannot be trained again", mend="restore without --retrain, and submit it anew")
        others = self._queries.open_tasks(JobKind.RESTORE)
        if others:
            raise UsageError(f"{others[0].id} has not ended yet", mend=f"trainq wait {others[0].id}, or cancel it")


def plan(queries: Queries, home: Home, store: Store, name: str) -> RestorePlan:
    """What restoring that copy would do to the jobs.

    Raises:
        NotFoundError, DamageError, NewerFormatError: as :meth:`Greeter.refuse_unfit`.
    """
    facts = _facts(home, store, name)
    _refuse_without_ground(home, facts, name)
    back = [row.id for row, _ in queries.reinstatable(facts.generation)]
    goes_on = "" if facts.cursor.done else facts.cursor.job
    stay = {*back, goes_on}
    out = [row.id for row in queries.uncovered(facts.generation) if row.id not in stay]
    return RestorePlan(taken_out=out[:MAX_PAGE], taken_out_count=len(out), brought_back=back[:MAX_PAGE],
                       brought_back_count=len(back), goes_on=goes_on)


def held_jobs(queries: Queries, request: messages.GetHeldJobs) -> HeldJobs:
    """A page of the jobs that a generation holds.

    Raises:
        NotFoundError: nobody has told of that generation yet.
    """
    if request.generation > queries.line().newest:
        raise NotFoundError(f"the journal has not heard of generation {request.generation} yet",
                            mend="ask again in a moment")
    return HeldJobs(jobs=[_held(row, generation) for row, generation
                          in queries.held_by(request.generation, request.after, request.limit)])


def forks(queries: Queries, request: messages.GetForks) -> Forks:
    """A page of the line's forks, and where it stands."""
    line = queries.line()
    return Forks(generation=line.generation, checkpoint=line.checkpoint, newest=line.newest,
                 forks=[Fork(first=first, source=source) for first, source
                        in queries.forks(request.after, request.limit)])


def _held(row: JobRow, generation: int) -> HeldJob:
    result = views.unpack(row.result) or {}
    # What the job's row says of its training is about the last one.
    is_last = row.state is JobState.SUCCEEDED and result.get("generation") == generation
    return HeldJob(job=row.id, name=row.name, digest=row.digest, generation=generation, rows=row.rows,
                   tokens=row.tokens, steps=result.get("steps_done") if is_last else None,
                   trained_at=row.ended_at if is_last else None)


def _facts(home: Home, store: Store, name: str) -> CheckpointFacts:
    """The facts of a copy of the model, from its manifest alone."""
    with not_the_journals(f"reading {name}"):
        return restoring.find(home, store, name).facts


def _refuse_without_ground(home: Home, facts: CheckpointFacts, name: str) -> None:
    """Raise if what the copy needs is in no copy any more."""
    for needed in facts.needs:
        store = next((store for store in Store if (home.root / store.value / needed).is_dir()), None)
        if store is not None:
            _refuse_without_ground(home, _facts(home, store, needed), needed)
        elif needed == facts.base and not facts.cursor.done:
            raise NotFoundError(f"{name} was taken in the middle of {facts.cursor.job}, and {needed}, the state before "
                                "it to which a failed attempt goes back, is in no copy any more",
                                mend="restore one that was taken between two jobs")
        else:
            raise NotFoundError(f"{needed}, the weights under the adapter in {name}, is in no copy any more",
                                mend="restore one of another time: trainq snapshot list")
