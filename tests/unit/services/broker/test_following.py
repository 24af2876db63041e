"""What the end of a task brings with it: a file that was made is submitted once, a score and its champion together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.generations import publish
from tests.stories import TRAINED, Story
from trainq import messages
from trainq.jobs import ChampionMove, JobKind, JobState, Priority, Store
from trainq.messages import (
    Accepted,
    Champions,
    Done,
    EvaluateTask,
    EvaluationFindings,
    GenerateTask,
    GetChampions,
    GetLearning,
    GetScores,
    Judgement,
    Learning,
    LevelVerdict,
    LockSuite,
    Promote,
    Refused,
    RollBack,
    Score,
    Scores,
    SubmitTask,
    TaskLease,
    TaskResult,
)

FIRST, SECOND = "g000002-s00000020", "g000003-s00000030"
GENERATE = GenerateTask(generator="syllo", name="syllo", count=5, level=2, seed=7)
SCORE = Score(suite="held-out", suite_digest="a" * 64, kind="loss", scorer="", n=100, mean=2.0, low=1.9, high=2.1,
              confidence=0.95, evaluation="e1", truncated=3, left_out=2, credit=0.5)
LEVEL = LevelVerdict(generator="syllo", level=1, before=1, after=2, suite="syllo-l01", suite_digest="b" * 64, n=100,
                     score=0.9, low=0.82, high=0.95, confidence=0.95, evaluation="e2", reason="mastered")


class Loop(Story):
    """A story with a trained head, and what datagen and evaluator ask."""

    def train(self, content: str, name: str) -> None:
        job = self.submit(content).job
        self.prepare_next()
        lease = self.lease(JobKind.TRAIN)
        assert lease is not None
        generation = int(name[1:7])
        self.ask(messages.ReportCheckpoint(
            request_id=self.id(), job=job or "", token=lease.token, generation=generation, name=name,
            step=int(name[-8:]), job_step=2, done=True, reason="the job's end"))
        self.complete(lease, msgspec.structs.replace(TRAINED, generation=generation, checkpoint=name))

    def begin(self, task: messages.Task) -> TaskLease:
        assert isinstance(self.ask(SubmitTask(request_id=self.id(), task=task)), Accepted)
        lease, reason = self.task(messages.TASK_KINDS[type(task)])
        assert lease is not None, reason
        return lease

    def evaluate(self, **found: Any) -> messages.AnyReply:
        """An evaluation of the head that has found this."""
        return self.end(self.begin(EvaluateTask()), result_of(**found))

    def learning(self, weights: str | None = None) -> Learning:
        reply = self.ask(GetLearning(request_id=self.id(), weights=weights))
        assert isinstance(reply, Learning)
        return reply

    def kept(self) -> messages.Kept:
        reply = self.ask(messages.GetKept(request_id=self.id()))
        assert isinstance(reply, messages.Kept)
        return reply

    def champion(self) -> tuple[str, ChampionMove | None]:
        champion = self.learning().champion
        return (champion.checkpoint, champion.how) if champion else ("", None)


def result_of(outcome: str = "keep", champion: str = "", *, regressed: bool = False,
              score: Score = SCORE, levels: tuple[LevelVerdict, ...] = ()) -> TaskResult:
    judgement = Judgement(champion=champion, outcome=outcome, regressed=regressed, reasons=("so it is",))
    report = EvaluationFindings(weights="c" * 64, scores=(score,), judgement=judgement, levels=levels)
    return TaskResult(summary="scored", facts={"report": msgspec.to_builtins(report)})


def made(story: Story, content: str = "made") -> TaskResult:
    item = story.item(content)
    return TaskResult(summary="made", facts={"file": {"name": "made.jsonl", "digest": item.digest,
                                                      "size_bytes": item.size_bytes}})


@pytest.fixture
def story(tmp_path: Path) -> Loop:
    return Loop(tmp_path)


@pytest.fixture
def trained(story: Loop) -> Loop:
    story.train("a", FIRST)
    return story


def test_a_generated_file_is_submitted_with_the_end_of_its_task_and_once(story: Loop) -> None:
    lease, result = story.begin(GENERATE), made(story)
    story.end(lease, result)
    assert story.types("generate-1") == ["TaskSubmitted", "LeaseGranted", "JobSucceeded"]
    row = story.queries.job("train-1")
    assert (row.state, row.generated, row.name) == (JobState.QUEUED, 1, "made.jsonl")
    before = story.types()
    story.end(lease, result)
    assert story.types() == before, "said again, it is done once"


def test_generated_files_are_behind_those_of_people(story: Loop) -> None:
    story.end(story.begin(GENERATE), made(story))
    story.submit("people's", priority=Priority.LOW)
    assert [row.id for row in story.queries.waiting_line(9) if row.kind is JobKind.TRAIN] == ["train-2", "train-1"]


def test_content_that_was_made_before_is_no_second_job(story: Loop) -> None:
    story.end(story.begin(GENERATE), made(story))
    story.end(story.begin(GENERATE), made(story))
    assert story.types("train-1")[-1] == "DuplicateSubmitted"
    assert story.queries.counts()["train"] == {"queued": 1}


@pytest.mark.parametrize("facts", [{"file": {"name": "x", "digest": "0" * 64, "size_bytes": 3}}, {"file": "x"},
                                   {"file": {"name": "x", "digest": "../x", "size_bytes": 3}}])
def test_a_file_that_is_not_there_ends_no_task(story: Loop, facts: dict[str, Any]) -> None:
    lease = story.begin(GENERATE)
    assert isinstance(story.end(lease, TaskResult(summary="made", facts=facts)), Refused)
    assert story.state("generate-1") is JobState.RUNNING


def test_without_a_model_nothing_is_evaluated(story: Loop) -> None:
    reply = story.ask(SubmitTask(request_id=story.id(), task=EvaluateTask()))
    assert isinstance(reply, Refused)
    assert "no model yet" in reply.message


def test_an_evaluation_names_its_checkpoint_and_keeps_it(trained: Loop) -> None:
    lease = trained.begin(EvaluateTask())
    assert isinstance(lease.task, EvaluateTask)
    assert lease.task.checkpoint == FIRST
    assert trained.queries.job("evaluate-1").name == f"evaluation of {FIRST}"


def test_score_judgement_and_champion_are_there_together(trained: Loop) -> None:
    trained.evaluate(outcome="first", levels=(LEVEL,))
    assert trained.champion() == (FIRST, ChampionMove.FIRST)
    known = trained.learning("c" * 64)
    assert known.judgement is not None
    assert (known.judgement.outcome, known.judgement.checkpoint) == ("first", FIRST)
    assert known.locks == {"held-out": "a" * 64}
    assert [(level.generator, level.level) for level in known.levels] == [("syllo", 2)]
    assert [(judged.level, judged.moved) for judged in known.judged] == [(1, True)]
    assert known.level_suites == {"syllo": {1: "b" * 64}}
    scores = trained.ask(GetScores(request_id=trained.id()))
    assert isinstance(scores, Scores)
    assert [(score.suite, score.mean, score.checkpoint, score.truncated, score.left_out, score.credit)
            for score in scores.scores] == [("held-out", 2.0, FIRST, 3, 2, 0.5)]
    assert trained.types()[-6:] == ["JobSucceeded", "SuiteLocked", "SuiteScored", "LevelJudged", "CheckpointJudged",
                                    "ChampionMoved"]


def test_a_better_one_is_promoted_and_what_was_compared_with_another_is_not(trained: Loop) -> None:
    trained.evaluate(outcome="first")
    trained.train("b", SECOND)
    trained.evaluate(outcome="promote", champion="g000001-s00000001")
    assert trained.champion() == (FIRST, ChampionMove.FIRST)
    judged = trained.learning().judgement
    assert judged is not None
    assert "became champion meanwhile" in judged.reasons[-1]
    trained.evaluate(outcome="promote", champion=FIRST)
    assert trained.champion() == (SECOND, ChampionMove.PROMOTED)
    assert trained.learning().previous == FIRST


@pytest.mark.parametrize("suite", ["job-train-12", "job-all-0123456789abcdef"])
def test_a_suite_of_files_rows_has_no_lock(trained: Loop, suite: str) -> None:
    trained.evaluate(score=msgspec.structs.replace(SCORE, suite=suite))
    assert trained.learning().locks == {}
    assert "SuiteScored" in trained.types()


def test_a_suite_that_is_another_one_ends_no_evaluation_until_it_is_locked_anew(trained: Loop) -> None:
    trained.evaluate()
    changed = msgspec.structs.replace(SCORE, suite_digest="d" * 64)
    lease = trained.begin(EvaluateTask())
    assert isinstance(trained.end(lease, result_of(score=changed)), Refused)
    lock = LockSuite(request_id=trained.id(), suite="held-out", digest="d" * 64)
    assert trained.ask(lock) == Done(changed=True, seq=trained.journal.head_seq)
    assert trained.ask(lock) == Done(changed=False, seq=trained.journal.head_seq)
    assert not isinstance(trained.end(lease, result_of(score=changed)), Refused)


def test_a_level_that_is_another_one_meanwhile_does_not_move(trained: Loop) -> None:
    trained.evaluate(levels=(LEVEL,))
    trained.evaluate(levels=(LEVEL,))
    assert [level.level for level in trained.learning().levels] == [2]
    assert trained.types().count("LevelJudged") == 1


def test_ask_proposes_and_a_person_decides(tmp_path: Path) -> None:
    story = Loop(tmp_path, TRAINQ_PROMOTION_MODE="ask")
    story.train("a", FIRST)
    assert isinstance(story.ask(Promote(request_id=story.id())), Refused)
    story.evaluate(outcome="propose")
    assert story.champion() == ("", None)
    reply = story.ask(Promote(request_id=story.id()))
    assert isinstance(reply, Refused)
    assert f"no {FIRST} in checkpoints/" in reply.message
    publish(story.configuration.home.checkpoints, 2, {})
    assert story.ask(Promote(request_id=story.id())) == Done(changed=True, seq=story.journal.head_seq)
    assert story.champion() == (FIRST, ChampionMove.APPROVED)
    assert story.ask(Promote(request_id=story.id(), checkpoint=FIRST)) == Done(changed=False,
                                                                               seq=story.journal.head_seq)


def test_a_person_moves_the_champion_and_back_but_to_no_marked_state(trained: Loop) -> None:
    folder = trained.configuration.home.checkpoints
    publish(folder, 2, {})
    publish(folder, 3, {})
    bad = publish(folder, 4, {}, marks=("loss_band",))
    trained.ask(Promote(request_id=trained.id(), checkpoint=FIRST))
    trained.ask(Promote(request_id=trained.id(), checkpoint=SECOND))
    marked = trained.ask(Promote(request_id=trained.id(), checkpoint=bad))
    assert isinstance(marked, Refused)
    assert "loss_band" in marked.message
    never = trained.ask(RollBack(request_id=trained.id(), to=bad))
    assert isinstance(never, Refused)
    assert "never champion" in never.message
    assert trained.champion() == (SECOND, ChampionMove.BY_HAND)
    back = RollBack(request_id=trained.id(), to=FIRST, reason="it babbles")
    assert trained.ask(back) == Done(changed=True, seq=trained.journal.head_seq)
    assert trained.ask(back) == Done(changed=False, seq=trained.journal.head_seq), "sent again, it goes no further"
    assert trained.champion() == (FIRST, ChampionMove.ROLLED_BACK)
    page = trained.ask(GetChampions(request_id=trained.id(), limit=2))
    assert isinstance(page, Champions)
    assert [(move.checkpoint, move.before, move.reason) for move in page.champions] == [
        (FIRST, SECOND, "it babbles"), (SECOND, FIRST, "promoted by a person")]
    rest = trained.ask(GetChampions(request_id=trained.id(), before_seq=page.champions[-1].seq))
    assert isinstance(rest, Champions)
    assert [move.checkpoint for move in rest.champions] == [FIRST]


def test_a_rollback_after_a_rollback_goes_further_back_also_in_a_journal_of_before(trained: Loop) -> None:
    names = [publish(trained.configuration.home.checkpoints, generation, {}) for generation in range(2, 5)]

    def back() -> str:
        trained.ask(RollBack(request_id=trained.id(), to=trained.learning().previous))
        return trained.champion()[0]

    for name in names:
        trained.ask(Promote(request_id=trained.id(), checkpoint=name))
    assert back() == names[1]
    trained.restart()
    assert trained.learning().previous == names[0], "it is derived from the moves"
    # The one that was rolled back from is kept all the same.
    assert set(trained.kept().champions) == set(names)
    assert back() == names[0]
    assert trained.learning().previous == ""
    trained.ask(Promote(request_id=trained.id(), checkpoint=names[2]))
    assert back() == names[0]


def test_a_champion_is_put_where_others_fetch_it(tmp_path: Path) -> None:
    story = Loop(tmp_path, TRAINQ_PROMOTION_PUBLISH_TO='["/one", "/two"]')
    story.train("a", FIRST)
    story.evaluate(outcome="first")
    names = [row.name for row in story.queries.open_tasks(JobKind.PUBLISH)]
    assert names == [f"{FIRST} to /one", f"{FIRST} to /two"]


def reasons(story: Loop) -> tuple[str, ...]:
    judged = story.learning().judgement
    assert judged is not None
    return judged.reasons


def test_where_it_is_told_so_the_line_goes_back_from_a_significant_fall(tmp_path: Path) -> None:
    story = Loop(tmp_path, TRAINQ_PROMOTION_ON_REGRESSION="restore")
    publish(story.configuration.home.checkpoints, 2, {})
    story.train("a", FIRST)
    story.evaluate(outcome="first")
    story.train("b", SECOND)
    evaluated = story.begin(EvaluateTask())
    story.train("c", "g000004-s00000040")
    story.submit("d")
    story.prepare_next()
    running = story.lease(JobKind.TRAIN)
    assert running is not None
    story.end(evaluated, result_of(champion=FIRST, regressed=True))
    (row,) = story.queries.open_tasks(JobKind.RESTORE)
    assert row.name == f"restore {FIRST} of checkpoints/"
    assert story.state(running.job) is JobState.QUEUED, "what stands on it is of no use"
    assert reasons(story) == ("so it is", f"the line goes back to {FIRST}")
    story.evaluate(champion=FIRST, regressed=True)
    assert "cannot go back" in reasons(story)[-1]
    assert len(story.queries.open_tasks(JobKind.RESTORE)) == 1


def test_an_older_checkpoint_than_the_champion_that_is_worse_is_no_fall(tmp_path: Path) -> None:
    story = Loop(tmp_path, TRAINQ_PROMOTION_ON_REGRESSION="restore")
    folder = story.configuration.home.checkpoints
    publish(folder, 2, {})
    publish(folder, 3, {})
    story.train("a", FIRST)
    story.train("b", SECOND)
    story.evaluate(outcome="first")
    story.train("c", "g000004-s00000040")
    story.submit("d")
    story.prepare_next()
    running = story.lease(JobKind.TRAIN)
    assert running is not None
    old = story.begin(EvaluateTask(checkpoint=FIRST))
    assert not isinstance(story.end(old, result_of(champion=SECOND, regressed=True)), Refused)
    assert not story.queries.open_tasks(JobKind.RESTORE)
    assert story.state(running.job) is JobState.RUNNING
    assert reasons(story) == ("so it is",)
    story.evaluate(champion=SECOND, regressed=True)
    assert len(story.queries.open_tasks(JobKind.RESTORE)) == 1, "the head is one"


def test_after_a_rollback_the_numbers_only_propose(trained: Loop) -> None:
    folder = trained.configuration.home.checkpoints
    publish(folder, 2, {})
    publish(folder, 3, {})
    trained.evaluate(outcome="first")
    trained.train("b", SECOND)
    trained.evaluate(outcome="promote", champion=FIRST)
    trained.ask(RollBack(request_id=trained.id(), to=FIRST, reason="it babbles"))
    trained.evaluate(outcome="promote", champion=FIRST)
    assert trained.champion() == (FIRST, ChampionMove.ROLLED_BACK)
    assert "by a rollback" in reasons(trained)[-1]
    assert trained.learning().proposal == SECOND
    trained.evaluate(champion=FIRST)
    assert trained.learning().proposal == "", "it was judged anew"
    trained.evaluate(outcome="promote", champion=FIRST)
    trained.train("c", "g000004-s00000040")
    trained.evaluate(champion=FIRST)
    assert trained.learning().proposal == SECOND, "what was proposed waits, whoever is judged meanwhile"
    trained.ask(Promote(request_id=trained.id()))
    assert trained.champion() == (SECOND, ChampionMove.APPROVED)


def test_what_an_evaluation_found_is_in_its_events_and_not_in_its_job(trained: Loop) -> None:
    trained.evaluate(outcome="first")
    row = trained.queries.job("evaluate-1")
    assert row.result is not None
    assert b"report" not in row.result


def test_what_is_evaluated_and_who_is_champion_is_not_removed(trained: Loop) -> None:
    folder = trained.configuration.home.checkpoints
    for generation in range(2, 8):
        publish(folder, generation, {})
    trained.evaluate(outcome="first")
    for name in (SECOND, "g000004-s00000040", "g000007-s00000070"):
        trained.train(name, name)
    evaluated = trained.begin(EvaluateTask(checkpoint=SECOND))
    retention = trained.begin(messages.RetentionTask())

    def remove(name: str) -> messages.AnyReply:
        return trained.ask(messages.Remove(
            request_id=trained.id(), job=retention.job, token=retention.token, store=Store.CHECKPOINTS, name=name,
            size_bytes=1, reason="old"))

    for name, why in ((FIRST, "champion"), (SECOND, evaluated.job)):
        refused = remove(name)
        assert isinstance(refused, Refused)
        assert why in refused.message
    assert isinstance(remove("g000004-s00000040"), Done)
    # Retention may have been killed before it has moved it.
    refused = trained.ask(SubmitTask(request_id=trained.id(), task=EvaluateTask(checkpoint="g000004-s00000040")))
    assert isinstance(refused, Refused)
    assert "is in the trash" in refused.message
    assert f"{FIRST}" in trained.kept().champions
