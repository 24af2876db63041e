"""Doing what the plan says to the processes of one installation, and counting what really died."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from trainq import crashpoints, files
from trainq.chaos import processes
from trainq.chaos.installation import Installation, NotInTimeError
from trainq.chaos.plan import Fault, FaultKind
from trainq.chaos.processes import SUPERVISORD, Target

# A crash point that nobody reaches within this time is disarmed, so that the plan stays spread over the run.
_ARMED_SECONDS = 15.0


@dataclass(slots=True)
class Tally:
    """What was done. ``kills``: SIGKILLs that met a living process, by process and kind of fault."""

    kills: Counter[tuple[str, str]] = field(default_factory=Counter)
    points: Counter[str] = field(default_factory=Counter)
    freezes: Counter[str] = field(default_factory=Counter)
    restarts: Counter[str] = field(default_factory=Counter)

    @property
    def killed(self) -> int:
        return self.kills.total()


class Breaker:
    """Breaks one installation. :meth:`tend` must be called all the time; :meth:`mend` ends every fault."""

    def __init__(self, installation: Installation, plans: Path, seed: int) -> None:
        self.tally = Tally()
        self._installation = installation
        self._plans = plans
        # Which of several processes of one role it meets.
        self._draw = random.Random(f"targets {seed}")
        self._frozen: list[tuple[float, Target]] = []
        self._armed: dict[Path, tuple[float, Fault]] = {}
        self._planned = 0
        self._start_at: float | None = None
        self._commands: list[subprocess.Popen[bytes]] = []

    def do(self, fault: Fault) -> None:
        """Begin one fault; what it leaves to be done later is done by :meth:`tend`."""
        match fault.kind:
            case FaultKind.KILL | FaultKind.PAIR:
                for role in fault.processes:
                    self._kill(role, fault)
            case FaultKind.FREEZE:
                self._freeze(fault)
            case FaultKind.RESTART:
                if self._installation.runs:
                    self.tally.restarts[fault.processes[0]] += 1
                    self._commands.append(self._installation.supervisorctl("restart", fault.processes[0]))
            case FaultKind.CRASH_POINT:
                path = self._plans / f"{fault.processes[0]}.{fault.point}"
                if path in self._armed:  # else the kill that has used it up just now would be counted by nobody
                    self._disarm(path, self._armed[path][1])
                self._planned += 1
                files.replace_file(path, crashpoints.plan(self._planned, fault.hits))
                self._armed[path] = (time.monotonic() + _ARMED_SECONDS, fault)

    def tend(self) -> None:
        """Thaw, start supervisord again, and see which crash points were reached, as their times come."""
        now = time.monotonic()
        for until, target in [pair for pair in self._frozen if pair[0] <= now]:
            self._frozen.remove((until, target))
            _thaw(target)
        for path, (until, fault) in list(self._armed.items()):
            if not path.exists():
                self._reached(path, fault)
            elif until <= now:
                self._disarm(path, fault)
        if self._start_at is not None and self._start_at <= now:
            self._start_at = None
            self._installation.start()
        self._commands = [command for command in self._commands if command.poll() is None]

    def mend(self, seconds: float) -> None:
        """End every fault: nobody is frozen, no crash point is armed, supervisord runs, its commands are done.

        Raises:
            NotInTimeError: supervisord does not start, or a ``supervisorctl restart`` hangs for ``seconds``.
        """
        self.thaw_all()
        for path, (_, fault) in list(self._armed.items()):
            self._disarm(path, fault)
        if not self._installation.runs:
            self._installation.start()
        for command in self._commands:
            try:
                command.wait(seconds)
            except subprocess.TimeoutExpired as error:
                raise NotInTimeError(f"not within {seconds:g} s: the end of a supervisorctl restart") from error

    def thaw_all(self) -> None:
        """Let every frozen process go on."""
        while self._frozen:
            _thaw(self._frozen.pop()[1])

    def end_commands(self) -> None:
        """Kill what was given to supervisorctl and is not done."""
        for command in self._commands:
            command.kill()
            command.wait()

    def _kill(self, role: str, fault: Fault) -> None:
        if role == SUPERVISORD:
            if self._installation.kill_supervisord():
                self.tally.kills[role, fault.kind.value] += 1
                self._start_at = time.monotonic() + fault.seconds
            return
        target = self._target(role)
        if target is not None:
            if target.send(signal.SIGKILL):
                self.tally.kills[role, fault.kind.value] += 1
            target.close()

    def _freeze(self, fault: Fault) -> None:
        target = self._target(fault.processes[0])
        if target is None:
            return
        if target.send(signal.SIGSTOP):
            self.tally.freezes[fault.processes[0]] += 1
            self._frozen.append((time.monotonic() + fault.seconds, target))
        else:
            target.close()

    def _target(self, role: str) -> Target | None:
        seen = [one for one in self._installation.processes() if one.role == role]
        return processes.hold(self._draw.choice(seen), self._installation.home.root) if seen else None

    def _disarm(self, path: Path, fault: Fault) -> None:
        try:
            path.unlink()
        except FileNotFoundError:
            self._reached(path, fault)
        else:
            del self._armed[path]

    def _reached(self, path: Path, fault: Fault) -> None:
        # Whoever removed it has claimed it, and has killed itself.
        del self._armed[path]
        self.tally.kills[fault.processes[0], fault.kind.value] += 1
        self.tally.points[f"{fault.processes[0]}.{fault.point}"] += 1


def _thaw(target: Target) -> None:
    with contextlib.closing(target):
        target.send(signal.SIGCONT)
