"""Frames between agent and training process: whole messages only, and a slow reader stops nobody."""

import socket
from collections.abc import Iterator

import pytest

from services.trainer import wire
from trainq.errors import ProtocolError

PROGRESS = wire.Progress(job="train-1", job_step=1, steps_planned=9, global_step=1, loss=1.0, learning_rate=0.1,
                         tokens_per_second=1.0, steps_this_run=1, elapsed_seconds=1.0)
STOP = wire.Cancelled(job="train-1", taken_back=1)


@pytest.fixture
def ends() -> Iterator[tuple[wire.Channel, wire.Channel, socket.socket]]:
    ours, theirs = socket.socketpair()
    raw, other = socket.socketpair()
    channels = wire.Channel(ours, wire.ToTraining), wire.Channel(theirs, wire.FromTraining)
    yield (*channels, raw)
    for end in (*channels, raw, other):
        end.close()


def test_messages_arrive_whole_and_in_order(ends: tuple[wire.Channel, wire.Channel, socket.socket]) -> None:
    training, agent, _ = ends
    for message in (PROGRESS, STOP):
        training.send(message)
    assert agent.receive() == [PROGRESS, STOP]
    assert agent.receive() == []


def test_a_reader_who_sleeps_loses_progress_only(ends: tuple[wire.Channel, wire.Channel, socket.socket]) -> None:
    training, agent, _ = ends
    for number in range(20_000):
        training.send(PROGRESS)
        if number % 1000 == 0:
            training.send(STOP)
    heard: list[object] = []
    while True:
        new = agent.receive()
        heard += new
        if training.flush() and not new:
            break
    assert heard.count(STOP) == 20
    assert heard.count(PROGRESS) < 20_000


def test_a_dead_peer_is_noticed(ends: tuple[wire.Channel, wire.Channel, socket.socket]) -> None:
    training, agent, _ = ends
    training.send(STOP)
    training.close()
    assert agent.receive() == [STOP]
    assert agent.closed
    agent.send(wire.Stop())


@pytest.mark.parametrize("garbage", [b"\xff\xff\xff\xff", b"\x00\x00\x00\x01\xc1", b"\x00\x00\x00\x02\x81\xa1"])
def test_garbage_is_one_error(garbage: bytes) -> None:
    ours, theirs = socket.socketpair()
    channel = wire.Channel(ours, wire.FromTraining)
    theirs.send(garbage)
    with pytest.raises(ProtocolError):
        channel.receive()
    channel.close()
    theirs.close()
