"""What a client asks of the broker."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, UnsetType

from trainq.config import Epochs, TrainOverrides
from trainq.jobs import Effect, JobKind, JobState, Origin, Priority, Store
from trainq.messages.work import (
    MAX_EFFECTS,
    MAX_PAGE,
    MAX_SUBMITS,
    MAX_YIELD_SECONDS,
    CopyName,
    Digest,
    Id,
    LeaseState,
    Lifecycle,
    Message,
    Name,
    Natural,
    Pid,
    Result,
    Task,
    Text,
    Token,
)

# Each is looked up in the transaction of its request, in which everybody else waits.
MAX_DIGESTS = 200


class Request(Message, frozen=True, kw_only=True):
    """Asked of the broker. The same ``request_id`` with the same content may be sent again and again."""

    request_id: Id
    v: Literal[1] = 1


MAX_MAPPED_COLUMNS = 64
# More than the interval checkpoints of any job, all of which are set aside when what they stand on is damaged.
MAX_DAMAGED = 1000
FingerprintMap = Annotated[
    dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=256)]], Meta(max_length=32)]
ColumnName = Annotated[str, Meta(max_length=256)]


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


class GetSchedules(Request, frozen=True, kw_only=True, tag=True):
    """What the broker asks for by itself, and when."""


class TakeLease(Request, frozen=True, kw_only=True, tag=True):
    """Give me work. ``session`` names this life of the worker; a former life's job comes back at once.

    With ``job`` that one and no other.
    """

    worker: Id
    session: Id
    kinds: Annotated[tuple[JobKind, ...], Meta(min_length=1)]
    job: Annotated[str, Meta(max_length=64)] = ""


class Heartbeat(Request, frozen=True, kw_only=True, tag=True):
    """I live, this is my state, these are my leases. Never journalled. ``gpu``: I have a model in its memory."""

    service: Id
    session: Id
    pid: Pid
    state: Lifecycle
    detail: Text = ""
    started_at: float = 0.0
    leases: Annotated[tuple[LeaseState, ...], Meta(max_length=100)] = ()
    gpu: bool = False


class LeaseRequest(Request, frozen=True, kw_only=True):
    """About one lease; refused when ``token`` is not the lease's."""

    job: Id
    token: Token


class Complete(LeaseRequest, frozen=True, kw_only=True, tag=True):
    """The job is done. With ``next_kinds`` the next lease comes in the same commit."""

    result: Result
    worker: Id
    session: Id
    next_kinds: tuple[JobKind, ...] = ()


class Fail(LeaseRequest, frozen=True, kw_only=True, tag=True):
    """The attempt failed by the job's own fault. ``counts`` is false when it had published a new highest step.

    ``final``: another attempt would end the same; it is set aside at once.
    """

    reason: Text
    counts: bool = True
    final: bool = False


class Release(LeaseRequest, frozen=True, kw_only=True, tag=True):
    """I stop; give the job to somebody else, or to my next life.

    With ``hold_seconds`` the machine is at fault, and no train job is granted for so long.
    """

    reason: Text = "released"
    hold_seconds: Annotated[float, Meta(ge=0, le=86_400)] = 0.0


class AcknowledgeCancel(LeaseRequest, frozen=True, kw_only=True, tag=True):
    """The cancel took effect: the job's work is stopped and its steps are out of the weights."""


class ReportCheckpoint(LeaseRequest, frozen=True, kw_only=True, tag=True):
    """A new generation is published and verified."""

    generation: Natural
    name: Name
    step: Natural
    job_step: Natural
    done: bool
    reason: Text


class ReportFingerprint(LeaseRequest, frozen=True, kw_only=True, tag=True):
    """The job goes on, or begins, on something else than the head was computed on."""

    before: FingerprintMap
    after: FingerprintMap


class ReportEffects(LeaseRequest, frozen=True, kw_only=True, tag=True):
    """The train job's steps are others from these on: to be on disk before the first of them is done."""

    effects: Annotated[tuple[Effect, ...], Meta(min_length=1, max_length=MAX_EFFECTS)]
    reason: Text


