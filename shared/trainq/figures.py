"""What the status picture is made of, beside what the broker says itself. Types only.

Where a figure may change by the mere passing of time it is a moment (wall seconds since 1970), and not an age: so a
picture whose facts stay the same stays the same, but for :class:`Ages`.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from trainq.gpu import Devices
from trainq.messages import JobView, PauseCause

DEAD = "DEAD"
SILENT = "SILENT"
ABSENT = "ABSENT"

# Two numbers between which something is expected to lie; the smaller one comes first.
Span: TypeAlias = tuple[float, float]


class ServiceError(msgspec.Struct, frozen=True, kw_only=True):
    """The last error that a process has logged or said, and when (wall seconds since 1970)."""

    at: float
    text: str


class ServiceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One process. ``state`` is a lifecycle state, or one of three that no process says of itself.

    ``DEAD``: it ended without a word; ``SILENT``: it lives, and has not been heard of for too long (it hangs);
    ``ABSENT``: never heard of.

    ``age_seconds`` is how long ago it was last heard of. ``session`` names its present life. ``restarts`` counts the
    new lives that were seen since the home was made (two within a second may be counted as one). ``memory_bytes`` is
    resident, its own and that of all its children, where what they share counts for each; null: not known.
    ``cause``: why it is PAUSED; null where it is not, or does not say.
    """

    name: str
    pid: int
    state: str
    detail: str
    uptime_seconds: float | None
    age_seconds: float | None
    session: str = ""
    restarts: int = 0
    memory_bytes: int | None = None
    last_error: ServiceError | None = None
    cause: PauseCause | None = None


class Ages(msgspec.Struct, frozen=True, kw_only=True):
    """How old the figures are, in seconds; null: there are none.

    ``broker``: all that the broker says (queue, jobs, model line, disk). ``progress``: the running job's. ``machine``:
    ``cpu``, and the memory of each service. ``gpu``: ``gpu``. ``copies``: ``generations`` and ``snapshots``, looked for
    anew when the line has moved. ``checkpoint`` is the time since the newest generation was published, ``evaluation``
    that since one was last scored or judged.
    """

    broker: float | None = None
    progress: float | None = None
    machine: float | None = None
    gpu: float | None = None
    copies: float | None = None
    checkpoint: float | None = None
    evaluation: float | None = None


class Cpu(msgspec.Struct, frozen=True, kw_only=True):
    """The machine: ``percent`` of all processors since the last look, load averages, memory in bytes."""

    processors: int
    percent: float
    load: tuple[float, float, float]
    memory_total_bytes: int
    memory_available_bytes: int


class RunningJob(msgspec.Struct, frozen=True, kw_only=True):
    """The train job that has the lease. ``ends_at`` is between these two moments, if it goes on as it does.

    ``step`` of ``steps`` are done (``unit`` is ``bytes`` while its state is being read); ``loss`` in nats per token;
    ``checkpoint_at``: when the newest generation was published.
    """

    job: str
    name: str
    step: int
    steps: int
    unit: str
    loss: float | None
    learning_rate: float | None
    tokens_per_second: float | None
    started_at: float | None
    ends_at: Span | None
    checkpoint: str
    checkpoint_at: float | None


class WaitingJob(JobView, frozen=True, kw_only=True):
    """A waiting job: its place in the line (from 1), why it waits, and when it is expected to start and to end.

    Both are null where it is not known: nothing was measured yet, it or one before it is not prepared, or a person has
    stopped the line. They do not know of jobs that will come before it.
    """

    position: int = 0
    why: str = ""
    starts_at: Span | None = None
    ends_at: Span | None = None


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """The last train jobs: the slowest and the fastest rate while stepping, and the seconds that each took beyond that.

    ``beyond_seconds`` are for the start and the last checkpoint; null until one job was seen from its start to its end.
    """

    tokens_per_second: Span
    beyond_seconds: Span | None = None


class Generation(msgspec.Struct, frozen=True, kw_only=True):
    """A generation that lies in ``checkpoints/``: ``at`` it was published, for this ``reason``, in the middle or at the
    end of ``job``. What cannot be read is empty. Whether it is whole is not looked at.
    """

    name: str
    generation: int
    step: int
    at: float
    reason: str = ""
    job: str = ""
    marks: tuple[str, ...] = ()


class SnapshotFigure(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot that lies in ``snapshots/``: taken ``at``, of so many trained jobs. Whether it is whole is not looked
    at.
    """

    name: str
    generation: int
    step: int
    at: float
    size_bytes: int = 0
    jobs: int = 0
    marks: tuple[str, ...] = ()


class Alarm(msgspec.Struct, frozen=True, kw_only=True):
    """Something that a person should know of: ``code`` for programs, ``subject`` what it is about, ``mend`` what to do.

    ``level`` is ``bad`` where work stands still or is at risk, else ``warn``. ``since``: when it was first seen.
    """

    code: str
    subject: str
    level: Literal["warn", "bad"]
    text: str
    mend: str
    since: float


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """When a running job is expected to end."""

    job: str
    ends_at: Span


class Life(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen of a service over its lives (see :class:`ServiceStatus`)."""

    session: str = ""
    restarts: int = 0
    memory_bytes: int | None = None
    last_error: ServiceError | None = None


class Observations(msgspec.Struct, frozen=True, kw_only=True):
    """What the status process has seen beside the broker's overview; ``*_at`` is when (wall seconds; null: never)."""

    session: str = ""
    n: int = 0
    lives: dict[str, Life] = {}
    machine_at: float | None = None
    cpu: Cpu | None = None
    gpu_at: float | None = None
    gpu: Devices = Devices(reason="not looked for yet")
    copies_at: float | None = None
    generations: tuple[Generation, ...] = ()
    snapshots: tuple[SnapshotFigure, ...] = ()
    expected: Expected | None = None
    measured: Measured | None = None
    # Services that hung lately, and what was done about it.
    hung: tuple[Alarm, ...] = ()
    alarms: tuple[Alarm, ...] = ()
