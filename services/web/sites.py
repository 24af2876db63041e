"""What all answers are made from: the home, the broker, the newest picture. It belongs to the serving loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import to_builtins

from services.web.asking import Asker
from services.web.exposition import Exposition
from services.web.feed import Feed
from services.web.sending import Sending
from trainq.clock import Clock
from trainq.config import Home, Settings
from trainq.errors import BrokerUnavailableError, BusyError, NotFoundError, StorageError
from trainq.ids import new_request_id
from trainq.logs import EventLog, Limited
from trainq.messages import EventView, GetOverview, Overview
from trainq.picture import StatusPicture

# So long one answer of the broker serves all who ask how it stands.
OVERVIEW_SECONDS = 0.5
# The same for one of supervisord, which has one thread.
SERVICES_SECONDS = 1.0

Value = TypeVar("Value")


class DaemonStatus(StatusPicture, frozen=True, kw_only=True):
    """The status picture; from the status service's ``run/status.sock`` or its ``status.json``, and its age."""

    source: str
    age_seconds: float


class OneForAll(Generic[Value]):
    """An answer that serves all who ask within some seconds; one of them has it made, the others wait for it."""

    def __init__(self, seconds: float, monotonic: Callable[[], float]) -> None:
        self._seconds, self._monotonic = seconds, monotonic
        self._lock = asyncio.Lock()
        self._made: tuple[float, Value] | None = None

    async def get(self, make: Callable[[], Awaitable[Value]]) -> Value:
        """The answer; what ``make`` raises is raised to who has it made, and nothing is kept of it."""
        async with self._lock:
            if self._made is None or self._monotonic() - self._made[0] > self._seconds:
                value = await make()
                self._made = self._monotonic(), value
            return self._made[1]


class Site:
    """Made in the main thread before the loop runs, and used from the loop alone after that."""

    def __init__(self, home: Home, settings: Settings, log: EventLog, clock: Clock, token: str) -> None:
        self.home = home
        self.settings = settings
        self.limited = Limited(log, clock.monotonic)
        self.clock = clock
        self.token = token
        self.started_at = clock.monotonic()
        self.asker = Asker(home)
        self.feed = Feed()
        self.sending = Sending()
        self.exposition = Exposition(home)
        self.streams = 0
        self.exports = 0
        # When the loop last did what the main thread gave it.
        self.alive_at = clock.monotonic()
        self._alone: set[str] = set()
        self._picture: StatusPicture | None = None
        self._overviews: OneForAll[Overview | BrokerUnavailableError | BusyError] = OneForAll(
            OVERVIEW_SECONDS, clock.monotonic)
        self.services: OneForAll[Any] = OneForAll(SERVICES_SECONDS, clock.monotonic)

    def take(self, events: list[EventView], picture: bytes | None) -> None:
        """What the main thread has heard since."""
        self.alive_at = self.clock.monotonic()
        self.feed.add(events)
        if picture is not None:
            try:
                self._picture = msgspec.msgpack.decode(picture, type=StatusPicture)
            except (msgspec.MsgspecError, ValueError, RecursionError) as error:
                self.limited.warning("picture_not_understood", error=str(error)[:500])
                return
            self.feed.note_journal(self._picture.journal_id, self._picture.seq)
            self.feed.picture_bell.ring()

    def picture(self) -> StatusPicture:
        """The newest picture that was published; before there is one, the last that was written.

        Raises:
            NotFoundError: there has never been one.
            StorageError: what there is cannot be read.
        """
        if self._picture is not None:
            return self._picture
        file = self.home.status_file
        try:
            return msgspec.json.decode(file.read_bytes(), type=StatusPicture)
        except FileNotFoundError:
            raise NotFoundError("there is no status yet",
                                mend="is the status service running? supervisorctl status") from None
        except (OSError, msgspec.MsgspecError, RecursionError) as error:
            raise StorageError(f"{file.name} cannot be read: {error}", mend="supervisorctl start status") from error

    def status(self) -> dict[str, Any]:
        """The picture with its source and its age: a :class:`DaemonStatus`."""
        picture = self.picture()
        source = self.home.status_file.name if self._picture is None else "status"
        return {**to_builtins(picture), "source": source, "age_seconds": self.age_of(picture)}

    def age_of(self, picture: StatusPicture) -> float:
        """How many seconds ago the picture was made."""
        return round(max(0.0, self.clock.wall() - picture.at), 3)

    def picture_now(self) -> bytes:
        """:meth:`status` in JSON; null if there is none."""
        try:
            return msgspec.json.encode(self.status())
        except (NotFoundError, StorageError):
            return b"null"

    async def overview(self) -> Overview:
        """How the broker stands; asked at most every :data:`OVERVIEW_SECONDS`, whoever asks.

        Raises:
            BrokerUnavailableError, BusyError: no answer.
        """
        found = await self._overviews.get(self._ask_overview)
        if not isinstance(found, Overview):
            # It is raised to each who asks; what it has of those before would only grow.
            raise found.with_traceback(None)
        return found

    async def _ask_overview(self) -> Overview | BrokerUnavailableError | BusyError:
        try:
            return await self.asker.order(
                lambda broker: broker.call(GetOverview(request_id=new_request_id()), Overview))
        except (BrokerUnavailableError, BusyError) as error:
            return error  # for those, too, who have waited meanwhile

    @contextlib.contextmanager
    def alone(self, what: str) -> Iterator[None]:
        """For what takes long: whoever asks for it meanwhile is told to come again.

        Raises:
            BusyError: it is under way.
        """
        if what in self._alone:
            raise BusyError(f"{what} is under way already", mend="ask again when it has ended")
        self._alone.add(what)
        try:
            yield
        finally:
            self._alone.discard(what)

    def close(self) -> None:
        self.asker.close()
