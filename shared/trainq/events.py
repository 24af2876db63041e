"""The journal's events for other programs: every one once, in order and without gaps; and events of their own.

    from trainq.events import emit, subscribe

    for event in subscribe("var", "JobSucceeded", "CheckpointPublished"):
        print(event.seq, event.type, event.job, event.fields)

    emit("var", "Evaluated", score=0.7)         # others see the type "user.Evaluated"

What is published is heard at once. A number that is missing, a broker that was away or is another one, and silence
(the last message may be the lost one) are reasons to ask the journal itself. A journal that is not the one that was
read so far is an error, not a gap: see :class:`Reader`.
"""

from __future__ import annotations

import time
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from trainq import jobs, messages
from trainq.client import BrokerClient
from trainq.config import Home
from trainq.errors import AnotherJournalError, BrokerUnavailableError, BusyError, UsageError
from trainq.ids import new_request_id
from trainq.messages import Done, Emit, Events, EventView, Replay
from trainq.transport import Poller, Subscriber, new_context

USER_PREFIX = "user."
NAMES = frozenset(event.__name__ for event in typing.get_args(jobs.AnyEvent))

_ANSWER_SECONDS = 3.0
# How long it may be silent before the journal is asked whether a message was lost: soon after one begins to listen, and
# then ever later.
_LEAST_QUIET_SECONDS = 0.25
_MOST_QUIET_SECONDS = 5.0

Value = bool | int | float | str | None
Ask = Callable[[Replay, type[Events]], Events]
_Identity = tuple[int, float, str, str]


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """What happened. ``seq`` is its place in the journal ``journal_id``, ``at`` when (seconds since 1970).

    ``type`` is the event's name (``docs/protocol.md``), or ``user.<name>`` for one of :func:`emit`; ``job`` is the job
    that it is about, or empty; ``fields`` is the rest. To go on after it another time: ``since=event.seq`` and
    ``journal_id=event.journal_id``.
    """

    seq: int
    at: float
    type: str
    job: str
    fields: dict[str, Any]
    journal_id: str


def subscribe(home: Path | str | Home, *types: str, since: int | None = None, journal_id: str = "") -> Iterator[Event]:
    """The events of these types as they happen, for ever; all events if none is named. Blocks between them.

    A broker that is away, or is not there yet, is waited for. Other threads need a subscription of their own.

    Args:
        home: the folder that everything lies in (``var`` beside ``supervisord.conf``, or ``$TRAINQ_HOME``).
        types: their names; ``user.<name>`` for those of :func:`emit`, ``UserNoted`` for all of these.
        since: first those after this number; 0 for all that ever were, None for none.
        journal_id: the journal that ``since`` is a place of, if it is known.

    Raises:
        UsageError: there are no events of such a type.
        AnotherJournalError: the journal is another one, or was put back to an earlier state (a backup was restored).
            What was read of it counts no more; subscribe anew.
        ProtocolError: the broker speaks another version.
    """
    for name in types:
        if name not in NAMES and not name.startswith(USER_PREFIX):
            raise UsageError(f"there are no events of type {name}",
                             mend="docs/protocol.md has their names; user.<name> is what emit() gave the name")
    return _subscribed(_home_of(home), frozenset(types), since, journal_id)


def emit(home: Path | str | Home, name: str, /, **fields: Value) -> None:
    """Record an event of one's own in the journal; when this returns it is on disk. Others see ``user.<name>``.

    It is for marks and signals between programs, not for data: the journal is kept for ever. Name and fields may have
    4096 bytes together; of more than some hundred events at once, and of more than 256 bytes a second, the broker
    takes no more for a while, for which this waits a few seconds.

    Args:
        home: as for :func:`subscribe`.
        name: letters, digits, ``_``, ``.`` and ``-``; at most 64.
        fields: what it says.

    Raises:
        UsageError: the name or a field cannot be recorded.
        BusyError: there is too much of it.
        BrokerUnavailableError: no answer came in time. Whether it was recorded is unknown.
    """
    try:
        request = msgspec.convert({"request_id": new_request_id(), "type": Emit.__name__, "name": name,
                                   "fields": fields}, Emit)
    except (msgspec.ValidationError, OverflowError, UnicodeEncodeError) as error:
        raise UsageError(f"{name} cannot be recorded: {error}", mend=(
            "give numbers, text, truth values or None, in little; a name of letters, digits, _ . -")) from error
    with BrokerClient(_home_of(home)) as broker:
        broker.call(request, Done)


