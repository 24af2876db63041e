"""Endings: what completing, failing, releasing and cancelling mean. Pure: rows in, events out.

The lease's token decides who may speak: a request with an old one is refused, whatever its sender believes.
"""

from __future__ import annotations

import msgspec

from trainq.errors import StaleLeaseError, TransitionError, UsageError
from trainq.jobs import (
    ENDED,
    AnyEvent,
    AttemptFailed,
    CancelRequested,
    JobCancelled,
    JobFailed,
    JobKind,
    JobPrepared,
    JobQuarantined,
    JobRejected,
    JobState,
    JobSucceeded,
    LeaseEnded,
    PreparationReopened,
)
from trainq.journal import JobRow
from trainq.messages import PrepareResult, RejectResult, Result, TrainResult

# 30 s, 120 s, 480 s ... at most an hour, plus or minus 10 %: long enough for a passing trouble to pass.
FIRST_RETRY_SECONDS = 30.0
RETRY_FACTOR = 4.0
MAX_RETRY_SECONDS = 3600.0
RETRY_JITTER = 0.1


def check_lease(row: JobRow, token: int) -> None:
    """Raise :class:`StaleLeaseError` unless ``token`` is the one of the job's present lease."""
    if row.state is not JobState.RUNNING or row.token != token:
        raise StaleLeaseError(row.id, token, row.token if row.state is JobState.RUNNING else None)


def complete(row: JobRow, train: JobRow, token: int, result: Result) -> list[AnyEvent]:
    """The events of a completion; none when this very completion was recorded before.

    Args:
        row: the leased job.
        train: the train job of the same submission (``row`` itself, if it is the train job).
        token: the lease's.
        result: of the sort that fits the job's kind.
    """
    if row.state is JobState.SUCCEEDED and row.token == token:
        return []
    check_lease(row, token)
    if row.kind is JobKind.TRAIN:
        if not isinstance(result, TrainResult):
            raise UsageError(f"{row.id} is a train job; it cannot be completed with a {type(result).__name__}")
        if not 0 < result.steps_done == result.steps_planned:
            raise UsageError(f"{row.id}: {result.steps_done} of {result.steps_planned} steps are done; "
                             "a job is done when all of its steps are, and there is at least one")
        return [JobSucceeded(job=row.id, result=msgspec.to_builtins(result))]
    if isinstance(result, TrainResult):
        raise UsageError(f"{row.id} is a preparation; it cannot be completed with a TrainResult")
    succeeded = JobSucceeded(job=row.id, result={"outcome": type(result).__name__})
    return [succeeded, *_verdict(train, result)]


def _verdict(train: JobRow, result: PrepareResult | RejectResult) -> list[AnyEvent]:
    if train.state in ENDED:
        return []
    if isinstance(result, PrepareResult):
        if train.shard_digest and train.shard_digest != result.shard_digest:
            return [JobQuarantined(job=train.id, reason="its shard was lost and came out different when it was made "
                                   f"again (digest {result.shard_digest}, before {train.shard_digest})")]
        return [JobPrepared(job=train.id, shard=result.shard, shard_digest=result.shard_digest, rows=result.rows,
                            tokens=result.tokens, report=result.report)]
    return [JobRejected(job=train.id, reason=result.reason, report=result.report)]


def fail(row: JobRow, train: JobRow, token: int, reason: str, *, max_attempts: int, now_wall: float,
         jitter: float) -> list[AnyEvent]:
    """The events of a failed attempt: again later, or set aside when it was the last.

    Args:
        row: the leased job.
        train: as in :func:`complete`.
        token: the lease's.
        reason: what went wrong, for people.
        max_attempts: how many failed attempts a job may have.
        now_wall: seconds since 1970.
        jitter: between -1 and 1, so that many retries do not come at once.
    """
    if row.token == token and (row.state in (JobState.FAILED, JobState.QUARANTINED)
                               or (row.state is JobState.QUEUED and row.reason == reason)):
        return []  # this very failure was recorded, and its reply was lost
    check_lease(row, token)
    if row.cancel_reason is not None:
        return [JobCancelled(job=row.id, reason=row.cancel_reason)]
    if row.failures + 1 < max_attempts:
        pause = min(MAX_RETRY_SECONDS, FIRST_RETRY_SECONDS * RETRY_FACTOR**row.failures)
        return [AttemptFailed(job=row.id, reason=reason, retry_at=now_wall + pause * (1 + RETRY_JITTER * jitter))]
    set_aside = f"{max_attempts} attempts failed; the last: {reason}"
    if row.kind is JobKind.TRAIN:
        return [JobQuarantined(job=row.id, reason=set_aside)]
    events: list[AnyEvent] = [JobFailed(job=row.id, reason=set_aside)]
    if train.state not in ENDED:
        events.append(JobQuarantined(job=train.id, reason=f"it could not be prepared: {set_aside}"))
    return events


