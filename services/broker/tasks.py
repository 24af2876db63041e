"""Tasks: maintenance that is asked for, and when a worker gets some. Pure: rows in, events or words out."""

from __future__ import annotations

import msgspec

from services.broker.admission import repeated
from trainq import messages
from trainq.errors import UsageError
from trainq.jobs import NEEDS_GPU, TASKS, JobKind, JobState, TaskSubmitted
from trainq.journal import JobRow, LineRow
from trainq.manifests import digest_bytes
from trainq.messages import EvaluateTask, RebaseTask, SubmitTask, Task

# What they read of the model is named in their task, or they read nothing of it.
KEEPS_OWN_COPY = frozenset({JobKind.GENERATE, JobKind.EVALUATE, JobKind.PUBLISH})


def submit(request: SubmitTask, *, earlier: tuple[str, str] | None, line: LineRow) -> TaskSubmitted | str:
    """The event that makes the task, or the id of the one that this very request already means.

    Args:
        request: what is to be done.
        earlier: (digest, job) of an earlier request under the same id.
        line: the model line, which has the next task's number, and the head, which is evaluated where nothing else is
            named.

    Raises:
        RequestReusedError: the id was used for something else.
        UsageError: it is not asked for by itself, or there is nothing to do it with.
    """
    if isinstance(request.task, RebaseTask):
        raise UsageError("a rebase follows a consolidation", mend="trainq consolidate")
    digest = digest_bytes(messages.encode(request))
    if earlier is not None:
        return repeated(request.request_id, digest, earlier)
    task, number = request.task, line.next_task
    if isinstance(task, EvaluateTask) and not task.checkpoint:
        if not line.checkpoint:
            raise UsageError("there is no model yet", mend="submit a file first")
        task = msgspec.structs.replace(task, checkpoint=line.checkpoint)
    kind = messages.TASK_KINDS[type(task)]
    return TaskSubmitted(job=f"{kind}-{number}", kind=kind, number=number, name=task.words,
                         request_id=request.request_id, request_digest=digest, cause=request.cause,
                         task=msgspec.to_builtins(task))


def made(task: Task, request_id: str, cause: str, number: int) -> TaskSubmitted:
    """The event that makes a task which follows from something, with the next task's number."""
    kind = messages.TASK_KINDS[type(task)]
    return TaskSubmitted(job=f"{kind}-{number}", kind=kind, number=number, name=task.words, request_id=request_id,
                         request_digest="", cause=cause, task=msgspec.to_builtins(task))


def task_of(event: TaskSubmitted) -> Task:
    """What a task's worker is to do."""
    task: Task = msgspec.convert(event.task, Task)
    return task


def why_not(kind: JobKind, running: list[JobRow], max_workers: int) -> str:
    """Why no task of this kind is granted now; empty if one may be.

    Retention runs alone: what it removes may be what another task reads. It may be beside what says in the journal
    which copy it reads. The ``max_workers`` are those that read and write much, beside the training.
    """
    if kind in KEEPS_OWN_COPY:
        return ""
    beside = [row for row in running if row.kind not in KEEPS_OWN_COPY]
    for row in beside:
        if JobKind.RETENTION in (kind, row.kind):
            return f"{row.id} is being done, and retention runs alone"
    beside = [row for row in beside if row.kind not in NEEDS_GPU]
    if kind not in NEEDS_GPU and len(beside) >= max_workers:
        return f"{beside[0].id} is being done, and {max_workers} at a time may be"
    return ""


def waiting(counts: dict[str, dict[str, int]]) -> int:
    """How many tasks wait."""
    return sum(counts.get(kind.value, {}).get(JobState.QUEUED.value, 0) for kind in TASKS)
