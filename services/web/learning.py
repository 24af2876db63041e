"""What makes the model better: scores, the champion, suites, and what may be ordered of them. As the commands do it."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from services.web.operations import Body, Call, Query
from services.web.reading import PAGE, Limit
from services.web.steering import Asked, ask_task
from trainq import evaluations, orders, suites, words
from trainq.config import Home
from trainq.errors import NotFoundError, TrainqError
from trainq.evaluations import EvaluationFacts, RowResult
from trainq.ids import new_request_id
from trainq.jobs import ChampionView, JudgementView, ScoreView
from trainq.messages import (
    MAX_CHAMPIONS,
    MAX_ROWS_MADE,
    MAX_TRAINED_SEED,
    Champions,
    Done,
    EvaluateTask,
    GeneratorName,
    GetChampions,
    GetScores,
    LockSuite,
    Natural,
    Promote,
    Scores,
    SuiteName,
    Text,
)
from trainq.orders import Moved
from trainq.samples import ChatSample, Sample
from trainq.suites import Suite, SuiteView

# Of the texts of a page; its first row is given whole, however long.
PAGE_BYTES = 1 << 20
_CAUSE = "asked for by a person"
_Checkpoint = Annotated[str, Meta(max_length=64)]


class ScoresQuery(Query, frozen=True, kw_only=True):
    """Of one checkpoint, on one suite; ``after`` is the last page's ``next_after``."""

    checkpoint: _Checkpoint = ""
    suite: Annotated[str, Meta(max_length=128)] = ""
    after: Annotated[str, Meta(pattern=r"^g\d{6,20}-s\d{8,20}/[A-Za-z0-9._:-]{1,128}\Z")] | None = None
    limit: Limit = PAGE


class ScorePage(msgspec.Struct, frozen=True, kw_only=True):
    """Scores, those of the newest checkpoints first. Only a page without scores is the end."""

    scores: list[ScoreView]
    next_after: str | None


class ChampionQuery(Query, frozen=True, kw_only=True):
    """``at``: who was it then, like ``2026-07-30``, ``2026-07-30 14:05``, or ``3d`` (ago)."""

    at: Annotated[str, Meta(max_length=32)] = ""


class Champion(msgspec.Struct, frozen=True, kw_only=True):
    """Who is champion (null: nobody yet), to whom a rollback goes (``previous``; empty: nobody), what was judged last,
    with its numbers, and who is proposed in its place (empty: nobody).

    Of another time it is only who was champion then, and who before.
    """

    champion: ChampionView | None
    previous: str
    judgement: JudgementView | None
    proposal: str = ""


class MovesQuery(Query, frozen=True, kw_only=True):
    """The moves of before event ``before``, the last page's ``next_before``."""

    before: Natural | None = None
    limit: Annotated[int, Meta(ge=1, le=MAX_CHAMPIONS)] = PAGE


class Moves(msgspec.Struct, frozen=True, kw_only=True):
    """The champion's moves, newest first. Only a page without moves is the end."""

    champions: list[ChampionView]
    next_before: int | None


class RowsQuery(Query, frozen=True, kw_only=True):
    """The rows behind number ``after``, the last page's ``next_after``."""

    after: Natural | None = None
    limit: Limit = PAGE


class EvaluationRow(RowResult, frozen=True, kw_only=True, omit_defaults=True):
    """A row with the last ``question`` that was asked in it, and the ``reference``, or the text that was foreseen.

    Both are empty once the suite is another one.
    """

    question: str = ""
    reference: str = ""


class EvaluationRows(msgspec.Struct, frozen=True, kw_only=True):
    """A score, and row by row what it is made of: what the model has answered, or how well it foresaw the row.

    A page ends early where its texts are long. Without ``next_after`` it is the last page.
    """

    facts: EvaluationFacts
    rows: list[EvaluationRow]
    next_after: int | None


class Suites(msgspec.Struct, frozen=True, kw_only=True):
    """All suites, by name."""

    suites: list[SuiteView]


class LockBody(Body, frozen=True, kw_only=True):
    """The reason is for people, later."""

    reason: Text = "locked by a person"


class Locked(msgspec.Struct, frozen=True, kw_only=True):
    """From here on the suite is what has this digest; not ``changed``: it was so already."""

    suite: str
    digest: str
    changed: bool


class PromoteBody(Body, frozen=True, kw_only=True):
    """Which checkpoint; unset: the one that is proposed."""

    checkpoint: _Checkpoint = ""
    reason: Text = "promoted by a person"


class RollBackBody(Body, frozen=True, kw_only=True):
    """To which of those that were champion; unset: the one before that was not rolled back from."""

    to: _Checkpoint = ""
    reason: Text = "rolled back by a person"


class Delivered(msgspec.Struct, frozen=True, kw_only=True):
    """The tasks that put the champion to the places of [promotion] publish_to."""

    jobs: list[str]


class GenerateBody(Body, frozen=True, kw_only=True):
    """``name`` is one of [datagen.generators], or a generator; the rest is as the configuration and the evaluations
    have it, and the seed any.
    """

    name: GeneratorName
    count: Annotated[int, Meta(ge=1, le=MAX_ROWS_MADE)] | None = None
    level: Annotated[int, Meta(ge=1, le=1000)] | None = None
    seed: Annotated[int, Meta(ge=0, lt=MAX_TRAINED_SEED)] | None = None


class EvaluateBody(Body, frozen=True, kw_only=True):
    """Which checkpoint (unset: the head of the line), on which suites (none: on all)."""

    checkpoint: _Checkpoint = ""
    suites: Annotated[tuple[SuiteName, ...], Meta(max_length=1000)] = ()


