"""Following: what the end of a task brings with it, in the transaction of that end.

So a generated file is submitted exactly once, and a score, what it means, and the champion that it makes are on disk
together or not at all.
"""

from __future__ import annotations

import msgspec

from services.broker import consolidating, endings, judging, tasks
from services.broker.admitting import Admitter
from services.broker.blaming import not_the_journals
from services.broker.greeting import Greeter
from trainq.checkpoints import parse_name
from trainq.config import Settings
from trainq.errors import TrainqError, UsageError
from trainq.jobs import AnyEvent, JobKind, Origin, Priority, Store
from trainq.journal import JobRow, Journal, Queries, covers, learning
from trainq.messages import (
    Digest,
    EvaluateTask,
    EvaluationFindings,
    Name,
    Natural,
    RestoreTask,
    Result,
    SubmitItem,
    TaskResult,
)

# In a worker's result: the file that it has made, and what an evaluation found.
FILE_FACT, REPORT_FACT = "file", "report"


class GeneratedFile(msgspec.Struct, frozen=True, kw_only=True):
    """Content that lies in ``data/`` and is to be trained; ``name`` is what it is called."""

    name: Name
    digest: Digest
    size_bytes: Natural


class Follower:
    """Says what follows; it is recorded with the task's own end. Reads inside the desk's transaction."""

    def __init__(self, journal: Journal, queries: Queries, settings: Settings, admitter: Admitter,
                 greeter: Greeter) -> None:
        self._journal = journal
        self._queries = queries
        self._settings = settings
        self._admitter = admitter
        self._greeter = greeter

    def kept(self, row: JobRow, result: Result) -> Result:
        """What of a result stays with the job: what an evaluation found is in events of its own."""
        if row.kind is not JobKind.EVALUATE or not isinstance(result, TaskResult):
            return result
        return msgspec.structs.replace(
            result, facts={name: fact for name, fact in result.facts.items() if name != REPORT_FACT})

    def follow(self, row: JobRow, result: TaskResult) -> list[AnyEvent]:
        """The events that follow the end of ``row``, which succeeds with this result.

        Raises:
            UsageError: the result is not what such a task's is.
            SendAgainError: the file that was made is not there any more.
        """
        try:
            match row.kind:
                case JobKind.CONSOLIDATE:
                    return [*consolidating.follow(row, result, self._queries.line().next_task)]
                case JobKind.GENERATE if FILE_FACT in result.facts:
                    return self._submit(row, msgspec.convert(result.facts[FILE_FACT], GeneratedFile))
                case JobKind.EVALUATE:
                    return self._judge(row, msgspec.convert(result.facts.get(REPORT_FACT), EvaluationFindings))
                case _:
                    return []
        except msgspec.ValidationError as error:
            raise UsageError(f"{row.id}: its result is not that of its kind: {error}") from error

    def _submit(self, row: JobRow, made: GeneratedFile) -> list[AnyEvent]:
        outcome, _ = self._admitter.decide(SubmitItem(
            request_id=f"made-by-{row.id}", name=made.name, digest=made.digest, size_bytes=made.size_bytes,
            priority=Priority.LOW, origin=Origin.GENERATED))
        return [] if isinstance(outcome, str) else [outcome]

    def _judge(self, row: JobRow, report: EvaluationFindings) -> list[AnyEvent]:
        known, settings = learning.known(self._journal.connection), self._settings.promotion
        task = tasks.task_of(self._queries.task(row))
        if not isinstance(task, EvaluateTask):
            raise UsageError(f"{row.id} is no evaluation")
        judgement = report.judgement
        back: list[AnyEvent] = []
        if judgement is not None and judging.goes_back(task.checkpoint, judgement, known, settings):
            back, why_not = self._go_back(row, task.checkpoint, known.champion_name)
            said = why_not or f"the line goes back to {known.champion_name}"
            report = msgspec.structs.replace(report, judgement=msgspec.structs.replace(
                judgement, reasons=(*judgement.reasons[:judging.MOST_REASONS - 1], said)))
        return judging.follow(row, task.checkpoint, report, known, settings, self._queries.line()) + back

    def _go_back(self, row: JobRow, fallen: str, champion: str) -> tuple[list[AnyEvent], str]:
        """The events with which the line goes back to the champion from a checkpoint that has fallen; or why not.

        Whatever was trained since is of no use: it stands on what has fallen.
        """
        line, name = self._queries.line(), parse_name(fallen)
        if name is None or not covers(self._queries.ancestry(line.generation), name.generation):
            return [], f"the line has left {fallen} already"
        task = RestoreTask(store=Store.CHECKPOINTS, name=champion)
        try:
            with not_the_journals(f"looking at {champion}"):
                self._greeter.refuse_unfit(task)
        except TrainqError as error:
            return [], f"the line cannot go back to {champion}: {error}"
        restore = tasks.made(task, f"fell-{row.id}", row.id, line.next_task)
        return [restore, *(endings.end_lease(each, f"{restore.job} goes first") for each in self._queries.running()
                           if each.kind is JobKind.TRAIN)], ""
