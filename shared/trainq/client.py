"""Typed calls to the broker, which survive its absence.

A request is repeated under the same id until its reply comes or the time is up; the broker recognises the repetition,
so a lost reply never does a thing twice. Replies to other requests (late ones, heartbeats' ones) are put aside and
taken with :meth:`BrokerClient.take_posted`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

import msgspec

from trainq import messages, transport
from trainq.config import Home
from trainq.errors import BrokerUnavailableError, BusyError, ProtocolError
from trainq.messages import AnyReply, AnyRequest, ReplyEnvelope

DEFAULT_TIMEOUT_SECONDS = 10.0
RESEND_SECONDS = 1.0
MAX_ASIDE = 100

Reply = TypeVar("Reply", bound=msgspec.Struct)


class BrokerClient:
    """One connection to one home's broker; owned by one thread; a context manager."""

    def __init__(self, home: Home, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._home = home
        self._monotonic = monotonic
        self._context = transport.new_context()
        self._socket = transport.RequestSocket(self._context, home.request_socket)
        self._poller = transport.Poller()
        self._poller.watch(self._socket)
        self._aside: dict[str, AnyReply] = {}

    def __enter__(self) -> BrokerClient:
        return self

    def __exit__(self, _type: type[BaseException] | None, _value: BaseException | None,
                 _traceback: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Drop the connection; what was not answered stays unknown."""
        self._context.destroy(linger=0)

    @property
    def endpoint(self) -> transport.RequestSocket:
        """For a poller, so that replies to posted requests wake a loop."""
        return self._socket

    def call(self, request: AnyRequest, expect: type[Reply], *,
             timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS) -> Reply:
        """Send ``request`` and wait for its reply.

        Raises:
            BrokerUnavailableError: no reply in time. Whether a write happened is unknown; send the same again.
            TrainqError: the class that stands for the broker's refusal; nothing was changed.
        """
        payload = messages.encode(request)
        started = self._monotonic()
        resend_at, pause = started, RESEND_SECONDS
        busy: messages.Refused | None = None
        while (now := self._monotonic()) < started + timeout_seconds:
            if now >= resend_at:
                # On the same connection: a late reply to an earlier copy still finds its way.
                self._socket.send(payload)
                resend_at, pause = now + pause, 2 * pause
                messages.expect_replies()
            self._poller.wait(min(resend_at, started + timeout_seconds) - now)
            self._collect()
            reply = self._aside.pop(request.request_id, None)
            if isinstance(reply, messages.Refused) and reply.code == BusyError.code:
                # Asked again by this loop, until the time is up.
                busy = reply
            elif reply is not None:
                return self._checked(reply, expect)
        if busy is not None:
            messages.raise_refusal(busy)
        raise BrokerUnavailableError(
            f"the broker of {self._home.root} did not answer within {timeout_seconds:g} s",
            mend="is it running? supervisorctl status; the same command may be given again")

    def post(self, request: AnyRequest) -> None:
        """Send without waiting, once; the reply comes with :meth:`take_posted`, or never."""
        self._socket.send(messages.encode(request))

    def take_posted(self) -> list[AnyReply]:
        """The replies to posted requests that have come since."""
        self._collect()
        taken, self._aside = list(self._aside.values()), {}
        return taken

    def _collect(self) -> None:
        for payload in self._socket.drain():
            try:
                envelope: ReplyEnvelope = messages.decode_reply(payload)
            except ProtocolError:
                continue  # a newer broker's kind of reply: as if it had been lost
            self._aside[envelope.request_id] = envelope.reply
            if len(self._aside) > MAX_ASIDE:
                # The oldest: nobody waits any more for what a call gave up, and the reply awaited now is the newest.
                del self._aside[next(iter(self._aside))]

    @staticmethod
    def _checked(reply: AnyReply, expect: type[Reply]) -> Reply:
        if isinstance(reply, messages.Refused):
            messages.raise_refusal(reply)
        if not isinstance(reply, expect):
            raise ProtocolError(f"the broker answered with {type(reply).__name__}, not {expect.__name__}")
        return reply
