"""What may block, off the loop that serves: questions to the broker, and reading files. A few threads of each.

However many ask, the broker has at most :data:`ASKERS` questions of this process at once, and
:data:`QUESTIONS_PER_SECOND`: whoever floods this process keeps the broker from nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import msgspec

from trainq.client import BrokerClient
from trainq.config import Home
from trainq.errors import BrokerUnavailableError, BusyError
from trainq.messages import AnyRequest

ASKERS = 4
READERS = 2
# Uploads, each of which waits for its client.
STORERS = 4
QUESTIONS_PER_SECOND = 100.0
# Who comes later is told to ask again.
MAX_WAITING = 64
ANSWER_SECONDS = 3.0
# A submit waits for an fsync on a busy disk. Less than supervisord waits for this process to end.
SUBMIT_SECONDS = 10.0

Value = TypeVar("Value")
Reply = TypeVar("Reply", bound=msgspec.Struct)


class _Client(BrokerClient):
    """A client whose calls wait no longer than :attr:`patience_seconds`, whatever they ask for."""

    patience_seconds = ANSWER_SECONDS

    def call(self, request: AnyRequest, expect: type[Reply], *, timeout_seconds: float = SUBMIT_SECONDS) -> Reply:
        return super().call(request, expect, timeout_seconds=min(timeout_seconds, self.patience_seconds))


class Asker:
    """Threads that ask the broker, and threads that read. Used from the serving loop; closed by who made it."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._askers = ThreadPoolExecutor(ASKERS, "ask")
        self._readers = ThreadPoolExecutor(READERS, "read")
        self._storers = ThreadPoolExecutor(STORERS, "store")
        self._waiting = 0
        self._next_at = 0.0
        # One thread has one at a time; the newest is used again first.
        self._clients: queue.LifoQueue[_Client] = queue.LifoQueue()

    async def ask(self, question: Callable[[BrokerClient], Value], patience_seconds: float = ANSWER_SECONDS) -> Value:
        """What ``question`` gives, asked in a thread; each of its calls waits at most ``patience_seconds``.

        Raises:
            BusyError: too many wait.
            BrokerUnavailableError: no answer.
            TrainqError: the broker refused.
        """
        return await self._in_thread(self._askers, lambda: self._asked(question, patience_seconds), self._turn)

    async def read(self, work: Callable[[], Value]) -> Value:
        """What ``work`` gives, done in a thread for what reads files.

        Raises:
            BusyError: too many wait.
        """
        return await self._in_thread(self._readers, work)

    async def store(self, work: Callable[[], Value]) -> Value:
        """As :meth:`read`, for what a client sends at its own pace."""
        return await self._in_thread(self._storers, work)

    def _turn(self) -> float:
        """How long to wait until the next question is due."""
        now = time.monotonic()
        due = max(now, self._next_at)
        self._next_at = due + 1.0 / QUESTIONS_PER_SECOND
        return due - now

    async def _in_thread(self, pool: ThreadPoolExecutor, work: Callable[[], Value],
                         turn: Callable[[], float] = float) -> Value:
        if self._waiting >= MAX_WAITING:
            raise BusyError("too much is asked at once", mend="ask again in a moment")
        self._waiting += 1
        try:
            if (seconds := turn()) > 0:
                await asyncio.sleep(seconds)
            return await asyncio.get_running_loop().run_in_executor(pool, work)
        finally:
            self._waiting -= 1

    def _asked(self, question: Callable[[BrokerClient], Value], patience_seconds: float) -> Value:
        try:
            client = self._clients.get_nowait()
        except queue.Empty:
            client = _Client(self._home)
        client.patience_seconds = patience_seconds
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

    def close(self) -> None:
        """Wait for what is being asked (a few seconds at most), and drop the connections."""
        self._askers.shutdown(cancel_futures=True)
        for pool in (self._readers, self._storers):
            pool.shutdown(wait=False, cancel_futures=True)
        with contextlib.suppress(queue.Empty):
            while True:
                self._clients.get_nowait().close()
