"""supervisord's own API: a real supervisord with programs of its own, and a socket behind which nobody answers."""

from __future__ import annotations

import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisords import PATIENCE_SECONDS, supervisord
from trainq import supervising
from trainq.errors import NotFoundError, SupervisorUnavailableError, UsageError
from trainq.supervising import ENDED, RUNNING, Supervisor

PROGRAMS = """
[program:first]
command=sleep 600
priority=1
startsecs=0
stopwaitsecs=7
[program:second]
command=sleep 600
priority=2
startsecs=0
autostart=false
[program:broken]
command=/nowhere/at/all
priority=3
autostart=false
startretries=0
[program:deaf]
command=sh -c "trap '' TERM; while :; do sleep 0.1; done"
priority=4
startsecs=1
autostart=false
stopwaitsecs=3600
killasgroup=true
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="tq", dir="/tmp"))
    yield made
    shutil.rmtree(made)


@pytest.fixture
def supervisor(folder: Path) -> Iterator[Supervisor]:
    with supervisord(folder, PROGRAMS):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (folder / supervising.SOCKET).exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        made = Supervisor.beside(folder / "elsewhere", folder)
        made.wait_until("first", lambda program: program.state == RUNNING, PATIENCE_SECONDS)
        yield made


@pytest.mark.slow
def test_all_that_is_known_of_the_programs_and_orders_to_them(supervisor: Supervisor) -> None:
    broken, deaf, first, second = supervisor.programs()
    assert [program.name for program in (broken, deaf, first, second)] == ["broken", "deaf", "first", "second"]
    assert first.state == RUNNING
    assert first.pid > 0
    assert abs(first.started_at - time.time()) < PATIENCE_SECONDS
    assert (second.state, second.pid, second.started_at) == (supervising.STOPPED, 0, 0.0)
    assert supervisor.stop_wait_seconds("first") == 7.0
    assert supervisor.stop_wait_seconds("nobody") is None

    for _ in range(2):  # what is so already is no mistake
        supervisor.start("second")
        assert supervisor.wait_until("second", lambda program: program.state == RUNNING, PATIENCE_SECONDS).pid
    for _ in range(2):
        supervisor.stop("second")
        assert supervisor.wait_until("second", lambda program: program.state in ENDED, PATIENCE_SECONDS).pid == 0

    supervisor.signal("first", signal.SIGKILL)
    killed = supervisor.wait_until("first", lambda program: program.pid not in (0, first.pid), PATIENCE_SECONDS)
    assert killed.stopped_at > 0
    supervisor.signal("second", signal.SIGKILL)  # it does not run

    with pytest.raises(UsageError, match="nowhere"):
        supervisor.start("broken")
    supervisor.start("deaf")
    supervisor.wait_until("deaf", lambda program: program.state == RUNNING, PATIENCE_SECONDS)
    supervisor.stop("deaf")
    assert supervisor.wait_until("deaf", lambda program: program.state in ENDED, 0.3).state == supervising.STOPPING
    for order in (supervisor.start, supervisor.stop):
        with pytest.raises(NotFoundError, match="there are broken, deaf, first, second"):
            order("nobody")
    with pytest.raises(NotFoundError):
        supervisor.signal("nobody", signal.SIGKILL)


def test_one_that_never_answers_costs_its_time_and_no_more(folder: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / "s"))
    listener.listen(1)
    began = time.monotonic()
    with listener, pytest.raises(SupervisorUnavailableError, match="does not answer"):
        Supervisor(folder / "s", answer_seconds=0.1).programs()
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("answer", [
    b"", b"garbage", b"HTTP/1.0 200 OK\r\n\r\n<html>", b"HTTP/1.0 500 No\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.0 200 OK\r\n\r\n<?xml version='1.0'?><methodResponse><params></params></methodResponse>",
    b"HTTP/1.0 200 OK\r\n\r\n<?xml version='1.0'?><methodResponse><params><param><value><int>3</int></value></param>"
    b"</params></methodResponse>"])
def test_what_is_no_answer_is_none(folder: Path, answer: bytes) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / "s"))
    listener.listen(1)

    def answer_once() -> None:
        taken, _ = listener.accept()
        taken.recv(65536)
        taken.sendall(answer)
        taken.close()

    thread = threading.Thread(target=answer_once)
    thread.start()
    with listener, pytest.raises(SupervisorUnavailableError):
        Supervisor(folder / "s").programs()
    thread.join()


def test_nobody_is_there(folder: Path) -> None:
    with pytest.raises(SupervisorUnavailableError, match="scripts/up"):
        Supervisor.beside(folder).start("broker")


def test_which_one_has_started_this() -> None:
    assert Supervisor.of_this_program({}) is None
    assert Supervisor.of_this_program({"SUPERVISOR_SERVER_URL": "http://localhost:9001"}) is None
    assert Supervisor.of_this_program({"SUPERVISOR_SERVER_URL": "unix:///x/s"}) is not None
