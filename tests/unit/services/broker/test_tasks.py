"""Tasks at the desk: maintenance that is asked for, leased one at a time, and ends."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from tests.stories import PREPARED, Story
from trainq import messages
from trainq.jobs import JobKind, JobState
from trainq.messages import (
    Accepted,
    Complete,
    Done,
    GetOverview,
    JobDetail,
    Leased,
    Overview,
    Refused,
    SnapshotTask,
    SubmitTask,
    Task,
    TaskLease,
    TaskResult,
    VerifyTask,
)

DONE = TaskResult(summary="done", size_bytes=5, facts={"snapshot": "g"})


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path)


def ask_for(story: Story, task: Task | None = None, request_id: str = "") -> str:
    reply = story.ask(SubmitTask(request_id=request_id or story.id(), task=task or SnapshotTask()))
    assert isinstance(reply, Accepted), reply
    return reply.job


def take(story: Story, *kinds: JobKind, session: str = "s1") -> TaskLease | None:
    reply = story.ask(messages.TakeLease(request_id=story.id(), worker="snapshot", session=session,
                                         kinds=kinds or (JobKind.SNAPSHOT, JobKind.VERIFY)))
    assert isinstance(reply, Leased)
    assert reply.lease is None or isinstance(reply.lease, TaskLease)
    return reply.lease


def complete(story: Story, lease: TaskLease, result: messages.Result = DONE) -> messages.AnyReply:
    return story.ask(Complete(request_id=story.id(), job=lease.job, token=lease.token, result=result,
                              worker="snapshot", session="s1"))


def overview(story: Story) -> Overview:
    reply = story.ask(GetOverview(request_id=story.id()))
    assert isinstance(reply, Overview)
    return reply


def test_a_task_is_leased_with_what_is_to_be_done(story: Story) -> None:
    assert ask_for(story, SnapshotTask(generation="g000001-s00000010")) == "snapshot-1"
    assert ask_for(story, VerifyTask()) == "verify-2"
    lease = take(story)
    assert lease is not None
    assert (lease.job, lease.task) == ("snapshot-1", SnapshotTask(generation="g000001-s00000010"))
    complete(story, lease)
    assert story.state("snapshot-1") is JobState.SUCCEEDED
    lease = take(story)
    assert lease is not None
    assert lease.task == VerifyTask()


def test_the_same_request_is_the_same_task(story: Story) -> None:
    assert ask_for(story, request_id="r1") == ask_for(story, request_id="r1") == "snapshot-1"
    assert isinstance(story.ask(SubmitTask(request_id="r1", task=VerifyTask())), Refused)
    assert story.types().count("TaskSubmitted") == 1


def test_no_more_are_done_at_once_than_may_be(story: Story) -> None:
    for _ in range(2):
        ask_for(story)
    first = take(story)
    assert first is not None
    assert story.ask(messages.TakeLease(request_id=story.id(), worker="another", session="s", kinds=(
        JobKind.SNAPSHOT,))).reason.startswith("snapshot-1 is being done")
    complete(story, first)
    assert take(story) is not None


def test_files_and_tasks_do_not_stand_in_each_others_line(story: Story) -> None:
    ask_for(story)
    assert story.submit().job == "train-1"
    assert take(story) is not None
    story.prepare_next()
    assert story.lease(JobKind.TRAIN) is not None
    assert overview(story).counts["train"] == {"running": 1}


def test_the_picture_has_those_that_wait_run_and_ended(story: Story) -> None:
    for _ in range(13):
        ask_for(story)
        lease = take(story)
        assert lease is not None
        story.clock.now += 1
        complete(story, lease)
    ask_for(story)
    running = take(story)
    ask_for(story)
    tasks = overview(story).background_tasks
    assert running is not None
    assert (tasks.queue_size, [job.id for job in tasks.running]) == (1, [running.job])
    assert [job.id for job in tasks.recent] == [f"snapshot-{number}" for number in range(13, 3, -1)]
    assert tasks.recent[0].result == {"type": "TaskResult", **msgspec.to_builtins(DONE)}
    assert overview(story).running == [], "they are shown apart"


def test_a_failed_task_is_not_tried_again_by_itself(story: Story) -> None:
    ask_for(story)
    lease = take(story)
    assert lease is not None
    story.ask(messages.Fail(request_id=story.id(), job=lease.job, token=lease.token, reason="no generation"))
    assert story.state(lease.job) is JobState.FAILED
    assert isinstance(story.ask(messages.Retry(request_id=story.id(), job=lease.job)), Refused)


def test_a_worker_that_dies_of_a_task_three_times_does_not_get_it_again(story: Story) -> None:
    ask_for(story)
    for life in range(3):
        lease = take(story, session=f"life-{life}")
        assert lease is not None
        story.ask(messages.Heartbeat(
            request_id=story.id(), service="snapshot", session=f"life-{life}", pid=1, state=messages.Lifecycle.RUNNING,
            leases=(messages.LeaseState(job=lease.job, token=lease.token, progress=messages.Progress(step=7)),)))
    assert take(story, session="life-4") is None
    assert story.state("snapshot-1") is JobState.FAILED


@pytest.mark.parametrize("begin", [lambda _: None, take], ids=["queued", "running"])
def test_a_task_is_cancelled(story: Story, begin: Callable[[Story], TaskLease | None]) -> None:
    ask_for(story)
    lease = begin(story)
    assert isinstance(story.ask(messages.Cancel(request_id=story.id(), job="snapshot-1")), Done)
    if lease is not None:
        assert story.state("snapshot-1") is JobState.RUNNING
        story.ask(messages.AcknowledgeCancel(request_id=story.id(), job=lease.job, token=lease.token))
    assert story.state("snapshot-1") is JobState.CANCELLED


def test_one_that_was_given_back_is_cancelled_at_once(story: Story) -> None:
    ask_for(story)
    lease = take(story)
    assert lease is not None
    story.ask(messages.Release(request_id=story.id(), job=lease.job, token=lease.token))
    story.ask(messages.Cancel(request_id=story.id(), job=lease.job))
    assert story.state(lease.job) is JobState.CANCELLED


def test_results_fit_their_kind(story: Story) -> None:
    ask_for(story)
    lease = take(story)
    assert lease is not None
    assert isinstance(complete(story, lease, PREPARED), Refused)
    story.submit()
    preparation = story.lease(JobKind.PREPARE)
    assert preparation is not None
    assert isinstance(story.complete(preparation, DONE), Refused)


def test_a_task_is_shown_with_its_cause(story: Story) -> None:
    story.ask(SubmitTask(request_id=story.id(), task=SnapshotTask(), cause="schedule daily"))
    detail = story.ask(messages.ShowJob(request_id=story.id(), job="snapshot-1"))
    assert isinstance(detail, JobDetail)
    assert (detail.task, detail.cause, detail.spec) == (SnapshotTask(), "schedule daily", None)
