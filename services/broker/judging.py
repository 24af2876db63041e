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
    LevelJudged,
    SuiteLocked,
    SuiteScored,
    is_fall,
    is_of_files,
)
from trainq.journal import JobRow, LineRow
from trainq.journal.learning import Known
from trainq.messages import EvaluationFindings, Judgement, PublishTask

MOST_REASONS = 100
_MOVES = {"first": ChampionMove.FIRST, "promote": ChampionMove.PROMOTED}


def goes_back(checkpoint: str, judgement: Judgement, known: Known, settings: PromotionSettings) -> bool:
    """Whether the line is to go back to the champion, because ``checkpoint``, that was judged, is a fall."""
    return settings.on_regression == "restore" and is_fall(
        checkpoint, judgement.champion, known.champion_name, regressed=judgement.regressed)


def follow(row: JobRow, checkpoint: str, report: EvaluationFindings, known: Known, settings: PromotionSettings,
           line: LineRow) -> list[AnyEvent]:
    """The events that follow the end of an evaluation.

    Args:
        row: the evaluation.
        checkpoint: what was evaluated.
        report: what it found.
        known: who is champion, and the rest, now.
        settings: [promotion].
        line: the model line.

    Raises:
        UsageError: a suite is another one by now than was scored.
    """
    events: list[AnyEvent] = []
    for score in report.scores:
        locked = known.locks.get(score.suite)
        # Suites of files' rows go with time, and have none: all locks are told with each look at what is known.
        if is_of_files(score.suite):
            pass
        elif locked is None:
            events.append(SuiteLocked(suite=score.suite, digest=score.suite_digest, reason=f"first scored by {row.id}"))
        elif locked != score.suite_digest:
            raise UsageError(f"the suite {score.suite} was locked to {locked[:16]} while {row.id} scored "
                             f"{score.suite_digest[:16]}", mend="evaluate again")
        events.append(SuiteScored(checkpoint=checkpoint, weights=report.weights, by=row.id,
                                  **msgspec.structs.asdict(score)))
    levels = {level.generator: level.level for level in known.levels}
    events += [LevelJudged(checkpoint=checkpoint, weights=report.weights, by=row.id,
                           **msgspec.structs.asdict(verdict))
               for verdict in report.levels if levels.get(verdict.generator, verdict.before) == verdict.before]
    return events + _judged(row, checkpoint, report, known, settings, line)


def _judged(row: JobRow, checkpoint: str, report: EvaluationFindings, known: Known, settings: PromotionSettings,
            line: LineRow) -> list[AnyEvent]:
    judgement = report.judgement
    if judgement is None:
        return []
    if judgement.champion != known.champion_name:
        judgement = msgspec.structs.replace(
            judgement, outcome="keep", regressed=False,
            reasons=(*judgement.reasons[:MOST_REASONS - 1],
                     f"{known.champion_name} became champion meanwhile, and it was not compared with that one"))
    if judgement.outcome == "promote" and known.champion is not None and (
            known.champion.how is ChampionMove.ROLLED_BACK):
        # A person has found something that the numbers do not show: the same numbers do not decide against that.
        judgement = msgspec.structs.replace(
            judgement, outcome="propose", reasons=(*judgement.reasons[:MOST_REASONS - 1], (
                f"it is proposed only, because {known.champion_name} is champion by a rollback")))
    events: list[AnyEvent] = [CheckpointJudged(checkpoint=checkpoint, by=row.id,
                                               **msgspec.structs.asdict(judgement))]
    how = _MOVES.get(judgement.outcome)
    if how is not None and settings.mode == "auto":
        return events + move(checkpoint, known.champion_name, how, "; ".join(judgement.reasons)[:4096], row.id,
                             settings, line)
    return events


def move(checkpoint: str, before: str, how: ChampionMove, reason: str, by: str, settings: PromotionSettings,
         line: LineRow) -> list[AnyEvent]:
    """The events with which ``checkpoint`` becomes champion: it is put to each place that others fetch it from."""
    moved = ChampionMoved(checkpoint=checkpoint, before=before, how=how, reason=reason, by=by)
    # ``by`` and the line's number tell one move from the next to the same checkpoint.
    return [moved, *(tasks.made(PublishTask(checkpoint=checkpoint, destination=destination),
                                f"champion-{line.next_task}-{at}", by, line.next_task + at)
                     for at, destination in enumerate(settings.publish_to))]