async def scores(call: Call) -> ScorePage:
    query: ScoresQuery = call.query
    checkpoint, _, suite = (query.after or "").partition("/")
    ask = GetScores(request_id=new_request_id(), checkpoint=query.checkpoint, suite=query.suite,
                    after_checkpoint=checkpoint, after_suite=suite, limit=query.limit)
    page = (await call.site.asker.ask(lambda broker: broker.call(ask, Scores))).scores
    return ScorePage(scores=page, next_after=f"{page[-1].checkpoint}/{page[-1].suite}" if page else None)


async def champion(call: Call) -> Champion:
    query: ChampionQuery = call.query
    if query.at:
        until = words.moment(query.at, call.site.clock.wall())
        with call.site.alone("a look at the champions of before"):
            then = await call.site.asker.long(lambda broker: orders.champion_at(broker, until))
        return Champion(champion=then, previous=then.before, judgement=None)
    known = await call.site.asker.ask(orders.learning_of)
    return Champion(champion=known.champion, previous=known.previous, judgement=known.judgement,
                    proposal=known.proposal)


async def champions(call: Call) -> Moves:
    query: MovesQuery = call.query
    ask = GetChampions(request_id=new_request_id(), before_seq=query.before, limit=query.limit)
    page = (await call.site.asker.ask(lambda broker: broker.call(ask, Champions))).champions
    return Moves(champions=page, next_before=page[-1].seq if page else None)


async def rows(call: Call) -> EvaluationRows:
    key, query = words.digest(call.path("key")), call.query
    with call.site.alone("a page of an evaluation"):
        return await call.site.asker.wait(lambda: page_of(call.site.home, key, query))


def page_of(home: Home, key: str, query: RowsQuery) -> EvaluationRows:
    """One page of a result whose every byte is proven.

    Raises:
        NotFoundError: there is none.
        DamageError: it is not whole.
    """
    if not (home.evaluations / key).is_dir():
        raise NotFoundError(f"there is no result {key[:16]} in evaluations/",
                            mend="/api/v1/scores names that of each score; what is gone is made by scoring again")
    found = evaluations.read(home, key)
    asked = _suite_of(home, found.facts)
    page: list[EvaluationRow] = []
    size_bytes = 0
    wanted = [row for row in found.rows if query.after is None or row.row > query.after]
    for result in wanted[:query.limit]:
        question, reference = _texts(asked.rows[result.row].sample) if asked is not None else ("", "")
        row = EvaluationRow(**msgspec.structs.asdict(result), question=question, reference=reference)
        size_bytes += sum(len(text.encode()) for text in (question, reference, row.answer or ""))
        if page and size_bytes > PAGE_BYTES:
            break
        page.append(row)
    return EvaluationRows(facts=found.facts, rows=page, next_after=page[-1].row if len(page) < len(wanted) else None)


def _suite_of(home: Home, facts: EvaluationFacts) -> Suite | None:
    """The suite that was scored, if it is still what it was."""
    try:
        suite = suites.load(home.suites / facts.suite)
    except TrainqError:
        return None
    return suite if suite.digest == facts.suite_digest else None


def _texts(sample: Sample) -> tuple[str, str]:
    if not isinstance(sample, ChatSample):
        return "", sample.text
    asked = [turn.content for turn in sample.messages[:-1] if turn.role == "user"]
    return (asked[-1] if asked else ""), sample.messages[-1].content


async def list_suites(call: Call) -> Suites:
    folder = call.site.home.suites
    with call.site.alone("a list of the suites"):
        locks = (await call.site.asker.order(orders.learning_of)).locks
        promotion = call.site.settings.promotion
        return Suites(suites=await call.site.asker.wait(lambda: suites.survey(folder, locks, promotion)))


async def lock(call: Call) -> Locked:
    folder, name = call.site.home.suites, call.path("name")
    if name not in suites.names(folder):
        raise NotFoundError(f"there is no suite {name}", mend="/api/v1/suites has them")
    with call.site.alone("a lock of a suite"):
        suite = await call.site.asker.wait(lambda: suites.load(folder / name))
        request = LockSuite(request_id=new_request_id(), suite=suite.name, digest=suite.digest, reason=call.body.reason)
        changed = (await call.site.asker.order(lambda broker: broker.call(request, Done))).changed
    return Locked(suite=suite.name, digest=suite.digest, changed=changed)


async def promote(call: Call) -> Moved:
    body: PromoteBody = call.body
    wanted = words.generation(body.checkpoint) if body.checkpoint else None
    request = Promote(request_id=new_request_id(), checkpoint=wanted, reason=body.reason)
    return await call.site.asker.order(lambda broker: orders.move_champion(broker, request))


async def roll_back(call: Call) -> Moved:
    body: RollBackBody = call.body
    wanted = words.generation(body.to) if body.to else None
    return await call.site.asker.order(lambda broker: orders.roll_back(broker, wanted, body.reason))


async def deliver(call: Call) -> Delivered:
    places = call.site.settings.promotion.publish_to
    return Delivered(jobs=await call.site.asker.order(lambda broker: orders.deliver_champion(broker, places)))


async def generate(call: Call) -> Asked:
    body: GenerateBody = call.body
    task = await call.site.asker.order(lambda broker: orders.generate_task(
        broker, call.site.settings.datagen, body.name, count=body.count, level=body.level, seed=body.seed))
    return await ask_task(call, task, _CAUSE)


async def evaluate(call: Call) -> Asked:
    body: EvaluateBody = call.body
    checkpoint = words.generation(body.checkpoint) if body.checkpoint else ""
    return await ask_task(call, EvaluateTask(checkpoint=checkpoint, suites=body.suites), _CAUSE)
