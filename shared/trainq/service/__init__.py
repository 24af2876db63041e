"""The skeleton of every process: start, stop, lock, signals, heartbeats, leases."""

from trainq.service.peer import Peer
from trainq.service.process import Process
from trainq.service.running import run
from trainq.service.watchdog import Restart, Watchdog
from trainq.service.work import (
    HeldLease,
    HeldTask,
    InterruptedWorkError,
    Interruption,
    take_lease,
    take_task,
    take_work,
)
from trainq.service.worker import Worker

__all__ = [
    "HeldLease",
    "HeldTask",
    "InterruptedWorkError",
    "Interruption",
    "Peer",
    "Process",
    "Restart",
    "Watchdog",
    "Worker",
    "run",
    "take_lease",
    "take_task",
    "take_work",
]
