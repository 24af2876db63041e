"""Sending large answers: together they take a bounded part of the memory, whoever reads them or does not.

An answer of a size that does not fit into a socket's buffers lies here until its client has read it, and one who reads
nothing has half a minute for that.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from trainq.errors import BusyError

# Smaller ones are not counted: there are fewer than connections.
LARGE_BYTES = 128 * 1024
# The largest has some 12 MiB: a page of the broker's with nothing but control characters in it, in JSON.
MAX_BYTES = 16 * 1024 * 1024
# At a time, so that the server has no second copy of the whole.
_PIECE_BYTES = 64 * 1024


class Sending:
    """The large answers that are on their way. Used from the serving loop."""

    def __init__(self) -> None:
        self._bytes = 0

    def check(self, size_bytes: int) -> None:
        """Whether there is room for an answer of this size. A single one always has room.

        Raises:
            BusyError: there is none.
        """
        if size_bytes > LARGE_BYTES and self._bytes and self._bytes + size_bytes > MAX_BYTES:
            raise BusyError("large answers are on their way to others", mend="ask again in a moment, or for less")

    @contextlib.contextmanager
    def counted(self, size_bytes: int) -> Iterator[None]:
        """It counts while the block lasts."""
        taken = size_bytes if size_bytes > LARGE_BYTES else 0
        self._bytes += taken
        try:
            yield
        finally:
            self._bytes -= taken

    async def send(self, response: Response, scope: Scope, receive: Receive, send: Send) -> None:
        """Send a response, as an ASGI application does.

        Raises:
            BusyError: there is no room for it; nothing was sent.
        """
        body = bytes(getattr(response, "body", b""))  # a stream has none
        if len(body) <= LARGE_BYTES:
            await response(scope, receive, send)
            return
        self.check(len(body))
        with self.counted(len(body)):
            await send({"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers})
            for at in range(0, len(body), _PIECE_BYTES):
                await send({"type": "http.response.body", "body": body[at:at + _PIECE_BYTES],
                            "more_body": at + _PIECE_BYTES < len(body)})
