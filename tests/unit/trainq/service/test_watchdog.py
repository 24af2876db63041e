"""The watchdog: real processes that hold real locks, and a supervisord that only writes down what it is told."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from unittest import mock

import pytest

from stories import HandClock
from trainq import config, files, locks, supervising
from trainq.errors import NotFoundError, SupervisorUnavailableError
from trainq.logs import null_log
from trainq.service import Process, Restart, Watchdog
from trainq.supervising import Program, Supervisor

NOBODY = 2**22 - 1


class Told(Supervisor):
    """Answers for one program, and keeps what it is told."""

    def __init__(self, pid: int) -> None:
        super().__init__(Path("/nowhere"))
        self.state, self.pid = supervising.RUNNING, pid
        self.failure: Exception | None = None
        self.signals: list[tuple[str, signal.Signals]] = []
        self.on_signal: Callable[[], None] = lambda: None

    def program(self, name: str) -> Program:
        if self.failure is not None:
            raise self.failure
        return Program(name=name, state=self.state, pid=self.pid, started_at=1.0, stopped_at=0.0, exit_code=0,
                       spawn_error="")

    def signal(self, name: str, number: signal.Signals) -> None:
        self.on_signal()
        self.signals.append((name, number))


class Yard:
    """A watchdog of the preparer, whose lock this very process holds."""

    def __init__(self, home: Path) -> None:
        self.clock = HandClock()
        configuration = config.load({"TRAINQ_HOME": str(home), "TRAINQ_BROKER_LEASE_SECONDS": "10"}, home)
        files.make_directory(configuration.home.run)
        self.process = cast(Process, SimpleNamespace(
            name="status", home=configuration.home, settings=configuration.settings, log=null_log(), clock=self.clock))
        self.told = Told(os.getpid())
        self.lock = locks.acquire_lock(configuration.home.run / "preparer.lock", "preparer")
        self.dog = Watchdog(self.process, ("preparer", "status"), self.told)
        self.live(3)

    def live(self, seconds: int) -> None:
        for _ in range(seconds):
            os.utime(self.lock.path, (self.clock.now, self.clock.now))
            self.look(1)

    def look(self, seconds: int) -> None:
        for _ in range(seconds):
            self.clock.now += 1.0
            self.dog.look()


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    return Yard(tmp_path)


def test_one_that_goes_on_is_left_alone(yard: Yard) -> None:
    yard.live(100)
    assert yard.told.signals == []
    assert yard.dog.alarm == ""


def test_one_that_hangs_leaves_its_stacks_and_is_killed_and_it_is_said(yard: Yard) -> None:
    yard.look(19)
    assert yard.told.signals == []
    yard.look(10)
    assert yard.told.signals == [("preparer", signal.SIGABRT), ("preparer", signal.SIGKILL)]
    assert yard.dog.alarm == "preparer hangs: no sign of life for 20 s; it is started again"
    yard.clock.now += 3600
    assert yard.dog.alarm == ""


def test_one_that_somebody_has_stopped_is_killed_at_once(yard: Yard) -> None:
    with mock.patch("trainq.service.watchdog._status", return_value={"State": "T (stopped)", "TracerPid": "0"}):
        yard.look(21)
    assert yard.told.signals == [("preparer", signal.SIGKILL)]


@pytest.mark.parametrize("state", [supervising.STOPPING, supervising.STOPPED, supervising.BACKOFF])
def test_one_that_is_being_stopped_or_started_is_left_alone(yard: Yard, state: str) -> None:
    yard.told.state = state
    yard.look(200)
    assert yard.told.signals == []
    assert yard.dog.alarm == ""


def test_one_that_supervisord_did_not_start_is_left_alone(yard: Yard) -> None:
    yard.told.pid = 1
    yard.look(200)
    assert yard.told.signals == []


def test_one_that_a_debugger_holds_is_left_alone(yard: Yard) -> None:
    with mock.patch("trainq.service.watchdog._status", return_value={"State": "t (tracing stop)", "TracerPid": "7"}):
        yard.look(200)
    assert yard.told.signals == []


@pytest.mark.parametrize("failure", [SupervisorUnavailableError("away"), NotFoundError("no such service")])
def test_a_supervisord_that_cannot_do_it_ends_nothing(yard: Yard, failure: Exception) -> None:
    yard.told.failure = failure
    yard.look(200)
    (said,) = yard.dog.lately
    assert said.reason == (f"preparer hangs: no sign of life for 20 s, and supervisord does not start it again "
                           f"({failure}): trainq services restart preparer")
    yard.told.failure = None
    yard.look(25)
    assert yard.told.signals[:1] == [("preparer", signal.SIGABRT)], "nothing of before has used up a restart"


def test_it_is_not_said_to_be_started_again_before_it_is(yard: Yard) -> None:
    def refuse() -> None:
        assert yard.dog.alarm == ""
        raise SupervisorUnavailableError("away")

    yard.told.on_signal = refuse
    yard.look(21)
    assert yard.told.signals == []
    assert "supervisord does not start it again (away" in yard.dog.alarm


def test_what_an_earlier_life_had_to_tell_is_told_for_an_hour(yard: Yard) -> None:
    now = yard.clock.wall()
    before = [Restart("watcher", now - 3000, "watcher hangs"), Restart("trainer", now - 3700, "trainer hangs")]
    dog = Watchdog(yard.process, ("preparer",), yard.told, before)
    assert [each.service for each in dog.lately] == ["watcher"]
    yard.clock.now += 601
    assert dog.lately == []


def test_one_that_has_ended_does_not_hang(yard: Yard) -> None:
    yard.lock.path.write_text(f"{NOBODY}\n")
    yard.look(400)
    yard.lock.path.write_text("garbage")
    yard.look(400)
    yard.lock.path.unlink()
    yard.look(400)
    assert yard.told.signals == []


def test_without_a_supervisord_nothing_is_done(yard: Yard) -> None:
    dog = Watchdog(yard.process, ("preparer",), None)
    for _ in range(400):
        yard.clock.now += 1.0
        dog.look()
    assert not dog.lately
