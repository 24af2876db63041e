"""A worker's life: take a lease, do the work in the main thread, end the lease in the way that its outcome asks for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Generic

from trainq.errors import StorageError, StorageFullError
from trainq.messages import Lifecycle, Result
from trainq.service.peer import Peer
from trainq.service.process import Process
from trainq.service.work import AnyLease, Held, InterruptedWorkError, Interruption

IDLE_SECONDS = 1.0

Take = Callable[[Peer], tuple[Held[AnyLease] | None, str]]


class Worker(ABC, Generic[AnyLease]):
    """Does one job at a time. Owned by the main thread.

    Args:
        process: whose loop this is.
        wakes: the event that tells of new work; the broker's start does as well.
        take: asks for work once.

    What ``_detail`` says is shown while it waits for work.
    """

    def __init__(self, process: Process, wakes: bytes, take: Take[AnyLease]) -> None:
        self._process = process
        self._peer = Peer(process, topics=(wakes, b"event.BrokerStarted"))
        self._take: Take[AnyLease] = take
        self._detail = ""

    @abstractmethod
    def work(self, held: Held[AnyLease]) -> Result:
        """Do what the lease is for. What it raises is treated as in :func:`carry_out`."""

    def turn(self) -> None:
        """Take one job and end it, or wait for the next."""
        self._process.set_state(Lifecycle.RUNNING, self._detail)
        self._peer.beat()
        held, _ = self._take(self._peer)
        if held is None:
            self._peer.wait(IDLE_SECONDS)
            return
        carry_out(self._process, held, self.work)

    def serve(self) -> None:
        """Go on until the process is told to stop, then say goodbye."""
        try:
            self._process.loop(self.turn)
        finally:
            self._process.set_state(Lifecycle.STOPPED)
            self._peer.close()


def carry_out(process: Process, held: Held[AnyLease], work: Callable[[Held[AnyLease]], Result]) -> None:
    """Do the work on a lease in this thread, and end the lease in the way that its outcome asks for.

    Errors of the machine (``OSError``, :class:`~trainq.errors.StorageError`,
    :class:`~trainq.errors.StorageFullError`) give the job back and are raised again, so that the process says so and
    comes again after a pause. Every other error is the job's, and so is a result that the broker refuses for good.
    """
    try:
        result = work(held)
    except InterruptedWorkError as interrupted:
        process.log.info("interrupted", job=held.lease.job, why=interrupted.why.value)
        if interrupted.why is Interruption.CANCELLED:
            held.acknowledge_cancel()
        elif interrupted.why is Interruption.STOPPING:
            held.release(f"the {process.name} stops")
    except (OSError, StorageError, StorageFullError) as error:
        held.release(str(error))
        raise
    except Exception as error:
        process.log.error("work_failed", job=held.lease.job)
        held.fail(f"{type(error).__name__}: {error}")
    else:
        held.complete_or_fail(result)
