"""Held for a person, released, made again: the gate at the desk. What shards are made with is kept as long as needed.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tests.stories import PREPARED, TRAINED
from tests.unit.services.broker.test_dropping import DAY, SECOND, Dropping
from trainq import ingest, jobs, messages
from trainq.jobs import Enclosed, EnclosedRole, JobKind, JobState
from trainq.journal import enclosing
from trainq.messages import Done, GetTrainedShards, LiftHold, PrepareResult, Refused, TrainedShards

POOR = msgspec.structs.replace(PREPARED, hold="its quality is poor: half of it is damaged")


class Gate(Dropping):
    """Files that are prepared with a verdict, by a story that can drop content."""

    def pack(self, content: str) -> Enclosed:
        item = self.item(content)
        return Enclosed(role=EnclosedRole.REPLAY, digest=item.digest, size_bytes=item.size_bytes,
                        sources={"train-1": 2})

    def prepare(self, result: PrepareResult) -> messages.AnyReply:
        lease = self.lease(JobKind.PREPARE)
        assert lease is not None
        return self.complete(lease, result)

    def reason(self) -> str:
        reply = self.ask(messages.GetOverview(request_id=self.id()))
        assert isinstance(reply, messages.Overview)
        return reply.waiting_reason

    def lose_shard(self) -> messages.Lease:
        """The trainer finds the shard gone; the lease on making it again."""
        lease = self.lease(JobKind.TRAIN)
        assert lease is not None
        self.ask(messages.ReportLostShard(request_id=self.id(), job=lease.job, token=lease.token, reason="gone"))
        again = self.lease(JobKind.PREPARE)
        assert again is not None
        return again


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path)


def test_a_poor_file_leaves_the_line_until_it_is_released(gate: Gate) -> None:
    gate.submit("poor")
    gate.submit("good")
    gate.prepare(POOR)
    assert gate.state("train-1") is JobState.HELD
    assert gate.types("train-1")[-2:] == ["JobPrepared", "HoldPlaced"]
    assert gate.queries.job("train-1").reason == POOR.hold
    gate.prepare(PREPARED)
    lease = gate.lease(JobKind.TRAIN)
    assert lease is not None
    assert lease.job == "train-2", "the held one is passed by"
    gate.complete(lease, TRAINED)
    assert gate.reason() == "the queue is empty but for 1 held job, for a person to look at"
    gate.restart()
    assert gate.lease(JobKind.TRAIN) is None
    assert gate.ask(LiftHold(request_id=gate.id(), job="train-1")) == Done(changed=True, seq=gate.journal.head_seq)
    assert gate.ask(LiftHold(request_id=gate.id(), job="train-1")) == Done(changed=False, seq=gate.journal.head_seq)
    assert gate.queries.job("train-1").reason == ""
    lease = gate.lease(JobKind.TRAIN)
    assert lease is not None
    assert lease.job == "train-1"


def test_a_held_job_can_be_cancelled_and_then_not_released(gate: Gate) -> None:
    gate.submit("poor")
    gate.prepare(POOR)
    gate.ask(messages.Cancel(request_id=gate.id(), job="train-1"))
    assert gate.state("train-1") is JobState.CANCELLED
    refused = gate.ask(LiftHold(request_id=gate.id(), job="train-1"))
    assert isinstance(refused, Refused)
    assert isinstance(gate.ask(LiftHold(request_id=gate.id(), job="prepare-1")), Refused)


def test_a_shard_that_is_made_again_holds_nothing_again(gate: Gate) -> None:
    gate.submit("poor")
    gate.prepare(POOR)
    gate.ask(LiftHold(request_id=gate.id(), job="train-1"))
    again = gate.lose_shard()
    gate.complete(again, POOR)
    assert gate.state("train-1") is JobState.QUEUED
    # Nor where it may come out otherwise, because the job was set aside and is tried again meanwhile.
    again = gate.lose_shard()
    for event in (jobs.JobQuarantined(job="train-1", reason="x"), jobs.JobRetried(job="train-1")):
        with gate.journal.transaction():
            gate.journal.append(event, 1.0)
    assert gate.queries.job("train-1").shard_digest == ""
    gate.complete(again, POOR)
    assert gate.state("train-1") is JobState.QUEUED
    assert gate.types("train-1").count("HoldPlaced") == 1


def test_a_hold_survives_the_loss_of_its_shard(gate: Gate) -> None:
    """Nobody has released it: it is still held when its shard is made again, and the same lease is told what with."""
    gate.submit("poor")
    pack = gate.pack("pack")
    gate.prepare(msgspec.structs.replace(POOR, enclosed=(pack,)))
    assert gate.types("train-1").count("HoldPlaced") == 1
    gate.ask(LiftHold(request_id=gate.id(), job="train-1"))
    assert gate.lose_shard().enclosed == (pack,)


def test_what_shards_are_made_with_is_named_and_told_again(gate: Gate) -> None:
    gate.submit("a")
    lease = gate.lease(JobKind.PREPARE)
    assert lease is not None
    assert lease.enclosed is None, "for the first time"
    pack = gate.pack("pack")
    gate.complete(lease, msgspec.structs.replace(PREPARED, enclosed=(pack,)))
    detail = gate.ask(messages.ShowJob(request_id=gate.id(), job="train-1"))
    assert isinstance(detail, messages.JobDetail)
    assert detail.enclosed == (pack,)
    gate.submit("b")
    gate.prepare(PREPARED)
    again = gate.lose_shard()
    assert again.enclosed == (pack,)
    gate.complete(again, msgspec.structs.replace(PREPARED, enclosed=(pack,)))
    assert list(enclosing.enclosed_files(gate.journal.connection)) == [(pack.digest, pack.size_bytes, True)]


def test_what_is_not_stored_is_not_named(gate: Gate) -> None:
    gate.submit("a")
    pack = gate.pack("pack")
    assert gate.drop(pack.digest) == [pack.digest], "nobody names it yet"
    result = msgspec.structs.replace(PREPARED, enclosed=(pack,))
    refused = gate.prepare(result)
    assert isinstance(refused, Refused)
    assert refused.code == "send_again"
    assert gate.types("train-1") == ["JobSubmitted"]
    gate.delete(pack.digest)
    assert gate.pack("pack") == pack, "it is stored again"
    lease = gate.lease(JobKind.PREPARE)
    assert lease is not None
    gate.complete(lease, result)
    assert gate.drop(pack.digest) == []


def test_a_pack_stays_as_long_as_the_file_of_a_job_that_names_it(gate: Gate) -> None:
    gate.keep_data_for(2)
    pack = gate.pack("pack")
    item = gate.item("a")
    gate.submit_items(item)
    enclosed = msgspec.structs.replace(PREPARED, enclosed=(pack,))
    gate.prepare(enclosed)
    lease = gate.lease(JobKind.TRAIN)
    assert lease is not None
    gate.complete(lease, msgspec.structs.replace(TRAINED, generation=1, checkpoint="g"))
    gate.train("b", 2)
    gate.train("c", 3)
    assert gate.drop(item.digest, pack.digest, proven=SECOND) == []
    gate.clock.now += 3 * DAY
    assert set(gate.drop(item.digest, pack.digest, proven=SECOND)) == {item.digest, pack.digest}
    assert list(enclosing.enclosed_files(gate.journal.connection)) == []
    assert enclosing.users_of(gate.journal.connection, pack.digest) == []


def test_who_has_succeeded_is_told_newest_first(gate: Gate) -> None:
    digests = [gate.train(word, number) for number, word in enumerate("abc", start=1)]
    gate.submit("waits")
    reply = gate.ask(GetTrainedShards(request_id=gate.id(), limit=2))
    assert isinstance(reply, TrainedShards)
    assert [(each.job, each.digest, each.shard) for each in reply.shards] == [
        ("train-3", digests[2], PREPARED.shard), ("train-2", digests[1], PREPARED.shard)]
    assert ingest.is_stored(gate.configuration.home, digests[0], 1)


def test_who_is_replayed_is_a_sample_of_all_who_have_succeeded(gate: Gate) -> None:
    for number, word in enumerate("abcdef", start=1):
        gate.train(word, number)
    reply = gate.ask(GetTrainedShards(request_id=gate.id(), limit=4, spread=True))
    assert isinstance(reply, TrainedShards)
    assert [each.job for each in reply.shards] == ["train-6", "train-5", "train-4", "train-1"]
