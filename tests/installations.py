"""Real installations for tests: real supervisord, real services, a home of their own that goes with the test.

An installation is a folder with the repository's ``supervisord.conf`` and links to its code, so that a test never
meets the supervisord of the checkout that it runs in. Paths are short: an ipc path has at most 107 bytes.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import psutil
import pytest

from trainq import config

ROOT = config.project_root()
LINKED = ("services", "shared", "trainq.toml", "examples")


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 60.0) -> Any:
    """Poll until ``condition`` gives something true; its value. Fails with ``what`` when it never does."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    pytest.fail(f"not within {seconds:g} s: {what}")


class Installation:
    """A folder with a supervisord that can be started, used from the command line, and ended whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = config.Home(folder / "h")
        (folder / "supervisor").mkdir()
        shutil.copy(ROOT / "supervisord.conf", folder)
        for name in LINKED:
            (folder / name).symlink_to(ROOT / name)
        # The interpreter that runs the tests, under the name that supervisord.conf expects.
        (folder / ".venv" / "bin").mkdir(parents=True)
        python = folder / ".venv" / "bin" / "python"
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        python.chmod(0o700)
        self.settings: dict[str, str] = {}
        self._supervisord: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TRAINQ_")}
        return {**kept, "TRAINQ_HOME": str(self.home.root), "PYTHONPATH": f"{ROOT / 'shared'}:{ROOT}", **self.settings}

    def start(self) -> None:
        """Start supervisord and with it every program."""
        self._supervisord = subprocess.Popen(
            [sys.executable, "-m", "supervisor.supervisord", "-n", "-c", str(self.folder / "supervisord.conf")],
            cwd=self.folder, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for((self.folder / "supervisor" / "supervisor.sock").exists, "supervisord's socket")

    def end(self) -> None:
        """Stop everything, the hard way if it must be, and leave no process behind."""
        processes = self.processes()
        if self._supervisord is not None and self._supervisord.poll() is None:
            self._supervisord.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._supervisord.wait(timeout=60)
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        if self._supervisord is not None:
            self._supervisord.kill()
            self._supervisord.wait()

    def restart(self) -> None:
        """Stop everything in order, and start it with the settings of now."""
        assert self._supervisord is not None
        self._supervisord.terminate()
        self._supervisord.wait(timeout=200)
        self.start()

    def kill_supervisord(self) -> None:
        """What an out-of-memory killer does."""
        assert self._supervisord is not None
        self._supervisord.kill()
        self._supervisord.wait()

    def processes(self) -> list[psutil.Process]:
        """Every process of this installation, found by its home in the environment."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.pid != os.getpid() and process.environ().get("TRAINQ_HOME") == str(self.home.root):
                    found.append(process)
        return found

    def supervisorctl(self, *arguments: str) -> str:
        return subprocess.run([sys.executable, "-m", "supervisor.supervisorctl", *arguments], cwd=self.folder,
                              env=self.environment, stdout=subprocess.PIPE, check=False, text=True, timeout=240).stdout

    def trainq(self, *arguments: str, expect: int = 0, stdin: str | None = None,
               timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run the command line and check its exit code."""
        done = subprocess.run([sys.executable, "-m", "trainq.cli", *arguments], cwd=self.folder, env=self.environment,
                              input=stdin, capture_output=True, text=True, check=False, timeout=timeout)
        assert done.returncode == expect, f"{arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def json(self, *arguments: str) -> Any:
        return orjson.loads(self.trainq(*arguments, "--json").stdout)

    def pid(self, program: str) -> int:
        """The pid of a program as supervisord knows it; 0 if it does not run."""
        words = self.supervisorctl("pid", program).split()
        return int(words[0]) if words and words[0].isdigit() else 0

    def kill(self, program: str) -> int:
        """kill -9 a program; its pid. Waits until supervisord has started it again."""
        pid = wait_for(lambda: self.pid(program), f"{program} runs")
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: self.pid(program) not in (0, pid), f"{program} is started again")
        return int(pid)

    def jobs(self, *states: str) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = self.json("list", "--all")["jobs"]
        return [job for job in listed if not states or job["state"] in states]

    def events(self, job: str = "") -> list[dict[str, Any]]:
        lines = self.trainq("events", "--json", *(["--job", job] if job else [])).stdout.splitlines()
        return [orjson.loads(line) for line in lines]

    def logs(self) -> str:
        """The ends of all logs, for a failure's report."""
        parts = []
        for path in [*sorted((self.folder / "supervisor").glob("*.log")), *sorted(self.home.logs.glob("*.log"))]:
            parts.append(f"--- {path.name}\n{path.read_text(errors='replace')[-3000:]}")
        return "\n".join(parts)
