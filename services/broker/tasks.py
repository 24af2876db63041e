"""Tasks: maintenance that is asked for, and when a worker gets some. Pure: rows in, events or words out."""

from __future__ import annotations

import msgspec

from services.broker.admission import repeated
from trainq import messages
from trainq.errors import UsageError
from trainq.jobs import NEEDS_GPU, TASKS, JobKind, JobState, TaskSubmitted
from trainq.journal import JobRow
from trainq.manifests import digest_bytes
from trainq.messages import (
    BackupTask,
    ConsolidateTask,
    CopyTask,
    LendTask,
    RebaseTask,
    RestoreTask,
    RetentionTask,
    SnapshotTask,
    SubmitTask,
    Task,
    UndeleteTask,
    VerifyTask,
)


def submit(request: SubmitTask, *, earlier: tuple[str, str] | None, number: int) -> TaskSubmitted | str:
    """The event that makes the task, or the id of the one that this very request already means.

    Args:
        request: what is to be done.
        earlier: (digest, job) of an earlier request under the same id.
        number: the next task's number.

    Raises:
        RequestReusedError: the id was used for something else.
        UsageError: it is not asked for by itself.
    """
    if isinstance(request.task, RebaseTask):
        raise UsageError("a rebase follows a consolidation", mend="trainq consolidate")
    digest = digest_bytes(messages.encode(request))
    if earlier is not None:
        return repeated(request.request_id, digest, earlier)
    kind = messages.TASK_KINDS[type(request.task)]
    return TaskSubmitted(job=f"{kind}-{number}", kind=kind, number=number, name=name_of(request.task),
                         request_id=request.request_id, request_digest=digest, cause=request.cause,
                         task=msgspec.to_builtins(request.task))


def name_of(task: Task) -> str:
    """The task in words."""
    match task:
        case SnapshotTask():
            return f"snapshot of {task.generation or 'the newest generation'}"
        case CopyTask():
            return f"copy of {task.snapshot or 'the snapshots'} to {task.destination}"
        case VerifyTask():
            return f"verify {task.snapshot or 'every snapshot'}"
        case RetentionTask():
            return "retention"
        case UndeleteTask():
            return f"undelete removal {task.removal}"
        case BackupTask():
            return f"backup to {task.destination}" + (f", of which {task.keep_last} stay" if task.keep_last else "")
        case RestoreTask():
            return f"restore {task.name} of {task.store}/{', and train again' if task.retrain else ''}"
        case ConsolidateTask():
            return "consolidation of the adapter"
        case LendTask():
            return task.program
        case RebaseTask():
            return f"rebase on the merged {task.source}"


def task_of(event: TaskSubmitted) -> Task:
    """What a task's worker is to do."""
    task: Task = msgspec.convert(event.task, Task)
    return task


def why_not(kind: JobKind, running: list[JobRow], max_workers: int) -> str:
    """Why no task of this kind is granted now; empty if one may be.

    Retention runs alone: what it removes may be what another task reads. What needs the GPU is none of the
    ``max_workers`` that may be beside the training.
    """
    for row in running:
        if JobKind.RETENTION in (kind, row.kind):
            return f"{row.id} is being done, and retention runs alone"
    beside = [row for row in running if row.kind not in NEEDS_GPU]
    if kind not in NEEDS_GPU and len(beside) >= max_workers:
        return f"{beside[0].id} is being done, and {max_workers} at a time may be"
    return ""


def waiting(counts: dict[str, dict[str, int]]) -> int:
    """How many tasks wait."""
    return sum(counts.get(kind.value, {}).get(JobState.QUEUED.value, 0) for kind in TASKS)
