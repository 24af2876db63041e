"""Messages are types: everything that travels between processes, validated once, here.

A request is one msgpack map with a version ``v``, a ``type`` and a ``request_id`` that the client makes and repeats
with every retry. :func:`decode_request` returns a valid object or raises :class:`~trainq.errors.ProtocolError`; past
that line nobody checks again. Unknown fields are tolerated, so that an older process understands a newer one of the
same version. ``docs/protocol.md`` describes the same for writers of other clients.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from trainq import errors
from trainq.config import ColumnMap, DataSettings, Epochs, TrainSettings
from trainq.ids import DIGEST_PATTERN, ID_PATTERN
from trainq.jobs import JobKind, JobState, Origin, Priority

PROTOCOL_VERSION = 1
# Precedent: the frame limit of 4 MiB is far above the largest legal message (10 000 submits of 300 bytes).
MAX_MESSAGE_BYTES = 4 * 1024 * 1024
MAX_SUBMITS = 10_000
MAX_PAGE = 1000

Id = Annotated[str, Meta(pattern=ID_PATTERN)]
Digest = Annotated[str, Meta(pattern=DIGEST_PATTERN)]
Text = Annotated[str, Meta(max_length=4096)]
Name = Annotated[str, Meta(min_length=1, max_length=1024)]
Token = Annotated[int, Meta(ge=1)]
Natural = Annotated[int, Meta(ge=0)]


class Lifecycle(StrEnum):
    """What a process says of itself in each heartbeat."""

    INITIALIZING = "INITIALIZING"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    SHUTTING_DOWN = "SHUTTING_DOWN"
    STOPPED = "STOPPED"
    ERROR = "ERROR"


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """Anything on a wire; ``type`` is the class name."""


# ---------------------------------------------------------------------------------------------------------- jobs' specs


class TrainSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a submit froze: the settings that its preparation and its training use, whatever is configured later."""

    model: str
    data: DataSettings
    train: TrainSettings


class PrepareResult(Message, frozen=True, kw_only=True, tag=True):
    """A preparation ended with a shard in the cache (``shard`` is its folder's name there)."""

    shard: Name
    shard_digest: Digest
    rows: Annotated[int, Meta(ge=1)]
    tokens: Annotated[int, Meta(ge=1)]
    report: dict[str, Any]


class RejectResult(Message, frozen=True, kw_only=True, tag=True):
    """A preparation ended with the verdict that the file is unfit."""

    reason: Text
    report: dict[str, Any]


class TrainResult(Message, frozen=True, kw_only=True, tag=True):
    """A training ended with a published generation that covers all of the job's steps."""

    steps_done: Natural
    steps_planned: Natural
    global_step: Natural
    generation: Natural
    checkpoint: Name
    first_loss: float | None = None
    last_loss: float | None = None


Result = PrepareResult | RejectResult | TrainResult


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a running job is; lives in memory only. ``step`` of ``steps`` in ``unit`` (steps, or bytes read)."""

    step: Natural = 0
    steps: Natural = 0
    unit: str = "steps"
    global_step: Natural = 0
    loss: float | None = None
    learning_rate: float | None = None
    tokens_per_second: float | None = None
    seconds_left: float | None = None


class LeaseState(msgspec.Struct, frozen=True, kw_only=True):
    """One lease as its worker sees it, sent with each heartbeat."""

    job: Id
    token: Token
    progress: Progress = Progress()


class Lease(Message, frozen=True, kw_only=True, tag=True):
    """A job in a worker's hands until ``lease_seconds`` after the last heartbeat."""

    job: str
    kind: JobKind
    token: int
    attempt: int
    name: str
    digest: str
    size_bytes: int
    spec: TrainSpec
    shard: str = ""
    shard_digest: str = ""
    seq: int
    lease_seconds: float
    heartbeat_seconds: float


# ------------------------------------------------------------------------------------------------------------- requests


class Request(Message, frozen=True, kw_only=True):
    """Asked of the broker. The same ``request_id`` with the same content may be sent again and again."""

    request_id: Id
    v: Literal[1] = 1


class Overrides(msgspec.Struct, frozen=True, kw_only=True):
    """What a submit wants otherwise than the configuration says."""

    epochs: Epochs | None = None
    map: ColumnMap | None = None


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


class TakeLease(Request, frozen=True, kw_only=True, tag=True):
    """Give me work. ``session`` names this life of the worker; a former life's job comes back at once."""

    worker: Id
    session: Id
    kinds: Annotated[tuple[JobKind, ...], Meta(min_length=1)]


