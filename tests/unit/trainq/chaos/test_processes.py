"""Only living processes of the home are found and signalled."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from trainq.chaos import processes
from trainq.chaos.processes import Seen
from trainq.config import HOME_KEY

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a process that says it is there and waits, with a home in its environment and words in its command."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(home: Path, *words: str) -> subprocess.Popen[bytes]:
        code = "import sys; print(flush=True); sys.stdin.read()"
        process = subprocess.Popen([sys.executable, "-c", code, *words], env={HOME_KEY: str(home)},
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout is not None
        process.stdout.readline()
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def test_the_processes_of_the_home_are_found_with_their_roles(start: Start, tmp_path: Path) -> None:
    expected = {start(tmp_path, "-m", f"services.{name}").pid: name for name in processes.SERVICES}
    expected[start(tmp_path, "-m", "services.trainer.forkserver", "3").pid] = processes.FORK_SERVER
    expected[start(tmp_path, "-m", "supervisor.supervisord").pid] = processes.SUPERVISORD
    expected[start(tmp_path, "-m", "trainq.ml.evaluating").pid] = processes.EVALUATION
    expected[start(tmp_path, "-m", "trainq.generating.child").pid] = processes.GENERATION
    expected[start(tmp_path, "sleep").pid] = processes.OTHER
    start(tmp_path / "other", "-m", "services.broker")
    assert {seen.pid: seen.role for seen in processes.of_home(tmp_path)} == expected
    assert {seen.parent for seen in processes.of_home(tmp_path)} == {os.getpid()}


def test_a_fork_of_the_fork_server_is_the_training_process(tmp_path: Path) -> None:
    code = "import os, sys; r, w = os.pipe(); pid = os.fork(); pid and print(pid, flush=True); sys.stdin.read()"
    server = subprocess.Popen([sys.executable, "-c", code, "services.trainer.forkserver"],
                              env={HOME_KEY: str(tmp_path)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert server.stdout is not None
    fork = int(server.stdout.readline())
    try:
        assert {seen.pid: seen.role for seen in processes.of_home(tmp_path)} == {
            server.pid: processes.FORK_SERVER, fork: processes.TRAINING}
    finally:
        server.communicate()


def test_a_signal_reaches_what_is_held_until_it_has_ended(start: Start, tmp_path: Path) -> None:
    process = start(tmp_path, "services.broker")
    [seen] = processes.of_home(tmp_path)
    target = processes.hold(seen, tmp_path)
    assert target is not None
    assert target.send(signal.SIGKILL)
    process.wait()
    assert not target.send(signal.SIGKILL)
    target.close()
    assert processes.hold(seen, tmp_path) is None
    assert processes.of_home(tmp_path) == []


def test_another_homes_process_is_never_held(start: Start, tmp_path: Path) -> None:
    process = start(tmp_path / "other", "services.broker")
    stranger = Seen(process.pid, os.getpid(), "broker")
    assert processes.hold(stranger, tmp_path) is None
    processes.end_all(tmp_path, [stranger])
    assert process.poll() is None
