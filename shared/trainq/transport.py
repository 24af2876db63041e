"""Sockets: the only module that imports zmq.

One thread owns each object. Every socket is ``ipc://`` inside the home's ``run/`` (mode 0700, so the folder guards
the sockets), with bounded queues and no lingering. ZeroMQ loses messages quietly (a peer that dies, a slow
subscriber), so nothing here is relied on for delivery: requests are repeated until their reply comes, and published
events carry numbers, so that a gap is seen and asked for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import zmq

MAX_FRAME_BYTES = 4 * 1024 * 1024
HIGH_WATER_MARK = 1000
# What a sender may have in the broker's memory before it is read: this many messages, each of MAX_FRAME_BYTES at most.
# The rest waits at its side.
REQUESTS_HIGH_WATER_MARK = 64
# What is taken out of the queues at once; one message more may come.
MAX_DRAIN_BYTES = 16 * 1024 * 1024
RECONNECT_MILLISECONDS = 20
MAX_RECONNECT_MILLISECONDS = 500
# As plain numbers: pyzmq's flags are enums, and to combine two of them costs as much as to send a frame.
_NOW = int(zmq.DONTWAIT)
_NOW_AND_MORE = int(zmq.DONTWAIT | zmq.SNDMORE)
# REQ and well-made DEALER clients send an empty delimiter before the body; both forms are understood.
_MAX_FRAMES = 3


class Incoming(NamedTuple):
    """A request as it came in; ``route`` leads back to its sender."""

    route: tuple[bytes, ...]
    payload: bytes


def _socket(context: zmq.Context[zmq.Socket[bytes]], kind: int) -> zmq.Socket[bytes]:
    made = context.socket(kind)
    made.setsockopt(zmq.LINGER, 0)
    made.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
    made.setsockopt(zmq.SNDHWM, HIGH_WATER_MARK)
    made.setsockopt(zmq.RCVHWM, HIGH_WATER_MARK)
    made.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MILLISECONDS)
    made.setsockopt(zmq.RECONNECT_IVL_MAX, MAX_RECONNECT_MILLISECONDS)
    return made


def _address(path: Path) -> str:
    return f"ipc://{path}"


class Endpoint:
    """Base of all sockets: owned by one thread, closed once, pollable."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], kind: int) -> None:
        self._context = context
        self._socket = _socket(context, kind)

    @property
    def raw(self) -> zmq.Socket[bytes]:
        """For the :class:`Poller` only."""
        return self._socket

    def close(self) -> None:
        self._socket.close()


class RequestSocket(Endpoint):
    """A client's side: sends requests, receives replies in any order; both without waiting."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], path: Path) -> None:
        super().__init__(context, zmq.DEALER)
        self._socket.connect(_address(path))

    def send(self, payload: bytes) -> bool:
        """Queue a request; false when the queue is full (nobody is there to read it)."""
        try:
            _send(self._socket, (b"", payload))
        except zmq.Again:
            return False
        return True

    def drain(self) -> list[bytes]:
        """The replies that have come."""
        return [frames[-1] for frames in _received(self._socket)]


class ReplySocket(Endpoint):
    """Who answers. The caller holds its service's lock: a second bind would silently steal the path.

    For a client that does not read, ``queued_replies`` are kept; what is more is dropped.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], path: Path,
                 queued_replies: int = HIGH_WATER_MARK) -> None:
        super().__init__(context, zmq.ROUTER)
        self._socket.setsockopt(zmq.SNDHWM, queued_replies)
        # A reply to somebody who has gone is an error here instead of a silent drop, and we choose to ignore it.
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        # A client that comes back under its identity replaces its dead connection.
        self._socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        self._socket.setsockopt(zmq.RCVHWM, REQUESTS_HIGH_WATER_MARK)
        self._dropped = 0
        self._socket.bind(_address(path))

    def drain(self, limit: int) -> list[Incoming]:
        """Up to ``limit`` requests that have come; those of more frames than any client sends are dropped."""
        found: list[Incoming] = []
        size_bytes = 0
        for frames in _received(self._socket, limit):
            if 2 <= len(frames) <= _MAX_FRAMES:
                found.append(Incoming(tuple(frames[:-1]), frames[-1]))
                size_bytes += len(frames[-1])
            else:
                self._dropped += 1
            if size_bytes > MAX_DRAIN_BYTES:
                break
        return found

    def take_dropped(self) -> int:
        """How many messages were dropped since the last call."""
        dropped, self._dropped = self._dropped, 0
        return dropped

    def reply(self, incoming: Incoming, payload: bytes) -> bool:
        """Answer without waiting; false when the sender has gone or does not read (it will ask again)."""
        try:
            _send(self._socket, (*incoming.route, payload))
        except zmq.ZMQError:
            return False
        return True


