"""Server-sent events: the journal as it grows, with the journal's numbers as ids, and the status picture.

https://html.spec.whatwg.org/multipage/server-sent-events.html: a browser that was cut off comes back by itself with
``Last-Event-ID``, and gets what it has missed. Comments keep the connection known to be alive.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import msgspec
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from services.web.feed import Entry, entry_of
from services.web.sites import Site
from trainq.client import BrokerClient
from trainq.errors import BrokerUnavailableError, BusyError, UsageError
from trainq.ids import new_request_id
from trainq.messages import Events, Replay

MAX_STREAMS = 32
HEARTBEAT_SECONDS = 10.0
RETRY_SECONDS = 1.0
# A page of the journal that a listener has missed; and of what is kept, how much is sent at once.
PAGE = 200
_RETRY = b"retry: 2000\n\n"
_COMMENT = b": \n\n"
_MAX_SEQ = 2**63 - 1


class Journal(msgspec.Struct, frozen=True, kw_only=True):
    """Which journal the events that follow are from, and how far it goes. Sent first, and when it is another one."""

    journal_id: str
    head_seq: int


class EventStream(StreamingResponse):
    """A stream of the site's, of which there are at most :data:`MAX_STREAMS`."""

    def __init__(self, site: Site, content: AsyncIterator[bytes]) -> None:
        super().__init__(content, media_type="text/event-stream", headers={"x-accel-buffering": "no"})
        self._site = site

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._site.streams >= MAX_STREAMS:
            raise BusyError(f"{MAX_STREAMS} streams are open already", mend="close one, or ask for pages of events")
        self._site.streams += 1
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._site.streams -= 1


def place_in(last_event_id: str | None, after: int | None) -> int | None:
    """Behind which event a stream begins: what the client has seen last, else what it asks for; None: the newest.

    Raises:
        UsageError: ``Last-Event-ID`` is no number of an event.
    """
    if not last_event_id:
        return after
    if not (last_event_id.isascii() and last_event_id.isdecimal() and int(last_event_id[:20]) <= _MAX_SEQ):
        raise UsageError("Last-Event-ID is no number of an event", mend="send the id of the last event, or none")
    return int(last_event_id[:20])


async def journal_stream(site: Site, after: int | None, job: str) -> AsyncIterator[bytes]:
    """The events behind ``after``, in order and without a gap; those of ``job`` alone if it is named."""
    place = _Place(site, after, job)
    yield _RETRY
    sent_at = time.monotonic()
    while not site.feed.closing:
        seen, refused = site.feed.events_bell.rung, False
        try:
            chunks = await place.advance()
        except (BrokerUnavailableError, BusyError):
            chunks, place.is_behind, refused = [], True, True
        if refused:
            # Whatever rings meanwhile: it is asked for again, and the others have their turn. Not in the handler: the
            # error holds what was refused.
            await asyncio.sleep(RETRY_SECONDS)
        with site.sending.counted(sum(map(len, chunks))):
            for chunk in chunks:
                yield chunk
                sent_at = time.monotonic()
        if not chunks and not place.is_behind:
            await site.feed.events_bell.wait(seen, HEARTBEAT_SECONDS)
        if time.monotonic() - sent_at >= HEARTBEAT_SECONDS:
            yield _COMMENT
            sent_at = time.monotonic()


class _Place:
    """A listener's place in the journal."""

    def __init__(self, site: Site, after: int | None, job: str) -> None:
        self._site = site
        self._seq = after
        self._job = job
        self._journal_id = ""
        # Perhaps there is more already.
        self.is_behind = False
        self._refused_bytes = 0

    async def advance(self) -> list[bytes]:
        """What comes next, as far as it is there; the place moves on with it.

        Raises:
            BrokerUnavailableError, BusyError: nobody knows just now, or there is no room for it; the place stays.
        """
        # What found no room is not fetched again before there is some.
        self._site.sending.check(self._refused_bytes)
        place = self._seq, self._journal_id
        chunks = await self._next()
        size_bytes, self._refused_bytes = sum(map(len, chunks)), 0
        try:
            self._site.sending.check(size_bytes)
        except BusyError:
            self._seq, self._journal_id = place
            self._refused_bytes = size_bytes
            raise
        return chunks

    async def _next(self) -> list[bytes]:
        self.is_behind = False
        entries = self._site.feed.after(self._seq) if self._seq is not None and self._journal_id else None
        if entries is None:
            return await self._replay()
        entries = entries[:PAGE]
        if entries:
            self._seq, self.is_behind = entries[-1].seq, True
        return [_framed(entry) for entry in entries if not self._job or entry.job == self._job]

    async def _replay(self) -> list[bytes]:
        page = await self._site.asker.ask(self._ask)
        told: list[bytes] = []
        if page.journal_id != self._journal_id:
            is_first, self._journal_id = not self._journal_id, page.journal_id
            journal = msgspec.json.encode(Journal(journal_id=page.journal_id, head_seq=page.head_seq))
            told.append(b"event: journal\ndata: " + journal + b"\n\n")
            if self._seq is None:
                self._seq = page.head_seq
                return told
            if not is_first or self._seq > page.head_seq:
                self._seq, self.is_behind = 0, True  # another journal: from its first event
                return told
        entries = [entry_of(event) for event in page.events]
        # Without one the place is at the end, whatever number the feed has heard of.
        self._seq = entries[-1].seq if entries else page.head_seq
        self.is_behind = bool(entries)
        return told + [_framed(entry) for entry in entries]

    def _ask(self, broker: BrokerClient) -> Events:
        return broker.call(Replay(request_id=new_request_id(), after_seq=self._seq or 0, limit=PAGE, job=self._job),
                           Events)


def _framed(entry: Entry) -> bytes:
    return b"id: %d\ndata: %b\n\n" % (entry.seq, entry.content)


async def picture_stream(site: Site) -> AsyncIterator[bytes]:
    """The status picture, whole, each time that there is a new one; who is slow gets the newest and not all."""
    yield _RETRY
    shown = -1
    while not site.feed.closing:
        seen = site.feed.picture_bell.rung
        if seen != shown:
            shown = seen
            yield b"data: %b\n\n" % site.picture_now()
        else:
            await site.feed.picture_bell.wait(seen, HEARTBEAT_SECONDS)
            if site.feed.picture_bell.rung == seen:
                yield _COMMENT
