"""A process's tie to the broker: requests that wait, heartbeats that do not, and events that wake the loop.

The broker's absence stops nobody: heartbeats are sent and forgotten, calls repeat until they are answered or the
process is told to stop.
"""

from __future__ import annotations

import os
from typing import TypeVar

import msgspec

from trainq import messages
from trainq.client import MAX_ASIDE, BrokerClient
from trainq.errors import BrokerUnavailableError, ProtocolError, TrainqError
from trainq.ids import new_request_id
from trainq.messages import AnyReply, AnyRequest, EventView, Heartbeat, HeartbeatReply, LeaseState
from trainq.service.process import Process
from trainq.transport import Subscriber, new_context

Reply = TypeVar("Reply", bound=msgspec.Struct)

_BROKER_LIVE = messages.LIVE_TOPIC + b"broker"
_CALL_SECONDS = 2.0
# A stopping process still tries this long to hand back its lease or report its last result.
_LAST_WORDS_SECONDS = 5.0


class StoppedError(TrainqError):
    """The process was told to stop before the broker answered."""


class Peer:
    """Requests, heartbeats and events of one service. Owned by the main thread."""

    def __init__(self, process: Process, topics: tuple[bytes, ...] = (messages.EVENT_TOPIC,)) -> None:
        """Connect; ``topics`` are the events that wake the loop. The broker's own heartbeats always do."""
        self.process = process
        self.client = BrokerClient(process.home)
        self._context = new_context()
        self._events = Subscriber(self._context, process.home.event_socket, (*topics, _BROKER_LIVE))
        self._broker_session = ""
        process.poller.watch(self.client.endpoint)
        process.poller.watch(self._events)
        process.on_pause = self._sit_out  # type: ignore[method-assign]  # the hook exists to be set
        self._next_beat = 0.0
        self._last_said: tuple[object, ...] = ()
        self._replies: list[AnyReply] = []
        self.lost: set[str] = set()
        self.cancelled: set[str] = set()
        # As those, but what is done of them stays.
        self.kept: set[str] = set()
        # The broker's last answer to a heartbeat: its standing orders hold until it says otherwise.
        self.told = HeartbeatReply()

    def close(self) -> None:
        """Say goodbye (once, without waiting for an answer) and drop the connections."""
        self.beat()
        for endpoint in (self.client.endpoint, self._events):
            self.process.poller.forget(endpoint)
        self.client.close()
        self._context.destroy(linger=0)

    def beat(self, leases: tuple[LeaseState, ...] = ()) -> None:
        """Send a heartbeat if one is due, and take in what the broker said to earlier ones."""
        self.process.show_life()
        now = self.process.clock.monotonic()
        process = self.process
        said = (process.state, process.detail, process.gpu_claim, process.rests, process.until_told,
                process.cause, tuple(lease.job for lease in leases))
        if now >= self._next_beat or said != self._last_said:
            self._last_said = said
            self._next_beat = now + process.settings.broker.heartbeat_seconds
            self.client.post(Heartbeat(
                request_id=new_request_id(), service=process.name, session=process.session, pid=os.getpid(),
                state=process.state, detail=process.detail[:4096], started_at=process.started_at, leases=leases,
                gpu=process.gpu_claim, rests=process.rests, until_told=process.until_told,
                cause=process.cause))
        self.hear()

    def _sit_out(self) -> None:
        """Keep the heartbeats going; what events come meanwhile wake nobody, and may not pile up."""
        self.beat()
        self.take_events()

    def take_posted(self) -> list[AnyReply]:
        """The replies to requests posted on :attr:`client` by others than this object."""
        self.hear()
        taken, self._replies = self._replies, []
        return taken

    def hear(self) -> None:
        """Take in what the broker has said by now."""
        for reply in self.client.take_posted():
            if isinstance(reply, HeartbeatReply):
                self.lost.update(reply.lost)
                self.told = reply
                self.kept.update(reply.keep)
                self.kept.difference_update(set(reply.cancel) - set(reply.keep))
                self.cancelled.update(set(reply.cancel) - set(reply.keep))
            else:
                self._replies = [*self._replies[-MAX_ASIDE:], reply]

    def beat_soon(self) -> None:
        """Make the next :meth:`beat` send, however recent the last one is (a progress worth showing)."""
        self._next_beat = 0.0

    def wait(self, seconds: float) -> list[EventView]:
        """Wait for input, a signal or the time; the events that came meanwhile (live messages are left out).

        An order that came beside the reply to a call does not wait: no socket would wake the loop for it any more.
        """
        before = self.told
        self.hear()
        new_order = self.told != before
        self.process.wait(0.0 if new_order else min(seconds, self.process.settings.broker.heartbeat_seconds))
        return self.take_events()

    def take_events(self) -> list[EventView]:
        """The published events that have come."""
        taken: list[EventView] = []
        for topic, payload in self._events.drain():
            try:
                if topic.startswith(messages.EVENT_TOPIC):
                    taken.append(messages.decode_event(payload))
                elif topic == _BROKER_LIVE:
                    self._notice_broker(messages.decode_live(payload).heartbeat.session)
            except ProtocolError as error:
                self.process.log.warning("message_not_understood", topic=topic.decode(), error=str(error))
        return taken

    def _notice_broker(self, session: str) -> None:
        if session != self._broker_session:
            self._broker_session = session
            self.beat_soon()  # a new broker knows nobody yet

    def call(self, request: AnyRequest, expect: type[Reply], leases: tuple[LeaseState, ...] = ()) -> Reply:
        """Ask until the broker answers; heartbeats go on meanwhile.

        Raises:
            StoppedError: the process is to stop and the broker has not answered in the last seconds.
            TrainqError: the broker refused.
        """
        give_up_at: float | None = None
        while True:
            try:
                return self.client.call(request, expect, timeout_seconds=_CALL_SECONDS)
            except BrokerUnavailableError:
                now = self.process.clock.monotonic()
                self.process.log.warning("broker_does_not_answer", request=type(request).__name__)
                if self.process.stopping:
                    give_up_at = give_up_at or now + _LAST_WORDS_SECONDS
                    if now >= give_up_at:
                        raise StoppedError(f"{self.process.name} stops without an answer from the broker") from None
                self.beat(leases)


