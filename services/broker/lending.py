"""Lending: the GPU is one resource, and somebody else's than the trainer's for a while. Pure: rows in, words out.

It changes hands between two train jobs only, and after the trainer has given its memory back. Who waits for it lets
some train jobs go first, and is passed over when nobody is there any more to use it.
"""

from __future__ import annotations

from trainq.journal import JobRow, LineRow


def has_it(row: JobRow) -> str:
    """In words, who has the GPU."""
    return f"{row.id} ({row.name}) has the GPU"


def is_due(row: JobRow, line: LineRow, wait_jobs: int, *, training_waits: bool) -> bool:
    """Whether it goes before the train jobs that wait: so many were started since it was asked for, or none can be."""
    return line.started - row.started_before >= wait_jobs or not training_waits


def why_not_lent(row: JobRow, *, busy: JobRow | None, first: JobRow, due: bool, trainer_holds: bool) -> str:
    """Why the GPU is not lent to ``row`` now; empty if it is.

    Args:
        row: who asks.
        busy: who has it.
        first: who has waited longest.
        due: see :func:`is_due`.
        trainer_holds: the model is still in its memory.
    """
    if busy is not None:
        return has_it(busy)
    if row.id != first.id:
        return f"{first.id} ({first.name}) goes first"
    if not due:
        return "train jobs go first, for a while"
    return "the trainer is giving the GPU's memory back" if trainer_holds else ""
