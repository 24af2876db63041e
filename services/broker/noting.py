"""Events of users' own programs: recorded like any other, once for each request, and never more than a little.

The journal is kept for ever, so what users may add to it is bounded: :data:`BURST_BYTES` at once, and over time
:data:`BYTES_A_SECOND`, which is 22 MB a day. Whoever has more to say waits, and is told so.
"""

from __future__ import annotations

from services.broker.admission import repeated
from services.broker.recording import Recorder
from trainq import messages
from trainq.clock import Clock
from trainq.errors import BusyError
from trainq.jobs import UserNoted
from trainq.journal import Journal, Queries
from trainq.manifests import digest_bytes
from trainq.messages import Done, Emit

BURST_BYTES = 64 * 1024
BYTES_A_SECOND = 256
# What an event takes in the journal beside its own bytes: hash, numbers, the request's id and digest, indices.
OVERHEAD_BYTES = 400


class Allowance:
    """So many bytes at once, and as many again in the time that they take at the lasting rate (a token bucket)."""

    def __init__(self, now: float) -> None:
        self._left = float(BURST_BYTES)
        self._at = now

    def take(self, size_bytes: int, now: float) -> float:
        """Take so many bytes; 0, or how many seconds it takes until there are enough, and then none was taken."""
        self._left = min(float(BURST_BYTES), self._left + (now - self._at) * BYTES_A_SECOND)
        self._at = now
        if size_bytes > self._left:
            return (size_bytes - self._left) / BYTES_A_SECOND
        self._left -= size_bytes
        return 0.0


class Noter:
    """Answers :class:`~trainq.messages.Emit`, inside the app's transaction."""

    def __init__(self, journal: Journal, queries: Queries, recorder: Recorder, clock: Clock) -> None:
        self._journal = journal
        self._queries = queries
        self._recorder = recorder
        self._clock = clock
        self._allowance = Allowance(clock.monotonic())

    def answer(self, request: Emit) -> Done:
        """Record it, unless it is recorded already.

        Raises:
            RequestReusedError: the id was used for something else.
            BusyError: there is too much of it.
        """
        payload = messages.encode(request)
        digest = digest_bytes(payload)
        if (earlier := self._queries.request(request.request_id)) is not None:
            repeated(request.request_id, digest, earlier)
            return Done(changed=False, seq=self._journal.head_seq)
        wait_seconds = self._allowance.take(len(payload) + OVERHEAD_BYTES, self._clock.monotonic())
        if wait_seconds:
            raise BusyError(f"more events of users' own than the journal takes, {BYTES_A_SECOND} bytes a second",
                            mend=f"ask again in {wait_seconds:.0f} s, or say less")
        return self._recorder.record(UserNoted(request_id=request.request_id, request_digest=digest,
                                               name=request.name, fields=request.fields))
