"""What jobs are: their states and kinds, their priority, and the place in the line that it gives them."""

from __future__ import annotations

from enum import IntEnum, StrEnum

import msgspec


class JobState(StrEnum):
    """Where a job stands."""

    HELD = "held"
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    QUARANTINED = "quarantined"
    REJECTED = "rejected"


ENDED = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.QUARANTINED, JobState.REJECTED})

# Ended by a fault of the file's or of its attempts.
FAILED = frozenset({JobState.FAILED, JobState.QUARANTINED, JobState.REJECTED})

# The states in which content counts as already submitted; content that failed may come again.
COUNTS_AS_DUPLICATE = frozenset({JobState.HELD, JobState.QUEUED, JobState.RUNNING, JobState.SUCCEEDED})


class JobKind(StrEnum):
    """What a job asks for; each kind is leased by one sort of worker."""

    TRAIN = "train"
    PREPARE = "prepare"
    SNAPSHOT = "snapshot"
    VERIFY = "verify"
    RETENTION = "retention"
    RESTORE = "restore"
    BACKUP = "backup"
    CONSOLIDATE = "consolidate"
    REBASE = "rebase"
    # Somebody else's program has the GPU.
    LEND = "lend"
    # A file is made for the model to learn from.
    GENERATE = "generate"
    # A checkpoint is scored on suites.
    EVALUATE = "evaluate"
    # The champion is put where others fetch it.
    PUBLISH = "publish"


# Maintenance: what is asked for by itself, and does not come of a submitted file.
TASKS = frozenset(JobKind) - {JobKind.TRAIN, JobKind.PREPARE}
# Those that change the model line: the trainer's, which has one job at a time.
LINE_TASKS = frozenset({JobKind.RESTORE, JobKind.REBASE})
# Those that need the GPU, of which there is one: one of them runs at a time.
NEEDS_GPU = LINE_TASKS | {JobKind.TRAIN, JobKind.LEND}


class Store(StrEnum):
    """Where copies of the model lie: a folder of the home, by its name."""

    CHECKPOINTS = "checkpoints"
    SNAPSHOTS = "snapshots"


class PinView(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint or snapshot that somebody wants kept. ``at``: wall seconds since 1970."""

    store: Store
    name: str
    reason: str
    at: float


class RemovalView(msgspec.Struct, frozen=True, kw_only=True):
    """A removal that was decided at ``at``; ``state`` is ``trash``, ``undone`` or ``purged``."""

    removal: int
    store: Store
    name: str
    state: str
    size_bytes: int
    reason: str
    at: float


class Priority(IntEnum):
    """The order of people's classes; smaller goes first."""

    HIGH = 0
    NORMAL = 1
    LOW = 2


class Origin(StrEnum):
    """Who made the data. People's files go before generated ones, always."""

    PEOPLE = "people"
    GENERATED = "generated"


# As many jobs as nobody will ever start: a class is never left by waiting.
_NEVER = 1 << 40


def rank(priority: Priority, started: int, ageing_jobs: int) -> int:
    """The place of a job in the line, smaller first; those of one rank go by number.

    A job gains one class for every ``ageing_jobs`` train jobs that are started while it waits. Since all that wait gain
    alike, its place among them is fixed at its submit: priority times ``ageing_jobs``, plus those started until then.

    Args:
        priority: the job's class.
        started: how many train jobs had been started when it was submitted.
        ageing_jobs: 0 means that classes are never crossed.
    """
    return priority * class_jobs(ageing_jobs) + started


def class_jobs(ageing_jobs: int) -> int:
    """How many starts lie between two classes."""
    return ageing_jobs or _NEVER
