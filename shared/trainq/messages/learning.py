"""What the model can do, on the wire: scores and what they mean, the champion, the levels of what is generated."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from trainq.jobs import ChampionView, JudgedLevel, JudgementView, LevelView, ScoreView
from trainq.messages.tasks import CopyName, GeneratorName, SuiteName
from trainq.messages.work import MAX_PAGE, Digest, Message, Name, Natural, Request, Text, check_size

# More suites, and more moves of a champion, than one evaluation or page has.
MAX_SCORES = 1000
# Each has a reason of up to 4096 characters.
MAX_CHAMPIONS = 200
# Some 1200 bytes a suite that decides or guards, so 130 of them; in a result the scores, of some 450, lie beside them.
MAX_COMPARISONS_BYTES = 160 * 1024
Level = Annotated[int, Meta(ge=1, le=1000)]


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """What a checkpoint scores on a suite; the fields are those of :class:`~trainq.jobs.SuiteScored`."""

    suite: SuiteName
    suite_digest: Digest
    kind: Annotated[str, Meta(max_length=32)]
    scorer: Annotated[str, Meta(max_length=128)]
    n: Annotated[int, Meta(ge=1, le=2**31 - 1)]
    mean: float
    low: float
    high: float
    confidence: Annotated[float, Meta(gt=0, lt=1)]
    seed: Natural = 0
    evaluation: Name
    truncated: Natural = 0
    left_out: Natural = 0
    credit: Annotated[float, Meta(ge=0, le=1)] | None = None


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """What the scores mean beside the champion's; the fields are those of :class:`~trainq.jobs.CheckpointJudged`."""

    champion: Annotated[str, Meta(max_length=64)]
    outcome: Annotated[str, Meta(pattern=r"^(promote|propose|first|keep)\Z")]
    regressed: bool = False
    reasons: Annotated[tuple[Text, ...], Meta(max_length=100)] = ()
    comparisons: Annotated[tuple[dict[str, Any], ...], Meta(max_length=MAX_SCORES)] = ()

    def __post_init__(self) -> None:
        check_size({"comparisons": self.comparisons}, MAX_COMPARISONS_BYTES, "the comparisons of a judgement")


class LevelVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a score means for a generator's level; the fields are those of :class:`~trainq.jobs.LevelJudged`."""

    generator: GeneratorName
    level: Level
    before: Level
    after: Level
    suite: SuiteName
    suite_digest: Digest
    n: Annotated[int, Meta(ge=1, le=2**31 - 1)]
    score: float
    low: float
    high: float
    confidence: Annotated[float, Meta(gt=0, lt=1)]
    evaluation: Name
    reason: Text


class EvaluationFindings(msgspec.Struct, frozen=True, kw_only=True):
    """What an evaluation found, as its task's result carries it. ``weights`` is the digest of what was scored."""

    weights: Digest
    scores: Annotated[tuple[Score, ...], Meta(max_length=MAX_SCORES)]
    judgement: Judgement | None = None
    levels: Annotated[tuple[LevelVerdict, ...], Meta(max_length=100)] = ()


class GetLearning(Request, frozen=True, kw_only=True, tag=True):
    """Who is champion, what was judged last, the levels, the locked suites; and where these ``weights`` were judged."""

    weights: Digest | None = None


class GetScores(Request, frozen=True, kw_only=True, tag=True):
    """Scores, those of the newest checkpoints first; of one ``checkpoint``, of one ``suite``.

    The next page begins after the last one's last score (its ``checkpoint`` and ``suite``); only an empty one is the
    end.
    """

    checkpoint: Annotated[str, Meta(max_length=64)] = ""
    suite: Annotated[str, Meta(max_length=128)] = ""
    after_checkpoint: Annotated[str, Meta(max_length=64)] = ""
    after_suite: Annotated[str, Meta(max_length=128)] = ""
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = MAX_PAGE


class GetChampions(Request, frozen=True, kw_only=True, tag=True):
    """The moves of the champion, newest first, those before event ``before_seq`` where it is given."""

    before_seq: Natural | None = None
    limit: Annotated[int, Meta(ge=1, le=MAX_CHAMPIONS)] = 100


