"""Greeting: the training process says from where it goes on, and the journal is made to agree; and what a restore does.

All events of one hello are one transaction, so that the jobs which count as trained are always those that the head of
the line holds.
"""

from __future__ import annotations

from services.broker import reconciling, tasks
from services.broker.recording import Recorder
from trainq import checkpoints, manifests, messages, snapshots
from trainq.checkpoints import CheckpointFacts
from trainq.config import Home
from trainq.errors import NotFoundError, UsageError
from trainq.jobs import JobKind, Store
from trainq.journal import JobRow, Journal, Queries
from trainq.messages import MAX_PAGE, Greeted, HeldJob, HeldJobs, Hello, RestorePlan, RestoreTask


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
        if reconciling.is_new_restore(hello, line):
            return self._restored(hello)
        uncovered = self._queries.uncovered(hello.generation)
        gone = {generation for generation, _ in reported} | self._queries.removed_generations()
        reconciling.refuse_if_unfit(hello, line, self._journal.head_seq, uncovered, gone,
                                    self._queries.ancestry(line.generation))
        # Only a head that is older than the line's may hold what was taken out of the line.
        went_back = hello.generation < line.generation
        held = next((row for row in self._queries.running(hello.worker) if row.kind is JobKind.TRAIN), None)
        self._recorder.record(*reconciling.reconcile(
            hello, line=line, head_job=self._queries.job(hello.job) if hello.job else None, held=held,
            uncovered=uncovered, reported=reported,
            reinstatable=self._queries.reinstatable(hello.generation) if went_back else []))
        return Greeted(lost=bool(uncovered) and held is not None, newest=self._queries.line().newest)

    def _restored(self, hello: Hello) -> Greeted:
        by = self._queries.job(hello.restored_by)
        task = tasks.task_of(self._queries.task(by))
        if not isinstance(task, RestoreTask):
            raise UsageError(f"{by.id} is no restore")
        self._recorder.record(*reconciling.damaged(hello, self._queries.damaged()), *reconciling.restore(
            hello, by=by, task=task, uncovered=self._queries.uncovered(hello.restored_from),
            reinstatable=self._queries.reinstatable(hello.restored_from)))
        return Greeted(newest=self._queries.line().newest)

    def refuse_unfit(self, task: RestoreTask, job: str) -> None:
        """Raise if there is nothing that could be restored: before anything else waits for it.

        Args:
            task: what is asked for.
            job: the id that it would have.

        Raises:
            NotFoundError: the copy is not there, or the journal knows no such generation.
            DamageError, NewerFormatError: its manifest cannot be read, or is a newer trainq's.
            UsageError: another restore has not ended.
        """
        facts = _facts(self._home, task.store, task.name)
        newest = self._queries.line().newest
        if facts.generation > newest:
            raise NotFoundError(f"the journal knows of generation {newest} at most: {task.name} is another line's",
                                mend="restore into the home that it came from, or a backup of it")
        others = [row for row in self._queries.open_tasks(JobKind.RESTORE) if row.id != job]
        if others:
            raise UsageError(f"{others[0].id} has not ended yet", mend=f"trainq wait {others[0].id}, or cancel it")


def plan(queries: Queries, home: Home, store: Store, name: str) -> RestorePlan:
    """What restoring that copy would do to the jobs.

    Raises:
        NotFoundError, DamageError, NewerFormatError: as :meth:`Greeter.refuse_unfit`.
    """
    facts = _facts(home, store, name)
    back = [row.id for row, _ in queries.reinstatable(facts.generation)]
    goes_on = "" if facts.cursor.done else facts.cursor.job
    stay = {*back, goes_on}
    out = [row.id for row in queries.uncovered(facts.generation) if row.id not in stay]
    return RestorePlan(taken_out=out[:MAX_PAGE], taken_out_count=len(out), brought_back=back[:MAX_PAGE],
                       brought_back_count=len(back), goes_on=goes_on)


def held_jobs(queries: Queries, request: messages.GetHeldJobs) -> HeldJobs:
    """A page of the jobs that a generation holds."""
    return HeldJobs(jobs=[_held(row, generation) for row, generation
                          in queries.held_by(request.generation, request.after, request.limit)])


def _held(row: JobRow, generation: int) -> HeldJob:
    return HeldJob(job=row.id, name=row.name, digest=row.digest, generation=generation)


def _facts(home: Home, store: Store, name: str) -> CheckpointFacts:
    """The facts of a copy of the model, from its manifest alone."""
    if store is Store.SNAPSHOTS:
        return snapshots.checkpoint_facts(snapshots.find(home.snapshots, name))
    path = home.checkpoints / name
    if not path.is_dir():
        raise NotFoundError(f"there is no {name} in checkpoints/", mend="trainq retention plan shows what there is")
    return manifests.facts_of(path, manifests.read(path, checkpoints.KIND), CheckpointFacts, checkpoints.FORMAT)
