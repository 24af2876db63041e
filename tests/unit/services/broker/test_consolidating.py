"""The barrier at the desk: when the adapter is merged, what waits for that, and the rebase that follows."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from tests.stories import TRAINED, Story
from trainq import messages
from trainq.config import LoraSettings
from trainq.jobs import JobKind, JobState, LineRebased, Origin
from trainq.messages import (
    Accepted,
    ConsolidateTask,
    Done,
    GetOverview,
    Greeted,
    Heartbeat,
    Hello,
    Leased,
    Lifecycle,
    Overview,
    RebaseTask,
    Refused,
    ReportInbox,
    SnapshotTask,
    SubmitTask,
    TaskResult,
)

SOURCE = "g000002-s00000002"
MERGED = TaskResult(summary="merged", facts={"rebase": msgspec.to_builtins(
    RebaseTask(source=SOURCE, lora=LoraSettings(rank=4), seed=7, threads=2, warmup=True))})


class Barrier(Story):
    """A story with a file that can be trained at once, and what a consolidator does."""

    def ready(self, content: str, **changes: object) -> str:
        job = self.submit(content, **changes).job
        assert job is not None
        self.prepare_next()
        return job

    def consolidate(self, **wishes: bool) -> str:
        reply = self.ask(SubmitTask(request_id=self.id(), task=ConsolidateTask(**wishes)))
        assert isinstance(reply, Accepted)
        return reply.job

    def beat(self, state: Lifecycle = Lifecycle.RUNNING) -> None:
        """The consolidator is there."""
        self.ask(Heartbeat(request_id=self.id(), service="consolidator", session="s1", pid=os.getpid(), state=state))

    def why(self) -> str:
        reply = self.ask(GetOverview(request_id=self.id()))
        assert isinstance(reply, Overview)
        return reply.waiting_reason

    def hello(self, **changes: object) -> messages.AnyReply:
        fields = {"worker": "trainer", "session": "s1", "generation": 2, "name": SOURCE, "step": 2, **changes}
        return self.ask(Hello(request_id=self.id(), **fields))


@pytest.fixture
def story(tmp_path: Path) -> Barrier:
    return Barrier(tmp_path)


def test_while_it_runs_and_until_the_rebase_has_ended_nothing_is_trained(story: Barrier) -> None:
    story.hello()
    story.consolidate()
    lease, _ = story.task(JobKind.CONSOLIDATE)
    assert lease is not None
    train = story.ready("a")
    assert story.lease(JobKind.TRAIN) is None
    assert story.why() == "consolidate-1 is merging the adapter"

    story.end(lease, MERGED)
    assert story.end(lease, MERGED) == Leased(lease=None), "said again, it is done once"
    assert story.types("rebase-2") == ["TaskSubmitted"]
    assert story.lease(JobKind.TRAIN) is None
    assert "rebase-2" in story.why()
    assert story.task(JobKind.CONSOLIDATE)[0] is None
    rebase, _ = story.task(JobKind.REBASE, "trainer")
    assert rebase is not None
    assert isinstance(rebase.task, RebaseTask)
    assert (rebase.task.source, rebase.generation) == (SOURCE, 2)

    story.hello(generation=3, name="g000003-s00000002", reason="rebase", made_by="rebase-2")
    assert story.types("rebase-2") == ["TaskSubmitted", "LeaseGranted", "JobSucceeded"]
    assert story.queries.line().checkpoint == "g000003-s00000002"
    (rebased,) = [entry.event for entry in story.journal.replay(0, 1000) if isinstance(entry.event, LineRebased)]
    assert (rebased.source, rebased.seed, rebased.threads, rebased.warmup) == (SOURCE, 7, 2, True)
    events = len(story.types())
    assert story.hello(generation=3, name="g000003-s00000002", reason="rebase", made_by="rebase-2") == Greeted(newest=3)
    assert len(story.types()) == events
    trained = story.lease(JobKind.TRAIN)
    assert trained is not None
    assert trained.job == train


def test_without_anything_to_merge_nothing_follows(story: Barrier) -> None:
    story.consolidate()
    lease, _ = story.task(JobKind.CONSOLIDATE)
    assert lease is not None
    story.end(lease, TaskResult(summary="there is no adapter"))
    assert story.types("consolidate-1") == ["TaskSubmitted", "LeaseGranted", "JobSucceeded"]
    assert story.queries.open_tasks(JobKind.REBASE) == []


def test_it_waits_for_the_files_of_people_but_not_for_generated_ones(story: Barrier) -> None:
    story.consolidate()
    job = story.ready("a")
    assert story.task(JobKind.CONSOLIDATE) == (None, "train-1 goes first: it waits until no file does")
    lease = story.lease(JobKind.TRAIN)
    assert lease is not None
    assert story.task(JobKind.CONSOLIDATE) == (None, "train-1 is being trained")
    story.ask(messages.Release(request_id=story.id(), job=job, token=lease.token))
    assert story.task(JobKind.CONSOLIDATE) == (None, "train-1 is half done")
    lease = story.lease(JobKind.TRAIN)
    assert lease is not None
    story.complete(lease, TRAINED)
    story.ready("b", origin=Origin.GENERATED)
    assert story.task(JobKind.CONSOLIDATE)[0] is not None


def test_it_waits_for_what_lies_in_the_inbox(story: Barrier) -> None:
    story.consolidate()
    assert story.ask(ReportInbox(request_id=story.id(), waiting=3)) == Done(changed=True, seq=2)
    assert story.ask(ReportInbox(request_id=story.id(), waiting=5)) == Done(changed=False, seq=2)
    assert story.task(JobKind.CONSOLIDATE) == (None, "what lies in the inbox goes first")
    story.restart()
    assert story.task(JobKind.CONSOLIDATE)[0] is None
    story.ask(ReportInbox(request_id=story.id(), waiting=0))
    assert story.task(JobKind.CONSOLIDATE)[0] is not None


@pytest.mark.parametrize("how", ["now", "overdue"])
def test_one_that_is_wanted_now_or_overdue_goes_before_the_files(story: Barrier, how: str) -> None:
    story.consolidate(now=how == "now")
    story.ask(ReportInbox(request_id=story.id(), waiting=3))
    job = story.ready("a")
    story.clock.now += story.configuration.settings.consolidation.overdue_hours * 3600 - (how == "now")
    story.beat()
    assert story.lease(JobKind.TRAIN) is None
    assert "consolidate-1" in story.why()
    lease, _ = story.task(JobKind.CONSOLIDATE)
    assert lease is not None
    story.end(lease, TaskResult(summary="there is no adapter"))
    trained = story.lease(JobKind.TRAIN)
    assert trained is not None
    assert trained.job == job


def test_it_does_not_wait_a_minute_longer_than_it_must(story: Barrier) -> None:
    story.consolidate()
    story.ready("a")
    story.clock.now += story.configuration.settings.consolidation.overdue_hours * 3600 - 1
    story.beat()
    assert story.lease(JobKind.TRAIN) is not None


@pytest.mark.parametrize("state", [None, Lifecycle.ERROR, Lifecycle.STOPPED])
def test_nothing_waits_for_a_consolidator_that_is_not_there(story: Barrier, state: Lifecycle | None) -> None:
    story.consolidate(now=True)
    story.ready("a")
    if state is not None:
        story.beat(state)
    assert story.lease(JobKind.TRAIN) is not None


def test_nothing_waits_for_one_that_other_maintenance_holds_up(story: Barrier) -> None:
    story.ask(SubmitTask(request_id=story.id(), task=SnapshotTask()))
    assert story.task(JobKind.SNAPSHOT)[0] is not None
    story.consolidate(now=True)
    story.ready("a")
    story.beat()
    assert story.lease(JobKind.TRAIN) is not None


def test_a_wish_for_now_is_heard_though_another_one_waits(story: Barrier) -> None:
    story.consolidate()
    story.ready("a")
    story.beat()
    assert story.task(JobKind.CONSOLIDATE)[0] is None
    story.consolidate(now=True)
    assert story.lease(JobKind.TRAIN) is None
    lease, _ = story.task(JobKind.CONSOLIDATE)
    assert lease is not None
    assert lease.job == "consolidate-1"


def test_a_result_that_asks_for_nonsense_is_refused(story: Barrier) -> None:
    story.consolidate()
    lease, _ = story.task(JobKind.CONSOLIDATE)
    assert lease is not None
    assert isinstance(story.end(lease, TaskResult(summary="merged", facts={"rebase": SOURCE})), Refused)
    assert story.state("consolidate-1") is JobState.RUNNING


def test_a_half_done_job_goes_on_first(story: Barrier) -> None:
    job = story.ready("a")
    lease = story.lease(JobKind.TRAIN)
    assert lease is not None
    story.ask(messages.Release(request_id=story.id(), job=job, token=lease.token))
    story.consolidate(now=True)
    story.beat()
    assert story.task(JobKind.CONSOLIDATE) == (None, "train-1 is half done")
    assert story.lease(JobKind.TRAIN) is not None


def test_a_rebase_is_not_asked_for_by_itself(story: Barrier) -> None:
    task = RebaseTask(source=SOURCE, lora=story.configuration.settings.lora, seed=0)
    reply = story.ask(SubmitTask(request_id=story.id(), task=task))
    assert isinstance(reply, Refused)
    assert "follows a consolidation" in reply.message


def test_a_rebase_that_failed_and_was_published_all_the_same_is_recorded(story: Barrier) -> None:
    story.hello()
    story.consolidate()
    lease, _ = story.task(JobKind.CONSOLIDATE)
    assert lease is not None
    story.end(lease, MERGED)
    rebase, _ = story.task(JobKind.REBASE, "trainer")
    assert rebase is not None
    story.ask(messages.Fail(request_id=story.id(), job=rebase.job, token=rebase.token, reason="killed"))
    story.hello(generation=3, name="g000003-s00000002", reason="rebase", made_by="rebase-2")
    assert story.state("rebase-2") is JobState.FAILED
    assert (story.queries.line().generation, story.types()[-1]) == (3, "LineRebased")