class ReportLostShard(LeaseRequest, frozen=True, kw_only=True, tag=True):
    """The train job cannot begin, because its shard is not in the cache any more, or is damaged: make it again."""

    reason: Text


class Remove(LeaseRequest, frozen=True, kw_only=True, tag=True):
    """May the holder of this retention task move that copy to the trash? With :class:`Done` it is decided.

    The ``seq`` of the reply is the removal's number. Refused, with the reason, for what must stay.
    """

    store: Store
    name: CopyName
    size_bytes: Natural
    reason: Text


class UndoRemoval(LeaseRequest, frozen=True, kw_only=True, tag=True):
    """The copy is, or comes, back in its place."""

    removal: Token
    reason: Text


class PurgeRemoval(LeaseRequest, frozen=True, kw_only=True, tag=True):
    """The copy is deleted for good, as soon as this is on disk."""

    removal: Token


class DropData(LeaseRequest, frozen=True, kw_only=True, tag=True):
    """May the holder of this retention task delete this content? The reply names what it must delete, and report.

    ``proven`` names the older of the two newest generations, when both were just proven: what it holds is trained for
    good.
    """

    digests: Annotated[tuple[Digest, ...], Meta(max_length=MAX_DIGESTS)]
    proven: Annotated[str, Meta(max_length=64)] = ""


class ReportDataGone(LeaseRequest, frozen=True, kw_only=True, tag=True):
    """What was to be deleted is."""

    digests: Annotated[tuple[Digest, ...], Meta(max_length=MAX_DIGESTS)]


class GetUsedShards(Request, frozen=True, kw_only=True, tag=True):
    """Which of these shards a job needs that has not ended."""

    shards: Annotated[tuple[Name, ...], Meta(max_length=MAX_DIGESTS)]


class CopyJournal(LeaseRequest, frozen=True, kw_only=True, tag=True):
    """Make the copy of the journal that this backup needs, or say how far it is; asked again until it is done."""


class ReportRefusedFile(Request, frozen=True, kw_only=True, tag=True):
    """A file in the inbox could not be accepted; it lies in ``rejected/``."""

    name: Name
    reason: Text
    report: Text


class DamagedGeneration(msgspec.Struct, frozen=True, kw_only=True):
    """A generation that did not verify and was set aside."""

    generation: Natural
    name: Name
    reason: Text


class ReportInbox(Request, frozen=True, kw_only=True, tag=True):
    """So many files of the inbox wait to be submitted, as far as the watcher can take them."""

    waiting: Natural


class Hello(Request, frozen=True, kw_only=True, tag=True):
    """The trainer's training process has begun, from this verified head. Asked before any work is taken.

    ``begun``: there is no checkpoint at all, so it wants to begin a new line; ``generation`` is 0 then.
    ``journal_seq`` is how far the head had seen the journal. ``damaged`` are all that were ever set aside and are still
    there. ``made_by`` is the task that has published the head: a rebase, or a restore with the content of
    ``restored_from``. ``effects`` are those that the steps of ``job`` were done with.
    """

    worker: Id
    session: Id
    generation: Natural
    name: Name
    step: Natural
    reason: Text = ""
    begun: bool = False
    journal_seq: Natural = 0
    job: Annotated[str, Meta(max_length=64)] = ""
    job_step: Natural = 0
    steps_planned: Natural = 0
    done: bool = False
    made_by: Annotated[str, Meta(max_length=64)] = ""
    restored_from: Natural = 0
    effects: Annotated[tuple[Effect, ...], Meta(max_length=MAX_EFFECTS)] = ()
    damaged: Annotated[tuple[DamagedGeneration, ...], Meta(max_length=MAX_DAMAGED)] = ()


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
    | DrainQueue | ResumeQueue | StopTrainer | AskCheckpoint | ReportEffects | GetForks
    | ListJobs | ShowJob | GetOverview | Replay | Pin | Unpin | GetKept | GetHeldJobs | PlanRestore | GetSchedules
    | DropData | ReportDataGone | GetUsedShards | CopyJournal | Remove | UndoRemoval | PurgeRemoval
)