def release(row: JobRow, token: int, reason: str) -> list[AnyEvent]:
    """The worker gives the job back; a lease that is over already needs no giving back."""
    if row.state is not JobState.RUNNING or row.token != token:
        return []
    return [end_lease(row, reason)]


def end_lease(row: JobRow, reason: str) -> AnyEvent:
    """The lease of a running job ends without a verdict: it goes back to the front of the line.

    A train job that somebody wants cancelled goes back too, because only the trainer knows whether steps of it are in
    the weights, or even all of them; it is leased once more to be taken back. A preparation just ends.
    """
    if row.cancel_reason is not None and row.kind is not JobKind.TRAIN:
        return JobCancelled(job=row.id, reason=row.cancel_reason)
    return LeaseEnded(job=row.id, reason=reason)


def lose_shard(row: JobRow, prepare: JobRow, token: int, reason: str) -> list[AnyEvent]:
    """The train job cannot begin without its shard: its preparation is queued again, and it waits for that.

    Args:
        row: the leased train job.
        prepare: the preparation of the same submission.
        token: the lease's.
        reason: what is wrong with the shard.
    """
    if row.state is JobState.QUEUED and row.token == token:
        return []
    check_lease(row, token)
    events: list[AnyEvent] = [LeaseEnded(job=row.id, reason=f"its shard was lost: {reason}")]
    if prepare.state is JobState.SUCCEEDED:
        events.append(PreparationReopened(job=prepare.id, reason=reason))
    return events


def acknowledge_cancel(row: JobRow, token: int) -> list[AnyEvent]:
    """The worker has ended the job as asked."""
    if row.state is JobState.CANCELLED and row.token == token:
        return []
    check_lease(row, token)
    if row.cancel_reason is None:
        raise UsageError(f"nobody asked for {row.id} to be cancelled")
    return [JobCancelled(job=row.id, reason=row.cancel_reason)]


def cancel_by_request(row: JobRow, reason: str) -> list[AnyEvent]:
    """Somebody asks for ``row`` to be ended; as :func:`cancel`.

    Raises:
        UsageError: it is a preparation. Without it its train job would wait for ever.
        TransitionError: it has ended otherwise.
    """
    if row.kind is not JobKind.TRAIN:
        raise UsageError(f"{row.id} is a part of train-{row.number} and is not cancelled by itself",
                         mend=f"cancel train-{row.number}")
    return cancel(row, reason)


def cancel(row: JobRow, reason: str) -> list[AnyEvent]:
    """Somebody wants ``row`` ended; a second wish changes nothing.

    Raises:
        TransitionError: it has ended otherwise.
    """
    if row.state is JobState.CANCELLED:
        return []
    if row.state in ENDED:
        raise TransitionError(row.id, row.state.value, "cancelling")
    # One that was given back (front 0) may have steps in the weights, like one that runs.
    if row.state is JobState.RUNNING or row.front == 0:
        return [] if row.cancel_reason is not None else [CancelRequested(job=row.id, reason=reason)]
    return [JobCancelled(job=row.id, reason=reason)]


def follow_end(ended: JobRow, dependants: list[str], prepare: JobRow | None) -> list[AnyEvent]:
    """What the end of a job brings with it: dependants that waited for success, and a preparation nobody needs now.

    Args:
        ended: the job as it is now, ended.
        dependants: those still waiting for its success (none when it succeeded).
        prepare: the preparation of the same submission, if ``ended`` is a train job.
    """
    events: list[AnyEvent] = [
        JobCancelled(job=job, reason=f"it waited for {ended.id}, which ended {ended.state.value}")
        for job in dependants
    ]
    if prepare is not None and prepare.state not in ENDED:
        events += cancel(prepare, f"{ended.id} ended {ended.state.value}")
    return events
