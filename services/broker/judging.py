"""Judging: what follows from an evaluation, as events. Pure: rows in, events out.

The evaluator has compared and decided; here it is looked at once more, with the journal at rest, whether what it
compared with still holds: the champion, the locks of the suites, the levels.
"""

from __future__ import annotations

import msgspec

from services.broker import tasks
from trainq.config import PromotionSettings
from trainq.errors import UsageError
from trainq.jobs import (
    AnyEvent,
    ChampionMove,
    ChampionMoved,
    CheckpointJudged,
    JobKind,
    LevelJudged,
    Store,
    SuiteLocked,
    SuiteScored,
    TaskSubmitted,
)
from trainq.journal import JobRow, LineRow
from trainq.journal.learning import Known
from trainq.messages import EvaluateTask, EvaluationFindings, PublishTask, RestoreTask, Task

_MOVES = {"first": ChampionMove.FIRST, "promote": ChampionMove.PROMOTED}


def follow(row: JobRow, submitted: TaskSubmitted, report: EvaluationFindings, known: Known, settings: PromotionSettings,
           line: LineRow) -> list[AnyEvent]:
    """The events that follow the end of an evaluation.

    Args:
        row: the evaluation.
        submitted: the event that asked for it.
        report: what it found.
        known: who is champion, and the rest, now.
        settings: [promotion].
        line: the model line.

    Raises:
        UsageError: a suite is another one by now than was scored.
    """
    task = tasks.task_of(submitted)
    if not isinstance(task, EvaluateTask):
        raise UsageError(f"{row.id} is no evaluation")
    events: list[AnyEvent] = []
    for score in report.scores:
        locked = known.locks.get(score.suite)
        if locked is None:
            events.append(SuiteLocked(suite=score.suite, digest=score.suite_digest, reason=f"first scored by {row.id}"))
        elif locked != score.suite_digest:
            raise UsageError(f"the suite {score.suite} was locked to {locked[:16]} while {row.id} scored "
                             f"{score.suite_digest[:16]}", mend="evaluate again")
        events.append(SuiteScored(checkpoint=task.checkpoint, weights=report.weights, by=row.id,
                                  **msgspec.structs.asdict(score)))
    levels = {level.generator: level.level for level in known.levels}
    events += [LevelJudged(checkpoint=task.checkpoint, weights=report.weights, by=row.id,
                           **msgspec.structs.asdict(verdict))
               for verdict in report.levels if levels.get(verdict.generator, verdict.before) == verdict.before]
    return events + _judged(row, task, report, known, settings, line)


def _judged(row: JobRow, task: EvaluateTask, report: EvaluationFindings, known: Known, settings: PromotionSettings,
            line: LineRow) -> list[AnyEvent]:
    judgement = report.judgement
    if judgement is None:
        return []
    if judgement.champion != known.champion_name:
        judgement = msgspec.structs.replace(
            judgement, outcome="keep", regressed=False,
            reasons=(*judgement.reasons, f"{known.champion_name} became champion meanwhile: it is to be compared anew"))
    events: list[AnyEvent] = [CheckpointJudged(checkpoint=task.checkpoint, by=row.id,
                                               **msgspec.structs.asdict(judgement))]
    how = _MOVES.get(judgement.outcome)
    if how is not None and settings.mode == "auto":
        return events + move(task.checkpoint, known.champion_name, how, "; ".join(judgement.reasons)[:4096], row.id,
                             settings, line)
    if judgement.regressed and settings.on_regression == "restore" and line.checkpoint == task.checkpoint:
        back = RestoreTask(store=Store.CHECKPOINTS, name=known.champion_name)
        events.append(_task(back, JobKind.RESTORE, f"fell-{row.id}", row.id, line.next_task))
    return events


def move(checkpoint: str, before: str, how: ChampionMove, reason: str, by: str, settings: PromotionSettings,
         line: LineRow) -> list[AnyEvent]:
    """The events with which ``checkpoint`` becomes champion: it is put to each place that others fetch it from."""
    moved = ChampionMoved(checkpoint=checkpoint, before=before, how=how, reason=reason, by=by)
    # ``by`` and the line's number tell one move from the next to the same checkpoint.
    return [moved, *(_task(PublishTask(checkpoint=checkpoint, destination=destination), JobKind.PUBLISH,
                           f"champion-{line.next_task}-{at}", by, line.next_task + at)
                     for at, destination in enumerate(settings.publish_to))]


def _task(task: Task, kind: JobKind, request_id: str, cause: str, number: int) -> TaskSubmitted:
    return TaskSubmitted(job=f"{kind}-{number}", kind=kind, number=number, name=task.words, request_id=request_id,
                         request_digest="", cause=cause, task=msgspec.to_builtins(task))