class Promote(Request, frozen=True, kw_only=True, tag=True):
    """Make this checkpoint champion; without one, the one that was proposed last. Refused for a marked state."""

    checkpoint: CopyName | None = None
    reason: Text = "promoted by a person"


class RollBack(Request, frozen=True, kw_only=True, tag=True):
    """Make this checkpoint, which was champion before, champion again.

    Who is meant is always named: the same request sent again must not go one further back.
    """

    to: CopyName
    reason: Text = "rolled back by a person"


class LockSuite(Request, frozen=True, kw_only=True, tag=True):
    """From here on the suite is what has this digest."""

    suite: SuiteName
    digest: Digest
    reason: Text = "locked by a person"


class Learning(Message, frozen=True, kw_only=True, tag=True):
    """What the journal knows of what the model can do.

    ``champion`` is null where there is none; ``previous`` is who was it before and was not rolled back from: to whom
    a rollback goes. ``judgement`` is the newest one, ``proposal`` the newest checkpoint that was found better than this
    champion and waits for a person (empty: none). ``locks`` are the suites' digests by name; ``level_suites``
    {generator: {level: digest}} of the problems that each level was judged on last; ``judged`` the levels that the
    weights asked for were judged on. ``checkpoint`` is the head of the line, ``trained`` how many files were ever
    trained to their end.
    """

    champion: ChampionView | None
    previous: str
    judgement: JudgementView | None
    proposal: str
    levels: tuple[LevelView, ...]
    level_suites: dict[str, dict[int, str]]
    judged: tuple[JudgedLevel, ...]
    locks: dict[str, str]
    checkpoint: str
    trained: int


class Scores(Message, frozen=True, kw_only=True, tag=True):
    """One page of scores."""

    scores: list[ScoreView]


class Champions(Message, frozen=True, kw_only=True, tag=True):
    """One page of the champion's moves."""

    champions: list[ChampionView]


class ScoreFigure(msgspec.Struct, frozen=True, kw_only=True):
    """A score in brief: what is not said here is in the :class:`~trainq.jobs.ScoreView` of checkpoint and suite.

    ``truncated`` answers were ended because they were as long as an answer may be, ``left_out`` rows did not fit.
    """

    suite: str
    kind: str
    n: int
    mean: float
    low: float
    high: float
    truncated: int = 0
    left_out: int = 0


class CheckpointScores(msgspec.Struct, frozen=True, kw_only=True):
    """What a checkpoint scores on the suites as they are locked now, by name, those of files' rows last.

    ``at`` is when it was scored last; ``more``: so many others are not said here.
    """

    checkpoint: str
    at: float
    scores: tuple[ScoreFigure, ...]
    more: int = 0


class JudgementFigure(msgspec.Struct, frozen=True, kw_only=True):
    """A judgement without its numbers, and with the first of its reasons, each cut to a few hundred characters."""

    checkpoint: str
    champion: str
    outcome: str
    regressed: bool
    reasons: tuple[str, ...]
    at: float


class LevelFigure(msgspec.Struct, frozen=True, kw_only=True):
    """At what ``level`` a generator is; since when, and by the score of which checkpoint, if it has ever moved."""

    generator: str
    level: int
    checkpoint: str = ""
    since: float | None = None


class LearningFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What the model can do, in brief: part of each :class:`~trainq.messages.Overview`, so bounded and small.

    ``champion`` and ``judgement`` (the newest one) are null where there is none; ``proposal`` is the newest checkpoint
    that was found better than this champion and waits for a person (empty: none). ``newest`` is the newest checkpoint
    that was scored, ``of_champion`` the champion's scores. ``evaluated_at`` is when scores last came of an evaluation
    of the newest checkpoint, or one was judged.
    """

    champion: ChampionView | None = None
    judgement: JudgementFigure | None = None
    proposal: str = ""
    levels: tuple[LevelFigure, ...] = ()
    newest: CheckpointScores | None = None
    of_champion: CheckpointScores | None = None
    evaluated_at: float | None = None