class Heartbeat(Request, frozen=True, kw_only=True, tag=True):
    """I live, this is my state, these are my leases. Never journalled."""

    service: Id
    session: Id
    pid: Natural
    state: Lifecycle
    detail: Text = ""
    started_at: float = 0.0
    leases: Annotated[tuple[LeaseState, ...], Meta(max_length=100)] = ()


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
    """The attempt failed by the job's own fault."""

    reason: Text


class Release(LeaseRequest, frozen=True, kw_only=True, tag=True):
    """I stop; give the job to somebody else, or to my next life."""

    reason: Text = "released"


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


class ReportRefusedFile(Request, frozen=True, kw_only=True, tag=True):
    """A file in the inbox could not be accepted; it lies in ``rejected/``."""

    name: Name
    reason: Text
    report: Text


class Cancel(Request, frozen=True, kw_only=True, tag=True):
    """End this job: at once if it waits, at the next step boundary if it runs."""

    job: Id
    reason: Text = "cancelled by a person"


class PauseQueue(Request, frozen=True, kw_only=True, tag=True):
    """Grant no new train job until resumed."""

    reason: Text = "paused by a person"


class ResumeQueue(Request, frozen=True, kw_only=True, tag=True):
    """Grant train jobs again. Without a pause it does nothing."""


class ListJobs(Request, frozen=True, kw_only=True, tag=True):
    """Jobs, newest first; the next page begins before the last page's smallest ``number``."""

    kinds: tuple[JobKind, ...] = (JobKind.TRAIN,)
    states: tuple[JobState, ...] = ()
    before_number: int | None = None
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
    Submit | TakeLease | Heartbeat | Complete | Fail | Release | AcknowledgeCancel | ReportCheckpoint
    | ReportRefusedFile | Cancel | PauseQueue | ResumeQueue | ListJobs | ShowJob | GetOverview | Replay
)


# -------------------------------------------------------------------------------------------------------------- replies


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one submitted item: a job (perhaps an earlier one with the same content), or an error."""

    request_id: str
    job: str = ""
    state: str = ""
    duplicate: bool = False
    error_code: str = ""
    error: str = ""


class JobView(msgspec.Struct, frozen=True, kw_only=True):
    """A job as people see it. Times are wall seconds since 1970."""

    id: str
    number: int
    kind: JobKind
    state: JobState
    name: str
    priority: str
    origin: str
    digest: str
    size_bytes: int
    prepared: bool
    rows: int
    tokens: int
    attempts: int
    failures: int
    submitted_at: float
    started_at: float | None
    ended_at: float | None
    retry_at: float
    reason: str
    cancel_reason: str | None
    result: dict[str, Any] | None
    progress: Progress | None = None


class ServiceView(msgspec.Struct, frozen=True, kw_only=True):
    """What the broker last heard of a process; ``age_seconds`` ago."""

    name: str
    session: str
    pid: int
    state: Lifecycle
    detail: str
    started_at: float
    age_seconds: float


class Done(Message, frozen=True, kw_only=True, tag=True):
    """Yes, and it is on disk. ``changed`` is false when it was so already."""

    changed: bool = True
    seq: int = 0


class Submitted(Message, frozen=True, kw_only=True, tag=True):
    """A receipt for each item, in their order; all are on disk."""

    receipts: list[Receipt]


class Leased(Message, frozen=True, kw_only=True, tag=True):
    """A lease, or why there is none."""

    lease: Lease | None
    reason: str = ""


class HeartbeatReply(Message, frozen=True, kw_only=True, tag=True):
    """What the worker must know: leases that it lost, and jobs that it is to end."""

    lost: tuple[str, ...] = ()
    cancel: tuple[str, ...] = ()


class JobList(Message, frozen=True, kw_only=True, tag=True):
    """One page of jobs."""

    jobs: list[JobView]


class JobDetail(Message, frozen=True, kw_only=True, tag=True):
    """One job, what it waits for, its report, and the settings that were frozen with it."""

    job: JobView
    waits_for: list[str]
    after_any: bool
    report: dict[str, Any] | None
    spec: TrainSpec


class Overview(Message, frozen=True, kw_only=True, tag=True):
    """The broker's part of the status picture. ``waiting_reason`` says why the trainer has no job now."""

    journal_id: str
    seq: int
    at: float
    paused_reason: str | None
    counts: dict[str, dict[str, int]]
    running: list[JobView]
    waiting: list[JobView]
    waiting_reason: str
    generation: int
    checkpoint: str
    step: int
    services: list[ServiceView]


class EventView(msgspec.Struct, frozen=True, kw_only=True):
    """A committed event as it is published and replayed: ``body`` holds the fields, also ``type``."""

    seq: int
    at: float
    type: str
    job: str
    body: dict[str, Any]
    v: int = PROTOCOL_VERSION


