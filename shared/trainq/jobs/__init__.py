"""Jobs: their states, the events that change them, and the one table that says what may follow what.

Rules:

* Every job is in exactly one of eight states; ``ENDED`` states are final, with three exceptions: a preparation whose
  shard was lost, a trained job whose generation was lost, and a job that a person tries again are queued again.
* An event is a fact, named in the past tense, frozen, and written to the journal before anybody hears of it.
* ``TRANSITIONS`` has an entry for every (state, event) that may happen; a missing entry raises
  :class:`~trainq.errors.TransitionError` and changes nothing.
* A submit makes one ``train`` job, which people see, and its ``prepare`` job in the same transaction. How the
  preparation ends is an event of the *train* job (``JobPrepared``, ``JobRejected``, ``HoldPlaced``).
* The sequence number of ``LeaseGranted`` is the lease's fencing token: it grows for ever and is never used twice.

This module is pure: no I/O, no clock.
"""

from trainq.jobs.events import (
    AgeingSet,
    AnyEvent,
    AttemptFailed,
    BrokerStarted,
    CancelRequested,
    CheckpointDamaged,
    CheckpointPublished,
    CopyPinned,
    CopyUnpinned,
    DuplicateSubmitted,
    Event,
    FileRefused,
    FingerprintChanged,
    HeadAdopted,
    HoldLifted,
    HoldPlaced,
    JobCancelled,
    JobEvent,
    JobFailed,
    JobOvertaken,
    JobPrepared,
    JobQuarantined,
    JobRejected,
    JobRetried,
    JobSubmitted,
    JobSucceeded,
    JobUncovered,
    LeaseEnded,
    LeaseGranted,
    PreparationReopened,
    QueueHeld,
    QueueHoldLifted,
    QueuePaused,
    QueueResumed,
    RemovalDecided,
    RemovalPurged,
    RemovalUndone,
    TaskSubmitted,
)
from trainq.jobs.states import (
    COUNTS_AS_DUPLICATE,
    ENDED,
    FAILED,
    TASKS,
    JobKind,
    JobState,
    Origin,
    Priority,
    Store,
    class_jobs,
    rank,
)
from trainq.jobs.transitions import TRANSITIONS, transition

__all__ = [
    "COUNTS_AS_DUPLICATE",
    "ENDED",
    "FAILED",
    "TASKS",
    "TRANSITIONS",
    "AgeingSet",
    "AnyEvent",
    "AttemptFailed",
    "BrokerStarted",
    "CancelRequested",
    "CheckpointDamaged",
    "CheckpointPublished",
    "CopyPinned",
    "CopyUnpinned",
    "DuplicateSubmitted",
    "Event",
    "FileRefused",
    "FingerprintChanged",
    "HeadAdopted",
    "HoldLifted",
    "HoldPlaced",
    "JobCancelled",
    "JobEvent",
    "JobFailed",
    "JobKind",
    "JobOvertaken",
    "JobPrepared",
    "JobQuarantined",
    "JobRejected",
    "JobRetried",
    "JobState",
    "JobSubmitted",
    "JobSucceeded",
    "JobUncovered",
    "LeaseEnded",
    "LeaseGranted",
    "Origin",
    "PreparationReopened",
    "Priority",
    "QueueHeld",
    "QueueHoldLifted",
    "QueuePaused",
    "QueueResumed",
    "RemovalDecided",
    "RemovalPurged",
    "RemovalUndone",
    "Store",
    "TaskSubmitted",
    "class_jobs",
    "rank",
    "transition",
]
