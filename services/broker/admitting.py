"""Admitting: a submit's way into the journal, by a client, or with the end of the task that has made the file."""

from __future__ import annotations

from services.broker import admission
from services.broker.recording import Recorder
from trainq import ingest
from trainq.config import Configuration
from trainq.errors import SendAgainError, StorageError, StorageFullError, TrainqError
from trainq.jobs import DuplicateSubmitted, JobState, JobSubmitted
from trainq.journal import Journal, Queries
from trainq.messages import Receipt, SubmitItem


class Admitter:
    """Judges each file by itself. Runs inside the desk's transaction."""

    def __init__(self, journal: Journal, queries: Queries, recorder: Recorder, configuration: Configuration) -> None:
        self._journal = journal
        self._queries = queries
        self._recorder = recorder
        self._home = configuration.home
        self._freezer = admission.Freezer(configuration.settings)

    def submit(self, item: SubmitItem) -> Receipt:
        """What becomes of one of several: what is wrong with one is no other's fault."""
        try:
            with self._journal.atomic():
                return self.admit(item)
        except (StorageError, StorageFullError):
            raise
        except TrainqError as error:
            self._recorder.forget_undone()
            return Receipt(request_id=item.request_id, error_code=error.code, error=str(error))

    def admit(self, item: SubmitItem) -> Receipt:
        """Accept a file, or say which job it is already. Raises as :meth:`decide` does."""
        outcome, duplicate = self.decide(item)
        if isinstance(outcome, str):
            return Receipt(request_id=item.request_id, job=outcome, state=self._queries.job(outcome).state.value)
        self._recorder.append(outcome)
        if duplicate is not None:
            return Receipt(request_id=item.request_id, job=outcome.job, state=duplicate.value, duplicate=True)
        return Receipt(request_id=item.request_id, job=outcome.job, state=JobState.QUEUED.value)

    def decide(self, item: SubmitItem) -> tuple[JobSubmitted | DuplicateSubmitted | str, JobState | None]:
        """The event that accepts a file, or the job that this very request already means; nothing is recorded.

        And the state of the job that has the same content, if one has.

        Raises:
            SendAgainError: its content is not in ``data/``, or about to be deleted.
            RequestReusedError, UsageError: see :func:`services.broker.admission.admit`.
        """
        digest = admission.request_digest(item)
        earlier = self._queries.request(item.request_id)
        if earlier is None and not ingest.is_stored(self._home, item.digest, item.size_bytes):
            raise SendAgainError(f"{item.name}: data/ holds no file with this digest and size",
                                 mend="send it again: store it first, then submit it")
        if earlier is None and self._queries.is_dropping(item.digest):
            raise SendAgainError(f"{item.name}: retention is just deleting the same content, which no job needed",
                                 mend="send it again when it has; trainq retention apply if that is broken off")
        duplicate = None if item.force else self._queries.duplicate_of(item.digest)
        outcome = admission.admit(item, digest, earlier=earlier, duplicate=duplicate and duplicate[0],
                                  number=self._queries.line().next_number, spec=self._freezer.freeze(item))
        return outcome, duplicate and duplicate[1]
