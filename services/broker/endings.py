"""Endings: what completing, failing, releasing and cancelling mean. Pure: rows in, events out.

The lease's token decides who may speak: a request with an old one is refused, whatever its sender believes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from trainq.errors import StaleLeaseError, TransitionError, UsageError
from trainq.jobs import (
    ENDED,
    TASKS,
    AnyEvent,
    AttemptFailed,
    CancelRequested,
    Effect,
    EffectDecided,
    HoldLifted,
    HoldPlaced,
    JobCancelled,
    JobFailed,
    JobKind,
    JobPrepared,
    JobQuarantined,
    JobRejected,
    JobRetried,
    JobState,
    JobSucceeded,
    LeaseEnded,
    PreparationReopened,
    QueueHeld,
)
from trainq.journal import JobRow, LineRow
from trainq.messages import PrepareResult, RejectResult, Result, TaskResult, TrainResult

# 30 s, 120 s, 480 s ... at most an hour, plus or minus 10 %: long enough for a passing trouble to pass.
FIRST_RETRY_SECONDS = 30.0
RETRY_FACTOR = 4.0
MAX_RETRY_SECONDS = 3600.0
RETRY_JITTER = 0.1
# So many deaths of its worker in a row, in the same step, are the job's doing and no accident.
DEATHS_TO_FAIL = 3
# So many different jobs failing in a row are the machine's doing; it may pass within minutes.
FAILED_JOBS_TO_HOLD = 3
HOLD_SECONDS = 300.0


def check_lease(row: JobRow, token: int) -> None:
    """Raise :class:`StaleLeaseError` unless ``token`` is the one of the job's present lease."""
    if row.state is not JobState.RUNNING or row.token != token:
        raise StaleLeaseError(row.id, token, row.token if row.state is JobState.RUNNING else None)


def check_task_lease(row: JobRow, token: int, kind: JobKind, otherwise: str) -> None:
    """As :func:`check_lease`; and raise :class:`UsageError` with ``otherwise`` if the job is not of this kind."""
    check_lease(row, token)
    if row.kind is not kind:
        raise UsageError(f"{row.id} is {otherwise}")