class Events(Message, frozen=True, kw_only=True, tag=True):
    """A stretch of the journal. ``head_seq`` is its newest number; ``journal_id`` changes when the journal does."""

    journal_id: str
    head_seq: int
    events: list[EventView]


class Refused(Message, frozen=True, kw_only=True, tag=True):
    """No, nothing was changed, and why. ``code`` is that of an error class of trainq."""

    code: str
    message: str
    mend: str = ""


AnyReply = Done | Submitted | Leased | HeartbeatReply | JobList | JobDetail | Overview | Events | Refused


class ReplyEnvelope(msgspec.Struct, frozen=True, kw_only=True):
    """A reply with the id of the request that it answers."""

    request_id: str
    reply: AnyReply
    v: int = PROTOCOL_VERSION


class Live(msgspec.Struct, frozen=True, kw_only=True):
    """Published beside the events and never journalled: a heartbeat as it came in."""

    heartbeat: Heartbeat
    v: int = PROTOCOL_VERSION


EVENT_TOPIC = b"event."
LIVE_TOPIC = b"live."

_request_decoder = msgspec.msgpack.Decoder(AnyRequest)
_reply_decoder = msgspec.msgpack.Decoder(ReplyEnvelope)
_event_decoder = msgspec.msgpack.Decoder(EventView)
_live_decoder = msgspec.msgpack.Decoder(Live)
_encoder = msgspec.msgpack.Encoder()


class _Envelope(msgspec.Struct, frozen=True):
    request_id: str = ""
    v: int = 0


_envelope_decoder = msgspec.msgpack.Decoder(_Envelope)


def encode(message: msgspec.Struct) -> bytes:
    """The msgpack bytes of any message of this module."""
    return _encoder.encode(message)


def decode_request(payload: bytes) -> AnyRequest:
    """A valid request, or :class:`~trainq.errors.ProtocolError`."""
    request: AnyRequest = _decode(_request_decoder, payload)
    return request


def decode_reply(payload: bytes) -> ReplyEnvelope:
    """A valid reply, or :class:`~trainq.errors.ProtocolError`."""
    reply: ReplyEnvelope = _decode(_reply_decoder, payload)
    return reply


def decode_event(payload: bytes) -> EventView:
    """A valid published event, or :class:`~trainq.errors.ProtocolError`."""
    event: EventView = _decode(_event_decoder, payload)
    return event


def decode_live(payload: bytes) -> Live:
    """A valid live message, or :class:`~trainq.errors.ProtocolError`."""
    live: Live = _decode(_live_decoder, payload)
    return live


def request_id_of(payload: bytes) -> str:
    """The id of a request that could not be decoded, so that its sender can be told; empty if there is none."""
    try:
        return _envelope_decoder.decode(payload).request_id[:64]
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return ""


def _decode(decoder: Any, payload: bytes) -> Any:
    if len(payload) > MAX_MESSAGE_BYTES:
        raise errors.ProtocolError(f"a message of {len(payload)} bytes is over the limit of {MAX_MESSAGE_BYTES}",
                                   mend="split it")
    try:
        return decoder.decode(payload)
    # ValueError: msgspec raises it bare for invalid UTF-8; RecursionError: nesting bombs.
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise errors.ProtocolError(f"not a message of protocol version {PROTOCOL_VERSION}: {error}",
                                   mend="see docs/protocol.md") from error


_ERROR_CLASSES: dict[str, type[errors.TrainqError]] = {
    cls.code: cls
    for cls in (errors.UsageError, errors.InputError, errors.NotFoundError, errors.StorageFullError,
                errors.StorageError, errors.ProtocolError, errors.RequestReusedError)
}


def refusal(error: errors.TrainqError) -> Refused:
    """The reply that tells a client of ``error``."""
    return Refused(code=error.code, message=error.message, mend=error.mend)


class RefusedError(errors.TrainqError):
    """The broker refused, with a code for which there is no class of its own on this side."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(refused.message, mend=refused.mend)
        self.refused_code = refused.code


def raise_refusal(refused: Refused) -> None:
    """Raise the error class that stands for the broker's refusal."""
    if refused.code in (errors.StaleLeaseError.code, errors.TransitionError.code):
        error = RefusedError(refused)
        error.exit_code = errors.TransitionError.exit_code
        raise error
    cls = _ERROR_CLASSES.get(refused.code)
    if cls is None or cls is errors.InputError:
        raise RefusedError(refused)
    raise cls(refused.message, mend=refused.mend)
