"""Real installations for tests: real supervisord, real services, a home of their own that goes with the test."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson
import psutil
import pytest

from tests.asking import Asking
from trainq import config, supervising
from trainq.chaos import installation as chaos

ROOT = config.project_root()
# A job trains its own rows alone, and no file waits for a person: tests of replay and of the gate say otherwise.
PLAIN = {"TRAINQ_DATA_REPLAY_FRACTION": "0", "TRAINQ_GATE_ON_POOR": "train"}


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 60.0) -> Any:
    """Poll until ``condition`` gives something true; its value. Fails with ``what`` when it never does."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    pytest.fail(f"not within {seconds:g} s: {what}")


def new_installation() -> Installation:
    """One in a folder of its own, not started; :func:`throw_away` must follow."""
    return Installation(Path(tempfile.mkdtemp(prefix="tq", dir="/tmp")))  # short: see trainq.chaos.installation


def throw_away(made: Installation, *, with_logs: bool) -> None:
    """End it and remove it; ``with_logs``: say the ends of its logs, for a failure's report."""
    made.end()
    if with_logs:
        sys.stderr.write(made.logs())
    left = made.processes()
    shutil.rmtree(made.folder, ignore_errors=True)
    assert not left, f"left running: {left}"


class Installation(Asking, chaos.Installation):
    """:class:`trainq.chaos.installation.Installation` with what tests do: commands, kills by program, reports."""

    @property
    def environment(self) -> Mapping[str, str]:
        """What everything of this installation is started with; its own settings win over :data:`PLAIN`."""
        return {**PLAIN, **super().environment}

    def end(self, patience_seconds: float = 60.0) -> None:
        """Stop everything, the hard way if it must be, and leave no process behind."""
        super().end(patience_seconds)

    def slow_steps(self) -> dict[str, str]:
        """The environment in which a training step takes a fifth of a second more, in which it does nothing.

        A job of few steps lasts so, and costs what else runs on the machine little.
        """
        (self.step_faults() / "slow.any.every").touch()
        return {"TRAINQ_STEP_FAULTS": str(self.step_faults())}

    def step_faults(self) -> Path:
        """The folder for faults of the training steps (:mod:`trainq.ml.stepfaults`); the settings must name it."""
        folder = self.folder / "step-faults"
        folder.mkdir(exist_ok=True)
        return folder

    def restart(self) -> None:
        """Stop everything in order, and start it with the settings of now."""
        self.stop()
        self.start()

    def wait_answers(self) -> None:
        """Until the broker answers, however busy the machine is with starting all the others."""
        self.overview()

    def psutil_processes(self) -> list[psutil.Process]:
        """Every living process of this installation."""
        found = []
        for seen in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                found.append(psutil.Process(seen.pid))
        return found

    def control(self, *arguments: str) -> str:
        """Give supervisord a command and wait until it is done; what it says."""
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

    def submit_rows(self, name: str, rows: int) -> str:
        """Write a file of so many different rows, and submit it; its job."""
        path = self.folder / name
        path.write_bytes(b"".join(orjson.dumps({"prompt": f"{name} {row}?", "completion": f"{row}"}) + b"\n"
                                  for row in range(rows)))
        return str(self.json("submit", str(path))["receipts"][0]["job"])

    def prove(self, *options: str) -> str:
        """Stop all programs, and have the independent checker look at the home; what it says."""
        self.control("stop", "all")
        done = subprocess.run([sys.executable, "-m", "trainq_checker", str(self.home.root), *options],
                              capture_output=True, text=True, check=False, env=self.environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def pid(self, program: str) -> int:
        """The pid of a program as supervisord knows it; 0 if it does not run. Asked very often: not by a command."""
        return self.supervisor.program(program).pid

    def at_rest(self) -> bool:
        """Whether all programs run, nothing keeps them from working, and nothing is left for them to do."""
        if any(program.state != supervising.RUNNING for program in self.supervisor.programs()):
            return False
        known = self.overview()
        return not (known.pause or known.drain or known.stop or known.running or known.waiting)

    @property
    def supervisor(self) -> supervising.Supervisor:
        """supervisord's own API. The machine is busy in tests: an answer may take its time."""
        return supervising.Supervisor(self.folder / supervising.SOCKET, answer_seconds=30.0)

    def kill(self, program: str) -> int:
        """kill -9 a program; its pid. Waits until supervisord has started it again."""
        pid = wait_for(lambda: self.pid(program), f"{program} runs")
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: self.pid(program) not in (0, pid), f"{program} is started again")
        return int(pid)

    def tasks_waiting(self) -> int:
        """How many tasks wait or are being done."""
        tasks = self.overview().background_tasks
        return tasks.queue_size + len(tasks.running)

    def logs(self) -> str:
        """The ends of all logs, for a failure's report."""
        parts = []
        for path in [*sorted((self.folder / "supervisor").glob("*.log")), *sorted(self.home.logs.glob("*.log"))]:
            parts.append(f"--- {path.name}\n{path.read_text(errors='replace')[-3000:]}")
        return "\n".join(parts)
