"""Reconciliation: the trainer's verified head and the journal are made to agree. Pure: rows in, events out.

The head decides: what it covers is trained, and what only lost generations covered is trained again, ahead of
everything and in the old order. All events of one hello are one transaction.
"""

from __future__ import annotations

from collections.abc import Sequence, Set

import msgspec

from trainq.errors import DamageError
from trainq.jobs import (
    TRANSITIONS,
    AnyEvent,
    CheckpointDamaged,
    CheckpointPublished,
    Effect,
    HeadAdopted,
    JobReinstated,
    JobState,
    JobSucceeded,
    JobTakenOut,
    JobUncovered,
    LeaseEnded,
    LineRebased,
    LineRestored,
    batches_left_out,
    cut_from,
)
from trainq.journal import JobRow, LineRow, Span
from trainq.messages import Hello, RebaseTask, RestoreTask, TaskResult


def refuse_if_unfit(hello: Hello, line: LineRow, head_seq: int, uncovered: list[JobRow], damaged: set[int], *,
                    removed: Set[int] = frozenset(), spans: Sequence[Span] = (),
                    reinstatable: Sequence[tuple[JobRow, int]] = ()) -> None:
    """Raise if this head and this journal cannot belong together.

    What is missing is not damaged: it may be on a disk that is not mounted, and come back. Only what was seen not to
    verify is trained again.

    Args:
        hello: what the trainer found.
        line: what the journal knows of the model line.
        head_seq: the journal's newest event.
        uncovered: the trained jobs that the head does not hold.
        damaged: the generations that the journal knows to be damaged.
        removed: those that retention has removed: never the last ones of the line, so they are not what was lost.
        spans: of the generation at which the line stands, as the journal knows it.
        reinstatable: the jobs that the head holds and that do not count as trained.

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
    known = damaged | {entry.generation for entry in hello.damaged}
    if line.generation in known:
        known |= removed
    # What an older generation had trained, and a restore brought back, was lost with what the restore published.
    above = min((max(span.first, hello.generation + 1) for span in spans if span.last > hello.generation), default=0)
    lost = [(row.generation if row.generation > hello.generation else above, f", with {row.id} in it,")
            for row in uncovered]
    # To have them count as trained would undo what a restore has done.
    lost += [(above, ", with which the line went back,") for _ in reinstatable[:1]]
    for generation, what in lost:
        if generation not in known:
            raise DamageError("checkpoints/", f"generation {generation}{what} is missing", mend=(
                "bring it back and supervisorctl restart trainer; if it is lost for good, mkdir checkpoints/damaged-"
                f"g{generation:06d}-s00000000 before the restart, and what it held is trained again"))


def restore(hello: Hello, *, by: JobRow, task: RestoreTask, middle: JobRow | None, uncovered: list[JobRow],
            reinstatable: list[tuple[JobRow, int]]) -> list[AnyEvent]:
    """The events of a restore that has been published: the jobs that the line holds now are those that are trained.

    Args:
        hello: what the trainer found: a head that a restore has published, of which the journal has not heard.
        by: the restore's own job, whatever became of it meanwhile.
        task: what was asked for.
        middle: the job in the middle of which the copy was taken, if it was.
        uncovered: the trained jobs that the restored state does not hold, in their old order.
        reinstatable: the jobs that it holds and that do not count as trained in it, with where they were.
    """
    events: list[AnyEvent] = [LineRestored(generation=hello.generation, name=hello.name, step=hello.step,
                                           source=hello.restored_from, by=by.id)]
    back = {row.id for row, _ in reinstatable}
    reason = f"{by.id} went back to {task.name}"
    taken_out = 0
    if middle is not None and (middle.state, JobUncovered) in TRANSITIONS:
        # It goes on from there, before anything else, whatever became of it since.
        events.append(JobUncovered(job=middle.id, generation=0, reason=f"{reason}, in the middle of it",
                                   effects=hello.effects))
    for row in uncovered:
        if row.id in back or (middle is not None and row.id == middle.id):
            continue
        if task.retrain:
            events.append(JobUncovered(job=row.id, generation=row.generation, reason=reason))
        else:
            taken_out += 1
            events.append(JobTakenOut(job=row.id, generation=row.generation, reason=reason))
    events += _reinstate(reinstatable, reason)
    if by.state in (JobState.QUEUED, JobState.RUNNING):
        again = len(events) - 1 - taken_out - len(back)
        summary = (f"{hello.name} is {task.name} again; jobs taken out: {taken_out}, brought back: {len(back)}, "
                   f"trained again: {again}")
        result = TaskResult(summary=summary, facts={"generation": hello.name, "taken_out": taken_out,
                                                    "brought_back": len(back)})
        events.append(JobSucceeded(job=by.id, result=msgspec.to_builtins(result)))
    return events


def rebase(hello: Hello, by: JobRow, task: RebaseTask) -> list[AnyEvent]:
    """The events of a rebase of which the journal has not heard: the jobs in the line stay what they are."""
    events: list[AnyEvent] = [LineRebased(
        generation=hello.generation, name=hello.name, step=hello.step, source=task.source, by=by.id,
        lora=msgspec.to_builtins(task.lora), seed=task.seed, threads=task.threads,
        warmup=task.warmup)]
    if by.state in (JobState.QUEUED, JobState.RUNNING):
        result = TaskResult(summary=f"{hello.name} goes on from the merged {task.source}",
                            facts={"generation": hello.name})
        events.append(JobSucceeded(job=by.id, result=msgspec.to_builtins(result)))
    return events


def damaged(hello: Hello, reported: set[tuple[int, str]]) -> list[AnyEvent]:
    """The damaged generations of which the journal has not heard."""
    return [CheckpointDamaged(generation=entry.generation, name=entry.name, reason=entry.reason)
            for entry in hello.damaged if (entry.generation, entry.name) not in reported]


def _reinstate(reinstatable: list[tuple[JobRow, int]], reason: str) -> list[AnyEvent]:
    events: list[AnyEvent] = []
    for row, generation in reinstatable:
        if row.state is JobState.RUNNING:
            events.append(LeaseEnded(job=row.id, reason=reason))
        events.append(JobReinstated(job=row.id, generation=generation, reason=reason))
    return events


def reconcile(hello: Hello, *, line: LineRow, head_job: JobRow | None, held: JobRow | None, uncovered: list[JobRow],
              reinstatable: list[tuple[JobRow, int]], reported: set[tuple[int, str]],
              rebased: tuple[JobRow, RebaseTask] | None = None, known: Sequence[Effect] = ()) -> list[AnyEvent]:
    """The events that make the journal agree with the head; none when it does.

    Args:
        hello: what the trainer found; :func:`refuse_if_unfit` has let it pass.
        line: what the journal knows of the model line.
        head_job: the job that the head's cursor is in, if there is one.
        held: the train job that the worker of the hello is running.
        uncovered: the trained jobs that the head does not hold, in their old order.
        reinstatable: the jobs that it holds and that do not count as trained in it, with where they were: a restore
            had taken them out, and what that published is lost.
        reported: (generation, name) of the damaged generations that are in the journal.
        rebased: the rebase that has published the head, whatever became of it meanwhile.
        known: the effects that the journal has of the head's job.
    """
    events = damaged(hello, reported)
    back = {row.id for row, _ in reinstatable}
    waiting = (JobState.QUEUED, JobState.RUNNING)
    if rebased is not None and hello.generation > line.newest:
        events += rebase(hello, *rebased)
    elif hello.generation > line.newest and head_job is not None and head_job.state in waiting:
        events.append(CheckpointPublished(
            job=head_job.id, generation=hello.generation, name=hello.name, step=hello.step, job_step=hello.job_step,
            done=hello.done, reason=hello.reason))
    elif hello.generation != line.generation:
        events.append(HeadAdopted(generation=hello.generation, name=hello.name, step=hello.step))
    if uncovered and held is not None and held.id not in back:
        # It was on top of what is lost now; it comes after that again.
        events.append(LeaseEnded(job=held.id, reason="what was trained before it was lost, and is trained again first"))
    events += [
        JobUncovered(job=row.id, generation=row.generation, reason=(
            f"generation {row.generation}, which held it, does not verify any more; the head is {hello.name}"))
        for row in uncovered if row.id not in back
    ]
    events += _reinstate(reinstatable, f"the head is {hello.name} again, which holds it")
    if head_job is not None and head_job.state in waiting and has_other_effects(hello, known):
        # It is in the middle of another attempt than the journal has in mind, or the journal was brought back.
        reason = f"the head, {hello.name}, stands in it with other effects than the journal knew of"
        if head_job.state is JobState.RUNNING and not (uncovered and held is not None and held.id == head_job.id):
            events.append(LeaseEnded(job=head_job.id, reason=reason))
        events.append(JobUncovered(job=head_job.id, generation=0, reason=reason, effects=hello.effects))
        held = None
    held_on = held is not None and not uncovered and head_job is not None and held.id == head_job.id
    if hello.done and head_job is not None and head_job.state in waiting and not held_on and head_job.id not in back:
        events.append(JobSucceeded(job=head_job.id, result={
            "type": "TrainResult", "steps_done": hello.job_step, "steps_planned": hello.steps_planned,
            "global_step": hello.step, "generation": hello.generation, "checkpoint": hello.name, "first_loss": None,
            "last_loss": None,
            "cut_from": cut_from(hello.effects),
            "batches_left_out": batches_left_out(hello.effects, hello.job_step)}))
    return events


def has_other_effects(hello: Hello, known: Sequence[Effect]) -> bool:
    """Whether the steps of the head's job were done under other effects than the journal has.

    Args:
        hello: what the trainer found.
        known: the effects that the journal has of that job.
    """
    done = hello.job_step + hello.done  # a job that was cut has its end among them
    return {effect for effect in known if effect.step < done} != {
        effect for effect in hello.effects if effect.step < done}
