"""A child that is asked once: its answer may be long, and what it cannot do it says."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from trainq import logs
from trainq.errors import TrainqError
from trainq.service import InterruptedWorkError, Interruption
from trainq.service import child as child_module
from trainq.service.child import Child, ChildStuckError

# Whoever traces a process is told of its end first: until the tracer is gone, its parent waits in vain.
TRACER = """
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
print(libc.ptrace(0x4206, int(sys.argv[1]), None, None), flush=True)  # PTRACE_SEIZE: it runs on
sys.stdin.read()
"""


def ended(child: Child) -> Child:
    until = time.monotonic() + 60
    while not child.has_ended:
        assert time.monotonic() < until, "it hangs"
        time.sleep(0.01)
    return child


def test_an_answer_longer_than_a_pipe_takes_is_read_whole(tmp_path: Path) -> None:
    # json.tool gives back what it is asked.
    with Child(tmp_path / "log", "json.tool", {"text": "x" * 300_000}) as child:
        answer: dict[str, Any] = ended(child).result(dict)
    assert (len(answer["text"]), answer["parent"]) == (300_000, os.getpid())


def test_one_that_fails_names_its_log_and_leaves_no_descriptor(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with (pytest.raises(TrainqError, match="exit code 1"),
          Child(tmp_path / "log", "trainq.no_such_module", {}) as child):
        ended(child).result(dict)
    assert "No module named" in (tmp_path / "log").read_text()
    assert len(os.listdir("/proc/self/fd")) == before


CHATTY = """import os, time
os.write(2, b"x" * 70_000)
while os.fstat(2).st_size:
    time.sleep(0.01)
os.write(2, b"the last")
print({})
"""


def test_what_one_says_without_an_end_is_cut_and_the_newest_stays(tmp_path: Path,
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MAX_FILE_BYTES", 20_000)
    (tmp_path / "chatty.py").write_text(CHATTY)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Child(tmp_path / "log", "chatty", {}) as child:
        until = time.monotonic() + 60
        while not child.has_ended:
            assert time.monotonic() < until, "it hangs"
            child.cut_log()
            time.sleep(0.01)
        assert child.result(dict) == {}
    assert (tmp_path / "log.1").read_bytes() == b"x" * 20_000
    assert (tmp_path / "log").read_bytes() == b"the last"
    (tmp_path / "log").write_bytes(b"x" * 50_000 + b"y" * 20_000)
    child.cut_log()
    assert (tmp_path / "log.1").read_bytes() == b"y" * 20_000
    assert (tmp_path / "log").read_bytes() == b""


def test_one_that_cannot_be_started_leaves_no_descriptor_either(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(FileNotFoundError), Child(tmp_path / "nowhere" / "log", "json.tool", {}):
        pass
    assert len(os.listdir("/proc/self/fd")) == before


def test_one_that_the_kernel_does_not_end_is_left_behind_with_a_reason(tmp_path: Path,
                                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_module, "_END_SECONDS", 0.5)
    before = len(os.listdir("/proc/self/fd"))
    (tmp_path / "sleeper.py").write_text("import time\ntime.sleep(3600)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    child = Child(tmp_path / "log", "sleeper", {})
    with pytest.raises(ChildStuckError, match=r"the kernel has not ended it within 0\.5 s") as stuck, child:
        pid = child._process.pid
        tracer = subprocess.Popen([sys.executable, "-c", TRACER, str(pid)], text=True, stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE)
        assert tracer.stdout is not None
        if tracer.stdout.readline() != "0\n":
            tracer.communicate()
            pytest.skip("nobody may trace here")
        raise InterruptedWorkError(Interruption.CANCELLED)
    assert isinstance(stuck.value.__cause__, InterruptedWorkError)
    tracer.communicate()
    assert child._process.wait(60) == -signal.SIGKILL
    assert len(os.listdir("/proc/self/fd")) == before
