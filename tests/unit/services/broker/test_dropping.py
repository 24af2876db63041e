"""Dropping at the desk: what no job needs is decided, journalled, and in the meantime nobody's submit is lost."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from tests.generations import publish
from tests.stories import PREPARED, TRAINED, Story
from trainq import ingest, messages
from trainq.jobs import JobKind, JobState, Store
from trainq.messages import (
    Accepted,
    Done,
    DropData,
    GetUsedShards,
    Hello,
    Leased,
    Refused,
    ReportCheckpoint,
    ReportDataGone,
    RestoreTask,
    RetentionTask,
    SubmitTask,
    TaskLease,
    ToDelete,
    UsedShards,
)

DAY = 86_400.0
SECOND = "g000002-s00000020"


class Dropping(Story):
    """A story in which retention has a task in its hands."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        assert isinstance(self.ask(SubmitTask(request_id=self.id(), task=RetentionTask())), Accepted)
        taken = self.ask(messages.TakeLease(request_id=self.id(), worker="retention", session="s",
                                            kinds=(JobKind.RETENTION,)))
        assert isinstance(taken, Leased)
        assert isinstance(taken.lease, TaskLease)
        self.task = taken.lease

    def keep_data_for(self, days: float) -> None:
        settings = self.configuration.settings
        retention = msgspec.structs.replace(settings.retention, data_days=days)
        self.configuration = msgspec.structs.replace(
            self.configuration, settings=msgspec.structs.replace(settings, retention=retention))
        self.restart()

    def digest(self, content: str) -> str:
        """Of content that is stored, and not submitted."""
        return self.item(content).digest

    def drop(self, *digests: str, proven: str = "") -> list[str]:
        reply = self.ask(DropData(request_id=self.id(), job=self.task.job, token=self.task.token, digests=digests,
                                  proven=proven))
        assert isinstance(reply, ToDelete), reply
        return reply.digests

    def delete(self, *digests: str) -> messages.AnyReply:
        for digest in digests:
            ingest.data_path(self.configuration.home, digest).unlink(missing_ok=True)
        return self.ask(ReportDataGone(request_id=self.id(), job=self.task.job, token=self.task.token, digests=digests))

    def train(self, content: str, generation: int) -> str:
        """A file trained in that generation; its content's digest."""
        item = self.item(content)
        job = self.submit_items(item)[0].job
        self.prepare_next()
        lease = self.lease(JobKind.TRAIN)
        assert lease is not None
        assert lease.job == job
        name = publish(self.configuration.home.checkpoints, generation, {"w": b"w"}, job=job)
        self.ask(ReportCheckpoint(request_id=self.id(), job=job, token=lease.token, generation=generation, name=name,
                                  step=generation * 10, job_step=2, done=True, reason="job_end"))
        self.complete(lease, msgspec.structs.replace(TRAINED, generation=generation, checkpoint=name))
        return item.digest


@pytest.fixture
def story(tmp_path: Path) -> Dropping:
    return Dropping(tmp_path)


def test_what_no_job_names_goes_and_what_one_names_stays(story: Dropping) -> None:
    orphan, named = story.digest("orphan"), story.item("named")
    story.submit_items(named)
    assert story.drop(orphan, named.digest, "f" * 64) == [orphan, "f" * 64]
    assert story.types()[-1] == "DataDropped"
    assert story.drop(orphan, named.digest) == [orphan], "the reply was lost: it is told again"
    assert story.types().count("DataDropped") == 1
    assert story.delete(orphan) == Done(changed=True, seq=story.journal.head_seq)
    assert story.delete(orphan) == Done(changed=False, seq=story.journal.head_seq)


def test_a_submit_in_between_is_told_to_send_it_again_and_is_accepted_then(story: Dropping) -> None:
    item = story.item("late")
    assert story.drop(item.digest) == [item.digest]
    refused, = story.submit_items(item)
    assert (refused.error_code, refused.job) == ("send_again", "")
    story.restart()
    assert story.submit_items(item)[0].error_code == "send_again"
    story.delete(item.digest)
    assert story.submit_items(item)[0].error_code == "send_again", "it is not stored any more"
    story.item("late")  # which stores it again
    accepted, = story.submit_items(item)
    assert (accepted.error_code, accepted.job) == ("", "train-1")
    assert story.drop(item.digest) == []


def test_what_is_stored_again_counts_as_new(story: Dropping) -> None:
    path = ingest.data_path(story.configuration.home, story.digest("again"))
    os.utime(path, (1.0, 1.0))
    story.digest("again")
    assert path.stat().st_mtime > 1.0


def test_what_is_trained_goes_once_it_is_old_and_two_proven_generations_hold_it(story: Dropping) -> None:
    story.keep_data_for(2)
    first, second, third = (story.train(word, number) for number, word in enumerate("abc", start=1))
    everything = (first, second, third)
    story.clock.now += 1.9 * DAY
    assert story.drop(*everything, proven=SECOND) == []
    story.clock.now += 0.2 * DAY
    assert story.drop(*everything) == [], "nobody has proven the newest"
    assert story.drop(*everything, proven=SECOND) == [first, second], "the third is held by the head alone"