class Reader:
    """A place in the journal that only moves on.

    Each page is asked for from the event on that was read last, which must be the same still: so a journal that was
    put back is noticed, however much has happened in it since. (Of one job's events only the numbers are compared.)
    """

    def __init__(self, ask: Ask, *, since: int | None = None, journal_id: str = "", job: str = "") -> None:
        """Nothing is asked before the first :meth:`read`. ``since`` None: the journal's end at that time."""
        self._ask = ask
        self._job = job
        self._last: _Identity | None = None
        self.seq = since
        self.journal_id = journal_id

    def read(self) -> Iterator[EventView]:
        """All events from here to the journal's present end.

        Raises:
            AnotherJournalError: the journal is not the one that was read so far.
        """
        if self.seq is None:
            page = self._page(0, limit=1)
            self.seq, self.journal_id = page.head_seq, page.journal_id
        while True:
            page = self._page(self.seq)
            events = page.events
            if self._overlaps:
                first = events[0] if events else None
                if first is None or first.seq != self.seq or self._last not in (None, _identity(first)):
                    raise self._another(page)
                self._last, events = _identity(first), events[1:]
                if not events and page.head_seq > self.seq:
                    events = self._page(self.seq, after=self.seq).events  # what is next does not fit beside it
            if not events:
                if self._job:
                    self.seq = max(self.seq, page.head_seq)
                return
            for event in events:
                self.took(event)
                yield event

    def took(self, event: EventView) -> None:
        """This event, the next one, was read."""
        self.seq, self._last = event.seq, _identity(event)

    @property
    def _overlaps(self) -> bool:
        return bool(self.seq) and not self._job

    def _page(self, seq: int, *, after: int | None = None, limit: int = messages.MAX_PAGE) -> Events:
        after = after if after is not None else seq - 1 if self._overlaps else seq
        page = self._ask(Replay(request_id=new_request_id(), after_seq=after, limit=limit, job=self._job), Events)
        if self.journal_id not in ("", page.journal_id) or page.head_seq < seq:
            raise self._another(page)
        self.journal_id = page.journal_id
        return page

    def _another(self, page: Events) -> AnotherJournalError:
        return AnotherJournalError(self.journal_id, self.seq or 0, page.journal_id, page.head_seq)


def _identity(event: EventView) -> _Identity:
    """What tells an event from all others at its place. Not its body: a newer broker may add fields to an old one."""
    return event.seq, event.at, event.type, event.job


def _subscribed(home: Home, types: frozenset[str], since: int | None, journal_id: str) -> Iterator[Event]:
    with BrokerClient(home) as broker:
        reader = Reader(_patient(broker), since=since, journal_id=journal_id)
        for view in _heard(home, reader):
            event = _event(view, reader.journal_id)
            if not types or event.type in types or view.type in types:
                yield event


def _patient(broker: BrokerClient) -> Ask:
    def ask(request: Replay, expect: type[Events]) -> Events:
        while True:
            try:
                return broker.call(request, expect, timeout_seconds=_ANSWER_SECONDS)
            except (BrokerUnavailableError, BusyError):
                pass

    return ask


def _heard(home: Home, reader: Reader) -> Iterator[EventView]:
    """What the broker publishes; what is missing there, from the journal."""
    context = new_context()
    try:
        # Listening first: what happens from now on is heard, what happened before is read.
        subscriber, poller = Subscriber(context, home.event_socket, (messages.EVENT_TOPIC,)), Poller()
        poller.watch(subscriber)
        yield from reader.read()
        session, quiet_seconds = "", _LEAST_QUIET_SECONDS
        while True:
            ask_at = time.monotonic() + quiet_seconds
            while (left := ask_at - time.monotonic()) > 0 and not poller.wait(left):
                pass
            heard = [messages.decode_event(payload) for _, payload in subscriber.drain()]
            if not heard:
                yield from reader.read()
                quiet_seconds = min(_MOST_QUIET_SECONDS, 2 * quiet_seconds)
            for view in heard:
                if view.session == session and view.seq == (reader.seq or 0) + 1:
                    reader.took(view)
                    yield view
                elif view.session != session or view.seq > (reader.seq or 0):
                    session, quiet_seconds = view.session, _LEAST_QUIET_SECONDS
                    yield from reader.read()
    finally:
        context.destroy(linger=0)


def _event(view: EventView, journal_id: str) -> Event:
    type_, fields = view.type, {name: value for name, value in view.body.items() if name not in ("type", "job")}
    if type_ == jobs.UserNoted.__name__:
        type_, fields = USER_PREFIX + str(fields["name"]), fields["fields"]
    return Event(seq=view.seq, at=view.at, type=type_, job=view.job, fields=fields, journal_id=journal_id)


def _home_of(home: Path | str | Home) -> Home:
    return home if isinstance(home, Home) else Home(Path(home).absolute())
