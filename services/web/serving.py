"""The HTTP server: uvicorn in a thread of its own, and a protocol that no client can hold up.

uvicorn has no limit for the number of connections, for how long a request's head may take, or for how long a client
reads nothing; here is one for each. What is over a limit is cut off, and nobody else notices.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Callable
from http import HTTPStatus

import h11
import msgspec
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from services.web import guarding, problems
from trainq.errors import ProtocolError
from trainq.logs import Limited

MAX_CONNECTIONS = 128
MAX_HEAD_BYTES = 16 * 1024
HEAD_SECONDS = 10.0
# How long a client may read nothing of what it has asked for.
STALL_SECONDS = 30.0
KEEP_ALIVE_SECONDS = 15
GRACE_SECONDS = 3
_BACKLOG = 128
_TICK_SECONDS = 1.0


class _Protocol(H11Protocol):
    """uvicorn's, with limits. One for each connection."""

    _head: asyncio.TimerHandle | None = None
    _stall: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
        else:
            self._head = self.loop.call_later(HEAD_SECONDS, self._overdue)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._is_at_work:
            _cancel(self._head)
            self._head = None
        elif self._head is None and not self.transport.is_closing():
            # The next request on this connection has begun.
            self._head = self.loop.call_later(HEAD_SECONDS, self._overdue)

    @property
    def _is_at_work(self) -> bool:
        # uvicorn has none before the first request.
        return self.cycle is not None and not self.cycle.response_complete

    def _overdue(self) -> None:
        self._head = None
        if not self._is_at_work:
            self.transport.abort()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall = self._stall or self.loop.call_later(STALL_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        _cancel(self._stall)
        self._stall = None

    def connection_lost(self, exc: Exception | None) -> None:
        _cancel(self._head)
        _cancel(self._stall)
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP gets a problem, too, and its connection is closed."""
        problem = msgspec.json.encode(problems.Problem(
            title=HTTPStatus.BAD_REQUEST.phrase, status=HTTPStatus.BAD_REQUEST.value, code=ProtocolError.code,
            message=msg, mend=f"send HTTP/1.1, with a head of at most {MAX_HEAD_BYTES} bytes"))
        try:
            for event in (
                    h11.Response(status_code=400, reason=b"Bad Request", headers=[
                        ("content-type", problems.MEDIA_TYPE), ("content-length", str(len(problem))),
                        ("connection", "close")]),
                    h11.Data(data=problem), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
            self.transport.close()
        except h11.LocalProtocolError:
            self.transport.abort()  # in the middle of an answer


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


class _Server(uvicorn.Server):
    """uvicorn's, which tells when its loop runs, and looks once a second whether it is to end."""

    def __init__(self, config: uvicorn.Config, on_loop: Callable[[asyncio.AbstractEventLoop], None]) -> None:
        super().__init__(config)
        self._on_loop = on_loop
        self._told = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_loop(asyncio.get_running_loop())

    async def main_loop(self) -> None:
        while not await self.on_tick(0):
            try:
                async with asyncio.timeout(_TICK_SECONDS):
                    await self._told.wait()
            except TimeoutError:
                continue

    def end(self) -> None:
        """In the loop: come to the end."""
        self.should_exit = True
        self._told.set()


class HttpThread:
    """The server in its thread; owned by the main thread."""

    def __init__(self, application: ASGIApp, listener: socket.socket, limited: Limited) -> None:
        for name in ("uvicorn.error", "asyncio"):
            logger = logging.getLogger(name)
            logger.handlers, logger.propagate = [_Handler(limited)], False
        config = uvicorn.Config(
            application, http=_Protocol, loop="asyncio", ws="none", lifespan="off", interface="asgi3", log_config=None,
            log_level="warning", access_log=False, proxy_headers=False, server_header=False, backlog=_BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_SECONDS, timeout_graceful_shutdown=GRACE_SECONDS,
            h11_max_incomplete_event_size=MAX_HEAD_BYTES)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._up = threading.Event()
        self._server = _Server(config, self._on_loop)
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(listener,), name="http", daemon=True)
        self._thread.start()
        self._up.wait()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def post(self, act: Callable[[], None]) -> None:
        """Have ``act`` done in the server's loop, soon; nothing if it has ended."""
        if self._loop is not None and self.is_alive:
            try:
                self._loop.call_soon_threadsafe(act)
            except RuntimeError:
                return  # it has ended just now

    def end(self, patience_seconds: float) -> bool:
        """Have it end, and wait so long; whether it has."""
        self.post(self._server.end)
        self._thread.join(patience_seconds)
        return not self._thread.is_alive()

    def _on_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._up.set()

    def _run(self, listener: socket.socket) -> None:
        try:
            self._server.run([listener])
        except BaseException as error:
            self.failure = error
        finally:
            self._up.set()


class _Handler(logging.Handler):
    """What uvicorn and asyncio have to say, as events of this service; clients can cause it at will."""

    def __init__(self, limited: Limited) -> None:
        super().__init__(logging.WARNING)
        self._limited = limited

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        self._limited.warning("http", message=record.getMessage()[:500], error=repr(error)[:500] if error else "")


def listen(port: int) -> socket.socket:
    """A socket that listens on loopback, and nowhere else.

    Raises:
        OSError: it cannot be had; somebody else may have it.
    """
    listener = socket.create_server((guarding.ADDRESS, port), backlog=_BACKLOG)
    # tcp(7): connections inherit it. asyncio sets it only where a socket says that it is TCP, which this one does not,
    # and a response is sent in two pieces: the second one would wait 40 ms for the client to acknowledge the first.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
