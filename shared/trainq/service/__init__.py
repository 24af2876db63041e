"""The skeleton of every process: start, stop, lock, signals, heartbeats, leases."""

from trainq.service.peer import Peer
from trainq.service.politeness import Pace, be_polite
from trainq.service.process import Process, run
from trainq.service.work import HeldLease, HeldTask, InterruptedWorkError, Interruption, take_lease, take_task

__all__ = [
    "HeldLease",
    "HeldTask",
    "InterruptedWorkError",
    "Interruption",
    "Pace",
    "Peer",
    "Process",
    "be_polite",
    "run",
    "take_lease",
    "take_task",
]
