"""What the broker answers and publishes."""

from __future__ import annotations

from typing import Any

import msgspec

from trainq.jobs import Enclosed, JobKind, PinView, RemovalView
from trainq.messages.learning import Champions, Learning, LearningFigures, Scores
from trainq.messages.queueing import Queue
from trainq.messages.tasks import Task, TaskLease
from trainq.messages.views import DiskView, EffectView, JobView, ScheduleView, ServiceView
from trainq.messages.work import PROTOCOL_VERSION, Lease, Message, TrainSpec
from trainq.messages.workers import Heartbeat


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one submitted item: a job (perhaps an earlier one with the same content), or an error."""

    request_id: str
    job: str = ""
    state: str = ""
    duplicate: bool = False
    error_code: str = ""
    error: str = ""


class Done(Message, frozen=True, kw_only=True, tag=True):
    """Yes, and it is on disk. ``changed`` is false when it was so already."""

    changed: bool = True
    seq: int = 0


class Submitted(Message, frozen=True, kw_only=True, tag=True):
    """A receipt for each item, in their order; all are on disk."""

    receipts: list[Receipt]


class Leased(Message, frozen=True, kw_only=True, tag=True):
    """A lease, or why there is none."""

    lease: Lease | TaskLease | None
    reason: str = ""


class HeartbeatReply(Message, frozen=True, kw_only=True, tag=True):
    """What the worker must know: leases that it lost, jobs that it is to end, and those of them to ``keep`` in part.

    To the trainer: why it is to pause, and why to do no more in this life (empty: it is not); the number of the event
    that last asked for a checkpoint; and the heartbeat's ``gpu`` if the memory is the trainer's, else 0. ``lent``: it
    is to pause because the GPU is lent, or about to be.
    """

    lost: tuple[str, ...] = ()
    cancel: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    pause: str = ""
    stop: str = ""
    checkpoint: int = 0
    gpu: int = 0
    lent: bool = False


class Greeted(Message, frozen=True, kw_only=True, tag=True):
    """The journal and the trainer's head agree from here on.

    ``lost``: the lease that the worker held was ended, because the head lacks what came before it. ``newest`` is the
    highest generation that ever was: the next one must be above it.
    """

    lost: bool = False
    newest: int = 0


class JobList(Message, frozen=True, kw_only=True, tag=True):
    """One page of jobs."""

    jobs: list[JobView]


class JobDetail(Message, frozen=True, kw_only=True, tag=True):
    """One job, what it waits for, its report, and the settings that were frozen with it.

    ``effects`` are what has made its steps others than its settings say; ``enclosed`` is what its shard was made with
    besides its file.

    Of a task: what is to be done, and why (``cause``), in place of the settings.
    """

    job: JobView
    waits_for: list[str]
    after_any: bool
    report: dict[str, Any] | None
    spec: TrainSpec | None = None
    task: Task | None = None
    cause: str = ""
    effects: tuple[EffectView, ...] = ()
    enclosed: tuple[Enclosed, ...] = ()


class Accepted(Message, frozen=True, kw_only=True, tag=True):
    """The task is on disk; ``job`` is its id."""

    job: str
    state: str


class Kept(Message, frozen=True, kw_only=True, tag=True):
    """All pins, the newest removals (newest first), and the head of the model line as the journal knows it."""

    pins: list[PinView]
    removals: list[RemovalView]
    checkpoint: str
    # Content that is decided to be deleted, and not reported to be gone.
    dropping: list[str]
    # The champion, who was it before, and who is proposed.
    champions: tuple[str, ...] = ()


class ToDelete(Message, frozen=True, kw_only=True, tag=True):
    """The content that retention must delete now."""

    digests: list[str]


class UsedShards(Message, frozen=True, kw_only=True, tag=True):
    """Those of the shards asked for that are needed."""

    shards: list[str]


class TrainedShard(msgspec.Struct, frozen=True, kw_only=True):
    """A job that has succeeded, the digest of its file, and the name of its shard, which may be gone.

    ``generated``: the file is no person's.
    """

    job: str
    digest: str
    shard: str
    generated: bool = False


class TrainedShards(Message, frozen=True, kw_only=True, tag=True):
    """What earlier jobs were trained on."""

    shards: list[TrainedShard]


class HeldJob(msgspec.Struct, frozen=True, kw_only=True):
    """A job that a generation holds, and the ``generation`` in which it was trained to its end.

    ``rows`` and ``tokens`` are its shard's. ``steps`` and ``trained_at`` (seconds since 1970) are null where the job
    was trained again since, or taken out of the line: its events say them.
    """

    job: str
    name: str
    digest: str
    generation: int
    rows: int = 0
    tokens: int = 0
    steps: int | None = None
    trained_at: float | None = None


class HeldJobs(Message, frozen=True, kw_only=True, tag=True):
    """The jobs that a generation holds, in the order of their training."""

    jobs: list[HeldJob]


class Fork(msgspec.Struct, frozen=True, kw_only=True):
    """Generation ``first`` descends from ``source``, and not from the one before it."""

    first: int
    source: int


class Forks(Message, frozen=True, kw_only=True, tag=True):
    """Forks of the model line in order; its head (``generation``, ``checkpoint``), and the ``newest`` there ever was.

    Where the head is not the newest, the next generation will be a fork from it.
    """

    generation: int
    checkpoint: str
    newest: int
    forks: list[Fork]


class RestorePlan(Message, frozen=True, kw_only=True, tag=True):
    """What a restore would do: the trained jobs that it takes out, those that it brings back, and how many of each.

    The lists hold the first :data:`~trainq.messages.MAX_PAGE` ids. ``goes_on`` is the job in the middle of which the
    copy was taken; empty if that was between two jobs.
    """

    taken_out: list[str]
    taken_out_count: int
    brought_back: list[str]
    brought_back_count: int
    goes_on: str


class Schedules(Message, frozen=True, kw_only=True, tag=True):
    """All rules by name. Without ``enabled`` nothing is asked for."""

    enabled: bool
    time_zone: str
    schedules: list[ScheduleView]


class JournalCopied(Message, frozen=True, kw_only=True, tag=True):
    """How far the copy of the journal is. When it is ``done`` it ends with event ``seq``."""

    done: bool
    seq: int
    copied_pages: int
    pages: int


class BackgroundTasks(msgspec.Struct, frozen=True, kw_only=True):
    """The tasks: how many wait, which are being done, and those that ended last, newest first."""

    queue_size: int = 0
    running: list[JobView] = []
    recent: list[JobView] = []


class Overview(Message, frozen=True, kw_only=True, tag=True):
    """The broker's part of the status picture. ``waiting_reason`` says why the trainer has no job now.

    ``waiting`` are the first :data:`WAITING_SHOWN` train jobs of the line, in the order in which they will start.
    ``pause`` says why nothing is trained (a pause, a yield, quiet hours), ``drain`` why nothing new is begun, ``stop``
    why the trainer that lives now does nothing more; each is empty if it is not so. ``marks`` say what is wrong with
    the state in ``checkpoint``; none if nothing is. ``half_done`` is the train job that waits
    and has steps in the line. ``up_seconds`` is the age of this life of the broker, which has heard of nobody before.
    ``held`` is what is wrong with the machine while the queue is held for it. ``planned_tokens`` are those that a train
    job that runs or waits is to train, repetitions counted; without those that are not prepared. ``learning`` is what
    the model can do, in brief.
    """

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
    background_tasks: BackgroundTasks = BackgroundTasks()
    disk: DiskView | None = None
    pause: str = ""
    drain: str = ""
    stop: str = ""
    marks: tuple[str, ...] = ()
    half_done: str = ""
    up_seconds: float = 0.0
    held: str = ""
    planned_tokens: dict[str, int] = msgspec.field(default_factory=dict)
    learning: LearningFigures = LearningFigures()

    @property
    def training(self) -> JobView | None:
        """The train job that runs, or is paused with its lease; None if there is none."""
        return next((job for job in self.running if job.kind is JobKind.TRAIN), None)

    @property
    def trainer(self) -> ServiceView | None:
        """What was last heard of the trainer; None if this life of the broker has heard of none."""
        return next((service for service in self.services if service.name == "trainer"), None)


class EventView(msgspec.Struct, frozen=True, kw_only=True):
    """A committed event as it is published and replayed: ``body`` holds the fields, also ``type``."""

    seq: int
    at: float
    type: str
    job: str
    body: dict[str, Any]
    v: int = PROTOCOL_VERSION


class PublishedEvent(EventView, frozen=True, kw_only=True):
    """An event as it is published: ``session`` names the life of the broker that says it."""

    session: str = ""


class EventMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A :class:`PublishedEvent` as the broker makes it: ``body`` are the bytes that the journal has."""

    seq: int
    at: float
    type: str
    job: str
    body: msgspec.Raw
    session: str
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


AnyReply = (
    Done | Submitted | Accepted | Leased | HeartbeatReply | Greeted | JobList | JobDetail | Overview | Events | Kept
    | HeldJobs | Forks | ToDelete | UsedShards | TrainedShards | RestorePlan | Schedules | Queue | JournalCopied
    | Learning | Scores | Champions
    | Refused
)


class ReplyEnvelope(msgspec.Struct, frozen=True, kw_only=True):
    """A reply with the id of the request that it answers."""

    request_id: str
    reply: AnyReply
    v: int = PROTOCOL_VERSION


class Live(msgspec.Struct, frozen=True, kw_only=True):
    """Published beside the events and never journalled: a heartbeat as it came in."""

    heartbeat: Heartbeat
    v: int = PROTOCOL_VERSION