def test_what_the_line_went_back_from_stays(story: Dropping) -> None:
    story.keep_data_for(1)
    one, two = story.train("a", 1), story.train("b", 2)
    story.clock.now += 2 * DAY
    # The head is the first one again: the second does not verify, and what was in it waits.
    damaged = messages.DamagedGeneration(generation=2, name="damaged-g000002-s00000020", reason="r")
    story.ask(Hello(request_id=story.id(), worker="trainer", session="s", generation=1, name="g000001-s00000010",
                    step=10, damaged=(damaged,)))
    assert story.drop(one, two, proven=SECOND) == []


def test_what_a_restore_is_about_to_take_out_stays_and_what_is_gone_is_not_promised(story: Dropping) -> None:
    story.keep_data_for(1)
    one, two, three = (story.train(word, number) for number, word in enumerate("abc", start=1))
    story.clock.now += 2 * DAY
    back = RestoreTask(store=Store.CHECKPOINTS, name="g000001-s00000010", retrain=True)
    open_one = story.ask(SubmitTask(request_id=story.id(), task=back))
    assert isinstance(open_one, Accepted)
    assert story.drop(one, two, three, proven=SECOND) == []
    story.ask(messages.Cancel(request_id=story.id(), job=open_one.job))
    assert story.drop(one, two, three, proven=SECOND) == [one, two]
    refused = story.ask(SubmitTask(request_id=story.id(), task=back))
    assert isinstance(refused, Refused)
    assert "retention has deleted the content of train-2" in refused.message
    assert isinstance(story.ask(messages.Retry(request_id=story.id(), job="train-2")), Refused)
    accepted = story.ask(SubmitTask(request_id=story.id(), task=msgspec.structs.replace(back, retrain=False)))
    assert isinstance(accepted, Accepted)


def test_what_is_lost_with_its_content_gone_is_set_aside_and_holds_nobody_up(story: Dropping) -> None:
    story.keep_data_for(1)
    digests = [story.train(word, number) for number, word in enumerate("abc", start=1)]
    story.clock.now += 2 * DAY
    story.delete(*story.drop(*digests, proven=SECOND))
    damaged = tuple(messages.DamagedGeneration(
        generation=number, name=f"damaged-g{number:06d}-s{number:07d}0", reason="r") for number in (2, 3))
    story.ask(Hello(request_id=story.id(), worker="trainer", session="s", generation=1, name="g000001-s00000010",
                    step=10, damaged=damaged))
    lease = story.lease(JobKind.TRAIN)
    assert lease is not None
    assert lease.job == "train-2", "the first one is still held"
    story.ask(messages.ReportLostShard(request_id=story.id(), job=lease.job, token=lease.token, reason="gone"))
    story.submit("new")
    preparation = story.lease(JobKind.PREPARE)
    assert preparation is not None
    assert preparation.job == "prepare-4"
    assert story.state("train-2") is JobState.QUARANTINED
    assert "data_days" in story.queries.job("train-2").reason
    # The third has its content still.
    third = story.lease(JobKind.TRAIN)
    assert third is not None
    assert third.job == "train-3"


def test_without_days_what_is_trained_is_kept_for_ever(story: Dropping) -> None:
    digests = [story.train(word, number) for number, word in enumerate("abc", start=1)]
    story.clock.now += 10_000 * DAY
    assert story.drop(*digests, proven=SECOND) == []


def test_what_was_set_aside_stays_for_people(story: Dropping) -> None:
    story.keep_data_for(1)
    item = story.item("bad")
    story.submit_items(item)
    lease = story.lease(JobKind.PREPARE)
    assert lease is not None
    story.complete(lease, messages.RejectResult(reason="unfit", report={}))
    story.train("b", 1)
    story.train("c", 2)
    story.clock.now += 30 * DAY
    assert story.drop(item.digest, proven=SECOND) == []


def test_only_the_holder_of_a_retention_task_drops(story: Dropping) -> None:
    for token in (story.task.token + 1, story.task.token - 1):
        reply = story.ask(DropData(request_id=story.id(), job=story.task.job, token=token, digests=("f" * 64,)))
        assert isinstance(reply, Refused)
        assert reply.code == "stale_lease"
    assert "DataDropped" not in story.types()


def test_a_shard_is_needed_until_its_job_has_ended(story: Dropping) -> None:
    story.submit("a")
    lease = story.lease(JobKind.PREPARE)
    assert lease is not None
    story.complete(lease, msgspec.structs.replace(PREPARED, shard="a-shard"))

    def used() -> list[str]:
        reply = story.ask(GetUsedShards(request_id=story.id(), shards=("a-shard", "other")))
        assert isinstance(reply, UsedShards)
        return reply.shards

    assert used() == ["a-shard"]
    train = story.lease(JobKind.TRAIN)
    assert train is not None
    assert used() == ["a-shard"]
    story.complete(train, TRAINED)
    assert used() == []


def test_a_journal_folded_anew_knows_what_was_dropped(story: Dropping) -> None:
    gone, going = story.digest("gone"), story.digest("going")
    story.drop(gone, going)
    story.delete(gone)
    story.restart()
    assert (story.queries.dropping(9), story.queries.is_dropped(gone)) == ([going], True)
