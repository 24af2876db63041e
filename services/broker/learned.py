"""What the model can do, in brief for the overview and as a whole: read from the journal's tables, and kept until they
change.

Both are asked for every second or two, scores come every few minutes, and the tables grow for ever. What an event of
this transaction says that is not on disk yet is read, and not kept: it may be undone.
"""

from __future__ import annotations

import msgspec

from trainq.config import DatagenSettings
from trainq.jobs import (
    AnyEvent,
    ChampionMoved,
    CheckpointJudged,
    JobSucceeded,
    LevelJudged,
    SuiteLocked,
    SuiteScored,
    is_of_files,
)
from trainq.journal import Journal, Queries, Recorded, learning
from trainq.journal.learning import Known
from trainq.messages import CheckpointScores, JudgementFigure, LearningFigures, LevelFigure, ScoreFigure

MOST_SCORES = 64
MOST_REASONS = 8
MOST_CHARACTERS = 400
# Far more suites than anybody has: of a checkpoint's scores no more are counted.
_LOOKED_AT = 1000
_CHANGES: tuple[type[AnyEvent], ...] = (ChampionMoved, CheckpointJudged, LevelJudged, SuiteLocked, SuiteScored)


class Learned:
    """Says it again without asking the tables, as long as nothing of that kind was committed."""

    def __init__(self, journal: Journal, settings: DatagenSettings) -> None:
        self._journal = journal
        self._first_levels = {name: each.level for name, each in settings.generators.items() if each.weight}
        self._queries = Queries(journal)
        self._kept: LearningFigures | None = None
        self._known: Known | None = None
        self._trained: int | None = None
        # The newest event that is known to be on disk.
        self._settled_seq = journal.head_seq

    def committed(self, entry: Recorded) -> None:
        """This event is on disk."""
        self._settled_seq = entry.seq
        event = entry.event
        if isinstance(event, _CHANGES):
            self._kept = self._known = None
        elif isinstance(event, JobSucceeded) and event.job.startswith("train-") and self._trained is not None:
            self._trained += 1

    def figures(self) -> LearningFigures:
        """What is so now, in the open transaction."""
        if not self._is_settled:
            return self._read()
        if self._kept is None:
            self._kept = self._read()
        return self._kept

    def known(self) -> Known:
        """All of it, as it is now, in the open transaction."""
        if not self._is_settled:
            return learning.known(self._journal.connection)
        if self._known is None:
            self._known = learning.known(self._journal.connection)
        return self._known

    def trained_count(self) -> int:
        """How often a file was trained to its end, in the open transaction."""
        if not self._is_settled:
            return self._queries.trained_count()
        if self._trained is None:
            self._trained = self._queries.trained_count()
        return self._trained

    @property
    def _is_settled(self) -> bool:
        """Whether all that the tables say is on disk."""
        return self._journal.head_seq == self._settled_seq

    def _read(self) -> LearningFigures:
        connection = self._journal.connection
        known = self.known()
        first = learning.scores(connection, limit=1)
        newest = self._scores(first[0].checkpoint, known.locks) if first else None
        judged = known.judgement
        moments = [*([newest.at] if newest else []), *([judged.at] if judged else [])]
        champion = known.champion
        return LearningFigures(
            champion=msgspec.structs.replace(champion, reason=_brief(champion.reason)) if champion else None,
            judgement=JudgementFigure(
                checkpoint=judged.checkpoint, champion=judged.champion, outcome=judged.outcome,
                regressed=judged.regressed, reasons=tuple(map(_brief, judged.reasons[:MOST_REASONS])),
                at=judged.at) if judged else None,
            proposal=known.proposal, levels=self._levels(known), newest=newest,
            of_champion=self._scores(champion.checkpoint, known.locks) if champion else None,
            evaluated_at=max(moments, default=None))

    def _levels(self, known: Known) -> tuple[LevelFigure, ...]:
        """Those that have moved, and those that datagen begins with."""
        found = {name: LevelFigure(generator=name, level=level) for name, level in self._first_levels.items()}
        found |= {each.generator: LevelFigure(generator=each.generator, level=each.level, checkpoint=each.checkpoint,
                                              since=each.at) for each in known.levels}
        return tuple(found[name] for name in sorted(found))

    def _scores(self, checkpoint: str, locks: dict[str, str]) -> CheckpointScores | None:
        # Suites of files' rows have no lock. They come last, so that what decides is there.
        scores = sorted((score for score in learning.scores(
            self._journal.connection, checkpoint=checkpoint, limit=_LOOKED_AT)
            if locks.get(score.suite, score.suite_digest) == score.suite_digest),
            key=lambda score: (is_of_files(score.suite), score.suite))
        if not scores:
            return None
        return CheckpointScores(
            checkpoint=checkpoint, at=max(score.at for score in scores), more=max(0, len(scores) - MOST_SCORES),
            scores=tuple(ScoreFigure(suite=score.suite, kind=score.kind, n=score.n, mean=score.mean, low=score.low,
                                     high=score.high, truncated=score.truncated, left_out=score.left_out)
                         for score in scores[:MOST_SCORES]))


def _brief(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS - 1]}…"
