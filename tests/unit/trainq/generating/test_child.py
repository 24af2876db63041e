"""The child: a whole file or none, one answer, politely, and no longer than whoever has asked."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.installations import wait_for
from trainq import diskfaults
from trainq.errors import InputError, NotFoundError, StorageFullError, UsageError
from trainq.generating import arithmetic, asked, child
from trainq.generating.child import Request
from trainq.liveness import is_alive


def request(path: Path, **how: Any) -> Request:
    return Request(**{"generator": "arithmetic", "count": 20, "level": 3, "seed": 8, "path": str(path), **how})


def test_a_file_has_the_rows_that_were_asked_for_and_is_the_same_again(tmp_path: Path) -> None:
    path = tmp_path / "made.jsonl"
    written = child.write(request(path))
    content = path.read_bytes()
    assert written == asked.Written(rows=20, left_out=0, size_bytes=len(content), generator_version="1")
    assert [orjson.loads(line)["metadata"]["seed"] for line in content.splitlines()] == [8] * 20
    assert child.write(request(path)) == written
    assert path.read_bytes() == content


@pytest.mark.parametrize(("how", "error"), [
    ({"generator": "none"}, NotFoundError), ({"level": 11}, UsageError), ({"count": 0}, UsageError),
    ({"options": {"x": 1}}, UsageError), ({"level": 1}, InputError)])
def test_what_cannot_be_made_leaves_nothing(how: dict[str, Any], error: type[Exception], tmp_path: Path,
                                            monkeypatch: pytest.MonkeyPatch) -> None:
    few = (lambda draws: draws.below(19), *arithmetic.LEVELS[1:])
    monkeypatch.setattr(arithmetic, "LEVELS", few)
    with pytest.raises(error):
        child.write(request(tmp_path / "made.jsonl", **how))
    assert list(tmp_path.iterdir()) == []


def test_rows_of_a_suite_are_left_out_and_a_file_of_nothing_else_is_none(tmp_path: Path) -> None:
    child.write(request(tmp_path / "known.jsonl", count=5))
    suite = tmp_path / "suites" / "fixed"
    suite.mkdir(parents=True)
    (tmp_path / "known.jsonl").rename(suite / "rows.jsonl")
    guarded = str(suite.parent)
    written = child.write(request(tmp_path / "made.jsonl", suites=guarded))
    assert (written.rows, written.left_out) == (15, 5)
    with pytest.raises(InputError, match="all of the 5 rows stand in an evaluation suite"):
        child.write(request(tmp_path / "none.jsonl", count=5, suites=guarded))
    assert not (tmp_path / "none.jsonl").exists()


@pytest.fixture
def no_fault_left() -> Iterator[None]:
    yield
    diskfaults.disarm()


@pytest.mark.usefixtures("no_fault_left")
@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_full_disk_leaves_no_file_and_no_half_of_one(at: int, tmp_path: Path) -> None:
    diskfaults.arm("ENOSPC", at, for_ever=False)
    with pytest.raises(StorageFullError):
        child.write(request(tmp_path / "made.jsonl"))
    assert list(tmp_path.iterdir()) == []


def start(question: bytes) -> "subprocess.Popen[bytes]":
    started = subprocess.Popen([sys.executable, "-P", "-m", "trainq.generating.child"], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, start_new_session=True)
    assert started.stdin is not None
    started.stdin.write(question)
    started.stdin.close()
    return started


def ask(question: bytes) -> tuple[int, Any]:
    started = start(question)
    assert started.stdout is not None
    with started.stdout:
        said = started.stdout.read()
    return started.wait(), orjson.loads(said)


@pytest.mark.slow
def test_the_process_answers_once_and_imports_nothing_heavy(tmp_path: Path) -> None:
    path = tmp_path / "made.jsonl"
    wanted = {"generator": "syllo", "count": 2, "level": 1, "seed": 1, "path": str(path), "parent": os.getpid(),
              "idle": True}
    assert ask(orjson.dumps(wanted)) == (0, {"rows": 2, "left_out": 0, "size_bytes": path.stat().st_size,
                                             "generator_version": "1"})
    assert ask(orjson.dumps({**wanted, "level": 12}))[1] == {
        "error": "the level is 12 (syllo takes one from 1 to 10)", "code": "usage"}
    assert ask(b"{}")[0] == InputError.exit_code
    heavy = "import sys, trainq.generating.child; print([m for m in ('torch', 'numpy', 'zmq') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", heavy]) == b"[]\n"


SECCOMP = """
import ctypes, os, runpy, struct, sys
number = {"x86_64": 144, "aarch64": 119}[os.uname().machine]
# Load the number of the call; EPERM for sched_setscheduler; all others are let through (seccomp(2)).
code = b"".join(struct.pack("HBBI", *each) for each in (
    (0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7fff0000)))
