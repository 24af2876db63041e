"""A process while it lives: signals, waiting, its state, its loop, and the sign that the loop turns.

SIGTERM and SIGINT set :attr:`Process.stopping` and wake the loop; nothing else happens in the handler. How a process
begins and ends is in ``running``.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import signal
import socket
from collections.abc import Callable
from types import FrameType

from trainq import logs
from trainq.clock import Clock
from trainq.config import Configuration, Home, Settings
from trainq.errors import TrainqError
from trainq.ids import new_session_id
from trainq.locks import Lock
from trainq.messages import Lifecycle, PauseCause
from trainq.service import standing
from trainq.service.ends import GOOD_LIFE_SECONDS, Ends, Record
from trainq.transport import Poller

# <linux/prctl.h>
_PR_SET_PDEATHSIG = 1
_MAX_BACKOFF_SECONDS = 60.0
_SIGN_SECONDS = 1.0
# Between two looks at whether a service that was told to rest still is to.
_REST_SECONDS = 1.0


class Process:
    """What a service has from its start to its end. Owned by the main thread.

    ``lock`` and ``record`` are those of a service that :func:`trainq.service.running.run` has begun.
    """

    def __init__(self, name: str, configuration: Configuration, log: logs.EventLog, clock: Clock, *,
                 lock: Lock | None = None, record: Record | None = None) -> None:
        self.name = name
        self.configuration = configuration
        self.log = log
        self.clock = clock
        self.session = new_session_id()
        self.started_at = clock.wall()
        self.poller = Poller()
        self.stopping = False
        # By a signal, and not by what this process found.
        self.told_to_stop = False
        self.state = Lifecycle.INITIALIZING
        self.detail = ""
        # Why it is PAUSED.
        self.cause: PauseCause | None = None
        # Above 0 if something of this process lies in the memory of the GPU, or is to.
        self.gpu_claim = 0
        # Something that the broker does not know of keeps it from beginning anything.
        self.rests = False
        # And that lasts until somebody orders otherwise.
        self.until_told = False
        self._failures = 0
        self._lock, self._record = lock, record
        self._next_sign = 0.0
        self._good_at = math.inf
        self._signal_reader, self._signal_writer = socket.socketpair()
        self._catch_signals()

    @property
    def home(self) -> Home:
        return self.configuration.home

    @property
    def settings(self) -> Settings:
        return self.configuration.settings

    def set_state(self, state: Lifecycle, detail: str = "", cause: PauseCause | None = None) -> None:
        """Change what the next heartbeat says; a change is logged once. Who is PAUSED gives the cause."""
        # A file name in it may be no UTF-8, which no message carries.
        detail = detail.encode("utf-8", "backslashreplace").decode()
        self.cause = cause
        if (state, detail) != (self.state, self.detail):
            self.state, self.detail = state, detail
            self.log.info("state_changed", state=state.value, detail=detail, cause=cause.value if cause else None)

    def wait(self, seconds: float) -> bool:
        """Wait for input on anything the poller watches, for a signal, or for the time; whether something came.

        A process that is to stop does not wait here; what it must still wait for, it does with :meth:`linger`.
        """
        return True if self.stopping else self.linger(seconds)

    def linger(self, seconds: float) -> bool:
        """:meth:`wait`, also while stopping."""
        self.show_life()
        woken = self.poller.wait(seconds)
        with contextlib.suppress(BlockingIOError):
            while self._signal_reader.recv(64):
                pass
        return woken

    def show_life(self) -> None:
        """Leave the sign that this process goes on: the time of its lock's file. Whoever sees none for long ends it.

        Called whenever it waits, and with every heartbeat. It needs no broker, so that a broker that hangs makes
        nobody else look so.
        """
        now = self.clock.monotonic()
        if now < self._next_sign:
            return
        self._next_sign = now + _SIGN_SECONDS
        if self._lock is not None:
            self._lock.show_life()
        if now >= self._good_at:
            self.progressed()

    def begin_work(self) -> None:
        """From now on the life of this process counts as one that serves, if it lasts."""
        self._good_at = self.clock.monotonic() + GOOD_LIFE_SECONDS

    def progressed(self) -> None:
        """Something was done that lasts: how lives before this one ended counts no more."""
        if self._record is not None:
            self._record.put(Ends())

    def loop(self, turn: Callable[[], None], *, rests: bool = True) -> None:
        """Call ``turn`` until told to stop. One that raises is reported as ERROR and tried again after a backoff.

        Between two turns it rests for as long as somebody wants the service paused; ``rests=False`` is for one that
        heeds such orders itself.
        """
        rested = False
        while not self.stopping:
            if rests and (order := standing.pause_order(self.home, self.name)):
                rested = True
                self.rest(order, _REST_SECONDS, PauseCause.ORDERED)
                continue
            if rested:
                rested = False
                self.set_state(Lifecycle.RUNNING)
            try:
                turn()
            except Exception as error:
                self._failures += 1
                pause = min(_MAX_BACKOFF_SECONDS, 2.0 ** min(self._failures - 1, 6))
                self.log.error("turn_failed", error=str(error), failures=self._failures, retry_in_seconds=pause)
                self.set_state(Lifecycle.ERROR, f"{type(error).__name__}: {error}"[:500])
                self._pause(pause)
            else:
                self._failures = 0

    def rest(self, reason: str, seconds: float, cause: PauseCause) -> None:
        """Be PAUSED for so long, or until a signal comes, with heartbeats."""
        self.set_state(Lifecycle.PAUSED, reason, cause)
        self._pause(seconds)

    def _pause(self, seconds: float) -> None:
        """Sit out a backoff; only a signal ends it early."""
        until = self.clock.monotonic() + seconds
        while not self.stopping and (left := until - self.clock.monotonic()) > 0:
            self.show_life()
            try:
                self.on_pause()
            except Exception as error:
                self.log.error("heartbeat_failed", error=str(error))
            # Input that nobody drains now would make the poller spin: wait for the signal alone.
            self._signal_reader.settimeout(min(left, 1.0))
            with contextlib.suppress(TimeoutError):
                self._signal_reader.recv(64)
            self._signal_reader.setblocking(False)

    def on_pause(self) -> None:
        """Called about once a second during a backoff; a peer puts its heartbeat here."""

    def _catch_signals(self) -> None:
        self._signal_reader.setblocking(False)
        self._signal_writer.setblocking(False)
        self.poller.watch_descriptor(self._signal_reader.fileno())
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        signal.set_wakeup_fd(self._signal_writer.fileno(), warn_on_full_buffer=False)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.stopping = self.told_to_stop = True


def die_with_supervisor() -> None:
    """Under supervisord: be told to stop when it dies, so that a new one never meets leftovers for long.

    supervisord is single threaded, so the signal follows its process (the kernel's rule is the forking thread).
    """
    if not os.environ.get("SUPERVISOR_ENABLED"):
        return
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent or parent == 1:
        raise TrainqError("supervisord died while this process started")
