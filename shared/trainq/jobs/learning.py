"""The events of what the model can do: scores, how they compare, who is champion, and how hard its tasks are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import msgspec

from trainq.jobs.base import Event

# With what the suite with the held-out rows of the newest files together begins; no job is called "all".
OF_ALL = "job-all-"
_OF_FILES = re.compile(rf"job-train-[0-9]+|{OF_ALL}[0-9a-f]{{16}}")


def suite_of_a_file(job: str) -> str:
    """The name of the suite with the held-out rows of the file that this job has trained."""
    return f"job-{job}"


def suite_of_a_level(generator: str, level: int) -> str:
    """The name of the suite with the fixed problems of that level of a generator."""
    return f"{generator}-l{level:02d}"


def is_of_files(suite: str) -> bool:
    """Whether a suite has held-out rows of files that were trained: it comes and goes with them, and is no person's."""
    return _OF_FILES.fullmatch(suite) is not None


def is_fall(checkpoint: str, compared: str, champion: str, *, regressed: bool) -> bool:
    """Whether a judgement says that the line has fallen below the champion of now.

    An older checkpoint than the champion's that somebody has scored is no fall, however bad: the line has left it.

    Args:
        checkpoint: what was judged. Names are in the order of their making.
        compared: the champion with which it was compared (empty: nobody).
        champion: who is champion now (empty: nobody).
        regressed: it was significantly worse.
    """
    return regressed and compared == champion != "" and checkpoint > champion


class ChampionMove(StrEnum):
    """How a checkpoint became champion."""

    # There was none.
    FIRST = "first"
    # It was significantly better.
    PROMOTED = "promoted"
    # So it was proposed, and a person said yes.
    APPROVED = "approved"
    # A person wanted it, whatever the numbers say.
    BY_HAND = "by_hand"
    # One that was it before is champion again.
    ROLLED_BACK = "rolled_back"


class SuiteLocked(Event, frozen=True, kw_only=True, tag=True):
    """From here on the suite is what has this digest: scores of another one are not compared with its."""

    suite: str
    digest: str
    reason: str


class SuiteScored(Event, frozen=True, kw_only=True, tag=True):
    """A checkpoint has this score on a suite.

    ``mean`` of ``n`` rows lies between ``low`` and ``high`` with ``confidence``; ``kind`` says of what it is the mean
    (``loss``: nats per token, less is better; ``generate``: 0 to 1). ``seed`` is that of the interval, where one was
    drawn. ``evaluation`` is the folder in ``evaluations/`` that has it row by row, ``weights`` the digest of what was
    scored. ``by`` is the task that did it. ``truncated`` of the answers were ended because they were as long as an
    answer may be, ``left_out`` rows did not fit into the model and count for nothing; ``credit`` is the mean credit
    for what is half right, where the scorer knows of that.
    """

    checkpoint: str
    weights: str
    suite: str
    suite_digest: str
    kind: str
    scorer: str
    n: int
    mean: float
    low: float
    high: float
    confidence: float
    seed: int
    evaluation: str
    by: str
    truncated: int = 0
    left_out: int = 0
    credit: float | None = None


class CheckpointJudged(Event, frozen=True, kw_only=True, tag=True):
    """What the scores of a checkpoint mean beside the champion's.

    ``outcome`` is ``promote``, ``propose``, ``first`` or ``keep``; ``regressed``: it is significantly worse.
    ``comparisons`` are the numbers, suite by suite.
    """

    checkpoint: str
    champion: str
    outcome: str
    regressed: bool
    reasons: tuple[str, ...]
    comparisons: tuple[dict[str, Any], ...]
    by: str


class ChampionMoved(Event, frozen=True, kw_only=True, tag=True):
    """``checkpoint`` is champion, in place of ``before`` (empty: there was none)."""

    checkpoint: str
    before: str
    how: ChampionMove
    reason: str
    by: str


class LevelJudged(Event, frozen=True, kw_only=True, tag=True):
    """A score on the fixed problems of a ``level`` was looked at, and what ``generator`` makes is at ``after`` now.

    Each state of the weights is looked at once for each level and set of problems: drawn anew it moves nothing.
    """

    generator: str
    level: int
    before: int
    after: int
    suite: str
    suite_digest: str
    n: int
    score: float
    low: float
    high: float
    confidence: float
    checkpoint: str
    weights: str
    evaluation: str
    reason: str
    by: str


class ScoreView(msgspec.Struct, frozen=True, kw_only=True):
    """A score as :class:`SuiteScored` says it; ``at`` in wall seconds since 1970."""

    checkpoint: str
    weights: str
    suite: str
    suite_digest: str
    kind: str
    scorer: str
    n: int
    mean: float
    low: float
    high: float
    confidence: float
    seed: int
    evaluation: str
    by: str
    at: float
    truncated: int = 0
    left_out: int = 0
    credit: float | None = None


class JudgementView(msgspec.Struct, frozen=True, kw_only=True):
    """What a :class:`CheckpointJudged` says; ``seq`` is its number, ``at`` in wall seconds since 1970."""

    checkpoint: str
    seq: int
    champion: str
    outcome: str
    regressed: bool
    reasons: tuple[str, ...]
    comparisons: tuple[dict[str, Any], ...]
    by: str
    at: float


class ChampionView(msgspec.Struct, frozen=True, kw_only=True):
    """What a :class:`ChampionMoved` says; ``seq`` is its number, ``at`` in wall seconds since 1970."""

    seq: int
    checkpoint: str
    before: str
    how: ChampionMove
    reason: str
    by: str
    at: float


def champion_before(moves: Sequence[ChampionView]) -> str:
    """To whom a rollback goes: who was champion before the one of now, passing over whoever was rolled back from.

    Args:
        moves: the newest moves of the champion, oldest first.

    Returns:
        The checkpoint; empty if there is none.
    """
    standing = [moves[0].before] if moves and moves[0].before else []
    for move in moves:
        if move.how is ChampionMove.ROLLED_BACK:
            gone = {move.before, move.checkpoint}
            # Whoever came between the two, too; nobody, if the one that is gone back to was rolled back from itself.
            while move.checkpoint in standing and standing[-1] != move.checkpoint:
                gone.add(standing.pop())
            standing = [name for name in standing if name not in gone]
        standing.append(move.checkpoint)
    return standing[-2] if len(standing) > 1 else ""


class LevelView(msgspec.Struct, frozen=True, kw_only=True):
    """What ``level`` a generator is at, since when (wall seconds since 1970), and by the score of which checkpoint."""

    generator: str
    level: int
    checkpoint: str
    evaluation: str
    at: float


class JudgedLevel(msgspec.Struct, frozen=True, kw_only=True):
    """A state of the weights was looked at on a level's problems, and perhaps ``moved`` the generator."""

    generator: str
    level: int
    suite_digest: str
    weights: str
    moved: bool
