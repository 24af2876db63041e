"""Stories at the broker's desk: requests, and what the journal says then. Real SQLite, a clock by hand."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from services.broker import admission
from stories import PREPARED, TRAINED, Story
from trainq import jobs, messages
from trainq.jobs import JobKind, JobState, Priority
from trainq.messages import Leased, Lifecycle


@pytest.fixture
def story(tmp_path: Path) -> Iterator[Story]:
    made = Story(tmp_path)
    yield made
    made.journal.close()


def test_a_file_goes_through(story: Story) -> None:
    assert story.submit().job == "train-1"
    assert story.lease(JobKind.TRAIN) is None, "it is not prepared yet"
    story.prepare_next()
    lease = story.lease(JobKind.TRAIN)
    assert lease is not None
    assert (lease.job, lease.shard) == ("train-1", "s")
    assert story.complete(lease, TRAINED) == Leased(lease=None)
    assert story.types("train-1") == ["JobSubmitted", "JobPrepared", "LeaseGranted", "JobSucceeded"]


def test_a_request_repeated_after_a_lost_reply_does_nothing_twice(story: Story) -> None:
    item = story.item()
    first = story.submit_items(item)
    assert story.submit_items(item) == first
    story.restart()
    assert story.submit_items(item) == first
    assert story.queries.counts() == {"train": {"queued": 1}, "prepare": {"queued": 1}}
    lease = story.lease(JobKind.PREPARE)
    assert story.lease(JobKind.PREPARE) == lease, "the same life asks again: the same lease"
    assert lease is not None
    assert story.complete(lease, PREPARED) == story.complete(lease, PREPARED)
    assert story.types("prepare-1") == ["LeaseGranted", "JobSucceeded"]


def test_the_same_content_is_a_duplicate_until_it_has_failed(story: Story) -> None:
    story.submit()
    again = story.submit()
    assert (again.job, again.duplicate) == ("train-1", True)
    assert story.submit(force=True).job == "train-2"
    story.ask(messages.Cancel(request_id=story.id(), job="train-1"))
    story.ask(messages.Cancel(request_id=story.id(), job="train-2"))
    assert story.submit().job == "train-3"


def test_two_files_of_one_name_are_two_jobs(story: Story) -> None:
    assert [story.submit(content, name="same.jsonl").job for content in "ab"] == ["train-1", "train-2"]


def test_one_bad_item_harms_no_other(story: Story) -> None:
    good, bad = story.item("a"), story.item("b", digest="f" * 64)
    receipts = story.submit_items(bad, good, story.item("c", after=("train-99",)))
    assert [bool(receipt.error) for receipt in receipts] == [True, False, True]
    assert "data/" in receipts[0].error
    assert receipts[1].job == "train-1"
    assert story.types() == ["JobSubmitted"]


def test_an_id_reused_for_other_content_is_refused(story: Story) -> None:
    item = story.item("a")
    story.submit_items(item)
    other = story.submit_items(story.item("b", request_id=item.request_id))[0]
    assert other.error_code == "request_reused"


def test_a_restarted_worker_gets_its_job_back_before_everything(story: Story) -> None:
    story.submit("a")
    story.prepare_next()
    old = story.lease(JobKind.TRAIN, "life-1")
    story.submit("b", priority=Priority.HIGH)
    story.prepare_next()
    new = story.lease(JobKind.TRAIN, "life-2")
    assert old is not None
    assert new is not None
    assert (new.job, new.attempt) == ("train-1", 2)
    assert new.token > old.token
    refused = story.complete(old, TRAINED)
    assert isinstance(refused, messages.Refused)
    assert refused.code == "stale_lease"
    assert isinstance(story.complete(new, TRAINED), Leased)


def test_a_silent_worker_loses_its_lease_and_hears_of_it(story: Story) -> None:
    story.submit()
    lease = story.lease(JobKind.PREPARE)
    assert lease is not None
    beat = messages.Heartbeat(request_id=story.id(), service="prepare", session="s1", pid=1, state=Lifecycle.RUNNING,
                              leases=(messages.LeaseState(job=lease.job, token=lease.token),))
    story.clock.now += 29
    assert story.ask(beat) == messages.HeartbeatReply()
    story.clock.now += 29
    story.expire()
    assert story.state("prepare-1") is JobState.RUNNING
    story.clock.now += 1
    story.expire()
    assert story.state("prepare-1") is JobState.QUEUED
    assert story.ask(beat) == messages.HeartbeatReply(lost=("prepare-1",))
    assert isinstance(story.complete(lease, PREPARED), messages.Refused)
    again = story.lease(JobKind.PREPARE, "s2", worker="other")
    assert again is not None
    assert again.token > lease.token


def test_a_restarted_broker_gives_each_lease_a_full_term(story: Story) -> None:
    story.submit()
    lease = story.lease(JobKind.PREPARE)
    assert lease is not None
    story.clock.now += 3600
    story.restart()
    story.expire()
    assert story.state("prepare-1") is JobState.RUNNING
    story.clock.now += 30
    story.expire()
    assert story.state("prepare-1") is JobState.QUEUED


def test_complete_may_lease_the_next_in_the_same_commit(story: Story) -> None:
    for content in "ab":
        story.submit(content)
        story.prepare_next()
    lease = story.lease(JobKind.TRAIN)
    assert lease is not None
    reply = story.complete(lease, TRAINED, next_kinds=(JobKind.TRAIN,))
    assert isinstance(reply, Leased)
    assert reply.lease is not None
    assert reply.lease.job == "train-2"


def test_pause_gives_nothing_and_resume_without_pause_does_nothing(story: Story) -> None:
    story.submit()
    story.prepare_next()
    assert story.ask(messages.ResumeQueue(request_id=story.id())) == messages.Done(changed=False, seq=4)
    story.ask(messages.PauseQueue(request_id=story.id(), reason="lunch"))
    story.restart()
    assert story.lease(JobKind.TRAIN) is None
    overview = story.ask(messages.GetOverview(request_id=story.id()))
    assert isinstance(overview, messages.Overview)
    assert "lunch" in overview.waiting_reason
    story.ask(messages.ResumeQueue(request_id=story.id()))
    assert story.lease(JobKind.TRAIN) is not None


def test_cancelling_a_running_job_is_told_to_its_worker(story: Story) -> None:
    story.submit()
    story.submit("b", after=("train-1",))
    story.prepare_next()
    lease = story.lease(JobKind.TRAIN)
    assert lease is not None
    story.ask(messages.Cancel(request_id=story.id(), job="train-1", reason="wrong file"))
    beat = messages.Heartbeat(request_id=story.id(), service="trainer", session="s1", pid=1, state=Lifecycle.RUNNING,
                              leases=(messages.LeaseState(job=lease.job, token=lease.token),))
    assert story.ask(beat) == messages.HeartbeatReply(cancel=("train-1",))
    story.ask(messages.AcknowledgeCancel(request_id=story.id(), job=lease.job, token=lease.token))
    assert story.state("train-1") is JobState.CANCELLED
    assert story.state("train-2") is JobState.CANCELLED
    assert story.state("prepare-2") is JobState.CANCELLED
    assert "train-1" in story.queries.job("train-2").reason


def test_a_rejected_file_ends_with_its_reason_and_report(story: Story) -> None:
    story.submit()
    lease = story.lease(JobKind.PREPARE)
    assert lease is not None
    story.complete(lease, messages.RejectResult(reason="all rows are bad", report={"read": 3}))
    detail = story.ask(messages.ShowJob(request_id=story.id(), job="train-1"))
    assert isinstance(detail, messages.JobDetail)
    assert (detail.job.state, detail.job.reason, detail.report) == (JobState.REJECTED, "all rows are bad", {"read": 3})


def test_the_head_is_overtaken_on_the_record(story: Story) -> None:
    for content in "ab":
        story.submit(content)
    first = story.lease(JobKind.PREPARE)  # train-1's preparation hangs
    assert first is not None
    second = story.lease(JobKind.PREPARE, worker="second")
    assert second is not None
    story.complete(second, PREPARED)
    assert story.lease(JobKind.TRAIN) is None
    story.clock.now += 60
    lease = story.lease(JobKind.TRAIN)
    assert lease is not None
    assert lease.job == "train-2"
    assert "JobOvertaken" in story.types("train-1")


def test_a_checkpoint_is_recorded_once_and_only_by_the_lease_holder(story: Story) -> None:
    story.submit()
    story.prepare_next()
    lease = story.lease(JobKind.TRAIN)
    assert lease is not None
    report = messages.ReportCheckpoint(request_id=story.id(), job="train-1", token=lease.token, generation=2, name="g",
                                       step=5, job_step=5, done=False, reason="stop")
    story.ask(report)
    assert story.ask(report) == messages.Done(changed=False, seq=story.journal.head_seq)
    stale = msgspec.structs.replace(report, generation=3, token=lease.token - 1)
    assert isinstance(story.ask(stale), messages.Refused)
    assert story.queries.line().step == 5


def test_three_failed_attempts_quarantine_the_file(story: Story) -> None:
    story.submit()
    for _ in range(3):
        lease = story.lease(JobKind.PREPARE)
        assert lease is not None
        story.ask(messages.Fail(request_id=story.id(), job=lease.job, token=lease.token, reason="boom"))
        assert story.lease(JobKind.PREPARE) is None
        story.clock.now += 3600
    assert story.state("prepare-1") is JobState.FAILED
    assert story.state("train-1") is JobState.QUARANTINED
    assert story.submit().job == "train-2", "a failed file is no duplicate"


def test_settings_are_frozen_at_submit(story: Story) -> None:
    story.submit(overrides=messages.Overrides(epochs=7))
    story.prepare_next()
    lease = story.lease(JobKind.TRAIN)
    assert lease is not None
    assert lease.spec.train.epochs == 7


def test_a_request_that_meets_a_bug_changes_nothing(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    item = story.item()

    def bug(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(admission, "freeze", bug)
        reply = story.ask(messages.Submit(request_id=story.id(), items=[item]))
    assert isinstance(reply, messages.Refused)
    assert reply.code == "internal"
    assert story.submit_items(item)[0].job == "train-1"


def test_a_lost_shard_is_made_again_and_the_queue_goes_on(story: Story) -> None:
    for content in "ab":
        story.submit(content)
        story.prepare_next()
    lease = story.lease(JobKind.TRAIN)
    assert lease is not None
    lost = messages.ReportLostShard(request_id=story.id(), job=lease.job, token=lease.token, reason="gone")
    story.ask(lost)
    assert story.ask(lost) == messages.Done(changed=False, seq=story.journal.head_seq), "its reply was lost"
    assert (story.state("train-1"), story.state("prepare-1")) == (JobState.QUEUED, JobState.QUEUED)
    assert story.lease(JobKind.TRAIN) is None, "its preparation is waited for"
    story.prepare_next()
    again = story.lease(JobKind.TRAIN)
    assert again is not None
    assert (again.job, again.shard) == ("train-1", "s")


def test_a_shard_that_comes_out_different_is_not_trained(story: Story) -> None:
    story.submit()
    story.prepare_next()
    lease = story.lease(JobKind.TRAIN)
    assert lease is not None
    story.ask(messages.ReportLostShard(request_id=story.id(), job=lease.job, token=lease.token, reason="gone"))
    prepare = story.lease(JobKind.PREPARE)
    assert prepare is not None
    story.complete(prepare, msgspec.structs.replace(PREPARED, shard_digest="1" * 64))
    assert story.state("train-1") is JobState.QUARANTINED


@pytest.mark.parametrize("how", ["release", "expire", "restart"])
def test_a_cancel_is_kept_however_the_lease_ends(story: Story, how: str) -> None:
    """Only the trainer knows whether steps of it are in the weights: it gets the job once more, to take it back."""
    story.submit()
    story.prepare_next()
    lease = story.lease(JobKind.TRAIN)
    assert lease is not None
    assert not lease.cancel
    story.ask(messages.Cancel(request_id=story.id(), job="train-1", reason="wrong file"))
    assert story.submit().job == "train-2", "what is being cancelled is no duplicate"
    match how:
        case "release":
            story.ask(messages.Release(request_id=story.id(), job=lease.job, token=lease.token))
        case "expire":
            story.clock.now += 31
            story.expire()
    story.ask(messages.PauseQueue(request_id=story.id()))
    again = story.lease(JobKind.TRAIN, "life-2")
    assert again is not None
    assert (again.job, again.cancel) == ("train-1", True)
    story.ask(messages.AcknowledgeCancel(request_id=story.id(), job=again.job, token=again.token))
    assert (story.state("train-1"), story.queries.job("train-1").reason) == (JobState.CANCELLED, "wrong file")


def test_a_failed_attempt_with_a_cancel_is_cancelled(story: Story) -> None:
    story.submit()
    story.prepare_next()
    lease = story.lease(JobKind.TRAIN)
    assert lease is not None
    story.ask(messages.Cancel(request_id=story.id(), job="train-1", reason="wrong file"))
    story.ask(messages.Fail(request_id=story.id(), job=lease.job, token=lease.token, reason="boom"))
    assert story.state("train-1") is JobState.CANCELLED


def test_a_job_that_was_given_back_is_cancelled_by_way_of_the_trainer(story: Story) -> None:
    story.submit()
    story.prepare_next()
    lease = story.lease(JobKind.TRAIN)
    assert lease is not None
    story.ask(messages.Release(request_id=story.id(), job=lease.job, token=lease.token))
    story.ask(messages.Cancel(request_id=story.id(), job="train-1", reason="wrong file"))
    assert story.state("train-1") is JobState.QUEUED
    again = story.lease(JobKind.TRAIN)
    assert again is not None
    assert again.cancel
    assert isinstance(story.complete(again, TRAINED), Leased), "all of it was trained already: that wins"
    assert story.state("train-1") is JobState.SUCCEEDED


def test_a_lease_tells_the_newest_generation(story: Story) -> None:
    for content in "ab":
        story.submit(content)
        story.prepare_next()
    lease = story.lease(JobKind.TRAIN)
    assert lease is not None
    assert lease.generation == 0
    story.ask(messages.ReportCheckpoint(request_id=story.id(), job="train-1", token=lease.token, generation=2, name="g",
                                        step=5, job_step=5, done=True, reason="job_end"))
    story.complete(lease, TRAINED)
    following = story.lease(JobKind.TRAIN)
    assert following is not None
    assert following.generation == 2


def test_a_heartbeat_for_an_unknown_job_tells_of_it_and_renews_the_others(story: Story) -> None:
    story.submit()
    lease = story.lease(JobKind.PREPARE)
    assert lease is not None
    story.clock.now += 20
    progress = messages.Progress(step=5, steps=9)
    beat = messages.Heartbeat(
        request_id=story.id(), service="preparer", session="s1", pid=1, state=Lifecycle.RUNNING,
        leases=(messages.LeaseState(job="train-99", token=1),
                messages.LeaseState(job=lease.job, token=lease.token, progress=progress)))
    assert story.ask(beat) == messages.HeartbeatReply(lost=("train-99",))
    story.clock.now += 20
    story.expire()
    assert story.state("prepare-1") is JobState.RUNNING
    assert story.desk.roster.progress("prepare-1") == progress
    assert story.desk.roster.progress("train-99") is None


def test_writes_repeated_after_a_lost_reply_are_one_event(story: Story) -> None:
    refused = messages.ReportRefusedFile(request_id=story.id(), name="a.csv", reason="r", report="x")
    story.submit()
    lease = story.lease(JobKind.PREPARE)
    assert lease is not None
    failed = messages.Fail(request_id=story.id(), job=lease.job, token=lease.token, reason="boom")
    for _ in range(3):
        assert isinstance(story.ask(refused), messages.Done)
        assert isinstance(story.ask(failed), messages.Done)
    assert story.types().count("FileRefused") == 1
    assert story.types("prepare-1").count("AttemptFailed") == 1


def test_no_checkpoint_comes_from_a_preparation(story: Story) -> None:
    story.submit()
    lease = story.lease(JobKind.PREPARE)
    assert lease is not None
    reply = story.ask(messages.ReportCheckpoint(request_id=story.id(), job=lease.job, token=lease.token, generation=5,
                                                name="g", step=1, job_step=1, done=True, reason="r"))
    assert isinstance(reply, messages.Refused)
    assert story.queries.line().generation == 0


def test_a_page_always_fits_into_a_message(story: Story) -> None:
    item = story.item("a", force=True)
    items = [msgspec.structs.replace(item, request_id=story.id()) for _ in range(900)]
    story.submit_items(*items)
    with story.journal.transaction():
        for number in range(1, 901):
            story.journal.append(jobs.JobCancelled(job=f"train-{number}", reason="x" * 4096), 1.0)
    page = story.ask(messages.ListJobs(request_id=story.id(), limit=1000))
    assert isinstance(page, messages.JobList)
    assert 0 < len(page.jobs) < 900
    assert len(messages.encode(page)) < messages.MAX_MESSAGE_BYTES


def test_jobs_are_found_by_their_content(story: Story) -> None:
    first = story.submit("a")
    story.submit("b")
    again = story.submit("a", force=True)

    def listed(**fields: object) -> list[str]:
        digest = story.queries.job(first.job).digest
        reply = story.ask(messages.ListJobs(request_id=story.id(), digest=digest, **fields))
        assert isinstance(reply, messages.JobList)
        return [job.id for job in reply.jobs]

    assert listed() == [again.job, first.job]
    assert listed(limit=1) == [again.job]
    assert listed(before_number=3) == [first.job]
    assert listed(states=(JobState.RUNNING,)) == listed(failed_only=True) == listed(kinds=(JobKind.PREPARE,)) == []


def test_what_is_held_says_how_it_was_trained_and_where_the_line_went_back(story: Story) -> None:
    story.submit("a")
    story.prepare_next()
    lease = story.lease(JobKind.TRAIN)
    assert lease is not None
    story.ask(messages.Hello(request_id=story.id(), worker="train", session="s1", generation=1,
                             name="g000001-s00000000", step=0))
    story.ask(messages.ReportCheckpoint(request_id=story.id(), job=lease.job, token=lease.token, generation=2,
                                        name=TRAINED.checkpoint, step=2, job_step=2, done=True, reason="job_end"))
    story.complete(lease, TRAINED)
    ended = story.clock.now

    def held(generation: int) -> list[messages.HeldJob]:
        reply = story.ask(messages.GetHeldJobs(request_id=story.id(), generation=generation))
        assert isinstance(reply, messages.HeldJobs)
        return reply.jobs

    (job,) = held(2)
    assert (job.rows, job.tokens, job.steps, job.trained_at) == (1, 2, 2, ended)
    # The newest generation is damaged: the job is trained again, and generation 2 still held it.
    story.ask(messages.Hello(request_id=story.id(), worker="train", session="s2", generation=1,
                             name="g000001-s00000000", step=0, damaged=(messages.DamagedGeneration(
                                 generation=2, name=f"damaged-{TRAINED.checkpoint}", reason="flipped"),)))
    (job,) = held(2)
    assert (job.steps, job.trained_at) == (None, None)
    reply = story.ask(messages.GetForks(request_id=story.id()))
    assert reply == messages.Forks(generation=1, checkpoint="g000001-s00000000", newest=2, forks=[])
    story.ask(messages.Hello(request_id=story.id(), worker="train", session="s2", generation=3,
                             name="g000003-s00000000", step=0))
    reply = story.ask(messages.GetForks(request_id=story.id()))
    assert isinstance(reply, messages.Forks)
    assert (reply.newest, reply.forks) == (3, [messages.Fork(first=3, source=1)])
    reply = story.ask(messages.GetForks(request_id=story.id(), after=3))
    assert isinstance(reply, messages.Forks)
    assert reply.forks == []
    assert held(3) == []
