"""What requests and replies are made of: bounded fields, and the parts that speak of a job's work."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from trainq.config import DataSettings, GateSettings, GuardSettings, LoraSettings, TrainSettings
from trainq.ids import DIGEST_PATTERN, ID_PATTERN
from trainq.jobs import Effect, Enclosed, JobKind

PROTOCOL_VERSION = 1
# Precedent: the frame limit of 4 MiB is far above the largest legal message (10 000 submits of 300 bytes).
MAX_MESSAGE_BYTES = 4 * 1024 * 1024
MAX_SUBMITS = 10_000
MAX_PAGE = 1000
# Of the train jobs in the line, those that an overview shows.
WAITING_SHOWN = 100
# Of one report; a rollback leaves out all batches since the last checkpoint.
MAX_EFFECTS = 10_000
MAX_YIELD_SECONDS = 30 * 86_400

Id = Annotated[str, Meta(pattern=ID_PATTERN)]
Digest = Annotated[str, Meta(pattern=DIGEST_PATTERN)]
Text = Annotated[str, Meta(max_length=4096)]
Name = Annotated[str, Meta(min_length=1, max_length=1024)]
# SQLite's and msgpack's integers have 64 bits.
Token = Annotated[int, Meta(ge=1, le=2**63 - 1)]
Natural = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Pid = Annotated[int, Meta(ge=0, le=2**31 - 1)]
MAX_ENCLOSED = 8
# What a preparation reports is kept in the journal and travels in replies; it must always fit into one.
MAX_REPORT_BYTES = 256 * 1024


class Lifecycle(StrEnum):
    """What a process says of itself in each heartbeat."""

    INITIALIZING = "INITIALIZING"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    SHUTTING_DOWN = "SHUTTING_DOWN"
    STOPPED = "STOPPED"
    ERROR = "ERROR"


class PauseCause(StrEnum):
    """Why a process is PAUSED, for programs; its detail says it to people."""

    # Somebody's order: it lasts as long as that.
    ORDERED = "ordered"
    # The GPU is somebody else's for a while.
    LENT = "lent"
    # Nothing is wrong; it goes on by itself.
    WAITING = "waiting"
    # Something is wrong; it goes on, or tries again, by itself.
    HINDERED = "hindered"
    # The configuration wants no work of it.
    DISABLED = "disabled"
    # It has failed too often, and does nothing more until it is started anew.
    GIVEN_UP = "given_up"


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """Anything on a wire; ``type`` is the class name."""


class Request(Message, frozen=True, kw_only=True):
    """Asked of the broker. The same ``request_id`` with the same content may be sent again and again."""

    request_id: Id
    v: Literal[1] = 1


class TrainSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a submit froze: the settings that its preparation and its training use, whatever is configured later.

    ``line_seed`` is the configuration's, with which a model line is begun, whatever the job's own is; null in what was
    submitted before jobs could have one of their own, so that it is theirs. Nor had those any ``guard``, or ``gate``:
    they are prepared and trained, and derived again, as they were then.
    """

    model: str
    data: DataSettings
    train: TrainSettings
    lora: LoraSettings = LoraSettings()
    line_seed: int | None = None
    guard: GuardSettings = GuardSettings.none()
    gate: GateSettings = GateSettings.none()


def check_size(content: dict[str, Any], limit_bytes: int, what: str) -> None:
    """Raise :class:`ValueError` if ``content``, encoded, is larger."""
    if len(msgspec.msgpack.encode(content)) > limit_bytes:
        raise ValueError(f"{what} may have {limit_bytes} bytes")


def _check_report(report: dict[str, Any]) -> None:
    check_size(report, MAX_REPORT_BYTES, "a report")


class PrepareResult(Message, frozen=True, kw_only=True, tag=True):
    """A preparation ended with a shard in the cache (``shard`` is its folder's name there).

    ``hold`` says why a person should look at the file before it is trained; empty if nobody need. ``enclosed`` is what
    the shard was made with besides the file; it is stored.
    """

    shard: Name
    shard_digest: Digest
    rows: Annotated[int, Meta(ge=1)]
    tokens: Annotated[int, Meta(ge=1)]
    report: dict[str, Any]
    hold: Text = ""
    enclosed: Annotated[tuple[Enclosed, ...], Meta(max_length=MAX_ENCLOSED)] = ()

    def __post_init__(self) -> None:
        _check_report(self.report)


class RejectResult(Message, frozen=True, kw_only=True, tag=True):
    """A preparation ended with the verdict that the file is unfit."""

    reason: Text
    report: dict[str, Any]

    def __post_init__(self) -> None:
        _check_report(self.report)


class TrainResult(Message, frozen=True, kw_only=True, tag=True):
    """A training ended with a published generation that covers all of the job's steps.

    ``cut_from``: it was to have so many steps, and was cut short; 0 if it was not. ``batches_left_out``: in so many of
    the steps that are done no row was trained.
    """

    steps_done: Natural
    steps_planned: Natural
    global_step: Natural
    generation: Natural
    checkpoint: Name
    first_loss: float | None = None
    last_loss: float | None = None
    cut_from: Natural = 0
    batches_left_out: Natural = 0


class TaskResult(Message, frozen=True, kw_only=True, tag=True):
    """A task is done: what came of it in words, the bytes that it wrote or read, and more for programs."""

    summary: Text
    size_bytes: Natural = 0
    facts: dict[str, Any] = {}

    def __post_init__(self) -> None:
        _check_report(self.facts)


Result = PrepareResult | RejectResult | TrainResult | TaskResult


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
    # Steps with a gradient spike that this run has seen; how many in a row the loss has been out of its band.
    grad_spikes: Natural = 0
    out_of_band: Natural = 0


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
    # The newest generation that ever was; the next one must be above it.
    generation: int = 0
    # The highest step of the job that was ever published: an attempt that gets no further has made no progress.
    best_step: int = 0
    # The job is to be cancelled: leave it with none of its steps in the weights, and say so.
    cancel: bool = False
    # Likewise, but those of its steps that are done stay, and are all of the job.
    keep: bool = False
    # What makes its steps others than its settings say.
    effects: tuple[Effect, ...] = ()
    # The job is to be failed for this reason, in the same way.
    failure: str = ""
    # Of a preparation whose shard was made before: what it must be made with again. Null: for the first time.
    enclosed: tuple[Enclosed, ...] | None = None
    lease_seconds: float
    heartbeat_seconds: float
