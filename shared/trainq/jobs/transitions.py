"""The one table that says which event may follow which state. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from trainq.errors import TransitionError
from trainq.jobs.base import JobEvent
from trainq.jobs.control import EffectDecided
from trainq.jobs.events import (
    AttemptFailed,
    CancelRequested,
    CheckpointPublished,
    DuplicateSubmitted,
    FingerprintChanged,
    HoldLifted,
    HoldPlaced,
    JobCancelled,
    JobFailed,
    JobOvertaken,
    JobPrepared,
    JobQuarantined,
    JobReinstated,
    JobRejected,
    JobRetried,
    JobSucceeded,
    JobTakenOut,
    JobUncovered,
    LeaseEnded,
    LeaseGranted,
    PreparationReopened,
)
from trainq.jobs.states import COUNTS_AS_DUPLICATE, JobState

_H, _Q, _R = JobState.HELD, JobState.QUEUED, JobState.RUNNING

TRANSITIONS: Mapping[tuple[JobState, type[JobEvent]], JobState] = MappingProxyType({
    (_Q, JobPrepared): _Q,
    (_H, JobPrepared): _H,
    # A shard may be made again (it was lost) while the job runs or waits; the verdict is the same.
    (_R, JobPrepared): _R,
    (_Q, JobRejected): JobState.REJECTED,
    (_H, JobRejected): JobState.REJECTED,
    (_Q, HoldPlaced): _H,
    (_H, HoldLifted): _Q,
    (_Q, JobOvertaken): _Q,
    (_Q, LeaseGranted): _R,
    (_R, LeaseEnded): _Q,
    (_R, AttemptFailed): _Q,
    (_R, CheckpointPublished): _R,
    # The trainer and its report were lost, the generation was not: it is reported when the trainer returns.
    (_Q, CheckpointPublished): _Q,
    (_R, FingerprintChanged): _R,
    (_R, EffectDecided): _R,
    (_R, CancelRequested): _R,
    # It was given back half done; the trainer takes it once more, to take its steps back.
    (_Q, CancelRequested): _Q,
    (_R, JobSucceeded): JobState.SUCCEEDED,
    # Likewise: all of it was published before its lease ended.
    (_Q, JobSucceeded): JobState.SUCCEEDED,
    (JobState.SUCCEEDED, PreparationReopened): _Q,
    (JobState.SUCCEEDED, JobUncovered): _Q,
    # A job in the middle of which the line stands again goes on before anything else.
    (_Q, JobUncovered): _Q,
    (_H, JobUncovered): _Q,
    (JobState.CANCELLED, JobUncovered): _Q,
    (JobState.QUARANTINED, JobUncovered): _Q,
    # The line went back to another state, on purpose or because newer ones were lost: what that holds is trained.
    (JobState.SUCCEEDED, JobTakenOut): JobState.CANCELLED,
    (_Q, JobReinstated): JobState.SUCCEEDED,
    (_H, JobReinstated): JobState.SUCCEEDED,
    (JobState.SUCCEEDED, JobReinstated): JobState.SUCCEEDED,
    (JobState.CANCELLED, JobReinstated): JobState.SUCCEEDED,
    (JobState.QUARANTINED, JobReinstated): JobState.SUCCEEDED,
    (JobState.REJECTED, JobReinstated): JobState.SUCCEEDED,
    (JobState.QUARANTINED, JobRetried): _Q,
    (JobState.CANCELLED, JobRetried): _Q,
    (JobState.FAILED, JobRetried): _Q,
    (_R, JobFailed): JobState.FAILED,
    (_R, JobQuarantined): JobState.QUARANTINED,
    (_Q, JobQuarantined): JobState.QUARANTINED,
    (_H, JobQuarantined): JobState.QUARANTINED,
    (_Q, JobCancelled): JobState.CANCELLED,
    (_H, JobCancelled): JobState.CANCELLED,
    (_R, JobCancelled): JobState.CANCELLED,
    # Content submitted again points at a job in any state that counts as a duplicate, and changes nothing.
    **{(state, DuplicateSubmitted): state for state in COUNTS_AS_DUPLICATE},
})


def transition(job: str, state: JobState, event: JobEvent) -> JobState:
    """The state of ``job`` after ``event``.

    Raises:
        TransitionError: the table has no entry; the state stands.
    """
    try:
        return TRANSITIONS[state, type(event)]
    except KeyError:
        raise TransitionError(job, state.value, type(event).__name__) from None
