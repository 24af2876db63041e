"""The events: facts, named in the past tense, written to the journal before anybody hears of them."""

from __future__ import annotations

from typing import Any

from trainq.jobs.base import Event, JobEvent
from trainq.jobs.control import (
    CheckpointRequested,
    Effect,
    EffectDecided,
    QueueDrained,
    QueuePaused,
    QueueResumed,
    TrainerStopped,
)
from trainq.jobs.enclosing import Enclosed
from trainq.jobs.keeping import (
    CopyPinned,
    CopyUnpinned,
    DataDropped,
    DataGone,
    RemovalDecided,
    RemovalPurged,
    RemovalUndone,
    ScheduleFired,
    ScheduleSet,
    ScheduleSkipped,
)
from trainq.jobs.learning import ChampionMoved, CheckpointJudged, LevelJudged, SuiteLocked, SuiteScored
from trainq.jobs.states import JobKind, Origin, Priority


class JobSubmitted(JobEvent, frozen=True, kw_only=True, tag=True):
    """A file was accepted: the train job ``job`` and its preparation ``prepare`` exist from here on.

    ``number`` counts submissions and is the place in the line inside a class. ``spec`` is everything a worker needs,
    resolved and frozen now.
    """

    prepare: str
    number: int
    name: str
    request_id: str
    request_digest: str
    digest: str
    size_bytes: int
    priority: Priority
    origin: Origin
    after: tuple[str, ...] = ()
    after_any: bool = False
    spec: dict[str, Any]


class TaskSubmitted(JobEvent, frozen=True, kw_only=True, tag=True):
    """Maintenance was asked for: a job of one of :data:`~trainq.jobs.TASKS` exists from here on.

    ``number`` counts tasks of all kinds. ``cause`` says who asked, for people; ``task`` is everything that its worker
    needs, a map of one of the task types of :mod:`trainq.messages`.
    """

    kind: JobKind
    number: int
    name: str
    request_id: str
    request_digest: str
    cause: str
    task: dict[str, Any]


class DuplicateSubmitted(JobEvent, frozen=True, kw_only=True, tag=True):
    """Content that ``job`` already carries came again under another request id; that id now means ``job``."""

    request_id: str
    request_digest: str


class JobPrepared(JobEvent, frozen=True, kw_only=True, tag=True):
    """The file's shard is in the cache. From here on its batches are fixed.

    ``enclosed`` is what it was made with besides the file: a shard made again takes the same.
    """

    shard: str
    shard_digest: str
    rows: int
    tokens: int
    report: dict[str, Any]
    enclosed: tuple[Enclosed, ...] = ()


class PreparationReopened(JobEvent, frozen=True, kw_only=True, tag=True):
    """The shard that preparation ``job`` had made is gone or damaged: it is made again, and must come out the same.

    Its train job counts as unprepared until then.
    """

    reason: str


class JobRejected(JobEvent, frozen=True, kw_only=True, tag=True):
    """The file's rows were judged unfit; nothing of it is trained."""

    reason: str
    report: dict[str, Any]


class HoldPlaced(JobEvent, frozen=True, kw_only=True, tag=True):
    """The job left the line until a person lets it go."""

    reason: str


class HoldLifted(JobEvent, frozen=True, kw_only=True, tag=True):
    """The job is back in the line, at its old place."""


class JobOvertaken(JobEvent, frozen=True, kw_only=True, tag=True):
    """The head of the line was not prepared in time, so ``by`` goes first."""

    by: str


class LeaseGranted(JobEvent, frozen=True, kw_only=True, tag=True):
    """An attempt begins: the job was given to one life (``session``) of a worker."""

    worker: str
    session: str
    attempt: int


class LeaseEnded(JobEvent, frozen=True, kw_only=True, tag=True):
    """The lease ended without a verdict (expired, released, worker restarted); the job goes to the front again.

    ``died``: its worker was lost and did not give it back; ``step`` is where it was last heard of (None: unknown, or
    it had not begun), so that a file that takes its worker along is found out. ``anew``: its steps were taken back.
    """

    reason: str
    died: bool = False
    step: int | None = None
    anew: bool = False


class AttemptFailed(JobEvent, frozen=True, kw_only=True, tag=True):
    """The attempt failed; the job waits until ``retry_at`` (seconds since 1970) with low priority.

    ``counts``: it had published no step beyond its best; only such failures set a job aside.
    """

    reason: str
    retry_at: float
    counts: bool = True


class CheckpointPublished(JobEvent, frozen=True, kw_only=True, tag=True):
    """The model line has a new generation, published while ``job`` ran.

    ``stall_seconds`` is how long training stood still for it, ``write_seconds`` how long the disk took for its
    ``size_bytes``; all three are 0 where only the head was heard of, and in what an older trainq wrote.
    """

    generation: int
    name: str
    step: int
    job_step: int
    done: bool
    reason: str
    stall_seconds: float = 0.0
    write_seconds: float = 0.0
    size_bytes: int = 0


class FingerprintChanged(JobEvent, frozen=True, kw_only=True, tag=True):
    """From this job on the weights are computed on something else than before: their bits do not repeat across it."""

    before: dict[str, str]
    after: dict[str, str]


class JobUncovered(JobEvent, frozen=True, kw_only=True, tag=True):
    """No generation that verifies holds the job's steps any more: it is trained again, ahead of everything.

    ``generation`` is the lost one, by which uncovered jobs keep their old order. 0: a restore has put the line into the
    middle of the job, which goes on there; ``effects`` are those that its steps until there were done with.
    """

    generation: int
    reason: str
    effects: tuple[Effect, ...] = ()


