"""Leases from the worker's side: take one, keep it alive while working, and end it in one of four ways."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Generic, TypeAlias, TypeVar

from trainq.errors import (
    BrokerUnavailableError,
    BusyError,
    SendAgainError,
    StaleLeaseError,
    StorageError,
    StorageFullError,
    TrainqError,
)
from trainq.ids import new_request_id
from trainq.jobs import JobKind
from trainq.messages import (
    AcknowledgeCancel,
    Complete,
    Done,
    Fail,
    Lease,
    Leased,
    LeaseState,
    Message,
    Progress,
    RefusedError,
    Release,
    ReportLostShard,
    Result,
    TakeLease,
    TaskLease,
)
from trainq.service import attempts
from trainq.service.child import Child
from trainq.service.peer import Peer, StoppedError

_ASK_SECONDS = 2.0
# A result that was refused so is no failure: the lease is somebody else's, or the work is to be done again as it is.
_MAY_STILL_BE_TAKEN = frozenset({StaleLeaseError.code, SendAgainError.code, BusyError.code})

AnyLease = TypeVar("AnyLease", Lease, TaskLease)
AnyEnd: TypeAlias = Complete | Fail | Release | AcknowledgeCancel | ReportLostShard


class Interruption(StrEnum):
    """Why work on a lease must end now."""

    LOST = "lost"
    CANCELLED = "cancelled"
    # As a cancel, but what is done of it stays.
    KEEP = "keep"
    STOPPING = "stopping"


class InterruptedWorkError(TrainqError):
    """Raised into the work when it is to end at once; publish nothing of it."""

    def __init__(self, why: Interruption) -> None:
        self.why = why
        super().__init__(f"the work ends: {why.value}")


class Held(Generic[AnyLease]):
    """A lease in this worker's hands.

    A ``patient`` one waits for the broker's answer when it ends; the other kind raises
    :class:`~trainq.errors.BrokerUnavailableError` after two seconds, for workers that have more to do meanwhile.
    """

    def __init__(self, peer: Peer, lease: AnyLease, *, patient: bool) -> None:
        self._peer = peer
        self._patient = patient
        self.lease: AnyLease = lease
        self.progress = Progress()
        peer.lost.discard(lease.job)
        peer.cancelled.discard(lease.job)
        peer.kept.discard(lease.job)

    @property
    def states(self) -> tuple[LeaseState, ...]:
        return (LeaseState(job=self.lease.job, token=self.lease.token, progress=self.progress),)

    def keep(self, progress: Progress | None = None) -> None:
        """Send the heartbeat when it is due; note the progress that it carries."""
        if progress is not None:
            self.progress = progress
        self._peer.beat(self.states)

    def interruption(self) -> Interruption | None:
        """Why the work should end now, if it should."""
        if self.lease.job in self._peer.lost:
            return Interruption.LOST
        if self.lease.job in self._peer.cancelled:
            return Interruption.CANCELLED
        if self.lease.job in self._peer.kept:
            return Interruption.KEEP
        return Interruption.STOPPING if self._peer.process.stopping else None

    def keep_or_raise(self, progress: Progress) -> None:
        """For work that runs in this thread: :meth:`keep`, and raise :class:`InterruptedWorkError` when it must end."""
        self.keep(progress)
        why = self.interruption()
        if why is not None:
            raise InterruptedWorkError(why)

    def keep_until_ended(self, child: Child, limit_seconds: float, late: TrainqError, *, look_seconds: float,
                         turn: Callable[[], object] = lambda: None) -> None:
        """For work that a child does: :meth:`keep_or_raise` until it has ended, and raise ``late`` after the limit.

        What is told as progress are the seconds; ``turn`` is called each time that the child is looked at.
        """
        clock = self._peer.process.clock
        began = clock.monotonic()
        while not child.has_ended:
            elapsed = clock.monotonic() - began
            self.keep_or_raise(Progress(step=int(elapsed), steps=int(limit_seconds), unit="seconds"))
            turn()
            child.cut_log()
            if elapsed > limit_seconds:
                raise late
            self._peer.wait(look_seconds)

    def complete(self, result: Result) -> bool:
        """Report the result; false when the lease was lost meanwhile (the broker has decided otherwise)."""
        return self._end(self._completion(result))

    def complete_or_fail(self, result: Result) -> None:
        """Report the result; where the broker will never take it, report that the attempt failed, in its words.

        Else the same life would be given the same lease again, and do the same work again, for ever. Not for a
        training: its steps are in the weights, and a failed one would be trained a second time.
        """
        refused = self._refusal(self._completion(result))
        if refused is not None and _code_of(refused) not in _MAY_STILL_BE_TAKEN:
            self.fail(f"the broker refused the result: {refused}")

    def fail(self, reason: str, *, counts: bool = True, final: bool = False) -> bool:
        """Report that the attempt failed by the job's fault.

        It does not count if it had made progress; it is the last one if it is ``final``.
        """
        return self._end(Fail(request_id=new_request_id(), job=self.lease.job, token=self.lease.token,
                              reason=reason[:4096], counts=counts, final=final))

    def release(self, reason: str, *, hold_seconds: float = 0.0) -> bool:
        """Give the job back unfinished, for nobody's fault; with ``hold_seconds`` the queue is held for the machine."""
        return self._end(Release(request_id=new_request_id(), job=self.lease.job, token=self.lease.token,
                                 reason=reason[:4096], hold_seconds=hold_seconds))

    def lose_shard(self, reason: str) -> bool:
        """Report that the job's shard must be made again before it can be trained."""
        return self._end(ReportLostShard(request_id=new_request_id(), job=self.lease.job, token=self.lease.token,
                                         reason=reason[:4096]))

    def acknowledge_cancel(self) -> bool:
        """Say that the cancel took effect."""
        return self._end(AcknowledgeCancel(request_id=new_request_id(), job=self.lease.job, token=self.lease.token))

    def _completion(self, result: Result) -> Complete:
        process = self._peer.process
        return Complete(request_id=new_request_id(), job=self.lease.job, token=self.lease.token, result=result,
                        worker=process.name, session=process.session)

    def _end(self, request: AnyEnd) -> bool:
        return self._refusal(request) is None

    def _refusal(self, request: AnyEnd) -> TrainqError | None:
        """End the lease; the broker's definite no, or None if it took it."""
        log = self._peer.process.log
        expect: type[Message] = Leased if isinstance(request, Complete) else Done
        try:
            if self._patient:
                reply = self._peer.call(request, expect, self.states)
            else:
                reply = self._peer.client.call(request, expect, timeout_seconds=_ASK_SECONDS)
        except (BrokerUnavailableError, StoppedError, StorageError, StorageFullError):
            raise
        except TrainqError as error:
            # A definite no: the broker has decided otherwise, and asking again changes nothing.
            log.warning("lease_end_refused", job=self.lease.job, token=self.lease.token, error=str(error))
            log.end_attempt()
            return error
        if isinstance(request, Complete):
            self._peer.process.progressed()
        log.info("lease_ended", job=self.lease.job, how=type(request).__name__, reply=type(reply).__name__)
        log.end_attempt()
        return None


