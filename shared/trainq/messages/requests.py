"""What a client asks of the broker."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, UnsetType

from trainq.config import Epochs, TrainOverrides
from trainq.jobs import JobKind, JobState, Origin, Priority, Store
from trainq.messages.learning import GetChampions, GetLearning, GetScores, LockSuite, Promote, RollBack
from trainq.messages.tasks import CopyName, Task
from trainq.messages.work import (
    MAX_PAGE,
    MAX_SUBMITS,
    MAX_YIELD_SECONDS,
    Digest,
    Id,
    Name,
    Natural,
    Request,
    Text,
)
from trainq.messages.workers import (
    AcknowledgeCancel,
    Complete,
    CopyJournal,
    DropData,
    Fail,
    GetTrainedShards,
    GetUsedShards,
    Heartbeat,
    Hello,
    PurgeRemoval,
    Release,
    Remove,
    ReportCheckpoint,
    ReportDataGone,
    ReportEffects,
    ReportFingerprint,
    ReportInbox,
    ReportLostShard,
    ReportRefusedFile,
    TakeLease,
    UndoRemoval,
)

MAX_MAPPED_COLUMNS = 64
# Of a user's own event, its name and fields together; it is kept for ever.
MAX_EMITTED_BYTES = 4096
ColumnName = Annotated[str, Meta(max_length=256)]
EmittedFields = Annotated[dict[Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}\Z")],
                               bool | int | float | str | None], Meta(max_length=64)]


class Overrides(TrainOverrides, frozen=True, kw_only=True):
    """What a submit wants otherwise than the configuration says, and the inbox folder's part of it.

    Other than elsewhere in a message, a field that is not known is refused.
    """

    # Sent as null where it is not wished, as it always was: the digest of a request covers it.
    epochs: Epochs | UnsetType | None = None
    map: Annotated[dict[ColumnName, ColumnName], Meta(max_length=MAX_MAPPED_COLUMNS)] | None = None


class SubmitItem(msgspec.Struct, frozen=True, kw_only=True):
    """One file: its content must already lie, fsynced, under ``digest`` in the home's ``data/``.

    ``folder`` is the inbox sub-folder that it came from, for which ``[data.folders]`` may say something.
    """

    request_id: Id
    name: Name
    folder: Annotated[str, Meta(max_length=1024)] = ""
    digest: Digest
    size_bytes: Natural
    priority: Priority = Priority.NORMAL
    origin: Origin = Origin.PEOPLE
    after: Annotated[tuple[Id, ...], Meta(max_length=100)] = ()
    after_any: bool = False
    force: bool = False
    overrides: Overrides = Overrides()


class Submit(Request, frozen=True, kw_only=True, tag=True):
    """Accept files; each item is judged by itself and its receipt says what became of it."""

    items: Annotated[list[SubmitItem], Meta(min_length=1, max_length=MAX_SUBMITS)]


class SubmitTask(Request, frozen=True, kw_only=True, tag=True):
    """Do some maintenance. ``cause`` says for people why it is asked for."""

    task: Task
    cause: Text = "asked for by a person"


class Pin(Request, frozen=True, kw_only=True, tag=True):
    """Keep this checkpoint or snapshot, whatever the rules of retention say."""

    store: Store
    name: CopyName
    reason: Text = "pinned by a person"


class Unpin(Request, frozen=True, kw_only=True, tag=True):
    """Let the rules decide over it again. Without a pin it does nothing."""

    store: Store
    name: CopyName


class GetKept(Request, frozen=True, kw_only=True, tag=True):
    """What retention must know: the pins, and the removals of late."""


class GetHeldJobs(Request, frozen=True, kw_only=True, tag=True):
    """The train jobs that a generation holds, in the order of their training; those trained after ``after``.

    The next page begins after the last page's largest generation; only an empty one is the end.
    """

    generation: Natural
    after: Natural = 0
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = MAX_PAGE


class GetForks(Request, frozen=True, kw_only=True, tag=True):
    """Where the model line went back, and where it stands: the forks whose first generation is above ``after``.

    The next page begins after the last page's largest one; only an empty one is the end.
    """

    after: Natural = 0
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = MAX_PAGE


class PlanRestore(Request, frozen=True, kw_only=True, tag=True):
    """What a :class:`~trainq.messages.RestoreTask` of that copy would do to the jobs. Changes nothing."""

    store: Store
    name: CopyName


class GetQueue(Request, frozen=True, kw_only=True, tag=True):
    """How many files wait in each class, and since when."""


class GetSchedules(Request, frozen=True, kw_only=True, tag=True):
    """What the broker asks for by itself, and when."""


class Emit(Request, frozen=True, kw_only=True, tag=True):
    """Record an event of a user's own program, and publish it. Nothing of trainq follows from it.

    ``fields`` are flat, and with the ``name`` they have :data:`MAX_EMITTED_BYTES` at most.
    """

    name: Annotated[str, Meta(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,63}\Z")]
    fields: EmittedFields = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(msgspec.msgpack.encode((self.name, self.fields))) > MAX_EMITTED_BYTES:
            raise ValueError(f"name and fields of an event may have {MAX_EMITTED_BYTES} bytes")


class Retry(Request, frozen=True, kw_only=True, tag=True):
    """Try a job again that was set aside or cancelled, with a clean slate."""

    job: Id


class Cancel(Request, frozen=True, kw_only=True, tag=True):
    """End this job: at once if it waits, at the next step boundary if it runs.

    Its steps go out of the weights. With ``keep`` those that are done stay, and the job succeeds with them.
    """

    job: Id
    reason: Text = "cancelled by a person"
    keep: bool = False


class LiftHold(Request, frozen=True, kw_only=True, tag=True):
    """Train this job, which is held for its quality, all the same. One that is not held stays what it is."""

    job: Id


class PauseQueue(Request, frozen=True, kw_only=True, tag=True):
    """Train nothing until resumed: what runs is saved, its memory is freed, and it keeps its lease.

    With ``seconds`` it is resumed by itself after so long, and a pause that is there already stays what it is.
    """

    reason: Text = "paused by a person"
    seconds: Annotated[float, Meta(ge=0, le=MAX_YIELD_SECONDS)] = 0.0


class DrainQueue(Request, frozen=True, kw_only=True, tag=True):
    """Grant no new train job until resumed; the one that runs goes on to its end."""

    reason: Text = "drained by a person"


class ResumeQueue(Request, frozen=True, kw_only=True, tag=True):
    """Train again, after a pause, a drain or a stop. Without any of them it does nothing."""


class StopTrainer(Request, frozen=True, kw_only=True, tag=True):
    """The trainer that lives now saves, gives its job back and does no more; its next life does, or after a resume."""

    reason: Text = "stopped by a person"


class AskCheckpoint(Request, frozen=True, kw_only=True, tag=True):
    """Publish the state of the model at the next step boundary."""


class ListJobs(Request, frozen=True, kw_only=True, tag=True):
    """Jobs, newest first; the next page begins before the last page's smallest ``number``.

    A page may hold fewer than ``limit``, so that it fits into a message; only an empty one is the end. One of several
    kinds may end between the jobs of one number. ``failed_only``: those with a failed attempt, and those that failed
    for good. ``digest``: those that carry this content.
    """

    kinds: tuple[JobKind, ...] = (JobKind.TRAIN,)
    states: tuple[JobState, ...] = ()
    failed_only: bool = False
    digest: Digest | None = None
    before_number: Natural | None = None
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = 100


class ShowJob(Request, frozen=True, kw_only=True, tag=True):
    """Everything about one job."""

    job: Id


class GetOverview(Request, frozen=True, kw_only=True, tag=True):
    """The broker's part of the status picture."""


class Replay(Request, frozen=True, kw_only=True, tag=True):
    """The events after ``after_seq``, in order; of one job if it is named.

    The reply may hold fewer than ``limit``, so that it stays within a message; only an empty one is the end.
    """

    after_seq: Natural
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = MAX_PAGE
    job: Annotated[str, Meta(max_length=64)] = ""


AnyRequest = (
    Submit | SubmitTask | TakeLease | Heartbeat | Complete | Fail | Release | AcknowledgeCancel | ReportCheckpoint
    | ReportFingerprint | ReportLostShard | ReportRefusedFile | ReportInbox | Hello | Retry | Cancel | PauseQueue
    | DrainQueue | ResumeQueue | StopTrainer | AskCheckpoint | ReportEffects | GetForks | Emit
    | ListJobs | ShowJob | GetOverview | Replay | Pin | Unpin | GetKept | GetHeldJobs | PlanRestore | GetSchedules
    | GetQueue | LiftHold | GetTrainedShards
    | DropData | ReportDataGone | GetUsedShards | CopyJournal | Remove | UndoRemoval | PurgeRemoval
    | GetLearning | GetScores | GetChampions | Promote | RollBack | LockSuite
)
