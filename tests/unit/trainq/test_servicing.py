"""Orders to the services, given to what answers as supervisord does and fails where it can, and to a real one."""

from __future__ import annotations

import json
import os
import signal
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
import xmlrpc.client
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xmlrpc.server import SimpleXMLRPCDispatcher, SimpleXMLRPCRequestHandler

import pytest

from supervisords import PATIENCE_SECONDS, supervisord
from trainq import servicing, supervising
from trainq.errors import BusyError, SupervisorUnavailableError, TrainqError, UsageError
from trainq.service import ends
from trainq.service.ends import Ends, Record
from trainq.supervising import ENDED, RUNNING, STARTING, STOPPED, STOPPING, Supervisor

NAMES = ("broker", "trainer")
# supervisor.xmlrpc.Faults
SHUTDOWN_STATE, FAILED, SPAWN_ERROR, ALREADY_STARTED, NOT_RUNNING = 6, 30, 50, 60, 70
# Half a second passes between the order to end and the end.
PROGRAM = "import signal, sys, time; signal.signal(15, lambda *_: (time.sleep(0.5), sys.exit())); time.sleep(600)"


class _Handler(SimpleXMLRPCRequestHandler):
    disable_nagle_algorithm = False  # it is no TCP
    server: _Server

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:  # noqa: N802  # the standard library's name
        self.server.table.calls += 1
        how = self.server.table.failing.get(self.server.table.calls)
        if how == "unheard":
            self.close_connection = True
            return
        if how == "unanswered":
            length = int(self.headers["content-length"])
            self.server._marshaled_dispatch(self.rfile.read(length))  # type: ignore[attr-defined]  # of the dispatcher
            self.close_connection = True
            return
        super().do_POST()


class _Server(socketserver.UnixStreamServer, SimpleXMLRPCDispatcher):
    logRequests = False  # noqa: N815  # the handler asks for it

    def __init__(self, path: Path, table: Table) -> None:
        self.table = table
        SimpleXMLRPCDispatcher.__init__(self, allow_none=True)
        super().__init__(str(path), _Handler)
        self.register_instance(table)

    def get_request(self) -> tuple[Any, Any]:
        taken, _ = super().get_request()
        return taken, ("", 0)  # the handler wants a host