def _code_of(refused: TrainqError) -> str:
    return refused.refused_code if isinstance(refused, RefusedError) else refused.code


HeldLease = Held[Lease]
HeldTask = Held[TaskLease]


def take_lease(peer: Peer, kinds: tuple[JobKind, ...]) -> tuple[HeldLease | None, str]:
    """Ask for work on a submitted file once; the lease, or why there is none."""
    reply = _ask(peer, kinds)
    if not isinstance(reply.lease, Lease):
        return None, reply.reason
    return HeldLease(peer, reply.lease, patient=True), ""


def take_task(peer: Peer, kinds: tuple[JobKind, ...]) -> tuple[HeldTask | None, str]:
    """Ask for a task once; the lease, or why there is none."""
    reply = _ask(peer, kinds)
    if not isinstance(reply.lease, TaskLease):
        return None, reply.reason
    return HeldTask(peer, reply.lease, patient=True), ""


def take_work(peer: Peer, kinds: tuple[JobKind, ...]) -> tuple[HeldLease | HeldTask | None, str]:
    """Ask once for work of either sort; the lease, which waits for no broker when it ends, or why there is none."""
    reply = _ask(peer, kinds)
    match reply.lease:
        case Lease():
            return HeldLease(peer, reply.lease, patient=False), ""
        case TaskLease():
            return HeldTask(peer, reply.lease, patient=False), ""
    return None, reply.reason


def _ask(peer: Peer, kinds: tuple[JobKind, ...]) -> Leased:
    process = peer.process
    request = TakeLease(request_id=new_request_id(), worker=process.name, session=process.session, kinds=kinds)
    try:
        reply = peer.client.call(request, Leased, timeout_seconds=_ASK_SECONDS)
    except BrokerUnavailableError:
        return Leased(lease=None, reason="the broker does not answer")
    if reply.lease is not None:
        attempts.begin(process, reply.lease.job, reply.lease.attempt)
        process.log.info("lease_taken", job=reply.lease.job, token=reply.lease.token, attempt=reply.lease.attempt)
    return reply
