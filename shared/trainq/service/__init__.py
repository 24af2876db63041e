"""The skeleton of every process: start, stop, lock, signals, heartbeats, leases."""

from trainq.service.peer import Peer
from trainq.service.process import Process, run
from trainq.service.work import (
    HeldLease,
    HeldTask,
    InterruptedWorkError,
    Interruption,
    carry_out,
    take_lease,
    take_task,
)

__all__ = [
    "HeldLease",
    "HeldTask",
    "InterruptedWorkError",
    "Interruption",
    "Peer",
    "Process",
    "carry_out",
    "run",
    "take_lease",
    "take_task",
]