class JobTakenOut(JobEvent, frozen=True, kw_only=True, tag=True):
    """The line went back to a state before the job was trained: its steps are out of the weights, by somebody's wish.

    ``generation`` is the one that held it.
    """

    generation: int
    reason: str


class JobReinstated(JobEvent, frozen=True, kw_only=True, tag=True):
    """The line went back to a state that holds the job, trained in ``generation``, whatever became of it since."""

    generation: int
    reason: str


class JobRetried(JobEvent, frozen=True, kw_only=True, tag=True):
    """A job that was set aside is tried again, with a clean slate: from its first row, waiting for no other job.

    A person wants it; or it is a preparation that was cancelled and is needed after all.
    """


class CancelRequested(JobEvent, frozen=True, kw_only=True, tag=True):
    """Somebody wants the running job ended; its worker does it at the next step boundary.

    Its steps go out of the weights; with ``keep`` those that are done stay, and the job is done with them.
    """

    reason: str
    keep: bool = False


class JobSucceeded(JobEvent, frozen=True, kw_only=True, tag=True):
    """All of the job's work is done and published."""

    result: dict[str, Any]


class JobFailed(JobEvent, frozen=True, kw_only=True, tag=True):
    """The job failed for good (kinds other than ``train``)."""

    reason: str


class JobQuarantined(JobEvent, frozen=True, kw_only=True, tag=True):
    """The file was set aside after too many failed attempts; the queue goes on."""

    reason: str


class JobCancelled(JobEvent, frozen=True, kw_only=True, tag=True):
    """The job ended by somebody's wish, or because what it waited for did not succeed."""

    reason: str


class QueueHeld(Event, frozen=True, kw_only=True, tag=True):
    """Something is wrong that is no file's fault: no train job is granted for ``seconds``, and none has failed by it.

    ``failures_in_a_row``: several different jobs had failed, which holds the queue once until one succeeds.
    """

    reason: str
    seconds: float
    failures_in_a_row: bool = False


class QueueHoldLifted(Event, frozen=True, kw_only=True, tag=True):
    """The time of the hold is over: it is tried again."""


class AgeingSet(Event, frozen=True, kw_only=True, tag=True):
    """From here on waiting jobs age by this setting (:func:`rank`); those that wait are put in order anew."""

    ageing_jobs: int


class CheckpointDamaged(Event, frozen=True, kw_only=True, tag=True):
    """A generation did not verify and was set aside; ``name`` is what it was called."""

    generation: int
    name: str
    reason: str


class HeadAdopted(Event, frozen=True, kw_only=True, tag=True):
    """The trainer began from another head than the journal knew: an earlier one, or one of which it had not heard."""

    generation: int
    name: str
    step: int


class LineRestored(Event, frozen=True, kw_only=True, tag=True):
    """The new generation has the content of an earlier one, ``source``: the line goes on from there.

    ``by`` is the task that did it.
    """

    generation: int
    name: str
    step: int
    source: int
    by: str


class LineRebased(Event, frozen=True, kw_only=True, tag=True):
    """The new generation has the adapter of ``source`` merged into the weights, and a fresh adapter on them.

    ``by`` is the task that did it; ``lora`` and ``seed`` are what the fresh adapter was made with, ``threads`` how many
    have merged, and ``warmup`` whether the fresh optimizer has a warm-up of its own, so that the weights can be derived
    from the journal.
    """

    generation: int
    name: str
    step: int
    source: str
    by: str
    lora: dict[str, Any]
    seed: int
    threads: int
    warmup: bool = False


class InboxCounted(Event, frozen=True, kw_only=True, tag=True):
    """So many files in the inbox wait to be submitted; recorded when there are the first ones, and when none is left.
    """

    waiting: int


class FileRefused(Event, frozen=True, kw_only=True, tag=True):
    """A file in the inbox could not be accepted at all; it lies in ``rejected/`` with a report."""

    request_id: str
    request_digest: str
    name: str
    reason: str
    report: str


class UserNoted(Event, frozen=True, kw_only=True, tag=True):
    """A user's own program says something, under a ``name`` of its own. Nothing of trainq ever follows from it."""

    request_id: str
    request_digest: str
    name: str
    fields: dict[str, bool | int | float | str | None]


class BrokerStarted(Event, frozen=True, kw_only=True, tag=True):
    """A new life of the broker began on this journal."""

    version: str
    pid: int


AnyEvent = (
    JobSubmitted | DuplicateSubmitted | JobPrepared | PreparationReopened | JobRejected | HoldPlaced | HoldLifted
    | JobOvertaken | LeaseGranted | LeaseEnded | AttemptFailed | CheckpointPublished | CancelRequested | JobSucceeded
    | JobFailed | JobQuarantined | JobCancelled | QueuePaused | QueueResumed | FileRefused | BrokerStarted
    | FingerprintChanged | JobUncovered | JobRetried | QueueHeld | QueueHoldLifted | CheckpointDamaged | HeadAdopted
    | AgeingSet | TaskSubmitted | CopyPinned | CopyUnpinned | RemovalDecided | RemovalUndone | RemovalPurged
    | JobTakenOut | JobReinstated | LineRestored | LineRebased | InboxCounted | DataDropped | DataGone | ScheduleSet
    | ScheduleFired | ScheduleSkipped | EffectDecided | QueueDrained | TrainerStopped | CheckpointRequested | UserNoted
    | SuiteLocked | SuiteScored | CheckpointJudged | ChampionMoved | LevelJudged
)


def effects_left(event: Event) -> tuple[Effect, ...] | None:
    """The effects with which the event's job goes on, where it does not go on with those that it had; else None."""
    match event:
        case AttemptFailed() | LeaseEnded(anew=True) | JobRetried():
            return ()
        case JobUncovered(generation=0):
            return event.effects  # in the middle of an attempt that may not be the last one
        case _:
            return None
