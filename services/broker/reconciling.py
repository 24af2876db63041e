"""Reconciliation: the trainer's verified head and the journal are made to agree. Pure: rows in, events out.

The head decides: what it covers is trained, and what only lost generations covered is trained again, ahead of
everything and in the old order. All events of one hello are one transaction.
"""

from __future__ import annotations

from trainq.errors import DamageError
from trainq.jobs import (
    AnyEvent,
    CheckpointDamaged,
    CheckpointPublished,
    HeadAdopted,
    JobState,
    JobSucceeded,
    JobUncovered,
    LeaseEnded,
)
from trainq.journal import JobRow, LineRow
from trainq.messages import Hello


def refuse_if_unfit(hello: Hello, line: LineRow, head_seq: int, uncovered: list[JobRow],
                    reported: set[tuple[int, str]]) -> None:
    """Raise if this head and this journal cannot belong together.

    What is missing is not damaged: it may be on a disk that is not mounted, and come back. Only what was seen not to
    verify is trained again.

    Args:
        hello: what the trainer found.
        line: what the journal knows of the model line.
        head_seq: the journal's newest event.
        uncovered: the trained jobs that only generations after the head cover.
        reported: (generation, name) of the damaged generations that are in the journal.

    Raises:
        DamageError: the journal is older than the checkpoint, or checkpoints that hold trained jobs are gone.
    """
    if hello.journal_seq > head_seq:
        raise DamageError("the journal", f"the checkpoint {hello.name} has seen its event {hello.journal_seq}, and it "
                          f"ends at {head_seq}: it is older than the checkpoints, or another home's",
                          mend="bring back the journal that belongs to them")
    # A line that has begun is published only after this: what it says of itself stays true however often it asks.
    if hello.begun and line.newest > 0:
        raise DamageError("checkpoints/", f"it is empty, and the journal knows of generation {line.newest}", mend=(
            "bring the checkpoints back and supervisorctl restart trainer, or begin anew with another home"))
    damaged = {generation for generation, _ in reported} | {entry.generation for entry in hello.damaged}
    missing = next((row for row in uncovered if row.generation not in damaged), None)
    if missing is not None:
        what = f"generation {missing.generation}, with {missing.id} in it, is missing"
        raise DamageError("checkpoints/", what, mend=(
            "bring it back and supervisorctl restart trainer; if it is lost for good, mkdir checkpoints/damaged-"
            f"g{missing.generation:06d}-s00000000 before the restart, and what it held is trained again"))


def reconcile(hello: Hello, *, line: LineRow, head_job: JobRow | None, held: JobRow | None, uncovered: list[JobRow],
              reported: set[tuple[int, str]]) -> list[AnyEvent]:
    """The events that make the journal agree with the head; none when it does.

    Args:
        hello: what the trainer found; :func:`refuse_if_unfit` has let it pass.
        line: what the journal knows of the model line.
        head_job: the job that the head's cursor is in, if there is one.
        held: the train job that the worker of the hello is running.
        uncovered: the trained jobs that only generations after the head cover, in their old order.
        reported: (generation, name) of the damaged generations that are in the journal.
    """
    events: list[AnyEvent] = [
        CheckpointDamaged(generation=entry.generation, name=entry.name, reason=entry.reason)
        for entry in hello.damaged if (entry.generation, entry.name) not in reported
    ]
    waiting = (JobState.QUEUED, JobState.RUNNING)
    if hello.generation > line.newest and head_job is not None and head_job.state in waiting:
        events.append(CheckpointPublished(
            job=head_job.id, generation=hello.generation, name=hello.name, step=hello.step, job_step=hello.job_step,
            done=hello.done, reason=hello.reason))
    elif hello.generation != line.generation:
        events.append(HeadAdopted(generation=hello.generation, name=hello.name, step=hello.step))
    if uncovered and held is not None:
        # It was on top of what is lost now; it comes after that again.
        events.append(LeaseEnded(job=held.id, reason="what was trained before it was lost, and is trained again first"))
    events += [
        JobUncovered(job=row.id, generation=row.generation, reason=(
            f"generation {row.generation}, which held it, does not verify any more; the head is {hello.name}"))
        for row in uncovered
    ]
    held_on = held is not None and not uncovered and head_job is not None and held.id == head_job.id
    if hello.done and head_job is not None and head_job.state in waiting and not held_on:
        events.append(JobSucceeded(job=head_job.id, result={
            "type": "TrainResult", "steps_done": hello.job_step, "steps_planned": hello.steps_planned,
            "global_step": hello.step, "generation": hello.generation, "checkpoint": hello.name, "first_loss": None,
            "last_loss": None}))
    return events