def complete(row: JobRow, train: JobRow, token: int, result: Result, *, released: bool = False) -> list[AnyEvent]:
    """The events of a completion; none when this very completion was recorded before.

    Args:
        row: the leased job.
        train: the train job of the same submission (``row`` itself, if it is the train job, or a task).
        token: the lease's.
        result: of the sort that fits the job's kind.
        released: a person has let the train job go from a hold: it is not held again.
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
    if row.kind in TASKS:
        if not isinstance(result, TaskResult):
            raise UsageError(f"{row.id} is a task; it cannot be completed with a {type(result).__name__}")
        return [JobSucceeded(job=row.id, result=msgspec.to_builtins(result))]
    if isinstance(result, TrainResult | TaskResult):
        raise UsageError(f"{row.id} is a preparation; it cannot be completed with a {type(result).__name__}")
    succeeded = JobSucceeded(job=row.id, result={"outcome": type(result).__name__})
    return [succeeded, *_verdict(train, result, released=released)]


def _verdict(train: JobRow, result: PrepareResult | RejectResult, *, released: bool) -> list[AnyEvent]:
    if train.state in ENDED:
        return []
    if isinstance(result, PrepareResult):
        if train.shard_digest and train.shard_digest != result.shard_digest:
            return [JobQuarantined(job=train.id, reason="its shard was lost and came out different when it was made "
                                   f"again (digest {result.shard_digest}, before {train.shard_digest})")]
        prepared = JobPrepared(job=train.id, shard=result.shard, shard_digest=result.shard_digest, rows=result.rows,
                               tokens=result.tokens, report=result.report, enclosed=result.enclosed)
        # Made again, the shard is what it was, and what was decided over it stands.
        is_held = result.hold and not released and not train.shard_digest and train.state is JobState.QUEUED
        return [prepared, *([HoldPlaced(job=train.id, reason=result.hold)] if is_held else [])]
    return [JobRejected(job=train.id, reason=result.reason, report=result.report)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """What decides over a failed attempt, besides the job itself.

    ``now_wall`` is in seconds since 1970; ``jitter`` between -1 and 1, so that many retries do not come at once.
    """

    max_attempts: int
    now_wall: float
    jitter: float
    line: LineRow


def fail(row: JobRow, train: JobRow, token: int, reason: str, policy: Policy, *, counts: bool = True,
         final: bool = False) -> list[AnyEvent]:
    """The events of a failed attempt: again later, or set aside when it was the last.

    When several different train jobs have failed in a row, something is likelier to be wrong with the machine than
    with all of them: the queue is held, once, and this failure uses up no attempt.

    Args:
        row: the leased job.
        train: as in :func:`complete`.
        token: the lease's.
        reason: what went wrong, for people.
        policy: the limits, and the line as it is.
        counts: false when the attempt had published a new highest step.
        final: another attempt would end the same. What is wrong with the file alone says nothing of the machine.
    """
    if row.token == token and (row.state in (JobState.FAILED, JobState.QUARANTINED)
                               or (row.state is JobState.QUEUED and row.reason == reason)):
        return []  # this very failure was recorded, and its reply was lost
    check_lease(row, token)
    if row.cancel_reason is not None:
        return [JobCancelled(job=row.id, reason=row.cancel_reason)]
    if final and row.kind is JobKind.TRAIN:
        return [JobQuarantined(job=row.id, reason=reason)]
    if row.kind is JobKind.TRAIN and not policy.line.hold_spent:
        failed = {*policy.line.failed_jobs.split(), row.id}
        if len(failed) >= FAILED_JOBS_TO_HOLD:
            held = f"{len(failed)} different jobs failed in a row, the last one {row.id}: {reason}"
            return [LeaseEnded(job=row.id, reason=reason, anew=True),
                    QueueHeld(reason=held, seconds=HOLD_SECONDS, failures_in_a_row=True)]
    if row.kind in TASKS:
        # What is asked for is asked for again, by its schedule or by a person; nobody waits for it in a line.
        return [JobFailed(job=row.id, reason=reason)]
    if not counts or row.failures + 1 < policy.max_attempts:
        pause = min(MAX_RETRY_SECONDS, FIRST_RETRY_SECONDS * RETRY_FACTOR**row.failures)
        retry_at = policy.now_wall + pause * (1 + RETRY_JITTER * policy.jitter)
        return [AttemptFailed(job=row.id, reason=reason, retry_at=retry_at, counts=counts)]
    set_aside = f"{policy.max_attempts} attempts failed; the last: {reason}"
    if row.kind is JobKind.TRAIN:
        return [JobQuarantined(job=row.id, reason=set_aside)]
    events: list[AnyEvent] = [JobFailed(job=row.id, reason=set_aside)]
    if row.kind is JobKind.PREPARE and train.state not in ENDED:
        events.append(JobQuarantined(job=train.id, reason=f"it could not be prepared: {set_aside}"))
    return events


def release(row: JobRow, token: int, reason: str, hold_seconds: float = 0.0) -> list[AnyEvent]:
    """The worker gives the job back; a lease that is over already needs no giving back.

    With ``hold_seconds`` the machine is at fault: the queue is held for so long.
    """
    if row.state is not JobState.RUNNING or row.token != token:
        return []
    held: list[AnyEvent] = [QueueHeld(reason=reason, seconds=hold_seconds)] if hold_seconds else []
    return [end_lease(row, reason), *held]


def lose_worker(row: JobRow, train: JobRow, reason: str, step: int | None, policy: Policy) -> list[AnyEvent]:
    """The worker of a running job is gone, and has not said why.

    A train job that takes its worker along in the same step again and again is found by the deaths that its row
    counts (:func:`failure_of`): only the trainer can take its steps back. A preparation has nothing to be taken back.

    Args:
        row: the leased job.
        train: as in :func:`complete`.
        reason: what is known, for people.
        step: where the worker was last heard of in this job; None if it was not.
        policy: the limits.
    """
    deaths = row.deaths + 1 if step is not None and step == row.death_step else 1
    if row.kind is not JobKind.TRAIN and step is not None and deaths >= DEATHS_TO_FAIL and row.cancel_reason is None:
        return fail(row, train, row.token, f"{deaths} of its workers in a row were lost with it; {reason}", policy)
    ended = end_lease(row, reason)
    if isinstance(ended, LeaseEnded):
        ended = msgspec.structs.replace(ended, died=True, step=step)
    return [ended]


def failure_of(row: JobRow) -> str:
    """Why the next worker should leave the job as failed at once; empty if it should do it."""
    if row.kind is JobKind.TRAIN and row.deaths >= DEATHS_TO_FAIL:
        return f"its worker was lost {row.deaths} times in a row in step {row.death_step}"
    return ""


def end_lease(row: JobRow, reason: str) -> AnyEvent:
    """The lease of a running job ends without a verdict: it goes back to the front of the line.

    A train job that somebody wants cancelled goes back too, because only the trainer knows whether steps of it are in
    the weights, or even all of them; it is leased once more to be taken back. A preparation just ends.
    """
    if row.cancel_reason is not None and row.kind is not JobKind.TRAIN:
        return JobCancelled(job=row.id, reason=row.cancel_reason)
    if row.kind is JobKind.LEND:
        return JobFailed(job=row.id, reason=reason)  # the program is gone, and nobody else has it
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


def decide_effects(row: JobRow, token: int, effects: Sequence[Effect], known: Sequence[Effect],
                   reason: str) -> list[AnyEvent]:
    """From these steps on a running train job is done otherwise; what is ``known`` already is not said again."""
    check_lease(row, token)
    if row.kind is not JobKind.TRAIN:
        raise UsageError(f"{row.id} is no train job: it has no steps")
    return [EffectDecided(job=row.id, kind=effect.kind, effective_step=effect.step, value=effect.value, reason=reason)
            for effect in effects if effect not in known]


def cancel_by_request(row: JobRow, reason: str, *, keep: bool) -> list[AnyEvent]:
    """Somebody asks for ``row`` to be ended; as :func:`cancel`.

    Raises:
        UsageError: it is a preparation. Without it its train job would wait for ever.
        TransitionError: it has ended otherwise.
    """
    if row.kind is JobKind.PREPARE:
        raise UsageError(f"{row.id} is a part of train-{row.number} and is not cancelled by itself",
                         mend=f"cancel train-{row.number}")
    return cancel(row, reason, keep=keep)


def cancel(row: JobRow, reason: str, *, keep: bool = False) -> list[AnyEvent]:
    """Somebody wants ``row`` ended; the same wish again changes nothing.

    ``keep``: with the steps that are done. Of one that was never begun there are none.

    Raises:
        TransitionError: it has ended otherwise.
    """
    if row.state is JobState.CANCELLED:
        return []
    if row.state in ENDED:
        raise TransitionError(row.id, row.state.value, "cancelling")
    # One that was given back (front below 1) may have steps in the weights, like one that runs; a task has none.
    if row.state is JobState.RUNNING or (row.front < 1 and row.kind not in TASKS):
        keep = keep and row.kind is JobKind.TRAIN
        if row.cancel_reason is not None and bool(row.keep) is keep:
            return []
        return [CancelRequested(job=row.id, reason=reason, keep=keep)]
    return [JobCancelled(job=row.id, reason=reason)]


def lift_hold(row: JobRow) -> list[AnyEvent]:
    """A person has looked at a held job and wants it trained; the same wish again changes nothing.

    Raises:
        UsageError: it is no train job.
        TransitionError: it has ended.
    """
    if row.kind is not JobKind.TRAIN:
        raise UsageError(f"{row.id} is no train job: only those are held")
    if row.state in ENDED:
        raise TransitionError(row.id, row.state.value, "releasing")
    return [HoldLifted(job=row.id)] if row.state is JobState.HELD else []


def retry(row: JobRow, prepare: JobRow, duplicate: tuple[str, JobState] | None) -> list[AnyEvent]:
    """A person wants a job that was set aside or cancelled tried again, from its first row.

    Args:
        row: the train job.
        prepare: the preparation of the same submission.
        duplicate: id and state of another job that carries the same content by now, if there is one.

    Raises:
        UsageError: it is a preparation, was rejected, its preparation is being ended, or its content is in another job
            by now.
        TransitionError: it has not ended, or has succeeded.
    """
    if row.kind in TASKS:
        raise UsageError(f"{row.id} is a task", mend="ask for the same again")
    if row.kind is not JobKind.TRAIN:
        raise UsageError(f"{row.id} is a part of train-{row.number} and is not tried by itself",
                         mend=f"retry train-{row.number}")
    if row.state is JobState.REJECTED:
        raise UsageError(f"{row.id} was rejected: its rows were judged, and judging them again changes nothing",
                         mend=f"trainq export {row.id}, mend the file, and submit it")
    if row.state not in (JobState.QUARANTINED, JobState.CANCELLED):
        raise TransitionError(row.id, row.state.value, "retrying")
    if duplicate is not None:
        raise UsageError(f"the same content is in {duplicate[0]} by now, which is {duplicate[1].value}",
                         mend="to train it twice, submit it again with --force")
    if prepare.state is JobState.RUNNING:
        raise UsageError(f"the preparation of {row.id} is just being ended", mend="try again in a moment")
    events: list[AnyEvent] = [JobRetried(job=row.id)]
    if not row.prepared and prepare.state in (JobState.FAILED, JobState.CANCELLED):
        events.append(JobRetried(job=prepare.id))
    elif not row.prepared and prepare.state is JobState.SUCCEEDED:
        events.append(PreparationReopened(job=prepare.id, reason=f"{row.id} is tried again"))
    return events


def follow_end(ended: JobRow, dependants: list[str], other: JobRow) -> list[AnyEvent]:
    """What the end of a job brings with it: dependants that waited for success, and a preparation nobody needs now.

    Or one that is needed after all: a cancel that was asked for while nobody needed it takes effect when its worker
    hears of it, and its train job may be tried again by then. (One that fails for good ends its train job in
    :func:`fail`.)

    Args:
        ended: the job as it is now, ended.
        dependants: those still waiting for its success (none when it succeeded).
        other: the other job of the same submission: its preparation, or the train job that it prepares.
    """
    events: list[AnyEvent] = [
        JobCancelled(job=job, reason=f"it waited for {ended.id}, which ended {ended.state.value}")
        for job in dependants
    ]
    if ended.kind is JobKind.TRAIN and other.state not in ENDED:
        events += cancel(other, f"{ended.id} ended {ended.state.value}")
    if (ended.kind is not JobKind.TRAIN and ended.state is JobState.CANCELLED and other.state not in ENDED
            and not other.prepared):
        events.append(JobRetried(job=ended.id))
    return events
