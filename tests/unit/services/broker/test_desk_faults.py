"""Stories at the desk about what goes wrong: lost workers, lost generations, holds, second tries, ageing."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from stories import PREPARED, TRAINED, Story
from trainq import messages
from trainq.errors import DamageError
from trainq.jobs import AgeingSet, JobKind, JobState, Priority
from trainq.messages import Lease, LeaseState, Lifecycle, Progress


@pytest.fixture
def story(tmp_path: Path) -> Iterator[Story]:
    made = Story(tmp_path)
    yield made
    made.journal.close()


def hello(story: Story, **changes: object) -> messages.AnyReply:
    fields: dict[str, object] = {"worker": "train", "session": "s1", "generation": 1, "name": "g1", "step": 0,
                                 "damaged": tuple(messages.DamagedGeneration(generation=number, name=f"d{number}",
                                                                             reason="flipped") for number in (2, 3, 4))}
    return story.ask(messages.Hello(request_id=story.id(), **{**fields, **changes}))  # type: ignore[arg-type]


def trained(story: Story, content: str, generation: int) -> None:
    """Submit a file and train it under a generation of its own."""
    story.submit(content)
    story.prepare_next()
    lease = story.lease(JobKind.TRAIN)
    assert lease is not None
    report(story, lease, generation, done=True)
    result = messages.TrainResult(steps_done=2, steps_planned=2, global_step=2 * generation, generation=generation,
                                  checkpoint=f"g{generation}")
    story.complete(lease, result)


def report(story: Story, lease: Lease, generation: int, *, job_step: int = 2, done: bool = False) -> None:
    story.ask(messages.ReportCheckpoint(
        request_id=story.id(), job=lease.job, token=lease.token, generation=generation, name=f"g{generation}",
        step=2 * generation, job_step=job_step, done=done, reason="interval"))


def beat(story: Story, lease: Lease, step: int, session: str = "s1") -> None:
    story.ask(messages.Heartbeat(
        request_id=story.id(), service=lease.kind.value, session=session, pid=1, state=Lifecycle.RUNNING,
        leases=(LeaseState(job=lease.job, token=lease.token, progress=Progress(step=step, steps=9)),)))


def test_lost_generations_bring_their_jobs_back_before_everything_in_their_old_order(story: Story) -> None:
    for generation, content in ((2, "a"), (3, "b"), (4, "c")):
        trained(story, content, generation)
    story.submit("d", priority=Priority.HIGH)
    story.prepare_next()
    reply = hello(story, generation=2, name="g2", step=4, job="train-1", done=True, job_step=2, steps_planned=2)
    assert reply == messages.Greeted(lost=False, newest=4)
    assert [story.state(f"train-{number}") for number in (1, 2, 3)] == [
        JobState.SUCCEEDED, JobState.QUEUED, JobState.QUEUED]
    order = []
    for generation in (5, 6, 7):
        lease = story.lease(JobKind.TRAIN)
        assert lease is not None
        order.append(lease.job)
        assert lease.generation == generation - 1
        report(story, lease, generation, done=True)
        story.complete(lease, messages.TrainResult(steps_done=2, steps_planned=2, global_step=2 * generation,
                                                   generation=generation, checkpoint="g"))
    assert order == ["train-2", "train-3", "train-4"]
    hello(story, generation=7, name="g7", step=14, job="train-4", done=True, job_step=2, steps_planned=2)
    assert story.lease(JobKind.TRAIN) is None, "the same head again brings nothing back"


def test_a_running_job_gives_way_to_what_was_lost_under_it(story: Story) -> None:
    trained(story, "a", 2)
    story.submit("b")
    story.prepare_next()
    assert story.lease(JobKind.TRAIN) is not None
    reply = hello(story, generation=1)
    assert reply == messages.Greeted(lost=True, newest=2)
    first = story.lease(JobKind.TRAIN)
    assert first is not None
    assert first.job == "train-1"
    # The trainer is silent for too long: what it held is still before what runs after it.
    story.clock.now += 31
    story.expire()
    again = story.lease(JobKind.TRAIN)
    assert again is not None
    assert again.job == "train-1"


def test_a_job_whose_last_words_were_lost_has_succeeded(story: Story) -> None:
    story.submit("a")
    story.prepare_next()
    story.lease(JobKind.TRAIN)
    story.clock.now += 31
    story.expire()
    hello(story, generation=2, name="g2", step=2, job="train-1", done=True, job_step=2, steps_planned=2)
    assert story.state("train-1") is JobState.SUCCEEDED
    assert story.queries.job("train-1").generation == 2


def test_a_refused_hello_changes_nothing(story: Story) -> None:
    trained(story, "a", 2)
    before = story.journal.head_seq
    assert isinstance(hello(story, generation=3, name="g3", journal_seq=before + 1), messages.Refused)
    assert isinstance(hello(story, begun=True), messages.Refused)
    assert story.journal.head_seq == before


def test_a_file_that_takes_its_worker_along_is_found_out(story: Story) -> None:
    story.submit("a")
    story.prepare_next()
    for death in range(3):
        lease = story.lease(JobKind.TRAIN, session=f"s{death}")
        assert lease is not None
        assert lease.failure == ""
        beat(story, lease, 4, session=f"s{death}")
    lease = story.lease(JobKind.TRAIN, session="s3")
    assert lease is not None
    assert "3 times in a row in step 4" in lease.failure
    story.ask(messages.Fail(request_id=story.id(), job=lease.job, token=lease.token, reason=lease.failure))
    row = story.queries.job("train-1")
    assert (row.state, row.failures, row.deaths) == (JobState.QUEUED, 1, 0)


def test_workers_that_die_while_they_load_or_in_other_steps_accuse_no_file(story: Story) -> None:
    story.submit("a")
    story.prepare_next()
    for death in range(12):
        lease = story.lease(JobKind.TRAIN, session=f"s{death}")
        assert lease is not None
        assert lease.failure == ""
        if death % 2:
            beat(story, lease, death, session=f"s{death}")


def test_an_attempt_is_in_the_journal_before_it_is_in_anybodys_hands(story: Story) -> None:
    story.submit("a")
    story.prepare_next()
    for attempt in (1, 2, 3):
        lease = story.lease(JobKind.TRAIN, session=f"s{attempt}")
        assert lease is not None
        assert (lease.attempt, story.queries.job("train-1").attempts) == (attempt, attempt)


def test_the_machines_fault_holds_the_queue_and_lets_go_by_itself(story: Story) -> None:
    story.submit("a")
    story.prepare_next()
    lease = story.lease(JobKind.TRAIN)
    assert lease is not None
    story.ask(messages.Release(request_id=story.id(), job=lease.job, token=lease.token, reason="no GPU",
                               hold_seconds=60))
    assert story.lease(JobKind.TRAIN) is None
    overview = story.ask(messages.GetOverview(request_id=story.id()))
    assert isinstance(overview, messages.Overview)
    assert "held: no GPU" in overview.waiting_reason
    story.clock.now += 59
    assert not story.desk.is_due
    story.clock.now += 1
    assert story.desk.is_due
    story.expire()
    again = story.lease(JobKind.TRAIN)
    assert again is not None
    assert story.queries.job("train-1").failures == 0


def test_a_hold_outlives_the_broker_and_is_lifted_by_the_next(story: Story) -> None:
    story.submit("a")
    story.prepare_next()
    lease = story.lease(JobKind.TRAIN)
    assert lease is not None
    story.ask(messages.Release(request_id=story.id(), job=lease.job, token=lease.token, reason="no GPU",
                               hold_seconds=60))
    story.restart()
    assert story.lease(JobKind.TRAIN) is None
    story.clock.now += 301
    story.expire()
    assert story.lease(JobKind.TRAIN) is not None


def test_three_jobs_failing_in_a_row_hold_the_queue_and_the_third_is_not_to_blame(story: Story) -> None:
    for content in ("a", "b", "c"):
        story.submit(content)
        story.prepare_next()
    for _ in range(3):
        lease = story.lease(JobKind.TRAIN)
        assert lease is not None
        story.ask(messages.Fail(request_id=story.id(), job=lease.job, token=lease.token, reason="boom"))
    assert [story.queries.job(f"train-{number}").failures for number in (1, 2, 3)] == [1, 1, 0]
    assert story.lease(JobKind.TRAIN) is None
    story.clock.now += 301
    story.expire()
    lease = story.lease(JobKind.TRAIN)
    assert lease is not None
    assert lease.job == "train-3"
    story.ask(messages.Fail(request_id=story.id(), job=lease.job, token=lease.token, reason="boom again"))
    assert story.queries.job("train-3").failures == 1, "the hold is spent; from here on they count"


def test_a_quarantined_job_is_tried_again_with_a_clean_slate(story: Story) -> None:
    story.submit("a")
    for _ in range(3):
        lease = story.lease(JobKind.PREPARE)
        assert lease is not None
        story.ask(messages.Fail(request_id=story.id(), job=lease.job, token=lease.token, reason="boom"))
        story.clock.now += 3600
    assert story.state("train-1") is JobState.QUARANTINED
    assert story.ask(messages.Retry(request_id=story.id(), job="train-1")).changed  # type: ignore[union-attr]
    lease = story.lease(JobKind.PREPARE)
    assert lease is not None
    story.complete(lease, PREPARED)
    train = story.lease(JobKind.TRAIN)
    assert train is not None
    story.complete(train, TRAINED)
    assert story.state("train-1") is JobState.SUCCEEDED
    assert isinstance(story.ask(messages.Retry(request_id=story.id(), job="train-1")), messages.Refused)


def test_a_retry_is_refused_when_the_content_came_again(story: Story) -> None:
    story.submit("a")
    story.ask(messages.Cancel(request_id=story.id(), job="train-1"))
    assert story.submit("a").job == "train-2"
    refused = story.ask(messages.Retry(request_id=story.id(), job="train-1"))
    assert isinstance(refused, messages.Refused)
    assert "train-2" in refused.message


def test_a_retry_waits_until_the_preparation_has_ended(story: Story) -> None:
    story.submit("a")
    lease = story.lease(JobKind.PREPARE)
    assert lease is not None
    story.ask(messages.Cancel(request_id=story.id(), job="train-1"))
    refused = story.ask(messages.Retry(request_id=story.id(), job="train-1"))
    assert isinstance(refused, messages.Refused)
    assert "try again in a moment" in refused.mend
    story.ask(messages.AcknowledgeCancel(request_id=story.id(), job=lease.job, token=lease.token))
    assert story.ask(messages.Retry(request_id=story.id(), job="train-1")).changed  # type: ignore[union-attr]
    story.prepare_next()
    assert story.lease(JobKind.TRAIN) is not None


def test_a_retry_takes_the_shard_as_it_comes_out_now(story: Story) -> None:
    story.submit("a")
    story.prepare_next()
    train = story.lease(JobKind.TRAIN)
    assert train is not None
    story.ask(messages.ReportLostShard(request_id=story.id(), job="train-1", token=train.token, reason="gone"))
    other = msgspec.structs.replace(PREPARED, shard_digest="1" * 64)
    for state in (JobState.QUARANTINED, JobState.QUEUED):
        lease = story.lease(JobKind.PREPARE)
        assert lease is not None
        story.complete(lease, other)
        assert story.state("train-1") is state
        if state is JobState.QUARANTINED:
            assert story.ask(messages.Retry(request_id=story.id(), job="train-1")).changed  # type: ignore[union-attr]
    again = story.lease(JobKind.TRAIN)
    assert again is not None
    assert again.shard_digest == "1" * 64


def test_a_preparation_that_is_needed_after_all_is_done(story: Story) -> None:
    story.submit("a")
    given_back = story.lease(JobKind.PREPARE)
    assert given_back is not None
    story.ask(messages.Release(request_id=story.id(), job=given_back.job, token=given_back.token))
    # The cancel of the preparation waits for its next worker, and the retry comes before that one.
    story.ask(messages.Cancel(request_id=story.id(), job="train-1"))
    assert story.ask(messages.Retry(request_id=story.id(), job="train-1")).changed  # type: ignore[union-attr]
    lease = story.lease(JobKind.PREPARE)
    assert lease is not None
    assert lease.cancel
    story.ask(messages.AcknowledgeCancel(request_id=story.id(), job=lease.job, token=lease.token))
    story.prepare_next()
    assert story.lease(JobKind.TRAIN) is not None


@pytest.mark.parametrize("cancelled", ["train-1", "train-2"])
def test_a_retry_waits_for_nobody(story: Story, cancelled: str) -> None:
    story.submit("a")
    story.submit("b", after=("train-1",))
    story.ask(messages.Cancel(request_id=story.id(), job=cancelled))
    assert story.state("train-2") is JobState.CANCELLED
    assert story.ask(messages.Retry(request_id=story.id(), job="train-2")).changed  # type: ignore[union-attr]
    assert "train-2" in [row.id for row in story.queries.waiting_line(9)]


def test_what_was_given_back_last_goes_first(story: Story) -> None:
    for content in ("b", "a"):
        story.submit(content)
        story.prepare_next()
    first = story.lease(JobKind.TRAIN)
    assert first is not None
    assert first.job == "train-1"
    # Its shard is lost, the other one overtakes it, and ends its lease with its steps on top of the line.
    story.ask(messages.ReportLostShard(request_id=story.id(), job="train-1", token=first.token, reason="gone"))
    assert story.lease(JobKind.TRAIN) is None
    story.clock.now += 61
    second = story.lease(JobKind.TRAIN)
    assert second is not None
    assert second.job == "train-2"
    story.ask(messages.Release(request_id=story.id(), job="train-2", token=second.token))
    story.prepare_next()
    again = story.lease(JobKind.TRAIN)
    assert again is not None
    assert again.job == "train-2"


def test_what_is_trained_again_begins_with_a_clean_slate(story: Story) -> None:
    trained(story, "a", 2)
    row = story.queries.job("train-1")
    assert row.best_step == 2
    hello(story, generation=1)
    row = story.queries.job("train-1")
    assert (row.best_step, row.failures, row.deaths) == (0, 0, 0)


def restart_with(story: Story, ageing_jobs: int) -> None:
    settings = story.configuration.settings
    broker = msgspec.structs.replace(settings.broker, ageing_jobs=ageing_jobs)
    story.configuration = msgspec.structs.replace(
        story.configuration, settings=msgspec.structs.replace(settings, broker=broker))
    story.restart()
    with story.journal.transaction():
        for event in story.desk.opening():
            story.journal.append(event, 0.0)


def test_a_preparation_that_is_done_again_goes_by_the_ageing_of_now(story: Story) -> None:
    restart_with(story, 0)
    story.submit("a")
    story.prepare_next()
    restart_with(story, 20)
    lease = story.lease(JobKind.TRAIN)
    assert lease is not None
    story.ask(messages.ReportLostShard(request_id=story.id(), job=lease.job, token=lease.token, reason="gone"))
    story.submit("b")
    again = story.lease(JobKind.PREPARE)
    assert again is not None
    assert again.job == "prepare-1"


@pytest.mark.parametrize("ageing_jobs", [0, 1, 20])
def test_a_change_of_the_ageing_puts_those_who_wait_in_its_order(story: Story, ageing_jobs: int) -> None:
    restart_with(story, 0)
    story.submit("normal")
    story.submit("low", priority=Priority.LOW)
    restart_with(story, ageing_jobs)
    assert not [event for event in story.desk.opening() if isinstance(event, AgeingSet)], "it is recorded once"
    story.submit("later")
    story.submit("high", priority=Priority.HIGH)
    for _ in range(4):
        story.prepare_next()
    line = [row.name for row in story.queries.waiting_line(9)]
    assert line == ["high.jsonl", "normal.jsonl", "later.jsonl", "low.jsonl"]


def test_a_low_job_is_not_overtaken_for_ever(story: Story) -> None:
    story.submit("low", priority=Priority.LOW)
    story.prepare_next()
    generation = 2
    for number in range(60):
        story.submit(f"n{number}")
        story.prepare_next()
        lease = story.lease(JobKind.TRAIN)
        assert lease is not None
        if lease.job == "train-1":
            # One class up for each 20 jobs that were started.
            assert 20 <= number <= 21
            return
        report(story, lease, generation, done=True)
        story.complete(lease, TRAINED)
        generation += 1
    pytest.fail("the low job never started")


def test_nothing_is_written_to_a_journal_that_is_older_than_the_checkpoints(story: Story) -> None:
    story.desk.unfit = DamageError("the journal", "it is older than the checkpoints")
    reply = story.ask(messages.Submit(request_id=story.id(), items=[story.item()]))
    assert isinstance(reply, messages.Refused)
    assert isinstance(story.ask(messages.GetOverview(request_id=story.id())), messages.Overview)
