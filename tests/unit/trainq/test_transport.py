"""Sockets: bounded, never waiting, and tolerant of peers that come, go and misbehave."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq

from trainq import transport


class Sockets:
    """Makes sockets on one path and closes them all."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.context = transport.new_context()
        self._made: list[object] = []  # referenced until the context is destroyed, so that none is collected open

    def server(self) -> transport.ReplySocket:
        self._made.append(made := transport.ReplySocket(self.context, self.path))
        return made

    def client(self) -> transport.RequestSocket:
        self._made.append(made := transport.RequestSocket(self.context, self.path))
        return made

    def publisher(self) -> transport.Publisher:
        self._made.append(made := transport.Publisher(self.context, self.path))
        return made

    def subscriber(self, *topics: bytes) -> transport.Subscriber:
        self._made.append(made := transport.Subscriber(self.context, self.path, topics))
        return made


@pytest.fixture
def sockets() -> Iterator[Sockets]:
    with tempfile.TemporaryDirectory(prefix="tq", dir="/tmp") as folder:
        made = Sockets(Path(folder) / "s")
        yield made
        made.context.destroy(linger=0)


def until(found: Callable[[], list[object]], endpoint: transport.Endpoint) -> list[object]:
    """Drain until something has come; bounded by the poller's patience."""
    poller = transport.Poller()
    poller.watch(endpoint)
    for _ in range(100):
        if value := found():
            return value
        poller.wait(0.1)
    raise AssertionError("nothing came")


def test_a_request_and_its_reply(sockets: Sockets) -> None:
    server, client = sockets.server(), sockets.client()
    assert client.send(b"question")
    (incoming,) = until(lambda: list(server.drain(10)), server)
    assert isinstance(incoming, transport.Incoming)
    assert incoming.payload == b"question"
    assert server.reply(incoming, b"answer")
    assert until(lambda: list(client.drain()), client) == [b"answer"]


def test_plain_req_and_bare_dealer_clients_are_understood(sockets: Sockets) -> None:
    server = sockets.server()
    for kind in (zmq.REQ, zmq.DEALER):
        client = sockets.context.socket(kind)
        client.connect(f"ipc://{sockets.path}")
        client.send(b"question")
        (incoming,) = until(lambda: list(server.drain(10)), server)
        assert isinstance(incoming, transport.Incoming)
        server.reply(incoming, b"answer")
        assert client.recv() == b"answer"
        client.close()


def test_many_frames_and_large_frames_are_dropped(sockets: Sockets) -> None:
    server, client = sockets.server(), sockets.client()
    client.raw.send_multipart([b""] + [b"x"] * 5000)
    client.send(b"good")
    (incoming,) = until(lambda: list(server.drain(10)), server)
    assert isinstance(incoming, transport.Incoming)
    assert incoming.payload == b"good"
    large = sockets.client()
    large.send(bytes(transport.MAX_FRAME_BYTES + 1))  # its connection is cut by the other end
    client.send(b"good again")
    assert until(lambda: list(server.drain(10)), server)


def test_a_reply_to_somebody_who_went_is_no_error(sockets: Sockets) -> None:
    server = sockets.server()
    assert not server.reply(transport.Incoming((b"nobody", b""), b""), b"answer")


def test_sending_to_nobody_waits_for_nobody(sockets: Sockets) -> None:
    client = sockets.client()
    sent = [client.send(b"x") for _ in range(transport.HIGH_WATER_MARK + 10)]
    assert sent[0]
    assert not sent[-1]


def test_subscribers_hear_their_topics(sockets: Sockets) -> None:
    publisher = sockets.publisher()
    subscriber = sockets.subscriber(b"event.")

    def heard() -> list[object]:
        # A subscription takes a moment to reach the publisher; what was said before is lost, which is PUB's nature.
        publisher.publish(b"live.x", b"no")
        publisher.publish(b"event.A", b"yes")
        return list(subscriber.drain())

    assert set(until(heard, subscriber)) == {(b"event.A", b"yes")}