words = ctypes.create_string_buffer(code)
program = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(words))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, program) == 0, os.strerror(ctypes.get_errno())
runpy.run_module("trainq.generating.child", run_name="__main__")
"""


@pytest.mark.skipif(os.uname().machine not in ("x86_64", "aarch64"), reason="the number of the call is not known")
def test_where_a_sandbox_refuses_to_let_it_be_idle_the_rows_are_made_all_the_same(tmp_path: Path) -> None:
    wanted = {"generator": "arithmetic", "count": 2, "level": 3, "seed": 1, "path": str(tmp_path / "made.jsonl"),
              "idle": True}
    done = subprocess.run([sys.executable, "-P", "-c", SECCOMP], input=orjson.dumps(wanted), capture_output=True,
                          check=False)
    assert orjson.loads(done.stdout)["rows"] == 2
    assert b"SCHED_IDLE is refused ([Errno 1] Operation not permitted)" in done.stderr


def test_a_thread_that_has_ended_meanwhile_is_passed_over(monkeypatch: pytest.MonkeyPatch,
                                                          capfd: pytest.CaptureFixture[str]) -> None:
    asked_for = list[int]()

    def gone(thread: int, policy: int, _: os.sched_param) -> None:
        asked_for.append(thread)
        assert policy == os.SCHED_IDLE
        raise ProcessLookupError  # none of this process's threads may become idle

    monkeypatch.setattr(os, "sched_setscheduler", gone)
    asked._be_idle()
    assert sorted(map(str, asked_for)) == sorted(os.listdir("/proc/self/task"))
    assert capfd.readouterr().err == ""


@pytest.mark.slow
def test_the_idle_child_and_its_program_are_idle_and_end_when_it_is_killed(tmp_path: Path) -> None:
    left, folder = tmp_path / "left", tmp_path / "files"
    folder.mkdir()
    program = f"setsid sleep 600 & echo $! $$ > {left}; sleep 600"
    started = start(orjson.dumps({
        "generator": "command", "count": 2, "level": 1, "seed": 1, "path": str(folder / "made.jsonl"), "idle": True,
        "parent": os.getpid(), "options": {"argv": ["sh", "-c", program]}}))

    def said() -> list[int]:
        words = left.read_text().split() if left.exists() else []
        return [int(word) for word in words] if len(words) == 2 else []

    pids = wait_for(said, "the program's pids", 20)
    assert {os.sched_getscheduler(pid) for pid in (started.pid, *pids)} == {os.SCHED_IDLE}
    os.killpg(started.pid, signal.SIGKILL)
    assert started.wait() == -signal.SIGKILL
    assert started.stdout is not None
    started.stdout.close()
    wait_for(lambda: not any(map(is_alive, pids)), "the end of the program", 20)
    assert not (folder / "made.jsonl").exists()


@pytest.mark.slow
def test_what_a_killed_keeper_leaves_of_a_program_ends_with_the_child(tmp_path: Path) -> None:
    left, folder = tmp_path / "left", tmp_path / "files"
    folder.mkdir()
    program = f"setsid sleep 600 >&- & echo $! > {left}; kill -9 $PPID; sleep 600 >&-"
    code, said = ask(orjson.dumps({
        "generator": "command", "count": 2, "level": 1, "seed": 1, "path": str(folder / "made.jsonl"),
        "parent": os.getpid(), "options": {"argv": ["sh", "-c", program]}}))
    assert code == InputError.exit_code
    assert "its keeper was killed" in said["error"]
    assert not is_alive(int(left.read_text()))
