"""What the model can do, in brief: it is what the tables say, and read again only when they have changed."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from services.broker import learned
from services.broker.learned import Learned
from tests.stories import TRAINED, Story
from trainq.config import DatagenSettings
from trainq.jobs import (
    AnyEvent,
    ChampionMove,
    ChampionMoved,
    CheckpointJudged,
    JobKind,
    LevelJudged,
    SuiteLocked,
    SuiteScored,
)
from trainq.messages import GetLearning, GetOverview, Learning, LearningFigures, LevelFigure, Overview

OLD, NEW = "g000002-s00000020", "g000003-s00000030"


def scored(checkpoint: str = NEW, suite: str = "held-out", **changes: object) -> SuiteScored:
    fields = {"checkpoint": checkpoint, "weights": "w", "suite": suite, "suite_digest": "d", "kind": "loss",
              "scorer": "", "n": 100, "mean": 2.0, "low": 1.9, "high": 2.1, "confidence": 0.95, "seed": 0,
              "evaluation": "e", "by": "evaluate-1", **changes}
    return SuiteScored(**fields)


JUDGED = CheckpointJudged(checkpoint=NEW, champion=OLD, outcome="keep", regressed=True, reasons=("r" * 1000,) * 20,
                          comparisons=({"suite": "held-out"},), by="evaluate-1")
MOVED = ChampionMoved(checkpoint=OLD, before="", how=ChampionMove.FIRST, reason="it is the first", by="evaluate-1")
LOCKED = SuiteLocked(suite="held-out", digest="d", reason="first scored")
LEVEL = LevelJudged(generator="arithmetic", level=1, before=1, after=2, suite="arithmetic-l01", suite_digest="d", n=100,
                    score=0.9, low=0.82, high=0.95, confidence=0.95, checkpoint=NEW, weights="w", evaluation="e",
                    reason="mastered", by="evaluate-1")


def record(story: Story, *events: AnyEvent) -> None:
    with story.journal.transaction():
        entries = [story.journal.append(event, story.clock.now) for event in events]
    story.desk.committed(entries)


def figures(story: Story) -> LearningFigures:
    reply = story.ask(GetOverview(request_id=story.id()))
    assert isinstance(reply, Overview)
    return reply.learning


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path)


def test_before_any_evaluation_there_are_only_the_levels_to_begin_with(story: Story) -> None:
    assert figures(story) == LearningFigures(levels=(
        LevelFigure(generator="arithmetic", level=1), LevelFigure(generator="syllo", level=1)))


def test_champion_judgement_levels_and_scores_in_brief(story: Story) -> None:
    record(story, LOCKED, scored(OLD), MOVED)
    story.clock.now += 60
    record(story, scored(mean=2.5, truncated=4, left_out=3), scored(suite="changed"), scored(suite="job-train-7"),
           msgspec.structs.replace(LOCKED, suite="changed", digest="e"), JUDGED, LEVEL)
    found = figures(story)
    assert found.champion is not None
    assert (found.champion.checkpoint, found.champion.at) == (OLD, 1000.0)
    assert found.judgement is not None
    assert (found.judgement.checkpoint, found.judgement.regressed, found.judgement.at) == (NEW, True, 1060.0)
    assert len(found.judgement.reasons) == learned.MOST_REASONS
    assert all(len(reason) == learned.MOST_CHARACTERS for reason in found.judgement.reasons)
    assert found.levels[0] == LevelFigure(generator="arithmetic", level=2, checkpoint=NEW, since=1060.0)
    assert found.newest is not None
    assert found.of_champion is not None
    assert [(each.suite, each.mean) for each in found.newest.scores] == [("held-out", 2.5), ("job-train-7", 2.0)], \
        "a suite that is locked to something else is left out"
    assert [(each.truncated, each.left_out) for each in found.newest.scores] == [(4, 3), (0, 0)]
    assert [(each.suite, each.mean) for each in found.of_champion.scores] == [("held-out", 2.0)]
    assert found.evaluated_at == 1060.0
    assert found.proposal == ""
    assert len(msgspec.msgpack.encode(found)) < 8 * 1024


def test_what_was_proposed_waits_until_the_champion_moves(story: Story) -> None:
    record(story, LOCKED, scored(OLD), MOVED)
    record(story, CheckpointJudged(checkpoint=NEW, champion=OLD, outcome="propose", regressed=False, reasons=(),
                                   comparisons=(), by="evaluate-2"))
    record(story, msgspec.structs.replace(JUDGED, checkpoint="g000004-s00000040"))
    assert figures(story).proposal == NEW
    record(story, msgspec.structs.replace(MOVED, checkpoint=NEW, before=OLD, how=ChampionMove.APPROVED))
    assert figures(story).proposal == ""


def test_scores_are_bounded_and_the_others_counted(story: Story) -> None:
    suites = [f"s{number:03d}" for number in range(learned.MOST_SCORES + 3)]
    record(story, *(SuiteLocked(suite=suite, digest="d", reason="") for suite in suites),
           *(scored(suite=suite) for suite in suites))
    newest = figures(story).newest
    assert newest is not None
    assert (len(newest.scores), newest.more) == (learned.MOST_SCORES, 3)


def test_the_tables_are_asked_again_only_after_an_event_of_that_kind(story: Story) -> None:
    record(story, LOCKED, scored(), MOVED)
    before = figures(story)
    story.submit()
    assert figures(story) is before
    record(story, JUDGED)
    assert figures(story) is not before


def test_what_is_undone_was_never_so(story: Story) -> None:
    kept = Learned(story.journal, DatagenSettings())

    def moved_and_looked() -> None:
        with story.journal.transaction():
            story.journal.append(MOVED, 1000.0)
            assert kept.figures().champion is not None
            assert kept.known().champion is not None
            raise KeyError

    with pytest.raises(KeyError):
        moved_and_looked()
    with story.journal.transaction():
        assert kept.figures().champion is None
        assert kept.known().champion is None


def asked(story: Story) -> Learning:
    reply = story.ask(GetLearning(request_id=story.id()))
    assert isinstance(reply, Learning)
    return reply


def test_who_asks_again_and_again_has_no_table_read(story: Story) -> None:
    """The tables of judgements and of trained files grow for ever, and this is asked every two seconds."""
    record(story, LOCKED, scored(OLD), MOVED, JUDGED)
    before = asked(story)
    read: list[str] = []

    def note(_: object, statement: str, __: object) -> bool:
        read.append(statement)
        return True

    story.journal.connection.exec_trace = note
    assert asked(story) == before
    assert not [each for each in read if "judgements" in each or "trained" in each]
    story.journal.connection.exec_trace = None
    record(story, msgspec.structs.replace(JUDGED, outcome="propose"))
    assert (before.proposal, asked(story).proposal) == ("", NEW)


def test_what_was_trained_meanwhile_is_counted(story: Story) -> None:
    assert asked(story).trained == 0
    for content in "ab":
        story.submit(content)
        story.prepare_next()
        lease = story.lease(JobKind.TRAIN)
        assert lease is not None
        story.complete(lease, TRAINED)
    assert asked(story).trained == 2 == story.queries.trained_count()
    story.restart()
    assert asked(story).trained == 2
