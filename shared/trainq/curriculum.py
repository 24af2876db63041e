"""At which level a generator works, and which one is next. Pure: scores in, moves with their numbers out.

Rules of the level:

* Up by one when the lower end of the interval of the score on the present level's fixed problems is above ``up``, on at
  least ``least_rows`` of them.
* Down by one when the upper end of the interval on the level below, which was mastered once, is under ``down``, on as
  many. ``down`` is well under ``up``: between them nothing moves, so no accuracy makes a level go up and down. That the
  present level is not mastered is what it is for, and moves nothing.
* Each state of the weights is judged once on a level: whatever its score would be the second time, with another seed,
  other decoding, under another checkpoint's name, it moves nothing. And it moves a generator once at most.
* A level's problems are known by the digest of their suite. The first score with another digest is the new beginning,
  and moves nothing; the weights after it are judged on the new problems.
* What a marked checkpoint scores moves nothing.

Rules of the mix: of the last files (:data:`WINDOW`) each generator should have its share, which grows with how much its
score leaves to be learned, and is never under the floor. Next is the one that lacks most of its share, but whoever was
not among those files at all goes first. Nothing is drawn: the same past has the same next one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

# So many of a generator's judgements are remembered, the newest ones: a redraw comes soon, or never.
MOST_JUDGED = 1000
# The files that shares are counted over; with many generators, twice as many as they are, so that all have a place.
WINDOW = 20


class Ladder(msgspec.Struct, frozen=True, kw_only=True):
    """When a level moves. ``up`` and ``down`` are scores, 0 to 1; ``confidence`` is the least that intervals must have.
    """

    up: float = 0.80
    down: float = 0.70
    least_rows: int = 100
    confidence: float = 0.95


class LevelScore(msgspec.Struct, frozen=True, kw_only=True):
    """The score of a checkpoint on the fixed problems of one level: a mean of ``n`` scores, with its interval."""

    generator: str
    level: int
    suite: str
    suite_digest: str
    n: int
    score: float
    low: float
    high: float
    confidence: float
    checkpoint: str
    weights_digest: str
    evaluation_key: str
    marks: tuple[str, ...] = ()


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """These weights were judged on this level, and perhaps ``moved`` it."""

    level: int
    weights_digest: str
    moved: bool = False


class LevelSuite(msgspec.Struct, frozen=True, kw_only=True):
    """The digest of the problems that a level is judged on."""

    level: int
    suite_digest: str


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """Where a generator is, and what brought it there; ``levels`` is its highest level, they count from 1."""

    generator: str
    levels: int
    level: int = 1
    suites: tuple[LevelSuite, ...] = ()
    judged: tuple[Judged, ...] = ()


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """A level has moved, and by what."""

    from_level: int
    to_level: int
    score: LevelScore
    ladder: Ladder
    reason: str


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """What a score has done: the standing from now on, the move if there is one, and why, or why not."""

    standing: Standing
    move: Move | None
    reason: str


def judge(standing: Standing, score: LevelScore, ladder: Ladder) -> Judgement:
    """What a score does to the level of its generator. Idempotent: the same score again moves nothing."""
    ignored = _ignored(standing, score, ladder)
    if ignored:
        return Judgement(standing=standing, move=None, reason=ignored)
    known = {suite.level: suite.suite_digest for suite in standing.suites}
    is_new = known.get(score.level, score.suite_digest) != score.suite_digest
    known[score.level] = score.suite_digest
    suites = tuple(LevelSuite(level=level, suite_digest=digest) for level, digest in sorted(known.items()))
    to_level, reason = standing.level, ""
    if is_new:
        reason = f"the problems of level {score.level} are others than before: a new beginning"
    elif any(entry.moved and entry.weights_digest == score.weights_digest for entry in standing.judged):
        reason = f"{score.checkpoint} has moved {standing.generator} already"
    else:
        to_level, reason = _step(standing, score, ladder)
    judged = Judged(level=score.level, weights_digest=score.weights_digest, moved=to_level != standing.level)
    after = msgspec.structs.replace(standing, level=to_level, suites=suites,
                                    judged=(*standing.judged, judged)[-MOST_JUDGED:])
    move = None
    if to_level != standing.level:
        move = Move(from_level=standing.level, to_level=to_level, score=score, ladder=ladder, reason=reason)
    return Judgement(standing=after, move=move, reason=reason)


def _ignored(standing: Standing, score: LevelScore, ladder: Ladder) -> str:
    """Why a score says nothing about the level, and is forgotten; empty if it is judged."""
    if score.generator != standing.generator:
        return f"it is of {score.generator}"
    if score.level < 1 or score.level not in (standing.level, standing.level - 1):
        return f"level {score.level} is neither the present one, {standing.level}, nor the one below"
    if score.marks:
        return f"{score.checkpoint} is marked: {', '.join(score.marks)}"
    if score.n < ladder.least_rows:
        return f"{score.n} problems say nothing, {ladder.least_rows} are the least"
    if score.confidence < ladder.confidence:
        return f"an interval at {score.confidence:.4g} is not one at {ladder.confidence:.4g}"
    # A number that is none is not between its own bounds either.
    if not 0.0 <= score.low <= score.score <= score.high <= 1.0:
        return "the numbers are no score with its interval"
    if any(entry.level == score.level and entry.weights_digest == score.weights_digest for entry in standing.judged):
        return f"{score.checkpoint} was judged on level {score.level} before"
    return ""


def _step(standing: Standing, score: LevelScore, ladder: Ladder) -> tuple[int, str]:
    """The level after a score that counts, and the reason."""
    seen = (f"{score.score:.3f} on {score.n} problems of level {score.level}, {100 * score.confidence:.3g} % between "
            f"{score.low:.3f} and {score.high:.3f}")
    if score.level == standing.level:
        if not score.low > ladder.up:
            return standing.level, f"{seen}: not surely above {ladder.up:.3g}"
        if standing.level >= standing.levels:
            return standing.level, f"{seen}: mastered, and there is no higher level"
        return standing.level + 1, f"{seen}: mastered"
    if score.high < min(ladder.down, ladder.up):
        return standing.level - 1, f"{seen}: surely under {ladder.down:.3g}, it is not mastered any more"
    return standing.level, f"{seen}: not surely under {ladder.down:.3g}"


def shares(scores: Mapping[str, float | None], floor: float) -> dict[str, float]:
    """Each generator's share of what is generated, 1 together.

    Args:
        scores: each generator's score at its present level, 0 to 1; None where it was not scored yet, which is as if
            everything were to be learned.
        floor: no share is smaller; where there are too many generators for it, all are equal.
    """
    floor = min(floor, 1 / len(scores)) if scores else 0.0
    lacking = {name: 1.0 if score is None else 1.0 - score for name, score in scores.items()}
    together = sum(lacking.values())
    rest = 1.0 - floor * len(scores)
    return {name: floor + rest * (lack / together if together else 1 / len(scores)) for name, lack in lacking.items()}


def next_generator(wanted: Mapping[str, float], past: Sequence[str]) -> str:
    """Whose file is generated next.

    Args:
        wanted: shares, as :func:`shares` has them; one generator at least.
        past: whose files were generated so far, the newest last; only those of the window count, and of them only such
            as are wanted still.

    Returns:
        The one that lacks most; of equals the one that waits longest, of those the first by name.
    """
    recent = [name for name in past[-max(WINDOW, 2 * len(wanted)):] if name in wanted]
    newest = {name: place for place, name in enumerate(recent)}

    def urgency(name: str) -> tuple[bool, float, int, str]:
        lacks = wanted[name] * (len(recent) + 1) - recent.count(name)
        return name in newest, -lacks, newest.get(name, -1), name

    return min(wanted, key=urgency)
