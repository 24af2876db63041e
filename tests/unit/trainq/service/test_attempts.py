"""What is kept of attempts: begun with the lease, and bounded in number."""

import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from trainq import config, diskfaults, logs
from trainq.jobs import JobKind
from trainq.messages import Done, Lease, TrainSpec
from trainq.service import Process, attempts
from trainq.service.peer import Peer
from trainq.service.work import HeldLease


def test_the_oldest_go_when_there_are_too_many(tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"train-{number}.1.trainer.first.log").touch()
        os.utime(tmp_path / f"train-{number}.1.trainer.first.log", (1000 - number, 1000 - number))
    attempts.prune(tmp_path, 20, "")
    assert len(list(tmp_path.iterdir())) == 20
    attempts.prune(tmp_path, 12, "")
    assert [path.name for path in tmp_path.iterdir()] == []  # some more go at once than must
    (tmp_path / "train-1.1.trainer.first.log").touch()
    attempts.prune(tmp_path, 12, "")
    assert len(list(tmp_path.iterdir())) == 1


def file_of(folder: Path, name: str, at: float) -> Path:
    path = folder / name
    path.touch()
    os.utime(path, (at, at))
    return path


def test_an_attempt_that_still_goes_on_keeps_its_first_lines(tmp_path: Path,
                                                                monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if another service tidies up."""
    monkeypatch.setattr(attempts, "_FEWER", 5)
    first = file_of(tmp_path, "train-1.1.trainer.first.log", 1000)
    middle = file_of(tmp_path, "train-1.1.trainer.last.log.1", 5000)
    last = file_of(tmp_path, "train-1.1.trainer.last.log", 9000)
    others = [file_of(tmp_path, f"prepare-{number}.1.preparer.first.log", 2000 + number) for number in range(10)]
    attempts.prune(tmp_path, 8, "")
    assert set(tmp_path.iterdir()) == {first, middle, last}
    assert not any(path.exists() for path in others)


def test_an_attempt_that_is_taken_up_again_keeps_its_lines(tmp_path: Path) -> None:
    kept = file_of(tmp_path, "train-1.1.trainer.first.log", 1000)
    for number in range(10):
        file_of(tmp_path, f"prepare-{number}.1.preparer.first.log", 2000 + number)
    attempts.prune(tmp_path, 6, "train-1.1.trainer")
    assert list(tmp_path.iterdir()) == [kept]


def test_a_clock_that_was_set_back_makes_what_is_fresh_no_older(tmp_path: Path,
                                                                monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "_FEWER", 3)
    now = time.time()
    fresh = [file_of(tmp_path, f"train-{number}.1.trainer.first.log", now - number) for number in range(3)]
    for number in range(6):
        file_of(tmp_path, f"train-1{number}.1.trainer.first.log", now + 86400 + number)
    attempts.prune(tmp_path, 6, "")
    assert set(tmp_path.iterdir()) == set(fresh)


def test_what_is_no_file_stays_and_hinders_nothing(tmp_path: Path) -> None:
    (tmp_path / "stray").mkdir()
    os.utime(tmp_path / "stray", (1, 1))
    link = tmp_path / "link"
    link.symlink_to("nowhere")
    for number in range(3):
        file_of(tmp_path, f"train-{number}.1.trainer.first.log", 1000 + number)
    attempts.prune(tmp_path, 3, "")  # neither is counted
    assert len(list(tmp_path.iterdir())) == 5
    attempts.prune(tmp_path, 2, "")
    assert {path.name for path in tmp_path.iterdir()} == {"stray", "link"}


def test_an_attempt_s_lines_lie_in_the_home(tmp_path: Path) -> None:
    configuration = config.load({"TRAINQ_HOME": str(tmp_path)}, tmp_path)
    log = logs.open_log("preparer", tmp_path)
    process = cast(Process, SimpleNamespace(name="preparer", home=configuration.home, log=log))
    attempts.begin(process, "prepare-3", 2)
    log.info("lease_taken")
    log.end_attempt()
    log.close()
    assert b"lease_taken" in (tmp_path / "logs" / "jobs" / "prepare-3.2.preparer.first.log").read_bytes()


def test_a_folder_that_cannot_be_made_ends_nothing(tmp_path: Path) -> None:
    configuration = config.load({"TRAINQ_HOME": str(tmp_path)}, tmp_path)
    (tmp_path / "logs").write_text("a file")
    process = cast(Process, SimpleNamespace(name="preparer", home=configuration.home, log=logs.null_log()))
    attempts.begin(process, "prepare-3", 2)


def a_process(name: str, folder: Path) -> Process:
    configuration = config.load({"TRAINQ_HOME": str(folder)}, folder)
    return cast(Process, SimpleNamespace(name=name, session="s", home=configuration.home,
                                         log=logs.open_log(name, folder)))


def test_the_bound_is_kept_and_no_fresh_attempt_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two services take turns; whoever tidies up leaves what the other has just begun."""
    monkeypatch.setattr(attempts, "MOST_FILES", 12)
    monkeypatch.setattr(attempts, "_FEWER", 4)
    monkeypatch.setattr(logs, "ATTEMPT_BYTES", 200)
    folder = tmp_path / "logs" / "jobs"
    processes = [a_process(name, tmp_path) for name in ("preparer", "trainer")]
    most = 0
    for number in range(30):
        for process in processes:
            attempts.begin(process, f"job-{number}", 1)
            process.log.info("lease_taken", number=number)
            held = {path.name for path in folder.iterdir()}
            fresh = [f"job-{number}.1.{each.name}.first.log" for each in processes[:processes.index(process) + 1]]
            assert held.issuperset(fresh), number
            for _ in range(6):
                process.log.info("much", padding="x" * 100)
            most = max(most, len(list(folder.iterdir())))
        for path in folder.iterdir():  # the clock of a file system ticks seldom, and this is done within a tick
            if path.name.startswith(f"job-{number}."):
                os.utime(path, (1000 + number, 1000 + number))
    for process in processes:
        process.log.end_attempt()
        process.log.close()
    # Whoever begins leaves at most the bound, and adds three.
    assert 12 < most <= 12 + 3
    assert (folder / "job-29.1.trainer.last.log").exists()
    assert not (folder / "job-0.1.trainer.first.log").exists()


@pytest.mark.parametrize("kept", ["first", "last"])
def test_a_disk_that_is_full_at_the_end_hinders_no_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                          kept: str) -> None:
    """A real ENOSPC: the file is /dev/full. The report is made, and the log goes on."""
    monkeypatch.setattr(logs, "ATTEMPT_BYTES", 1000 if kept == "first" else 1)
    process = a_process("trainer", tmp_path)
    folder = tmp_path / "logs" / "jobs"
    folder.mkdir(parents=True)
    (folder / f"train-1.1.trainer.{kept}.log").symlink_to("/dev/full")
    lease = Lease(job="train-1", kind=JobKind.TRAIN, token=7, attempt=1, name="a", digest="d", size_bytes=1, seq=1,
                  lease_seconds=30.0, heartbeat_seconds=5.0,
                  spec=TrainSpec(model="", data=config.DataSettings(), train=config.TrainSettings()))
    asked = []

    def call(request: object, *_: object, **__: object) -> Done:
        asked.append(request)
        return Done()

    peer = cast(Peer, SimpleNamespace(process=process, client=SimpleNamespace(call=call), lost=set(), cancelled=set(),
                                      kept=set()))
    attempts.begin(process, "train-1", 1)
    process.log.info("lease_taken")
    process.log.info("trained")
    assert HeldLease(peer, lease, patient=False).release("it is over")
    assert len(asked) == 1
    attempts.begin(process, "train-2", 1)
    process.log.info("next")
    process.log.end_attempt()
    process.log.close()
    assert b"lease_ended" in (tmp_path / "trainer.log").read_bytes()
    assert b"next" in (folder / "train-2.1.trainer.first.log").read_bytes()


@pytest.mark.parametrize("error", ["ENOSPC", "EIO", "EROFS", "EMFILE"])
def test_a_disk_that_fails_at_the_beginning_hinders_no_attempt(tmp_path: Path, error: str) -> None:
    process = a_process("trainer", tmp_path)
    diskfaults.arm(error, 1, for_ever=True)
    try:
        attempts.begin(process, "train-1", 1)
    finally:
        assert diskfaults.disarm()[1] > 0
    process.log.info("lease_taken")
    process.log.close()
    told = (tmp_path / "trainer.log").read_bytes()
    assert b"attempt_not_kept" in told
    assert b"lease_taken" in told
