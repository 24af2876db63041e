"""What may block, off the loop that serves: questions to the broker, and reading files. A few threads of each.

However many ask, the broker has few questions of this process at once, at most :data:`QUESTIONS_PER_SECOND`, and spends
about :data:`SHARE` of its time on them: whoever floods this process keeps the broker from nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import msgspec

from trainq.client import BrokerClient
from trainq.config import Home
from trainq.errors import BrokerUnavailableError, BusyError
from trainq.messages import AnyRequest

ASKERS = 3
# Whose questions have shown the token.
ORDERERS = 2
# What asks many questions one after the other, or reads much between two: each of them one at a time.
LONGS = 3
READERS = 2
# Uploads, each of which waits for its client.
STORERS = 4
# Whole files: each is read to its end before its first byte is given.
EXPORTERS = 4
# Orders that are waited for, children, what looks through the whole home: each of them one at a time.
WAITERS = 8
QUESTIONS_PER_SECOND = 100.0
# Of the broker's time; but a second of it is free for who has not asked for long.
SHARE = 0.1
FREE_SECONDS = 1.0
# No answer takes the broker longer; the rest of the time it had other things to do.
MOST_SECONDS = 0.1
# Who would wait longer for a turn, or comes behind so many, is told to ask again.
TURN_SECONDS = 10.0
MAX_WAITING = 64
ANSWER_SECONDS = 3.0
# A submit waits for an fsync on a busy disk. Less than supervisord waits for this process to end.
SUBMIT_SECONDS = 10.0

Value = TypeVar("Value")
Reply = TypeVar("Reply", bound=msgspec.Struct)


class _Client(BrokerClient):
    """A client whose calls wait no longer than :attr:`patience_seconds`, whatever they ask for.

    Once ``stopping`` is set, it asks nothing more.
    """

    def __init__(self, home: Home) -> None:
        super().__init__(home)
        self.patience_seconds = ANSWER_SECONDS
        self.stopping: threading.Event | None = None

    def call(self, request: AnyRequest, expect: type[Reply], *, timeout_seconds: float = SUBMIT_SECONDS) -> Reply:
        if self.stopping is not None and self.stopping.is_set():
            raise BrokerUnavailableError("web ends, and asks nothing more", mend="ask again in a moment")
        return super().call(request, expect, timeout_seconds=min(timeout_seconds, self.patience_seconds))


class Pace:
    """When the next question may be asked: so many a second, and so much of the broker's time. It reads no clock.

    What a question costs is how long it was under way; what several were at once counts once.
    """

    def __init__(self) -> None:
        self._next_at = 0.0
        # When all that was asked would have taken its share of the time.
        self._paid_at = 0.0
        self._under_way = 0
        self._counted_at = 0.0

    def seconds_left(self, now: float) -> float:
        """How long the next question has to wait; nothing if this is not above 0."""
        return max(self._next_at, self._paid_at - FREE_SECONDS / SHARE) - now

    def begin(self, now: float) -> None:
        """A question is asked."""
        self._next_at = max(now, self._next_at) + 1.0 / QUESTIONS_PER_SECOND
        if not self._under_way:
            self._counted_at = now
        self._under_way += 1

    def end(self, now: float, *, answered: bool) -> None:
        """It is over. One without an answer took nothing: there is nobody to spare."""
        took, self._counted_at = min(now - self._counted_at, MOST_SECONDS), now
        self._under_way -= 1
        if answered:
            self._paid_at = max(now, self._paid_at) + took / SHARE


class _Pool:
    """Some threads of one kind, and how many wait for them."""

    def __init__(self, threads: int, name: str) -> None:
        self.threads = ThreadPoolExecutor(threads, name)
        self._waiting = 0

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """A place among those who wait, and whose work is done.

        Raises:
            BusyError: too many wait.
        """
        if self._waiting >= MAX_WAITING:
            raise _busy()
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1

    async def run(self, work: Callable[[], Value]) -> Value:
        with self.place():
            return await self.do(work)

    async def do(self, work: Callable[[], Value]) -> Value:
        return await asyncio.get_running_loop().run_in_executor(self.threads, work)


def _busy() -> BusyError:
    return BusyError("too much is asked at once", mend="ask again in a moment")


class Asker:
    """Threads that ask the broker, and threads that read. Used from the serving loop; closed by who made it."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._askers = _Pool(ASKERS, "ask")
        self._orderers = _Pool(ORDERERS, "order")
        self._longs = _Pool(LONGS, "long")
        self._stopping = threading.Event()
        self._readers = _Pool(READERS, "read")
        self._storers = _Pool(STORERS, "store")
        self._exporters = _Pool(EXPORTERS, "export")
        self._pace = Pace()
        self._free = asyncio.Semaphore(ASKERS)
        # Of those who wait for their turn the first; the others wait for this one.
        self._first = asyncio.Lock()
        self._waiters = _Pool(WAITERS, "wait")
        # One thread has one at a time; the newest is used again first.
        self._clients: queue.LifoQueue[_Client] = queue.LifoQueue()

    async def ask(self, question: Callable[[BrokerClient], Value]) -> Value:
        """What ``question`` gives, asked in a thread when its turn comes; for what everybody may ask.

        Raises:
            BusyError: too many wait, or for too long.
            BrokerUnavailableError: no answer.
            TrainqError: the broker refused.
        """
        with self._askers.place():
            async with self._turn():
                answered = True
                try:
                    return await self._askers.do(lambda: self._asked(question, ANSWER_SECONDS))
                except BrokerUnavailableError:
                    answered = False
                    raise
                finally:
                    self._pace.end(time.monotonic(), answered=answered)

    async def order(self, question: Callable[[BrokerClient], Value], patience_seconds: float = ANSWER_SECONDS) -> Value:
        """As :meth:`ask`, at once: for who has shown the token, and for what is asked seldom, whoever asks.

        Each call of ``question`` waits at most ``patience_seconds``.
        """
        return await self._orderers.run(lambda: self._asked(question, patience_seconds))

    async def long(self, question: Callable[[BrokerClient], Value], patience_seconds: float = ANSWER_SECONDS) -> Value:
        """As :meth:`order`, for what asks many questions, and is asked for one at a time (:meth:`.sites.Site.alone`).

        When this process is to end, the next call of ``question`` finds no broker.
        """
        return await self._longs.run(lambda: self._asked(question, patience_seconds, self._stopping))

    async def read(self, work: Callable[[], Value]) -> Value:
        """What ``work`` gives, done in a thread for what reads files.

        Raises:
            BusyError: too many wait.
        """
        return await self._readers.run(work)

    async def store(self, work: Callable[[], Value]) -> Value:
        """As :meth:`read`, for what a client sends at its own pace."""
        return await self._storers.run(work)

    async def export(self, work: Callable[[], Value]) -> Value:
        """As :meth:`read`, for the content of whole files."""
        return await self._exporters.run(work)

    async def wait(self, work: Callable[[], Value]) -> Value:
        """As :meth:`read`, for what may take minutes, and is asked for one at a time (:meth:`.sites.Site.alone`)."""
        return await self._waiters.run(work)

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """The turn to ask; who asked first has it first. Whoever has it tells the pace of its end."""
        try:
            async with asyncio.timeout(TURN_SECONDS), self._first:
                await self._free.acquire()
                try:
                    while (seconds := self._pace.seconds_left(time.monotonic())) > 0:
                        await asyncio.sleep(seconds)
                except BaseException:
                    self._free.release()
                    raise
        except TimeoutError:
            raise _busy() from None
        self._pace.begin(time.monotonic())
        try:
            yield
        finally:
            self._free.release()

    def _asked(self, question: Callable[[BrokerClient], Value], patience_seconds: float,
               stopping: threading.Event | None = None) -> Value:
        try:
            client = self._clients.get_nowait()
        except queue.Empty:
            client = _Client(self._home)
        client.patience_seconds, client.stopping = patience_seconds, stopping
        try:
            answer = question(client)
        except BrokerUnavailableError:
            client.close()  # with what may still come for it
            raise
        except BaseException:
            self._clients.put(client)
            raise
        self._clients.put(client)
        return answer

    def stop(self) -> None:
        """Let what asks many questions ask no other one. From any thread."""
        self._stopping.set()

    def close(self) -> None:
        """Wait for what is being asked (a few seconds at most), and drop the connections."""
        self.stop()
        for pool in (self._askers, self._orderers):
            pool.threads.shutdown(cancel_futures=True)
        for pool in (self._longs, self._readers, self._storers, self._exporters, self._waiters):
            pool.threads.shutdown(wait=False, cancel_futures=True)
        with contextlib.suppress(queue.Empty):
            while True:
                self._clients.get_nowait().close()
