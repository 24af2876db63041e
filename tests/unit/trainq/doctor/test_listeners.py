"""Sockets, supervisord, broker and services: each fault is planted, and named with its mend."""

from __future__ import annotations

import os
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from trainq import locks
from trainq.config import Home, Settings, WebSettings
from trainq.config.settings import ServiceSettings, ServicesSettings
from trainq.doctor import listeners
from trainq.doctor.findings import Finding, Subject, Verdict
from trainq.errors import BrokerUnavailableError, SupervisorUnavailableError
from trainq.messages import Lifecycle, Overview, PauseCause, ServiceView
from trainq.picture import SERVICES
from trainq.supervising import Program


@pytest.fixture
def subject() -> Iterator[Subject]:
    with tempfile.TemporaryDirectory(prefix="tq", dir="/tmp") as folder:  # short: a socket's path has 107 bytes
        made = Subject({}, Path(folder, "checkout"), Home(Path(folder)), Settings())
        for each in made.home.folders():
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
        made.supervisor_socket.parent.mkdir(parents=True)
        yield made


@pytest.fixture
def runs(subject: Subject) -> Iterator[None]:
    """As far as the lock goes, the broker runs."""
    lock = locks.acquire_lock(subject.home.run / "broker.lock", "broker")
    yield
    lock.release()


def dead_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


def wrong(found: Iterator[Finding]) -> list[Finding]:
    return [each for each in found if each.verdict is not Verdict.OK]


def overview(**states: tuple[Lifecycle, int, float]) -> Overview:
    """All services run but those that are named: (state, pid, how long ago it was heard of)."""
    views = []
    for name in SERVICES:
        state, pid, age = states.get(name, (Lifecycle.RUNNING, os.getpid(), 0.0))
        views.append(ServiceView(name=name, session="s", pid=pid, state=state, detail="because", started_at=1.0,
                                 age_seconds=age))
    return Overview(journal_id="j", seq=9, at=time.time(), paused_reason=None, counts={"train": {"queued": 1}},
                    running=[], waiting=[], waiting_reason="the queue is empty", generation=0, checkpoint="", step=0,
                    services=views)


def test_a_socket_whose_owner_was_killed(subject: Subject) -> None:
    dead_socket(subject.home.request_socket)
    (found,) = wrong(listeners.sockets(subject))
    assert (found.verdict, "without a listener" in found.found) == (Verdict.WARN, True)
    assert "supervisorctl start broker" in found.mend


@pytest.mark.usefixtures("runs")
def test_a_dead_socket_of_a_broker_that_runs(subject: Subject) -> None:
    dead_socket(subject.home.request_socket)
    found = wrong(listeners.sockets(subject))
    assert [(each.verdict, each.mend) for each in found] == [(Verdict.FAIL, "supervisorctl restart broker")] * 2
    assert "Connection refused" in found[0].found
    assert "events.sock is gone" in found[1].found


def test_something_else_in_place_of_a_socket(subject: Subject) -> None:
    subject.home.request_socket.touch()
    (found,) = wrong(listeners.sockets(subject))
    assert (found.verdict, "no socket" in found.found) == (Verdict.FAIL, True)


def test_a_listener(subject: Subject) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(subject.home.request_socket))
        listening.listen()
        assert [each.found for each in listeners.sockets(subject)] == ["1 have a listener"]


@pytest.mark.parametrize(("runs", "listens", "verdict"), [
    (True, True, Verdict.OK), (True, False, Verdict.FAIL), (False, True, Verdict.WARN), (False, False, None)])
def test_the_port_of_the_web_service(subject: Subject, runs: bool, listens: bool, verdict: Verdict | None) -> None:
    with socket.socket() as somebody:
        somebody.bind(("127.0.0.1", 0))  # bound and not listening: nobody else gets it meanwhile
        if listens:
            somebody.listen()
        made = Subject({}, subject.root, subject.home, Settings(web=WebSettings(port=somebody.getsockname()[1])))
        lock = locks.acquire_lock(subject.home.run / "web.lock", "web") if runs else None
        found = list(listeners.http(made))
        if lock is not None:
            lock.release()
    assert [each.verdict for each in found] == ([verdict] if verdict else [])


def test_a_port_of_its_own_choice_or_none_is_not_looked_for(subject: Subject) -> None:
    for settings in (Settings(web=WebSettings(port=0)),
                     Settings(services=ServicesSettings(web=ServiceSettings(enabled=False)))):
        assert list(listeners.http(Subject({}, subject.root, subject.home, settings))) == []


def test_nothing_runs(subject: Subject) -> None:
    assert wrong(listeners.sockets(subject)) == []
    (found,) = listeners.supervisord(subject)
    assert (found.verdict, "supervisord" in found.mend) == (Verdict.WARN, True)
    (found,) = listeners.broker(subject)
    assert (found.verdict, found.mend) == (Verdict.WARN, "supervisorctl start broker")


def test_a_supervisord_beside_the_configuration_is_the_one(subject: Subject) -> None:
    beside = subject.home.root / "elsewhere"
    made = Subject({}, subject.root, subject.home, subject.settings, file=beside / "trainq.toml")
    assert made.supervisor_socket == subject.supervisor_socket
    (beside / "supervisor").mkdir(parents=True)
    dead_socket(beside / "supervisor" / "supervisor.sock")
    assert made.supervisor_socket.is_relative_to(beside)


