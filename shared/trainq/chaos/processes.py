"""The processes of one installation, found in /proc by the home in their environment, and signals to them alone.

A pid may be another process's a moment later, so a signal goes through a pidfd, and only if the process behind it
still belongs to the home.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from trainq.config import HOME_KEY

SUPERVISORD = "supervisord"
FORK_SERVER = "forkserver"
TRAINING = "training"
# Children of evaluator and datagen, named as their crash points are.
EVALUATION, GENERATION = "evaluation", "generation"
SERVICES = ("broker", "watcher", "preparer", "trainer", "snapshot", "retention", "consolidator",
            "evaluator", "datagen", "status", "web")
# A process that none of these rules knows: a command line of the campaign itself, say.
OTHER = "other"


class Seen(NamedTuple):
    """One process as /proc showed it; ``role`` is one of the names above."""

    pid: int
    parent: int
    role: str


class Target:
    """One living process that belongs to the home, held by a pidfd. Close it."""

    def __init__(self, pid: int, descriptor: int) -> None:
        self.pid = pid
        self._descriptor = descriptor

    def send(self, number: signal.Signals) -> bool:
        """Send a signal; false when the process has ended."""
        try:
            signal.pidfd_send_signal(self._descriptor, number)
        except ProcessLookupError:
            return False
        return True

    def close(self) -> None:
        os.close(self._descriptor)


def of_home(home: Path) -> list[Seen]:
    """Every process with this home in its environment, except the caller; those that have ended are not there."""
    marker = _marker(home)
    found: dict[int, tuple[int, list[bytes]]] = {}
    for name in (path.name for path in Path("/proc").iterdir()):
        if name.isdigit() and int(name) != os.getpid() and _belongs(int(name), marker):
            try:
                stat = Path("/proc", name, "stat").read_bytes()
                words = Path("/proc", name, "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue  # it has ended meanwhile
            # proc(5): the command in brackets may hold anything, the state and the parent's pid follow the last one.
            found[int(name)] = (int(stat.rpartition(b")")[2].split()[1]), words)
    return [Seen(pid, parent, _role(words, found.get(parent, (0, []))[1])) for pid, (parent, words) in found.items()]


def hold(seen: Seen, home: Path) -> Target | None:
    """A hold on a process that was seen; None when it has ended, or the pid is another process's now."""
    try:
        descriptor = os.pidfd_open(seen.pid)
    except ProcessLookupError:
        return None
    # What is true now is true of the process that the descriptor holds, for as long as it lives.
    if not _belongs(seen.pid, _marker(home)):
        os.close(descriptor)
        return None
    return Target(seen.pid, descriptor)


def end_all(home: Path, seen: Iterable[Seen]) -> None:
    """SIGKILL to each of them that still belongs to the home."""
    for one in seen:
        target = hold(one, home)
        if target is not None:
            target.send(signal.SIGKILL)
            target.close()


def _marker(home: Path) -> bytes:
    return f"{HOME_KEY}={home}".encode()


def _belongs(pid: int, marker: bytes) -> bool:
    try:
        return marker in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False  # it has ended, or it is somebody else's


def _role(words: list[bytes], parents_words: list[bytes]) -> str:
    if b"services.trainer.forkserver" in words:
        # A training process is a fork of the fork server, with its command line.
        return TRAINING if b"services.trainer.forkserver" in parents_words else FORK_SERVER
    if b"supervisor.supervisord" in words:
        return SUPERVISORD
    for module, role in ((b"trainq.ml.evaluating", EVALUATION), (b"trainq.generating.child", GENERATION)):
        if module in words:
            return role
    return next((name for name in SERVICES if f"services.{name}".encode() in words), OTHER)
