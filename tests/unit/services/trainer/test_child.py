"""What the agent hears of a training process that could not be made: a fault of the machine, and an end."""

from __future__ import annotations

import socket

import msgspec

from services.trainer import wire
from services.trainer.assignment import Assignment
from services.trainer.child import ChildExited, TrainingChild
from services.trainer.effects import StartProcess
from services.trainer.forking import Arguments, CannotFork
from services.trainer.phases import Phase

ARGUMENTS = Arguments(home="/nowhere", model="", threads=1, seed=0, log="/nowhere/log")


def test_a_fork_that_failed_is_heard_as_the_machines_fault_and_never_pauses_the_trainer() -> None:
    ours, server = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    child, assignment = TrainingChild(ARGUMENTS), Assignment()
    child._control = ours
    assignment.begin()
    with ours, server:
        for _ in range(20):
            server.send(msgspec.msgpack.encode(CannotFork(reason="no file descriptor is left")))
            failed, ended = child.receive()
            assert isinstance(failed, wire.Failed)
            assert (failed.system, failed.job, failed.reason) == (True, "", "no file descriptor is left")
            assert isinstance(ended, ChildExited)
            assignment.heard(failed)
            effects = assignment.ended(ended.how, own=ended.own)
            assert assignment.phase is Phase.STARTING
            assert isinstance(effects[-1], StartProcess)
        assert isinstance(effects[-1], StartProcess)
        assert effects[-1].after_seconds == 60.0


def test_why_a_fork_server_ends_is_said_with_its_end() -> None:
    ours, server = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    child = TrainingChild(ARGUMENTS)
    child._control = ours
    server.send(msgspec.msgpack.encode(CannotFork(reason="no torch", ends=True)))
    assert child.receive() == []
    server.close()
    failed, ended = child.receive()
    assert isinstance(failed, wire.Failed)
    assert failed.reason == "no torch"
    assert isinstance(ended, ChildExited)
    assert "the fork server ended" in ended.how