class Publisher(Endpoint):
    """PUB: says it once to whoever listens; a slow listener loses messages and slows nobody."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], path: Path,
                 queued_messages: int = HIGH_WATER_MARK) -> None:
        """For each subscriber that does not read, ``queued_messages`` are kept; all share the same bytes."""
        super().__init__(context, zmq.PUB)
        self._socket.setsockopt(zmq.SNDHWM, queued_messages)
        self._socket.bind(_address(path))

    def bind_loopback(self, port: int) -> None:
        """Publish over TCP, too, to this machine alone. Nothing can be asked or written there.

        Raises:
            OSError: it is taken, say.
        """
        try:
            self._socket.bind(f"tcp://127.0.0.1:{port}")
        except zmq.ZMQError as error:
            raise OSError(error.errno, str(error)) from error

    def publish(self, topic: bytes, payload: bytes) -> None:
        with contextlib.suppress(zmq.Again):
            _send(self._socket, (topic, payload))


class Subscriber(Endpoint):
    """SUB to the given topics (by prefix)."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], path: Path, topics: tuple[bytes, ...]) -> None:
        super().__init__(context, zmq.SUB)
        for topic in topics:
            self._socket.setsockopt(zmq.SUBSCRIBE, topic)
        self._socket.connect(_address(path))

    def drain(self, limit: int = HIGH_WATER_MARK) -> list[tuple[bytes, bytes]]:
        """(topic, payload) pairs that have come."""
        return [(frames[0], frames[-1]) for frames in _received(self._socket, limit) if len(frames) == 2]


class Poller:
    """Waits for sockets, file descriptors and signals at once."""

    def __init__(self) -> None:
        self._poller = zmq.Poller()

    def watch(self, endpoint: Endpoint) -> None:
        """Wake for input on an endpoint."""
        self._poller.register(endpoint.raw, zmq.POLLIN)

    def forget(self, endpoint: Endpoint) -> None:
        """Wake for it no longer, before it is closed; unknown ones are ignored."""
        with contextlib.suppress(KeyError):
            self._poller.unregister(endpoint.raw)

    def watch_descriptor(self, descriptor: int) -> None:
        """Wake for input on a file descriptor."""
        self._poller.register(descriptor, zmq.POLLIN)

    def forget_descriptor(self, descriptor: int) -> None:
        """Wake for it no longer; unknown ones are ignored."""
        with contextlib.suppress(KeyError):
            self._poller.unregister(descriptor)

    def wait(self, seconds: float) -> bool:
        """Wait until something is readable, at most ``seconds``; whether something is."""
        return bool(self._poller.poll(max(0, int(seconds * 1000))))


def new_context() -> zmq.Context[zmq.Socket[bytes]]:
    """A context of its own; end it with ``context.destroy(linger=0)``."""
    return zmq.Context()


def _send(raw: zmq.Socket[bytes], frames: Sequence[bytes]) -> None:
    """All frames of one message, without waiting: only the first can be refused."""
    for frame in frames[:-1]:
        raw.send(frame, _NOW_AND_MORE)
    raw.send(frames[-1], _NOW)


def _received(raw: zmq.Socket[bytes], limit: int = HIGH_WATER_MARK) -> Iterator[list[bytes]]:
    for _ in range(limit):
        try:
            yield raw.recv_multipart(_NOW)
        except zmq.Again:
            return
