"""Leasing: who is next, and when a lease is over."""

import msgspec
import pytest

from services.broker.leasing import Choice, Deadlines, HeadWait, choose_train
from trainq.jobs import JobKind, JobState
from trainq.journal import JobRow

QUEUED = JobRow(
    id="train-1", number=1, kind=JobKind.TRAIN, state=JobState.QUEUED, name="a.jsonl", front=1, generated=0,
    priority=1, rank=20, started_before=0, digest="d", size_bytes=1, blockers=0, submitted_seq=1,
    submitted_at=0.0, prepared=0, shard="", shard_digest="", rows=0, tokens=0, attempts=0, failures=0,
    best_step=0, generation=0, deaths=0, death_step=None, worker="", session="", token=0, cancel_reason=None, keep=0,
    started_at=None, ended_at=None, retry_at=0.0, reason="", report=None, result=None)


def row(**changes: object) -> JobRow:
    return msgspec.structs.replace(QUEUED, **changes)


def choose(**changes: object) -> Choice:
    arguments: dict[str, object] = {
        "standing_reason": "", "held_reason": None, "head": None, "prepared": None, "waiting": None,
        "head_waited_seconds": 0.0, "prepare_wait_seconds": 60.0, "now_wall": 1000.0, **changes}
    return choose_train(**arguments)  # type: ignore[arg-type]  # built from names on purpose


def test_a_prepared_head_goes() -> None:
    assert choose(head=row(prepared=1)).job == row(prepared=1)


def test_a_paused_queue_gives_nothing_and_says_why() -> None:
    choice = choose(head=row(prepared=1), standing_reason="the queue is paused: lunch")
    assert choice.job is None
    assert "lunch" in choice.reason


def test_a_held_queue_gives_nothing_and_says_why() -> None:
    choice = choose(head=row(prepared=1), held_reason="no GPU")
    assert choice.job is None
    assert "no GPU" in choice.reason


def test_an_unprepared_head_is_waited_for_and_then_overtaken() -> None:
    head, other = row(), row(id="train-2", prepared=1)
    early = choose(head=head, prepared=other, head_waited_seconds=59.9)
    assert early.job is None
    assert "train-1" in early.reason
    late = choose(head=head, prepared=other, head_waited_seconds=60.0)
    assert (late.job, late.overtaken) == (other, head)
    assert choose(head=head, head_waited_seconds=600.0).job is None, "there is nobody to overtake it"


@pytest.mark.parametrize(("waiting", "words"), [
    (None, "empty"), (row(blockers=2), "2 other jobs"), (row(retry_at=1030.0, reason="boom"), "30 s: boom")])
def test_nobody_is_next_for_a_reason(waiting: JobRow | None, words: str) -> None:
    assert words in choose(waiting=waiting).reason


def test_the_wait_for_a_head_is_for_that_head() -> None:
    wait = HeadWait()
    assert wait.seconds(row(), 10.0) == 0.0
    assert wait.seconds(row(), 15.0) == 5.0
    assert wait.seconds(row(id="train-2"), 16.0) == 0.0
    assert wait.seconds(row(id="train-2", prepared=1), 20.0) == 0.0
    assert wait.seconds(row(id="train-2"), 21.0) == 0.0


def test_a_lease_story() -> None:
    deadlines = Deadlines(30.0)
    deadlines.start("train-1", 5, 0.0)
    assert deadlines.expired(29.9) == []
    deadlines.renew("train-1", 5, 20.0)
    deadlines.renew("train-1", 4, 45.0)  # an old token renews nothing
    deadlines.renew("train-9", 1, 45.0)  # nor does an unknown lease begin
    assert deadlines.next_expiry() == 50.0
    assert deadlines.expired(50.0) == [("train-1", 5)]
    deadlines.start("train-1", 9, 50.0)
    assert deadlines.expired(79.0) == []
    deadlines.forgive(100.0)
    assert deadlines.expired(129.0) == []
    deadlines.stop("train-1")
    assert deadlines.next_expiry() is None
