"""Tasks: what is asked for by itself and does not come of a submitted file; and a task in a worker's hands."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from trainq.config import LoraSettings, ScheduleRule
from trainq.jobs import JobKind, Store
from trainq.messages.work import Message, Natural, Text, Token, check_size

# Of one generated file: what its rows are made of, beside count, level and seed.
MAX_OPTIONS_BYTES = 16 * 1024
MAX_ROWS_MADE = 100_000
# From here on seeds are those of the problems that a model is scored on (trainq.generating.base).
MAX_TRAINED_SEED = 2**60
CopyName = Annotated[str, Meta(pattern=r"^g\d{6,20}-s\d{8,20}$")]
# The name of a suite is that of its folder; the held-out rows of a job are the suite ``job-train-7``.
SuiteName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}\Z")]
GeneratorName = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}\Z")]


class _Task(Message, frozen=True, kw_only=True):
    """What all of them have."""

    @property
    def words(self) -> str:
        """The task for people."""
        raise NotImplementedError


class SnapshotTask(_Task, frozen=True, kw_only=True, tag=True):
    """Take a snapshot of a generation; of the newest one without ``generation``."""

    generation: Annotated[str, Meta(max_length=64)] = ""

    @property
    def words(self) -> str:
        return f"snapshot of {self.generation or 'the newest generation'}"


class CopyTask(_Task, frozen=True, kw_only=True, tag=True):
    """Copy a snapshot to another place, and prove the copy; without ``snapshot`` all that are not there yet.

    ``destination`` is a URL of fsspec's, or an absolute path.
    """

    snapshot: Annotated[str, Meta(max_length=64)] = ""
    destination: Annotated[str, Meta(min_length=1, max_length=4096)]

    @property
    def words(self) -> str:
        return f"copy of {self.snapshot or 'the snapshots'} to {self.destination}"


class VerifyTask(_Task, frozen=True, kw_only=True, tag=True):
    """Prove every byte of a snapshot; of all of them without ``snapshot``."""

    snapshot: Annotated[str, Meta(max_length=64)] = ""

    @property
    def words(self) -> str:
        return f"verify {self.snapshot or 'every snapshot'}"


class RetentionTask(_Task, frozen=True, kw_only=True, tag=True):
    """Move to the trash what no rule of ``[retention]`` keeps, and empty it of what has lain there long enough."""

    @property
    def words(self) -> str:
        return "retention"


class UndeleteTask(_Task, frozen=True, kw_only=True, tag=True):
    """Bring back from the trash what the removal of this number has put there."""

    removal: Token

    @property
    def words(self) -> str:
        return f"undelete removal {self.removal}"


class RestoreTask(_Task, frozen=True, kw_only=True, tag=True):
    """Have the model line go on from this earlier state: a new generation with the same content is published.

    ``store`` says where the copy lies. The jobs that it does not hold are cancelled, or with ``retrain`` trained again.
    """

    store: Store = Store.SNAPSHOTS
    name: CopyName
    retrain: bool = False

    @property
    def words(self) -> str:
        return f"restore {self.name} of {self.store}/{', and train again' if self.retrain else ''}"


class BackupTask(_Task, frozen=True, kw_only=True, tag=True):
    """Copy the journal and what it needs to ``destination``, a folder of this machine (an absolute path).

    Then all but the ``keep_last`` newest backups of this home go there; none with 0.
    """

    destination: Annotated[str, Meta(pattern=r"^/[^\x00]*\Z", max_length=4096)]
    keep_last: Natural = 0

    @property
    def words(self) -> str:
        return f"backup to {self.destination}" + (f", of which {self.keep_last} stay" if self.keep_last else "")


class ConsolidateTask(_Task, frozen=True, kw_only=True, tag=True):
    """Merge the line's adapter into the weights under it; at once with ``now``, else when no file waits."""

    now: bool = False

    @property
    def words(self) -> str:
        return "consolidation of the adapter"


class RebaseTask(_Task, frozen=True, kw_only=True, tag=True):
    """Have the line go on from the merged model of ``source``, with a fresh adapter. Follows a consolidation.

    ``threads`` are those that it was merged with, on which its last bits may depend. ``warmup``: the fresh optimizer is
    warmed up as one of a new line is (tasks of before did not say so, and it was not).
    """

    source: CopyName
    lora: LoraSettings
    seed: Natural
    threads: Natural = 0
    warmup: bool = False

    @property
    def words(self) -> str:
        return f"rebase on the merged {self.source}"


