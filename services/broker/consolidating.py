"""Consolidating: when the adapter may be merged, what waits for that, and what follows. Pure: rows in, words out.

It is a barrier: while the adapter is being merged, and until the line goes on from what came of it, nothing is trained.
So it waits until no file does, and only one that is overdue, or that a person wants now, goes before the files.
"""

from __future__ import annotations

import msgspec

from trainq.errors import UsageError
from trainq.jobs import JobKind, TaskSubmitted
from trainq.journal import JobRow, LineRow
from trainq.messages import ConsolidateTask, RebaseTask, TaskResult

# In the worker's result: the rebase that it asks for.
REBASE_FACT = "rebase"


def is_impatient(row: JobRow, task: ConsolidateTask, overdue_hours: float, now_wall: float) -> bool:
    """Whether it goes before the files that wait."""
    return task.now or now_wall - row.submitted_at >= overdue_hours * 3600


def why_not(*, line: LineRow, line_task: JobRow | None, training: JobRow | None, head: JobRow | None,
            waiting: JobRow | None, impatient: bool) -> str:
    """Why no adapter is merged now; empty if one may be.

    Args:
        line: the model line.
        line_task: a restore or a rebase that has not ended.
        training: the train job that runs.
        head: the first train job of the line; below 1 its ``front`` says that its steps may be in the weights.
        waiting: a train job that people wait for.
        impatient: see :func:`is_impatient`.
    """
    if line_task is not None:
        return f"{line_task.id} goes first"
    if training is not None:
        return f"{training.id} is being trained"
    if head is not None and head.front < 1:
        return f"{head.id} is half done"
    if impatient:
        return ""
    if waiting is not None:
        return f"{waiting.id} goes first: it waits until no file does"
    return "what lies in the inbox goes first" if line.inbox_waiting else ""


def follow(row: JobRow, result: TaskResult, number: int) -> list[TaskSubmitted]:
    """The rebase that follows a consolidation, in the transaction of its end; none if there is nothing to go on from.

    Args:
        row: the task that has just succeeded.
        result: what came of it; it says what the line is to go on from, and with what adapter.
        number: the next task's number.

    Raises:
        UsageError: that is no rebase.
    """
    asked = result.facts.get(REBASE_FACT)
    if row.kind is not JobKind.CONSOLIDATE or asked is None:
        return []
    try:
        task = msgspec.convert(asked, RebaseTask)
    except msgspec.ValidationError as error:
        raise UsageError(f"{row.id} asks for no rebase: {error}") from error
    return [TaskSubmitted(job=f"rebase-{number}", kind=JobKind.REBASE, number=number, name=task.words,
                          request_id=f"rebase-after-{row.id}", request_digest="", cause=row.id,
                          task=msgspec.to_builtins(task))]
