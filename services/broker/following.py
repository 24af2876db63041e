"""Following: what the end of a task brings with it, in the transaction of that end.

So a generated file is submitted exactly once, and a score, what it means, and the champion that it makes are on disk
together or not at all.
"""

from __future__ import annotations

import msgspec

from services.broker import consolidating, judging
from services.broker.admitting import Admitter
from trainq.config import Settings
from trainq.errors import UsageError
from trainq.jobs import AnyEvent, JobKind, Origin, Priority
from trainq.journal import JobRow, Journal, Queries, learning
from trainq.messages import Digest, EvaluationFindings, Name, Natural, SubmitItem, TaskResult

# In a worker's result: the file that it has made, and what an evaluation found.
FILE_FACT, REPORT_FACT = "file", "report"


class GeneratedFile(msgspec.Struct, frozen=True, kw_only=True):
    """Content that lies in ``data/`` and is to be trained; ``name`` is what it is called."""

    name: Name
    digest: Digest
    size_bytes: Natural


class Follower:
    """Says what follows; it is recorded with the task's own end. Reads inside the desk's transaction."""

    def __init__(self, journal: Journal, queries: Queries, settings: Settings, admitter: Admitter) -> None:
        self._journal = journal
        self._queries = queries
        self._settings = settings
        self._admitter = admitter

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
        return judging.follow(row, self._queries.task(row), report, learning.known(self._journal.connection),
                              self._settings.promotion, self._queries.line())
