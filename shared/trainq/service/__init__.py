"""The skeleton of every process: start, stop, lock, signals, heartbeats, leases."""

from trainq.service.peer import Peer
from trainq.service.process import Process, run
from trainq.service.work import HeldLease, InterruptedWorkError, take_lease

__all__ = ["HeldLease", "InterruptedWorkError", "Peer", "Process", "run", "take_lease"]
