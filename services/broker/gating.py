"""Holds of files for a person, and what shards are made with: the broker's part of the quality gate and of replay."""

from __future__ import annotations

from services.broker import endings
from services.broker.recording import Recorder
from trainq import ingest, messages
from trainq.config import Home
from trainq.errors import SendAgainError
from trainq.jobs import Enclosed, JobKind, JobState
from trainq.journal import JobRow, Journal, Queries, enclosing, sampling
from trainq.messages import Done, PrepareResult, TrainedShard, TrainedShards

REQUESTS = (messages.LiftHold, messages.GetTrainedShards)


class Gatekeeper:
    """Answers :data:`REQUESTS`. Runs inside the desk's transaction."""

    def __init__(self, journal: Journal, queries: Queries, recorder: Recorder, home: Home) -> None:
        self._journal = journal
        self._queries = queries
        self._recorder = recorder
        self._home = home

    def answer(self, request: messages.LiftHold | messages.GetTrainedShards) -> Done | TrainedShards:
        """The reply to one of :data:`REQUESTS`."""
        if isinstance(request, messages.LiftHold):
            return self._recorder.record(*endings.lift_hold(self._queries.job(request.job)))
        if request.spread:
            return TrainedShards(shards=[TrainedShard(**each._asdict()) for each
                                         in sampling.sample_trained(self._journal.connection, request.limit)])
        rows = self._queries.listing(kinds=(JobKind.TRAIN,), states=(JobState.SUCCEEDED,), failed_only=False,
                                     before_number=None, limit=request.limit)
        return TrainedShards(shards=[TrainedShard(job=row.id, digest=row.digest, shard=row.shard,
                                                  generated=bool(row.generated)) for row in rows])

    def was_released(self, train: JobRow) -> bool:
        """Whether a person has let this job go from a hold."""
        return enclosing.was_released(self._journal.connection, train.id)

    def refuse_lost(self, result: messages.Result) -> None:
        """Check that what a shard was made with is there, before it is named in the journal.

        Raises:
            SendAgainError: retention has let go of it meanwhile. The preparation is done again, and stores it again.
        """
        for each in result.enclosed if isinstance(result, PrepareResult) else ():
            if self._queries.is_dropping(each.digest) or not ingest.is_stored(self._home, each.digest,
                                                                              each.size_bytes):
                raise SendAgainError(f"data/ does not hold {each.digest}, which the shard was made with",
                                     mend="prepare the file again")


def enclosed_again(journal: Journal, queries: Queries, row: JobRow) -> tuple[Enclosed, ...] | None:
    """What the shard of this preparation must be made with; None if it has never had one, or may come out otherwise."""
    if row.kind is not JobKind.PREPARE:
        return None
    train = queries.job(f"train-{row.number}")
    return enclosing.enclosed_of(journal.connection, train.id) if train.shard_digest else None
