"""One process's life: configuration, folders, lock, log, signals, and an honest exit code.

Order at start: configuration (all mistakes at once), umask, folders, lock, death signal, log. SIGTERM and SIGINT set
:attr:`Process.stopping` and wake the loop; nothing else happens in the handler. The lock makes each service single in
its home; a second one is refused with the first one's pid.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from types import FrameType

from trainq import config, crashpoints, diskfaults, files, logs
from trainq.clock import Clock, SystemClock
from trainq.config import Configuration, Home, Settings
from trainq.errors import StorageError, TrainqError
from trainq.ids import new_session_id
from trainq.messages import Lifecycle
from trainq.transport import Poller

# <linux/prctl.h>
_PR_SET_PDEATHSIG = 1
_MAX_BACKOFF_SECONDS = 60.0
_DESCRIPTORS = 65536


class Process:
    """What a service has from its start to its end. Owned by the main thread."""

    def __init__(self, name: str, configuration: Configuration, log: logs.EventLog, clock: Clock) -> None:
        self.name = name
        self.configuration = configuration
        self.log = log
        self.clock = clock
        self.session = new_session_id()
        self.started_at = clock.wall()
        self.poller = Poller()
        self.stopping = False
        self.state = Lifecycle.INITIALIZING
        self.detail = ""
        # Above 0 if something of this process lies in the memory of the GPU, or is to.
        self.gpu_claim = 0
        # Something that the broker does not know of keeps it from beginning anything.
        self.rests = False
        # And that lasts until somebody orders otherwise.
        self.until_told = False
        self._failures = 0
        self._signal_reader, self._signal_writer = socket.socketpair()
        self._catch_signals()

    @property
    def home(self) -> Home:
        return self.configuration.home

    @property
    def settings(self) -> Settings:
        return self.configuration.settings

    def set_state(self, state: Lifecycle, detail: str = "") -> None:
        """Change what the next heartbeat says; a change is logged once."""
        # A file name in it may be no UTF-8, which no message carries.
        detail = detail.encode("utf-8", "backslashreplace").decode()
        if (state, detail) != (self.state, self.detail):
            self.state, self.detail = state, detail
            self.log.info("state_changed", state=state.value, detail=detail)

    def wait(self, seconds: float) -> bool:
        """Wait for input on anything the poller watches, for a signal, or for the time; whether something came.

        A process that is to stop does not wait here; what it must still wait for, it does with :meth:`linger`.
        """
        return True if self.stopping else self.linger(seconds)

    def linger(self, seconds: float) -> bool:
        """:meth:`wait`, also while stopping."""
        woken = self.poller.wait(seconds)
        with contextlib.suppress(BlockingIOError):
            while self._signal_reader.recv(64):
                pass
        return woken

    def loop(self, turn: Callable[[], None]) -> None:
        """Call ``turn`` until told to stop. One that raises is reported as ERROR and tried again after a backoff."""
        while not self.stopping:
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

    def _pause(self, seconds: float) -> None:
        """Sit out a backoff; only a signal ends it early."""
        until = self.clock.monotonic() + seconds
        while not self.stopping and (left := until - self.clock.monotonic()) > 0:
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
        self.stopping = True


def run(name: str, body: Callable[[Process], int | None]) -> int:
    """Run a service to its end and return its exit code. Errors go to stderr, which supervisord keeps."""
    os.umask(0o077)
    # libzmq ends a process that cannot accept a connection: the usual 1024 descriptors are some 400 clients.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_DESCRIPTORS, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    try:
        configuration = config.load(os.environ, config.project_root())
        for folder in configuration.home.folders():
            files.make_directory(folder)
        crashpoints.arm_from_environment(os.environ, name)
        diskfaults.arm_from_environment(os.environ)
        die_with_supervisor()
        lock = files.acquire_lock(configuration.home.run / f"{name}.lock", name)
    except TrainqError as error:
        sys.stderr.write(f"trainq {name}: {error}\n")
        return error.exit_code
    log = logs.open_log(name, configuration.home.logs, configuration.settings.log.level)
    process = Process(name, configuration, log, SystemClock())
    log.info("started", session=process.session, home=str(configuration.home.root))
    try:
        code = body(process) or 0
    except TrainqError as error:
        log.error("ended_by_error", error=str(error), exit_code=error.exit_code)
        sys.stderr.write(f"trainq {name}: {error}\n")
        code = error.exit_code
    except OSError as error:
        # The machine's, not ours: no descriptor for a socket, a disk that cannot be read.
        log.error("ended_by_error", error=str(error), exit_code=StorageError.exit_code)
        sys.stderr.write(f"trainq {name}: {error}\n")
        code = StorageError.exit_code
    except Exception:
        log.error("ended_by_bug")
        raise
    log.info("ended", exit_code=code)
    log.close()
    lock.release()
    return code


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
