"""A training process that cannot be made is the machine's fault: it is said, and the fork server goes on."""

from __future__ import annotations

import resource
import socket
from collections.abc import Iterator

import msgspec
import pytest

from services.trainer import forkserver
from services.trainer.forking import Answer, Arguments, CannotFork

COMMAND = msgspec.msgpack.encode(Arguments(home="/nowhere", model="", threads=1, seed=0, log="/nowhere/log"))


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    agent, server = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with agent, server:
        yield agent, server


def test_without_a_descriptor_for_the_channel_it_says_so_and_goes_on(
        ends: tuple[socket.socket, socket.socket]) -> None:
    agent, server = ends
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    socket.send_fds(agent, [COMMAND], [server.fileno()])
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        assert forkserver._obey(server)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    answer = msgspec.msgpack.decode(agent.recv(4096), type=Answer)
    assert isinstance(answer, CannotFork)
    assert "file descriptor" in answer.reason
    assert not answer.ends


def test_it_ends_when_the_agent_has_gone(ends: tuple[socket.socket, socket.socket]) -> None:
    agent, server = ends
    agent.close()
    assert not forkserver._obey(server)
