"""What the caretaker asks for, what may be refused, and what may not fail."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import msgspec
import pytest

from tests.generations import publish
from trainq import snapshots
from trainq.chaos import plan
from trainq.chaos.plan import Upkeep, UpkeepKind
from trainq.chaos.upkeep import Caretaker, failed_wrongly, fed_wrongly
from trainq.client import BrokerClient
from trainq.config import Home
from trainq.errors import DamageError, TrainqError, UsageError
from trainq.jobs import JobKind, JobState
from trainq.messages import Accepted, BackupTask, JobView, RestoreTask, SnapshotTask, SubmitTask, Task

LEFT_BEHIND = "usage: the line stands at g000008-s00000013, and g000007-s00000070 was merged (...)"
VIEW = {
    "id": "x-1", "number": 1, "kind": "train", "state": "queued", "name": "n", "priority": "normal", "origin": "people",
    "digest": "", "size_bytes": 0, "prepared": False, "rows": 0, "tokens": 0, "attempts": 1, "failures": 0,
    "submitted_at": 0.0, "started_at": 0.0, "ended_at": 0.0, "retry_at": 0.0, "reason": "", "cancel_reason": None,
    "result": None, "progress": None}


class Broker:
    """Notes what it is asked for, and answers each time the same."""

    def __init__(self, answer: TrainqError | None = None) -> None:
        self.asked: list[Task] = []
        self._answer = answer

    def call(self, request: SubmitTask, _expect: type[Accepted], **_options: float) -> Accepted:
        self.asked.append(request.task)
        if self._answer is not None:
            raise self._answer
        return Accepted(job="snapshot-1", state=JobState.QUEUED)


def act(caretaker: Caretaker, broker: Broker) -> None:
    caretaker.act(cast("BrokerClient", broker))


@pytest.fixture
def caretaker(tmp_path: Path) -> Caretaker:
    home = Home(tmp_path / "h")
    publish(home.checkpoints, 1, {"w": b"w"})
    return Caretaker(home, 1, tmp_path / "backups")


def steps(monkeypatch: pytest.MonkeyPatch, *wanted: tuple[UpkeepKind, float]) -> None:
    def of(_seed: int) -> tuple[list[Upkeep], Iterator[Upkeep]]:
        made = [Upkeep(kind, 0.0, which) for kind, which in wanted]
        return made[:1], iter(made[1:])

    monkeypatch.setattr(plan, "upkeep", of)


def test_without_a_snapshot_nothing_is_restored_and_with_one_it_is(
        caretaker: Caretaker, monkeypatch: pytest.MonkeyPatch) -> None:
    steps(monkeypatch, (UpkeepKind.RESTORE, 0.9), (UpkeepKind.BACKUP, 0.99), (UpkeepKind.BACKUP, 0.0))
    broker = Broker()
    act(caretaker, broker)
    assert [(type(task), getattr(task, "keep_last", None)) for task in broker.asked] == [
        (BackupTask, 3), (BackupTask, 0)]
    home = caretaker.home
    home.snapshots.mkdir()
    snapshots.create(home.snapshots, home.checkpoints / "g000001-s00000010", jobs=b"", job_count=0, created_at=1.0,
                     created_by="test", on_chunk=lambda _: None)
    act(caretaker, broker)
    assert broker.asked[2] == RestoreTask(name="g000001-s00000010", retrain=True)
    assert len(broker.asked) == 5


def test_a_restore_may_be_refused_and_nothing_else(caretaker: Caretaker, monkeypatch: pytest.MonkeyPatch) -> None:
    test_without_a_snapshot_nothing_is_restored_and_with_one_it_is(caretaker, monkeypatch)
    steps(monkeypatch, (UpkeepKind.RESTORE, 0.0))
    act(caretaker, Broker(UsageError("restore-1 has not ended yet")))
    with pytest.raises(DamageError):
        act(caretaker, Broker(DamageError("snapshots", "broken")))
    steps(monkeypatch, (UpkeepKind.RETENTION, 0.0))
    with pytest.raises(UsageError):
        act(caretaker, Broker(UsageError("no")))


def test_it_waits_for_a_model_and_no_longer_than_it_is_let(tmp_path: Path) -> None:
    caretaker = Caretaker(Home(tmp_path / "h"), 1, tmp_path / "backups")
    broker = Broker()
    thread = threading.Thread(target=act, args=(caretaker, broker))
    thread.start()
    caretaker.give_up()
    thread.join(10)
    assert not thread.is_alive()
    assert broker.asked == []


def test_its_first_round_is_asked_for_also_when_it_is_told_to_stop(
        caretaker: Caretaker, monkeypatch: pytest.MonkeyPatch) -> None:
    steps(monkeypatch, (UpkeepKind.SNAPSHOT, 0.0), (UpkeepKind.VERIFY, 0.0))
    broker = Broker()
    caretaker.stop()
    act(caretaker, broker)
    assert broker.asked == [SnapshotTask()]


def test_each_task_that_has_made_a_file_is_one_job() -> None:
    def view(kind: JobKind, state: JobState, origin: str = "people") -> JobView:
        return msgspec.convert({**VIEW, "kind": kind.value, "state": state.value, "origin": origin}, JobView)

    tasks = [view(JobKind.GENERATE, JobState.SUCCEEDED), view(JobKind.GENERATE, JobState.FAILED)]
    theirs, made = view(JobKind.TRAIN, JobState.SUCCEEDED), view(JobKind.TRAIN, JobState.REJECTED, "generated")
    assert fed_wrongly(tasks, [theirs, made]) == []
    assert fed_wrongly(tasks, [theirs]) == ["1 files were generated, and 0 are jobs"]
    assert fed_wrongly(tasks, [made, made]) == ["1 files were generated, and 2 are jobs"]


def test_only_what_found_nothing_or_was_killed_again_and_again_may_fail() -> None:
    def task(state: JobState, reason: str, kind: JobKind = JobKind.SNAPSHOT) -> JobView:
        return msgspec.convert({**VIEW, "id": f"{kind.value}-1", "kind": kind.value, "state": state.value,
                                "reason": reason}, JobView)

    right = [task(JobState.SUCCEEDED, ""), task(JobState.FAILED, "NotFoundError: there is no generation yet"),
             task(JobState.FAILED, LEFT_BEHIND, JobKind.REBASE),
             task(JobState.FAILED, "its training process ended in the middle (signal 9)", JobKind.RESTORE),
             task(JobState.FAILED, "3 of its workers in a row were lost with it; snapshot was restarted"),
             task(JobState.QUARANTINED, "a file's job", JobKind.TRAIN)]
    assert failed_wrongly(right) == []
    for lie in (task(JobState.FAILED, "DamageError: x"), task(JobState.CANCELLED, ""),
                task(JobState.FAILED, "its training process ended in the middle (exit 1)", JobKind.RESTORE)):
        assert len(failed_wrongly([*right, lie])) == 1
