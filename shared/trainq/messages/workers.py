"""What a worker asks of the broker: for work, about its leases, and what it has found."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from trainq.jobs import MAX_SOURCES, Effect, JobKind, Store
from trainq.messages.tasks import CopyName
from trainq.messages.work import (
    MAX_EFFECTS,
    Digest,
    Id,
    LeaseState,
    Lifecycle,
    Name,
    Natural,
    PauseCause,
    Pid,
    Request,
    Result,
    Text,
    Token,
)

# Each is looked up in the transaction of its request, in which everybody else waits.
MAX_DIGESTS = 200
# More than the interval checkpoints of any job, all of which are set aside when what they stand on is damaged.
MAX_DAMAGED = 1000
FingerprintMap = Annotated[
    dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=256)]], Meta(max_length=32)]


class TakeLease(Request, frozen=True, kw_only=True, tag=True):
    """Give me work. ``session`` names this life of the worker; a former life's job comes back at once.

    With ``job`` that one and no other.
    """

    worker: Id
    session: Id
    kinds: Annotated[tuple[JobKind, ...], Meta(min_length=1)]
    job: Annotated[str, Meta(max_length=64)] = ""


class Heartbeat(Request, frozen=True, kw_only=True, tag=True):
    """I live, this is my state, these are my leases. Never journalled.

    ``gpu``: I have a model in its memory, or am about to, once the reply has this number; 0 if not, and another number
    each time that I want it anew. ``rests``: something that the broker does not know of keeps me from beginning
    anything; ``until_told``: and that lasts until somebody orders otherwise. ``cause``: why it is
    PAUSED.
    """

    service: Id
    session: Id
    pid: Pid
    state: Lifecycle
    detail: Text = ""
    started_at: float = 0.0
    leases: Annotated[tuple[LeaseState, ...], Meta(max_length=100)] = ()
    gpu: Natural = 0
    rests: bool = False
    until_told: bool = False
    cause: PauseCause | None = None


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
    """A new generation is published and verified.

    ``stall_seconds`` is how long training stood still for it, ``write_seconds`` how long the disk took for its
    ``size_bytes``.
    """

    generation: Natural
    name: Name
    step: Natural
    job_step: Natural
    done: bool
    reason: Text
    stall_seconds: Annotated[float, Meta(ge=0)] = 0.0
    write_seconds: Annotated[float, Meta(ge=0)] = 0.0
    size_bytes: Natural = 0


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

    ``proven`` names the older of the two newest generations and of the newest that is not marked, when all of them were
    just proven: what it holds is trained for good.
    """

    digests: Annotated[tuple[Digest, ...], Meta(max_length=MAX_DIGESTS)]
    proven: Annotated[str, Meta(max_length=64)] = ""


class ReportDataGone(LeaseRequest, frozen=True, kw_only=True, tag=True):
    """What was to be deleted is."""

    digests: Annotated[tuple[Digest, ...], Meta(max_length=MAX_DIGESTS)]


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


class GetUsedShards(Request, frozen=True, kw_only=True, tag=True):
    """Which of these shards a job needs that has not ended."""

    shards: Annotated[tuple[Name, ...], Meta(max_length=MAX_DIGESTS)]


class GetTrainedShards(Request, frozen=True, kw_only=True, tag=True):
    """The shards of the train jobs that have succeeded, the newest submissions first.

    ``spread``: not the newest alone, but a sample of all of them, people's before generated ones
    (:mod:`trainq.journal.sampling`).
    """

    spread: bool = False
    limit: Annotated[int, Meta(ge=1, le=MAX_SOURCES)] = 64
