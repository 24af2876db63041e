"""The time that a stop needs against the time that supervisord gives: measured, kept, and said when it is too short.

A stop lets the step end, then what is being written beside the steps, and then saves what is newer. supervisord kills
after ``stopwaitsecs`` (http://supervisord.org/configuration.html#program-x-section-values): what was not saved by then
is trained again, which costs time and nothing else. So a short ``stopwaitsecs`` stops nothing; it is said.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Mapping
from pathlib import Path

import msgspec

from services.trainer import wire
from trainq import files
from trainq.config import Home
from trainq.errors import StorageError, StorageFullError, SupervisorUnavailableError
from trainq.logs import EventLog
from trainq.supervising import Supervisor

# What supervisord.conf gives, and what is taken for given where nobody says.
DEFAULT_STOP_WAIT_SECONDS = 180.0
# For the process that ends, and for the last words to the broker.
_FAREWELL_SECONDS = 30.0
_RECENT_SAVES = 10
_FILE_NAME = "stop-time.json"
# Measured again and again; kept when it has changed by so much.
_CHANGE = 0.2


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """The slowest recent step and the slowest recent save, in seconds."""

    step_seconds: float = 0.0
    save_seconds: float = 0.0

    @property
    def stop_seconds(self) -> float:
        """What a stop may need: a step, the save that is in flight, and the one of what is newer."""
        return self.step_seconds + 2 * self.save_seconds


def usable_seconds(stop_wait_seconds: float) -> float:
    """How long the agent may wait for a save, of the time until supervisord kills it."""
    return max(stop_wait_seconds - _FAREWELL_SECONDS, stop_wait_seconds / 2)


def shortage(measured: Measured, stop_wait_seconds: float, program: str) -> str:
    """What is wrong with the time that supervisord gives, and its mend; empty if it is enough."""
    if measured.stop_seconds <= usable_seconds(stop_wait_seconds):
        return ""
    enough = math.ceil((1.5 * measured.stop_seconds + _FAREWELL_SECONDS) / 10) * 10
    return (f"supervisord kills it {stop_wait_seconds:.0f} s after a stop, which may need "
            f"{measured.stop_seconds:.0f} s (a step {measured.step_seconds:.0f} s, a save "
            f"{measured.save_seconds:.0f} s and one before it): set stopwaitsecs={enough} for [program:{program}] in "
            "supervisord.conf, then supervisorctl update")


class StopTime:
    """How long a stop may take. Owned by the agent's main thread.

    ``warning`` is what :func:`shortage` says now; ``save_seconds`` how long the agent may wait when it stops.
    """

    def __init__(self, home: Home, log: EventLog, environment: Mapping[str, str] = os.environ) -> None:
        self._path, self._log = home.run / _FILE_NAME, log
        self._program = environment.get("SUPERVISOR_PROCESS_NAME", "")
        self._kept = _read(self._path)
        self._saves: deque[float] = deque([self._kept.save_seconds], maxlen=_RECENT_SAVES)
        self._given = _ask_supervisord(environment, self._program, log)
        self.save_seconds = usable_seconds(self._given or DEFAULT_STOP_WAIT_SECONDS)
        self.warning = ""
        self._judge(self._kept)

    def saved(self, published: wire.Published, slowest_step_seconds: float) -> None:
        """A checkpoint was published."""
        self._saves.append(max(published.seconds, published.write_seconds))
        measured = Measured(step_seconds=max(slowest_step_seconds, 0.0), save_seconds=max(self._saves))
        if abs(measured.stop_seconds - self._kept.stop_seconds) <= _CHANGE * self._kept.stop_seconds:
            return
        self._kept = measured
        self._judge(measured)
        try:
            files.write_file(self._path, msgspec.json.encode(measured) + b"\n")
        except (StorageError, StorageFullError) as error:  # it is measured again
            self._log.warning("stop_time_not_kept", error=str(error))

    def _judge(self, measured: Measured) -> None:
        before, self.warning = self.warning, shortage(measured, self._given, self._program) if self._given else ""
        if self.warning and self.warning != before:
            self._log.error("stop_time_too_short", reason=self.warning, stopwaitsecs=self._given)


def _read(path: Path) -> Measured:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Measured)
    except (OSError, msgspec.MsgspecError):
        return Measured()  # it is measured again


def _ask_supervisord(environment: Mapping[str, str], program: str, log: EventLog) -> float | None:
    """The ``stopwaitsecs`` of this very program, as the supervisord that has started it says; None if nobody says.

    The names are those that supervisord puts into the environment of what it starts.
    """
    supervisor = Supervisor.of_this_program(environment)
    if not program or supervisor is None:
        return None
    try:
        return supervisor.stop_wait_seconds(program)
    except SupervisorUnavailableError as error:
        log.warning("supervisord_does_not_say", error=str(error))
        return None