def test_supervisord_was_killed(subject: Subject) -> None:
    dead_socket(subject.supervisor_socket)
    (found,) = listeners.supervisord(subject)
    assert (found.verdict, "Connection" in found.found) == (Verdict.FAIL, True)


def test_programs_that_supervisord_gave_up(subject: Subject) -> None:
    (subject.root / "supervisor" / "broker.log").write_text("first\ntrainq broker: [train] epochs is wrong\n\n")

    def program(name: str, state: str) -> Program:
        return Program(name=name, state=state, pid=0, started_at=1.0, stopped_at=2.0, exit_code=78, spawn_error="")

    states = {"broker": "FATAL", "watcher": "STOPPED"}
    subject.__dict__["_programs"] = [program(name, states.get(name, "RUNNING")) for name in SERVICES[:-1]]
    found = wrong(listeners.supervisord(subject))
    assert [each.verdict for each in found] == [Verdict.FAIL, Verdict.WARN, Verdict.WARN]
    assert "exit code 78): trainq broker: [train] epochs is wrong" in found[0].found
    assert found[1].mend == "supervisorctl start watcher"
    assert SERVICES[-1] in found[2].found


@pytest.mark.usefixtures("runs")
def test_a_broker_that_holds_its_lock_and_does_not_answer(subject: Subject) -> None:
    (found,) = listeners.broker(subject)
    assert found.verdict is Verdict.FAIL
    assert f"process {os.getpid()} holds its lock" in found.found
    assert "supervisorctl restart broker" in found.mend


def test_a_journal_that_is_gone_while_what_belongs_to_it_is_there(subject: Subject) -> None:
    (subject.home.checkpoints / "g000001-s00000000").mkdir()
    found = wrong(listeners.broker(subject))[-1]
    assert (found.name, found.verdict) == ("journal", Verdict.FAIL)
    assert "do not start the broker" in found.mend


def test_a_journal_that_is_none(subject: Subject) -> None:
    subject.home.journal.write_bytes(b"this is no database at all")
    found = wrong(listeners.broker(subject))[-1]
    assert (found.verdict, "does not begin as SQLite" in found.found) == (Verdict.FAIL, True)
    subject.home.journal.unlink()
    subject.home.journal.mkdir()
    assert "is no file" in wrong(listeners.broker(subject))[-1].found


def test_services_that_are_all_well(subject: Subject) -> None:
    subject.__dict__["_overview"] = overview()
    (found,) = listeners.services(subject)
    assert found.verdict is Verdict.OK


def test_who_cannot_work_for_whom(subject: Subject) -> None:
    subject.__dict__["_overview"] = overview(
        preparer=(Lifecycle.RUNNING, 2**31 - 2, 0.0), watcher=(Lifecycle.RUNNING, os.getpid(), 99.0),
        status=(Lifecycle.ERROR, os.getpid(), 0.0), snapshot=(Lifecycle.STOPPED, 0, 0.0),
        retention=(Lifecycle.PAUSED, os.getpid(), 0.0))
    found = {each.found.split()[0]: each for each in listeners.services(subject)}
    assert found["preparer"].verdict is Verdict.FAIL
    assert "has died; without it trainer cannot work" in found["preparer"].found
    assert "it hangs" in found["watcher"].found
    assert found["watcher"].mend == "supervisorctl restart watcher"
    assert "because" in found["status"].found
    assert (found["snapshot"].verdict, found["retention"].verdict) == (Verdict.WARN, Verdict.WARN)


def paused(subject: Subject, name: str, cause: PauseCause | None) -> list[Finding]:
    of = overview(**{name: (Lifecycle.PAUSED, os.getpid(), 0.0)})
    views = [msgspec.structs.replace(view, cause=cause if view.name == name else None) for view in of.services]
    subject.__dict__["_overview"] = msgspec.structs.replace(of, services=views)
    return wrong(listeners.services(subject))


@pytest.mark.parametrize("cause", [PauseCause.ORDERED, PauseCause.LENT, PauseCause.DISABLED])
def test_who_is_paused_because_people_wanted_it_is_well(subject: Subject, cause: PauseCause) -> None:
    assert paused(subject, "trainer", cause) == []


@pytest.mark.parametrize(("cause", "verdict", "words", "mend"), [
    (PauseCause.GIVEN_UP, Verdict.FAIL, "preparer has given up: because; without it trainer cannot work",
     "trainq services restart preparer"),
    (PauseCause.HINDERED, Verdict.WARN, "preparer is paused: because", "mend what the reason names"),
    (PauseCause.WAITING, Verdict.WARN, "preparer waits, and goes on by itself: because", ""),
    (None, Verdict.WARN, "preparer is paused: because", "trainq logs preparer")])
def test_who_is_paused_otherwise_has_a_mend(subject: Subject, cause: PauseCause | None, verdict: Verdict, words: str,
                                            mend: str) -> None:
    (found,) = paused(subject, "preparer", cause)
    assert found.verdict is verdict
    assert words in found.found
    assert mend in found.mend


def test_nobody_knows_without_the_broker(subject: Subject) -> None:
    subject.__dict__["_overview"] = BrokerUnavailableError("no answer")
    subject.__dict__["_programs"] = SupervisorUnavailableError("none")
    (found,) = listeners.services(subject)
    assert found.verdict is Verdict.WARN
