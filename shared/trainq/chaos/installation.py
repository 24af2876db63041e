"""An installation of its own: a folder with ``supervisord.conf``, links to the code, and a home that goes with it.

Nothing in it meets the supervisord of the checkout whose code it runs. Its path is short, because an ipc path has at
most 107 bytes.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from trainq import config, files
from trainq.chaos import processes
from trainq.chaos.processes import Seen
from trainq.config import FILE_KEY, HOME_KEY, Home

LINKED = ("services", "shared", "examples")
# The trainer's stopwaitsecs is 180: supervisord ends within that, and a little.
STOP_SECONDS = 200.0
_SOCKET_SECONDS = 60.0
# Whoever kills the one who started it, however, ends the installation: supervisord is told to stop (prctl(2),
# PR_SET_PDEATHSIG is 1; an exec keeps it). The signal follows the thread that forked, which must be the main one. A
# parent that was dead before the call sends none, so it is looked for afterwards.
_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if os.getppid() != int(sys.argv[1]):
    sys.exit("whoever started this has ended")
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""
POLL_SECONDS = 0.05


class NotInTimeError(Exception):
    """Something that had to become true did not, within its time."""


def wait_until(condition: Callable[[], object], what: str, seconds: float) -> None:
    """Poll until ``condition`` is true.

    Raises:
        NotInTimeError: it never was; the message says ``what`` and how long.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            raise NotInTimeError(f"not within {seconds:g} s: {what}")
        time.sleep(POLL_SECONDS)


class Installation:
    """A folder with a supervisord that can be started, killed, started again, and ended whole.

    Args:
        folder: empty, with a short path.
        settings: the content of its ``trainq.toml``; empty for that of the checkout.
    """

    def __init__(self, folder: Path, settings: str = "") -> None:
        root = config.project_root()
        self.folder = folder
        self.home = Home(folder / "h")
        # More for the environment of everything that is started.
        self.settings: dict[str, str] = {}
        (folder / "supervisor").mkdir()
        files.write_file(folder / "supervisord.conf", (root / "supervisord.conf").read_bytes())
        files.write_file(folder / "trainq.toml", settings.encode() or (root / "trainq.toml").read_bytes())
        for name in LINKED:
            (folder / name).symlink_to(root / name)
        # The interpreter that runs this, under the name that supervisord.conf expects; a link to it would not find the
        # packages of its virtual environment.
        python = folder / ".venv" / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        python.chmod(0o700)
        self._supervisord: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> Mapping[str, str]:
        """What everything of this installation is started with."""
        root = config.project_root()
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TRAINQ_")}
        # Nothing happens in it but what its owner asks for: a slot of the schedule may come at any moment.
        # And it is small: the disk need not have what is kept free for a real one.
        return {**kept, HOME_KEY: str(self.home.root), FILE_KEY: str(self.folder / "trainq.toml"),
                "TRAINQ_SCHEDULE_ENABLED": "false", "TRAINQ_DISK_HOLD_GIB": "0", "TRAINQ_WEB_PORT": "0",
                "PYTHONPATH": f"{root / 'shared'}:{root}", **self.settings}

    @property
    def runs(self) -> bool:
        """Whether the supervisord that was started last still runs."""
        return self._supervisord is not None and self._supervisord.poll() is None

    def start(self) -> None:
        """Start supervisord and with it every program.

        Raises:
            NotInTimeError: it does not listen.
        """
        with (self.folder / "supervisor" / "supervisord.out").open("ab") as out:
            self._supervisord = subprocess.Popen(
                [sys.executable, "-c", _DIE_WITH_PARENT, str(os.getpid()), "-m", "supervisor.supervisord", "-n", "-c",
                 str(self.folder / "supervisord.conf")],
                # A Ctrl-C at the terminal is for whoever started this; it stops what it started in order.
                cwd=self.folder, env=dict(self.environment), stdout=out, stderr=out, start_new_session=True)
        wait_until((self.folder / "supervisor" / "supervisor.sock").exists, "supervisord's socket", _SOCKET_SECONDS)

    def kill_supervisord(self) -> bool:
        """What an out-of-memory killer does; false when none runs."""
        if self._supervisord is None or self._supervisord.poll() is not None:
            return False
        self._supervisord.kill()
        self._supervisord.wait()
        return True

    def stop(self) -> None:
        """Stop everything in order.

        Raises:
            NotInTimeError: supervisord did not end.
        """
        if self._supervisord is None:
            return
        self._supervisord.terminate()
        try:
            self._supervisord.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise NotInTimeError(f"not within {STOP_SECONDS:g} s: supervisord's end") from error

    def end(self, patience_seconds: float = 0.0) -> None:
        """Leave no process behind: in order if there is patience, the hard way in any case."""
        if patience_seconds and self._supervisord is not None:
            self._supervisord.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._supervisord.wait(patience_seconds)
        self.kill_supervisord()
        # What one of them starts while the others are killed is there in the next round.
        while seen := self.processes():
            processes.end_all(self.home.root, seen)
            time.sleep(POLL_SECONDS)

    def processes(self) -> list[Seen]:
        """Every living process of this installation."""
        return processes.of_home(self.home.root)

    def supervisorctl(self, *words: str) -> subprocess.Popen[bytes]:
        """Give supervisord a command, and do not wait for it."""
        return subprocess.Popen(
            [sys.executable, "-m", "supervisor.supervisorctl", "-c", str(self.folder / "supervisord.conf"), *words],
            cwd=self.folder, env=dict(self.environment), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True)

    def run(self, *words: str, seconds: float) -> subprocess.CompletedProcess[str]:
        """Run ``python WORDS`` in the folder to its end.

        Raises:
            NotInTimeError: it did not end within ``seconds``.
        """
        try:
            return subprocess.run([sys.executable, *words], cwd=self.folder, env=dict(self.environment), text=True,
                                  capture_output=True, check=False, timeout=seconds)
        except subprocess.TimeoutExpired as error:
            raise NotInTimeError(f"not within {seconds:g} s: {' '.join(words[:3])}") from error
