"""The tables of what the model can do: suites, scores, judgements, champions, levels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import apsw
import msgspec

from trainq.jobs import (
    ChampionMove,
    ChampionMoved,
    ChampionView,
    CheckpointJudged,
    Event,
    JudgedLevel,
    JudgementView,
    LevelJudged,
    LevelView,
    ScoreView,
    SuiteLocked,
    SuiteScored,
    champion_before,
)

# More moves of the champion than anybody looks back.
MOST_MOVES = 1000


def fold(connection: apsw.Connection, seq: int, at: float, event: Event) -> bool:
    """Fold one event into these tables; false if it says nothing of them."""
    match event:
        case SuiteLocked():
            connection.execute("INSERT OR REPLACE INTO suites VALUES (?, ?, ?)", (event.suite, event.digest, at))
        case SuiteScored():
            connection.execute(
                "INSERT OR REPLACE INTO scores VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (event.checkpoint, event.weights, event.suite, event.suite_digest, event.kind, event.scorer, event.n,
                 event.mean, event.low, event.high, event.confidence, event.seed, event.evaluation, event.by, at,
                 event.truncated, event.left_out, event.credit))
        case CheckpointJudged():
            connection.execute(
                "INSERT OR REPLACE INTO judgements VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (event.checkpoint, seq, event.champion, event.outcome, int(event.regressed),
                 msgspec.json.encode(event.reasons).decode(), msgspec.json.encode(event.comparisons).decode(), event.by,
                 at))
        case ChampionMoved():
            connection.execute("INSERT INTO champions VALUES (?, ?, ?, ?, ?, ?, ?)",
                               (seq, event.checkpoint, event.before, event.how.value, event.reason, event.by, at))
        case LevelJudged():
            moved = event.after != event.before
            if moved:
                connection.execute("INSERT OR REPLACE INTO levels VALUES (?, ?, ?, ?, ?)",
                                   (event.generator, event.after, event.checkpoint, event.evaluation, at))
            connection.execute("INSERT OR REPLACE INTO level_suites VALUES (?, ?, ?)",
                               (event.generator, event.level, event.suite_digest))
            connection.execute("INSERT OR REPLACE INTO judged_levels VALUES (?, ?, ?, ?, ?)",
                               (event.weights, event.generator, event.level, event.suite_digest, int(moved)))
        case _:
            return False
    return True


_View = TypeVar("_View", ScoreView, JudgementView, ChampionView, LevelView, JudgedLevel)
# Of each kind so few are ever there that all are read at once.
_SCORE, _CHAMPION, _LEVEL = (", ".join(view.__struct_fields__) for view in (ScoreView, ChampionView, LevelView))
_JUDGED = ", ".join(JudgedLevel.__struct_fields__)
_JUDGEMENT = ", ".join(JudgementView.__struct_fields__)


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What is true now; ``previous`` is to whom a rollback goes, ``judgement`` the newest one, and ``proposal`` the
    newest checkpoint that was proposed in place of this champion.

    ``level_suites`` are {generator: {level: digest}} of the problems that each level was judged on last.
    """

    champion: ChampionView | None
    previous: str
    judgement: JudgementView | None
    proposal: str
    levels: tuple[LevelView, ...]
    level_suites: dict[str, dict[int, str]]
    locks: dict[str, str]

    @property
    def champion_name(self) -> str:
        """The checkpoint that is champion; empty if none is."""
        return self.champion.checkpoint if self.champion is not None else ""

    @property
    def wanted(self) -> tuple[str, ...]:
        """The checkpoints to which people may go: the champion, who was it before, a rollback's, and the proposal."""
        before = self.champion.before if self.champion is not None else ""
        return tuple(dict.fromkeys(filter(None, (self.champion_name, before, self.previous, self.proposal))))


def known(connection: apsw.Connection) -> Known:
    """All of it, read anew."""
    moves = champions(connection, limit=1)
    level_suites: dict[str, dict[int, str]] = {}
    for generator, level, digest in connection.execute("SELECT generator, level, suite_digest FROM level_suites"):
        level_suites.setdefault(str(generator), {})[int(level)] = str(digest)
    judged = _views(connection, JudgementView, f"SELECT {_JUDGEMENT} FROM judgements ORDER BY seq DESC LIMIT 1")
    champion = moves[0].checkpoint if moves else ""
    proposal = connection.execute("SELECT checkpoint FROM judgements WHERE outcome='propose' AND champion=? "
                                  "AND checkpoint<>? ORDER BY seq DESC LIMIT 1", (champion, champion)).fetchone()
    return Known(
        champion=moves[0] if moves else None, previous=_previous(connection, moves[0]) if moves else "",
        judgement=judged[0] if judged else None, proposal=str(proposal[0]) if proposal else "",
        levels=tuple(_views(connection, LevelView, f"SELECT {_LEVEL} FROM levels ORDER BY generator")),
        level_suites=level_suites,
        locks={str(name): str(digest) for name, digest in connection.execute("SELECT name, digest FROM suites")})


def _previous(connection: apsw.Connection, newest: ChampionView) -> str:
    """To whom a rollback goes."""
    if newest.how is not ChampionMove.ROLLED_BACK:
        return newest.before
    return champion_before(champions(connection, limit=MOST_MOVES)[::-1])


def judged_levels(connection: apsw.Connection, weights: str) -> list[JudgedLevel]:
    """The levels that these weights were judged on."""
    return _views(connection, JudgedLevel, f"SELECT {_JUDGED} FROM judged_levels WHERE weights=?", (weights,))


def judgement(connection: apsw.Connection, checkpoint: str) -> JudgementView | None:
    """The newest judgement of that checkpoint."""
    return next(iter(_views(connection, JudgementView, f"SELECT {_JUDGEMENT} FROM judgements WHERE checkpoint=?",
                            (checkpoint,))), None)


def champions(connection: apsw.Connection, *, before_seq: int | None = None, limit: int) -> list[ChampionView]:
    """The moves of the champion, newest first; those before event ``before_seq``."""
    condition, values = ("", ()) if before_seq is None else ("WHERE seq<?", (before_seq,))
    return _views(connection, ChampionView,
                  f"SELECT {_CHAMPION} FROM champions {condition} ORDER BY seq DESC LIMIT {limit:d}", values)


def scores(connection: apsw.Connection, *, checkpoint: str = "", suite: str = "", after: tuple[str, str] = ("", ""),
           limit: int) -> list[ScoreView]:
    """The scores, those of the newest checkpoints first: of one checkpoint, of one suite, behind ``after`` (checkpoint,
    suite).
    """
    # Names of generations are in the order of their making.
    wanted = {"checkpoint=?": (checkpoint,), "suite=?": (suite,),
              "(checkpoint<? OR (checkpoint=? AND suite>?))": (after[0], *after) if after[0] else ("",)}
    conditions = {condition: values for condition, values in wanted.items() if values[0]}
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    return _views(connection, ScoreView,
                  f"SELECT {_SCORE} FROM scores {where} ORDER BY checkpoint DESC, suite LIMIT {limit:d}",
                  [value for values in conditions.values() for value in values])


def _views(connection: apsw.Connection, type_: type[_View], statement: str,
           values: Sequence[object] = ()) -> list[_View]:
    fields = type_.__struct_fields__
    made = []
    for row in connection.execute(statement, values):
        document = dict(zip(fields, row, strict=True))
        for packed in {"reasons", "comparisons"} & document.keys():
            document[packed] = msgspec.json.decode(str(document[packed]))
        made.append(msgspec.convert(document, type_, strict=False))
    return made
