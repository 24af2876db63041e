"""Dropping: which content no job needs, decided and journalled before any of it is deleted.

Between the decision and the report that it is gone, a submit of the same content is told to send it again: what it has
stored may be deleted under it. Afterwards it comes like any other.
"""

from __future__ import annotations

from services.broker import endings
from services.broker.recording import Recorder
from trainq import checkpoints, messages
from trainq.clock import Clock
from trainq.config import Configuration
from trainq.errors import UsageError
from trainq.jobs import DataDropped, DataGone, JobKind, JobState
from trainq.journal import JobRow, Journal, Queries, Span, covers, enclosing
from trainq.messages import Done, ToDelete

REQUESTS = (messages.DropData, messages.ReportDataGone)
_DAY_SECONDS = 86_400.0
_UNNAMED, _TRAINED = "no job names it", "it is trained, and two proven generations hold it"


class Dropper:
    """Answers :data:`REQUESTS`. Runs inside the desk's transaction."""

    def __init__(self, journal: Journal, queries: Queries, recorder: Recorder, configuration: Configuration,
                 clock: Clock) -> None:
        self._journal = journal
        self._queries = queries
        self._recorder = recorder
        self._data_days = configuration.settings.retention.data_days
        self._clock = clock

    def answer(self, request: messages.LeaseRequest) -> ToDelete | Done:
        """The reply to one of :data:`REQUESTS`."""
        endings.check_task_lease(self._queries.job(request.job), request.token, JobKind.RETENTION,
                                 "no retention task: it deletes nothing")
        match request:
            case messages.DropData():
                return self._drop(request)
            case messages.ReportDataGone():
                gone = tuple(digest for digest in request.digests if self._queries.is_dropping(digest))
                return self._recorder.record(*([DataGone(digests=gone)] if gone else []))
            case _:
                raise UsageError(f"{type(request).__name__} is not known here")

    def _drop(self, request: messages.DropData) -> ToDelete:
        """Decide over each; what was decided before, and its reply lost, is told again."""
        decided = [digest for digest in request.digests if self._queries.is_dropping(digest)]
        # What a restore is about to take out may be trained again.
        is_settled = self._data_days and not self._queries.open_tasks(JobKind.RESTORE)
        spans = self._held_by(request.proven) if is_settled else []
        for reason in (_UNNAMED, _TRAINED):
            chosen = tuple(digest for digest in request.digests
                           if digest not in decided and self._why_it_may_go(digest, spans) == reason)
            if chosen:
                self._recorder.append(DataDropped(digests=chosen, reason=reason))
                decided += chosen
        return ToDelete(digests=decided)

    def _held_by(self, name: str) -> list[Span]:
        """The generations whose jobs that proven generation holds, and one after it; none if it is not in the line."""
        proven, line = checkpoints.parse_name(name), self._queries.line().generation
        if proven is None or proven.generation >= line:
            return []
        in_line = covers(self._queries.ancestry(line), proven.generation)
        return self._queries.ancestry(proven.generation) if in_line else []  # else the line went back since

    def _why_it_may_go(self, digest: str, spans: list[Span]) -> str:
        """The reason for which it may be deleted; empty if somebody needs it."""
        # What shards were made with is needed as long as the files of their jobs are.
        users = [self._queries.job(job) for job in enclosing.users_of(self._journal.connection, digest)]
        rows = [*self._queries.carrying(digest), *users]
        if not rows:
            return _UNNAMED
        return _TRAINED if all(self._is_trained_for_good(row, spans) for row in rows) else ""

    def _is_trained_for_good(self, row: JobRow, spans: list[Span]) -> bool:
        old = row.ended_at is not None and row.ended_at <= self._clock.wall() - self._data_days * _DAY_SECONDS
        return row.state is JobState.SUCCEEDED and old and covers(spans, row.generation)
