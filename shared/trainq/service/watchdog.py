"""The watchdog: has a service that hangs started again by supervisord, and says so.

It looks at the times of the locks that the services hold, and asks supervisord only when one of them is too old.
Without a supervisord that has started this very process there is nobody who would start another one again, and nothing
is done. The status process watches all the others, the watcher watches the status process.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from trainq import alarms, supervising
from trainq.errors import TrainqError
from trainq.liveness import is_alive
from trainq.service.hanging import Hung, Sign, Step, Vigil
from trainq.service.process import Process
from trainq.supervising import Supervisor

LOOK_SECONDS = 1.0
# Until a service has opened what it works on and comes to its loop.
START_SECONDS = 300.0
# After one it is shown as silent, and its work is taken away; who was only held up comes back from that by itself.
_LEASES = 2
_NOBODY = Sign(pid=0, at=0)


class Restart(NamedTuple):
    """What was done about a service that hung, or was not; for people. ``at``: wall seconds since 1970."""

    service: str
    at: float
    reason: str


class Watchdog:
    """Watches some services of one home. Owned by the main thread of ``process``."""

    def __init__(self, process: Process, services: tuple[str, ...], supervisor: Supervisor | None,
                 before: Iterable[Restart] = ()) -> None:
        """
        Args:
            process: the one that watches.
            services: those that are watched.
            supervisor: usually :meth:`Supervisor.of_this_program`; None turns the watchdog off.
            before: what an earlier life of it had to tell.
        """
        self._process, self._supervisor = process, supervisor
        self._locks = {name: process.home.run / f"{name}.lock" for name in services if name != process.name}
        self._vigil = Vigil(silent_seconds=_LEASES * process.settings.broker.lease_seconds,
                            start_seconds=START_SECONDS)
        self._look_at = 0.0
        # The newest of each service.
        self._alarms = {each.service: each for each in before}

    @property
    def lately(self) -> list[Restart]:
        """Those of the last hour, the newest last."""
        since = self._process.clock.wall() - alarms.HUNG_SECONDS
        return sorted((each for each in self._alarms.values() if each.at > since), key=lambda each: each.at)

    @property
    def alarm(self) -> str:
        """What the newest of them says; empty if there is none."""
        lately = self.lately
        return lately[-1].reason if lately else ""

    def look(self) -> None:
        """Look, if it is time to, and do what is to be done. Blocks only while supervisord is asked, two seconds."""
        now = self._process.clock.monotonic()
        if self._supervisor is None or now < self._look_at:
            return
        self._look_at = now + LOOK_SECONDS
        for hung in self._vigil.look({name: _sign(path) for name, path in self._locks.items()}, now):
            try:
                self._act(hung, self._supervisor)
            except TrainqError as error:
                self._vigil.spare(hung.name)
                self._alarm(hung, f"{_reason(hung)}, and supervisord does not start it again ({error}): "
                                  f"trainq services restart {hung.name}")

    def _act(self, hung: Hung, supervisor: Supervisor) -> None:
        if hung.step is Step.LEAVE:
            self._alarm(hung, f"{_reason(hung)}, again after three restarts within an hour; it is left alone until "
                              f"that is over: trainq services restart {hung.name}")
            return
        program = supervisor.program(hung.name)
        status = _status(hung.pid)
        if program.state != supervising.RUNNING or program.pid != hung.pid or status.get("TracerPid", "0") != "0":
            self._vigil.spare(hung.name)
            return
        # Not stopped and started in two orders: between them this process may die. What a signal ends, supervisord
        # starts again.
        # One that somebody has stopped has no stacks to show, and is not to blame.
        can_dump = hung.step is Step.DUMP and not status.get("State", "").startswith("T")
        supervisor.signal(hung.name, signal.SIGABRT if can_dump else signal.SIGKILL)
        if hung.step is Step.DUMP:
            self._alarm(hung, f"{_reason(hung)}; it is started again")

    def _alarm(self, hung: Hung, reason: str) -> None:
        self._alarms[hung.name] = Restart(hung.name, self._process.clock.wall(), reason)
        self._process.log.error("service_hangs", hung=hung.name, hung_pid=hung.pid, step=hung.step.value, reason=reason)


def _reason(hung: Hung) -> str:
    return f"{hung.name} hangs: no sign of life for {hung.silent_seconds:.0f} s"


def _sign(lock: Path) -> Sign:
    """Who holds the lock, and when he gave the last sign (nanoseconds of its file)."""
    try:
        holder, at = lock.read_bytes().strip(), lock.stat().st_mtime_ns
    except OSError:
        return _NOBODY
    pid = int(holder) if holder.isdigit() else 0
    return Sign(pid=pid, at=at) if is_alive(pid) else _NOBODY


def _status(pid: int) -> dict[str, str]:
    """What the kernel says of it (proc(5), status); nothing if it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