class Table:
    """Programs by name, each in one of supervisord's states; one look later what begins has begun, and so on.

    ``failing``: what becomes of the n-th call: it is not heard, or done and not answered, or a fault of that number.
    ``behind``: what of its earlier ends a program found when it was started. ``refused``: whose start was a fault.
    """

    def __init__(self, run: Path) -> None:
        self.run = run
        self.states = dict.fromkeys(NAMES, RUNNING)
        self.deaf: set[str] = set()
        self.failing: dict[int, str | int] = {}
        self.calls = 0
        self.orders: list[tuple[str, str]] = []
        self.behind: dict[str, Ends] = {}
        self.refused: set[str] = set()

    def _dispatch(self, method: str, arguments: tuple[Any, ...]) -> object:
        fault = self.failing.get(self.calls)
        if isinstance(fault, int) and fault != SPAWN_ERROR:
            if fault == FAILED and method.endswith("startProcess"):
                self.refused.add(arguments[0])
            raise xmlrpc.client.Fault(fault, f"fault {fault}")
        return getattr(self, method.removeprefix("supervisor."))(*arguments)

    def getAllProcessInfo(self) -> list[dict[str, object]]:  # noqa: N802  # the API's names
        then = {STARTING: RUNNING, STOPPING: STOPPED, supervising.BACKOFF: STARTING}
        self.states = {name: state if name in self.deaf else then.get(state, state)
                       for name, state in self.states.items()}
        return [{"name": name, "group": name, "statename": state, "pid": int(state == RUNNING), "start": 1, "stop": 0,
                 "exitstatus": 0, "spawnerr": ""} for name, state in self.states.items()]

    def getAllConfigInfo(self) -> list[dict[str, object]]:  # noqa: N802
        return [{"name": name, "group": name, "stopwaitsecs": 0.05} for name in self.states]

    def startProcess(self, name: str, wait: bool) -> bool:  # noqa: N802
        assert not wait
        if self.states[name] not in ENDED:
            raise xmlrpc.client.Fault(ALREADY_STARTED, name)
        self.orders.append(("start", name))
        self.behind[name] = ends.read(self.run, name)
        if self.failing.get(self.calls) == SPAWN_ERROR:  # supervisord tries again by itself
            self.states[name] = supervising.BACKOFF
            raise xmlrpc.client.Fault(SPAWN_ERROR, name)
        self.states[name] = STARTING
        return True

    def stopProcess(self, name: str, wait: bool) -> bool:  # noqa: N802
        assert not wait
        if self.states[name] in (*ENDED, STOPPING):
            raise xmlrpc.client.Fault(NOT_RUNNING, name)
        self.orders.append(("stop", name))
        self.states[name] = STOPPING
        return True


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[_Server, Supervisor]]:
    with (tempfile.TemporaryDirectory(prefix="tq", dir="/tmp") as folder,
          _Server(Path(folder, "s"), Table(Path(folder))) as server):
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server, Supervisor(Path(folder, "s"))
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def table(served: tuple[_Server, Supervisor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Table:
    monkeypatch.setattr(supervising, "_LOOK_SECONDS", 0.0)
    monkeypatch.setattr(servicing, "_AGAIN_SECONDS", 0.0)
    return begin_anew(served[0], tmp_path)


@pytest.fixture
def supervisor(served: tuple[_Server, Supervisor]) -> Supervisor:
    return served[1]


def begin_anew(server: _Server, run: Path) -> Table:
    """Both run, and have ended before."""
    server.table = table = Table(run)
    server.register_instance(table)
    for name in NAMES:
        Record(run, name).put(Ends(own=5, reason="exit 3"))
    return table


def restart(table: Table, supervisor: Supervisor) -> TrainqError | None:
    try:
        found = servicing.restarted(table.run, supervisor, NAMES)
    except TrainqError as error:
        return error
    assert [(program.name, program.state) for program in found] == [(name, RUNNING) for name in NAMES]
    return None


def settle(table: Table) -> dict[str, str]:
    """How they stand when supervisord has done what it does by itself."""
    for _ in range(3):
        table.getAllProcessInfo()
    return table.states


def test_the_broker_ends_last_and_begins_first(table: Table, supervisor: Supervisor) -> None:
    assert restart(table, supervisor) is None
    assert table.orders == [("stop", "trainer"), ("stop", "broker"), ("start", "broker"), ("start", "trainer")]
    assert table.behind == dict.fromkeys(NAMES, Ends())


def test_whatever_fails_once_leaves_nothing_stopped(served: tuple[_Server, Supervisor], table: Table,
                                                    supervisor: Supervisor) -> None:
    """No answer is waited for, and a fault is said; either way all that was stopped is started, with a clean record."""
    restart(table, supervisor)
    said: Counter[object] = Counter()
    for how in ("unanswered", SHUTDOWN_STATE, FAILED, SPAWN_ERROR):
        at = 0
        while True:
            at += 1
            table = begin_anew(served[0], table.run)
            table.failing[at] = how
            failure = restart(table, supervisor)
            if table.calls < at:
                break
            assert {name for name, state in settle(table).items() if state != RUNNING} == table.refused, (how, at)
            assert set(table.behind.values()) <= {Ends()}, (how, at)
            assert (failure is None) or isinstance(how, int), (how, at, failure)
            said[how] += failure is not None
            # What was not told to end has what is behind it still.
            assert how == FAILED or all((ends.read(table.run, name) == Ends()) == (name in table.behind)
                                        for name in NAMES), (how, at)
            if how == FAILED and failure:
                assert isinstance(failure, UsageError)
                assert str(failure).startswith("supervisord does not do it: ")
        assert at > 12, "it did fail somewhere"
    # A fault that an order meets, each of the four, and of starting the two; one that it passes over is none.
    assert said == {"unanswered": 0, SHUTDOWN_STATE: 0, FAILED: 4, SPAWN_ERROR: 2}


def test_what_comes_of_a_restart_is_told_in_json(table: Table, supervisor: Supervisor) -> None:
    told = json.loads(servicing.restart_told(table.run, supervisor.socket, "trainer"))["steered"]
    assert (told["name"], told["program"], told["done"]) == ("trainer", RUNNING, True)
    assert table.orders == [("stop", "trainer"), ("start", "trainer")]
    wrong = json.loads(servicing.restart_told(table.run, supervisor.socket, "nobody"))["error"]
    assert (wrong["code"], wrong["message"]) == ("not_found", "there is no service nobody")


def test_one_that_cannot_be_started_keeps_no_other(table: Table, supervisor: Supervisor) -> None:
    table.failing = dict.fromkeys(range(1, 100), SPAWN_ERROR)
    failure = restart(table, supervisor)
    assert isinstance(failure, UsageError)
    assert "broker" in str(failure), "the first one"
    assert table.orders[-2:] == [("start", "broker"), ("start", "trainer")]


def test_the_first_thing_that_went_wrong_is_said(table: Table, supervisor: Supervisor,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servicing, "_PATIENCE_SECONDS", -1.0)
    restart(table, supervisor)
    calls = table.calls
    table.calls, table.failing = 0, {1: FAILED, calls: "unheard"}
    assert isinstance(restart(table, supervisor), UsageError)
    table.calls, table.failing = 0, {1: "unheard"}
    assert isinstance(restart(table, supervisor), SupervisorUnavailableError)
    assert set(settle(table).values()) == {RUNNING}


def test_one_that_does_not_end_is_said_and_not_started(table: Table, supervisor: Supervisor,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervising, "_STOP_GRACE_SECONDS", 0.0)
    table.deaf = {"trainer"}
    failure = restart(table, supervisor)
    assert isinstance(failure, BusyError)
    assert "trainer does not end" in str(failure)
    assert settle(table) == {"broker": RUNNING, "trainer": STOPPING}
    assert ends.read(table.run, "trainer").own == 5


@pytest.fixture
def folder() -> Iterator[Path]:
    """One with a configuration, and a supervisord with three programs in it."""
    with tempfile.TemporaryDirectory(prefix="tq", dir="/tmp") as made:
        folder = Path(made)
        (folder / "trainq.toml").touch()
        (folder / "program.py").write_text(PROGRAM)
        with supervisord(folder, "".join(
                f"[program:{name}]\ncommand={sys.executable} {folder / 'program.py'}\nstartsecs=1\nstopwaitsecs=30\n"
                for name in ("one", "three", "two"))):
            yield folder


def until_running(supervisor: Supervisor) -> dict[str, int]:
    """The pids of all when all run."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        try:
            programs = supervisor.programs()
        except SupervisorUnavailableError:
            programs = []
        if programs and all(program.state == RUNNING for program in programs):
            return {program.name: program.pid for program in programs}
        time.sleep(0.05)
    pytest.fail(f"not all run: {supervisor.programs()}")


@pytest.mark.slow
def test_who_interrupts_a_restart_leaves_nothing_stopped(folder: Path) -> None:
    supervisor = Supervisor(folder / supervising.SOCKET)
    before = until_running(supervisor)
    environment = {**os.environ, "TRAINQ_HOME": str(folder / "home"), "TRAINQ_CONFIG": str(folder / "trainq.toml")}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        with subprocess.Popen([sys.executable, "-m", "trainq.cli", "services", "restart", "all"], cwd=folder,
                              env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as command:
            deadline = time.monotonic() + PATIENCE_SECONDS
            while all(program.state == RUNNING for program in supervisor.programs()):
                assert command.poll() is None, "it ended before it was interrupted"
                assert time.monotonic() < deadline
                time.sleep(0.02)
            command.send_signal(number)
            out, err = command.communicate(timeout=PATIENCE_SECONDS)
        assert command.returncode == 0, (number, out, err)
        assert ("they are started again first" in err) == (number != signal.SIGHUP), (number, err)
        # Looked at once: who waited here would wait for what nobody does.
        programs = {program.name: program for program in supervisor.programs()}
        assert {program.state for program in programs.values()} == {RUNNING}, number
        assert all(programs[name].pid != pid for name, pid in before.items()), number
        before = {name: program.pid for name, program in programs.items()}