class LendTask(_Task, frozen=True, kw_only=True, tag=True):
    """Have the trainer give the GPU back for a program of somebody's, whose own worker takes the lease of this job."""

    program: Text

    @property
    def words(self) -> str:
        return self.program


class GenerateTask(_Task, frozen=True, kw_only=True, tag=True):
    """Have a generator make a file of ``count`` rows, to be trained behind people's files.

    The same ``generator`` in the same version makes the same rows of the same ``level``, ``seed`` and ``options``.
    ``name`` is under what configuration it is known (``[datagen.generators.NAME]``); it becomes part of the file's.
    """

    generator: GeneratorName
    name: GeneratorName
    count: Annotated[int, Meta(ge=1, le=MAX_ROWS_MADE)]
    level: Annotated[int, Meta(ge=1, le=1000)] = 1
    seed: Annotated[int, Meta(ge=0, lt=MAX_TRAINED_SEED)] = 0
    options: dict[str, Any] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        check_size(self.options, MAX_OPTIONS_BYTES, "the options of a generator")

    @property
    def words(self) -> str:
        return f"{self.count} rows of {self.name}, level {self.level}"


class EvaluateTask(_Task, frozen=True, kw_only=True, tag=True):
    """Score a checkpoint on suites, and say what that means beside the champion.

    Without ``checkpoint`` it is the head of the line when it is asked for, and is named in the task; it is kept until
    the task has ended. Without ``suites`` they are all that there are.
    """

    checkpoint: Annotated[str, Meta(max_length=64)] = ""
    suites: Annotated[tuple[SuiteName, ...], Meta(max_length=1000)] = ()

    @property
    def words(self) -> str:
        return f"evaluation of {self.checkpoint}" + (f" on {', '.join(self.suites)}"[:900] if self.suites else "")


class PublishTask(_Task, frozen=True, kw_only=True, tag=True):
    """Put this checkpoint, the champion when it was asked for, to where others fetch it, and prove it there.

    ``destination`` is a URL of fsspec's, or an absolute path.
    """

    checkpoint: CopyName
    destination: Annotated[str, Meta(min_length=1, max_length=4096)]

    @property
    def words(self) -> str:
        return f"{self.checkpoint} to {self.destination}"


Task = (
    SnapshotTask | CopyTask | VerifyTask | RetentionTask | UndeleteTask | RestoreTask | BackupTask | ConsolidateTask
    | RebaseTask | LendTask | GenerateTask | EvaluateTask | PublishTask
)
TASK_KINDS: dict[type[Task], JobKind] = {
    SnapshotTask: JobKind.SNAPSHOT, CopyTask: JobKind.SNAPSHOT, VerifyTask: JobKind.VERIFY,
    RetentionTask: JobKind.RETENTION, UndeleteTask: JobKind.RETENTION, RestoreTask: JobKind.RESTORE,
    BackupTask: JobKind.BACKUP, ConsolidateTask: JobKind.CONSOLIDATE, RebaseTask: JobKind.REBASE,
    LendTask: JobKind.LEND, GenerateTask: JobKind.GENERATE, EvaluateTask: JobKind.EVALUATE,
    PublishTask: JobKind.PUBLISH,
}


def scheduled_task(rule: ScheduleRule) -> Task:
    """What a rule of the schedule asks for."""
    match rule.task:
        case "copy":
            return CopyTask(destination=rule.destination)
        case "backup":
            return BackupTask(destination=rule.destination, keep_last=rule.keep_last)
        case "verify":
            return VerifyTask()
        case "retention":
            return RetentionTask()
        case "consolidation":
            return ConsolidateTask()
        case _:
            return SnapshotTask()


class TaskLease(Message, frozen=True, kw_only=True, tag=True):
    """A task in a worker's hands, as a :class:`Lease` is a job."""

    job: str
    kind: JobKind
    token: int
    attempt: int
    name: str
    task: Task
    seq: int
    # The newest generation that ever was; a restore's is above it.
    generation: int = 0
    # It has the GPU, which the trainer has given back.
    gpu: bool = False
    lease_seconds: float
    heartbeat_seconds: float
