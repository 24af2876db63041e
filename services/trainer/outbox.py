"""The outbox: what the broker must hear waits here, in order, so that its absence stops no training."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from services.trainer import effects, wire
from trainq.errors import BrokerUnavailableError, StorageError, StorageFullError, TrainqError
from trainq.ids import new_request_id
from trainq.messages import Done, Lease, ReportCheckpoint, ReportEffects, ReportFingerprint, TaskLease
from trainq.service import Peer, Process

_TELL_SECONDS = 2.0

Report = ReportCheckpoint | ReportFingerprint | ReportEffects


class Outbox:
    """Owned by the agent's thread. An entry that the broker does not hear is tried again, and those behind it wait."""

    def __init__(self, process: Process, peer: Peer) -> None:
        self._process = process
        self._peer = peer
        self._entries: deque[Callable[[], object]] = deque()

    @property
    def is_empty(self) -> bool:
        return not self._entries

    def put(self, act: Callable[[], object]) -> None:
        """``act`` tells the broker something, and raises if it was not heard."""
        self._entries.append(act)

    def send(self) -> None:
        """Tell the broker what waits; what it does not hear stays."""
        while self._entries:
            try:
                self._entries[0]()
            except (BrokerUnavailableError, StorageError, StorageFullError) as error:
                self._process.log.warning("broker_does_not_take_it", error=str(error), waiting=len(self._entries))
                return
            self._entries.popleft()

    def tell(self, report: Report) -> bool:
        """Say it to the broker; false for a definite no.

        Raises:
            BrokerUnavailableError, StorageError, StorageFullError: it was not heard, and is to be said again.
        """
        try:
            self._peer.client.call(report, Done, timeout_seconds=_TELL_SECONDS)
        except (BrokerUnavailableError, StorageError, StorageFullError):
            raise
        except TrainqError as error:
            self._process.log.warning("report_refused", report=type(report).__name__, error=str(error))
            return False
        return True


def checkpoint(lease: Lease | TaskLease, published: wire.Published) -> ReportCheckpoint:
    """A generation that was published under this lease; it may be one that takes an earlier job back."""
    own = published.job == lease.job
    return ReportCheckpoint(
        request_id=new_request_id(), job=lease.job, token=lease.token, generation=published.generation,
        name=published.name, step=published.step, job_step=published.job_step if own else 0,
        done=published.done and own, reason=published.reason, stall_seconds=published.seconds,
        write_seconds=published.write_seconds, size_bytes=published.size_bytes)


def fingerprint(lease: Lease | TaskLease, changed: effects.ReportFingerprint) -> ReportFingerprint:
    """The job goes on, or begins, on other ground."""
    return ReportFingerprint(request_id=new_request_id(), job=lease.job, token=lease.token, before=changed.before,
                             after=changed.after)


def decided(lease: Lease | TaskLease, what: effects.ReportEffects) -> ReportEffects:
    """The job's steps are others from these on."""
    return ReportEffects(request_id=new_request_id(), job=lease.job, token=lease.token, effects=what.effects,
                         reason=what.reason)
