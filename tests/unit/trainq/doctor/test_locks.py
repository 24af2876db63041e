"""Who holds which lock, by the kernel's table alone."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from trainq.config import Home, Settings
from trainq.doctor import locks
from trainq.doctor.findings import Finding, Subject, Verdict
from trainq.locks import acquire_lock
from trainq.supervising import Program, Supervisor

HOLD = "import fcntl, os, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); f.write(str(os.getpid())); " \
       "f.flush(); print('held', flush=True); sys.stdin.read()"

FORK = """
import fcntl, os, signal, sys
reader, writer = os.pipe()
if os.fork():
    os.read(reader, 1)
    signal.pause()
f = open(sys.argv[1], 'w')
fcntl.flock(f, fcntl.LOCK_EX)
os.write(1, b'%d\\n' % os.getpid())
signal.pause()
"""


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    made = Subject({}, tmp_path / "checkout", Home(tmp_path), Settings())
    made.home.run.mkdir()
    made.home.checkpoints.mkdir()
    return made


@pytest.fixture
def elsewhere(subject: Subject) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the trainer's lock, and is no trainer."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(subject.home.run / "trainer.lock")], text=True,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.send_signal(signal.SIGCONT)
        process.kill()


def only(subject: Subject) -> Finding:
    (found,) = locks.locks(subject)
    return found


def ended_pid() -> int:
    with subprocess.Popen(["true"]) as process:
        return process.pid


def supervised(subject: Subject, monkeypatch: pytest.MonkeyPatch, pid: int, state: str = "RUNNING",
               now: int | None = None) -> None:
    """supervisord has this broker; and when it is asked again, ``now``."""
    program = Program(name="broker", state=state, pid=pid, started_at=1.0, stopped_at=0.0, exit_code=0, spawn_error="")
    subject.__dict__["_programs"] = [program]
    again = program if now is None else msgspec.structs.replace(program, pid=now)
    monkeypatch.setattr(Supervisor, "programs", lambda _self: [again])


def test_none_yet(subject: Subject) -> None:
    assert "none yet" in only(subject).found


def test_a_stale_lock_keeps_nobody_out(subject: Subject) -> None:
    pid = ended_pid()
    (subject.home.run / "broker.lock").write_text(f"{pid}\n")
    found = only(subject)
    assert found.verdict is Verdict.OK
    assert f"run/broker.lock is free; process {pid}, which held it last, has ended" in found.found


def test_a_pid_that_is_another_process_now(subject: Subject) -> None:
    (subject.home.run / "broker.lock").write_text(f"{os.getppid()}\n")
    assert "is another process now" in only(subject).found


def test_one_that_is_held_names_its_holder(subject: Subject) -> None:
    lock = acquire_lock(subject.home.run / "broker.lock", "broker")
    try:
        found = only(subject)
        assert found.verdict is Verdict.WARN, "this is a test, and no broker"
        assert f"held by process {os.getpid()}" in found.found
    finally:
        lock.release()
    assert only(subject).verdict is Verdict.OK


def test_a_holder_that_is_stopped(subject: Subject, elsewhere: subprocess.Popen[str]) -> None:
    elsewhere.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, elsewhere.pid, os.WSTOPPED | os.WNOWAIT)
    found = only(subject)
    assert (found.verdict, found.mend) == (Verdict.FAIL, f"kill -CONT {elsewhere.pid}")


@pytest.fixture
def started(subject: Subject, tmp_path: Path) -> Iterator[Callable[[str], tuple[int, int]]]:
    """Start a "broker" that holds the lock, by a program of the given name: (its pid, that of the program)."""
    with contextlib.ExitStack() as stack:
        def start(name: str) -> tuple[int, int]:
            (tmp_path / name).write_text(FORK)
            parent = stack.enter_context(subprocess.Popen(
                [sys.executable, str(tmp_path / name), str(subject.home.run / "broker.lock"), "services.broker"],
                text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
            stack.callback(parent.kill)
            assert parent.stdout is not None
            pid = int(parent.stdout.readline())
            stack.callback(os.kill, pid, signal.SIGKILL)
            return pid, parent.pid
        yield start


@pytest.mark.parametrize(("state", "verdict"), [
    ("STARTING", Verdict.FAIL), ("BACKOFF", Verdict.FAIL), ("FATAL", Verdict.FAIL), ("RUNNING", Verdict.WARN),
    ("STOPPED", Verdict.WARN), ("STOPPING", Verdict.WARN)])
def test_a_holder_that_supervisord_does_not_know(
        subject: Subject, monkeypatch: pytest.MonkeyPatch, state: str, verdict: Verdict) -> None:
    monkeypatch.setattr(locks, "_holder", lambda pid: locks.Holder(pid, "S", "python -m services.broker"))
    lock = acquire_lock(subject.home.run / "broker.lock", "broker")
    try:
        supervised(subject, monkeypatch, os.getpid())
        assert only(subject).verdict is Verdict.OK
        supervised(subject, monkeypatch, 99, state)
        found = only(subject)
        assert (found.verdict, f"kill {os.getpid()}" == found.mend) == (verdict, verdict is Verdict.FAIL)
        assert "kill" in found.mend or verdict is Verdict.WARN
        assert str(os.getpid()) in found.found
        assert "process 99" in found.found
        supervised(subject, monkeypatch, 99, state, now=os.getpid())
        assert only(subject).verdict is Verdict.OK, "it was started between the two looks"
    finally:
        lock.release()


def test_a_holder_of_another_supervisord_is_not_to_be_killed(
        subject: Subject, monkeypatch: pytest.MonkeyPatch, started: Callable[[str], tuple[int, int]]) -> None:
    pid, other = started("supervisord")
    supervised(subject, monkeypatch, 0, "FATAL")
    found = only(subject)
    assert found.verdict is Verdict.WARN
    assert "kill" not in found.mend
    assert f"process {pid}," in found.found
    assert f"the supervisord that is process {other}" in found.found
    os.kill(other, signal.SIGKILL)
    os.waitid(os.P_PID, other, os.WEXITED | os.WNOWAIT)
    found = only(subject)
    assert (found.verdict, found.mend) == (Verdict.FAIL, f"kill {pid}"), "an orphan now"


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"9" * 60, b"-1", b"12 34", b"0"])
def test_rubbish_in_a_lock(subject: Subject, content: bytes) -> None:
    (subject.home.run / "broker.lock").write_bytes(content)
    assert only(subject).verdict is Verdict.OK
    assert locks.written_pid(subject.home.run / "broker.lock") == 0


def test_no_file_where_a_lock_is_to_be(subject: Subject) -> None:
    (subject.home.run / "broker.lock").mkdir()
    os.mkfifo(subject.home.run / "status.lock")
    assert [(each.verdict, "move" in each.mend) for each in locks.locks(subject)] == [(Verdict.FAIL, True)] * 2


def test_a_lock_is_not_taken_for_it(subject: Subject) -> None:
    (subject.home.run / "broker.lock").touch()
    before = (subject.home.run / "broker.lock").stat()
    only(subject)
    after = (subject.home.run / "broker.lock").stat()
    assert (before.st_mtime_ns, before.st_ino) == (after.st_mtime_ns, after.st_ino)


def test_other_devices_in_the_kernels_table_are_told_by_the_pid(subject: Subject) -> None:
    path = subject.home.run / "broker.lock"
    path.write_text(f"{os.getpid()}\n")
    inode = path.stat().st_ino
    line = f"1: FLOCK  ADVISORY  WRITE {os.getpid()} ff:fff:{inode} 0 EOF"
    holder = locks.holder_of(path, f"rubbish\n1: FLOCK x\n{line}")
    assert holder is not None
    assert holder.pid == os.getpid()
    assert locks.holder_of(path, line.replace(str(os.getpid()), "1", 1)) is None
