"""``scripts/bench/recovery``: from kill -9 to work going on, in a real installation under supervisord.

Each round does all of it once, in turn, so that a busy machine is busy for all: a fresh interpreter that imports torch
and transformers (what a trainer without a fork server pays before anything else), ``transformers.Trainer`` resuming
the same model to its next step (the peer), then kill -9 of the training process, of the broker, and of the trainer's
agent, each while a job trains. A step is done when its line is in the job's metrics.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench import tables
from trainq.chaos import processes
from trainq.chaos.installation import Installation, wait_until
from trainq.client import BrokerClient
from trainq.ids import new_request_id
from trainq.messages import GetOverview

ROWS = 2000
SETTLED_STEPS = 30
PATIENCE_SECONDS = 120.0
GOAL_SECONDS = 1.0
ASK_AGAIN_SECONDS = 0.2
SETTINGS = """[train]
epochs = 1000
checkpoint_steps = 100
"""


class Steps:
    """The steps of a job as its metrics show them, without asking anybody."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def size(self) -> int:
        return self._path.stat().st_size if self._path.exists() else 0

    def wait_for_new(self, died_at: float) -> float:
        """Seconds from ``died_at`` until a step is done by a successor, which first cuts the file to its checkpoint."""
        lowest, deadline = self.size(), died_at + PATIENCE_SECONDS
        while (size := self.size()) <= lowest:
            lowest = size
            if time.monotonic() > deadline:
                raise TimeoutError("no step is done after the kill")
            time.sleep(0.001)
        return time.monotonic() - died_at

    def settle(self) -> None:
        """Wait until some steps were done in a row."""
        for _ in range(SETTLED_STEPS):
            self.wait_for_new(time.monotonic())


def kill(installation: Installation, role: str) -> float:
    """kill -9 the process of this role; the time at which it was dead."""
    target = None
    while target is None:
        seen = [one for one in installation.processes() if one.role == role]
        target = processes.hold(seen[0], installation.home.root) if seen else None
    with contextlib.closing(target):
        descriptor = os.pidfd_open(target.pid)
        target.send(signal.SIGKILL)
        select.select([descriptor], [], [])
        os.close(descriptor)
    return time.monotonic()


def broker_answers(installation: Installation, died_at: float, steps: Steps) -> tuple[float, float]:
    """Seconds until the broker answers, and the longest pause between two steps until then and a second more."""
    pause, last, size, answered, ask_at = 0.0, died_at, steps.size(), 0.0, died_at
    with BrokerClient(installation.home) as client:
        while not answered or time.monotonic() < answered + 1.0:
            if not answered and time.monotonic() >= ask_at:
                client.post(GetOverview(request_id=new_request_id()))
                ask_at += ASK_AGAIN_SECONDS
            if not answered and client.take_posted():
                answered = time.monotonic()
            if time.monotonic() > died_at + PATIENCE_SECONDS:
                raise TimeoutError("the broker does not answer after the kill")
            if steps.size() != size:
                now = time.monotonic()
                pause, last, size = max(pause, now - last), now, steps.size()
            time.sleep(0.001)
    return answered - died_at, max(pause, time.monotonic() - last)


def seconds_of(words: list[str], until: bytes = b"") -> float:
    """How long an interpreter takes to its end, or to the first line that begins with ``until``."""
    started = time.monotonic()
    with subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        if until:
            while not process.stdout.readline().startswith(until):
                if process.poll() is not None:
                    raise RuntimeError(f"{words} ended with {process.returncode}")
        else:
            process.wait()
        taken = time.monotonic() - started
        process.kill()
    return taken


def measure(folder: Path, rounds: int) -> dict[str, list[float]]:
    """The numbers of all rounds, by name."""
    found: dict[str, list[float]] = {}

    def note(name: str, seconds: float) -> None:
        found.setdefault(name, []).append(seconds)
        print(f"  {seconds:7.3f} s  {name}", file=sys.stderr)

    installation = Installation(folder, SETTINGS)
    try:
        installation.start()
        wait_until(lambda: installation.home.current.is_symlink(), "the first checkpoint", PATIENCE_SECONDS)
        model = str(installation.home.current.resolve())
        subprocess.run([sys.executable, "-m", "bench.peer_trainer", model, str(folder / "peer"), "prepare"], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        rows = folder / "rows.jsonl"
        rows.write_text("".join(f'{{"prompt": "what is {n}?", "completion": "{n * n}"}}\n' for n in range(ROWS)))
        installation.run("-m", "trainq.cli", "submit", str(rows), seconds=60)
        steps = Steps(installation.home.metrics / "train-1.jsonl")
        for at in range(rounds):
            print(f"round {at + 1} of {rounds}", file=sys.stderr)
            # While nothing trains, so that these two have the machine to themselves.
            agents = [one for one in installation.processes() if one.role in ("trainer", processes.TRAINING)]
            for one in agents:
                os.kill(one.pid, signal.SIGSTOP)
            note("a fresh interpreter imports torch and transformers",
                 seconds_of(["-c", "import torch, transformers.modeling_utils"]))
            note("transformers.Trainer: started to the next step",
                 seconds_of(["-m", "bench.peer_trainer", model, str(folder / "peer"), "resume"], b"step"))
            for one in agents:
                os.kill(one.pid, signal.SIGCONT)
            steps.settle()
            note("training process killed to the next step", steps.wait_for_new(kill(installation, processes.TRAINING)))
            steps.settle()
            answers, pause = broker_answers(installation, kill(installation, "broker"), steps)
            note("broker killed until it answers", answers)
            note("longest pause between two steps meanwhile", pause)
            steps.settle()
            note("trainer's agent killed to the next step", steps.wait_for_new(kill(installation, "trainer")))
    finally:
        installation.end()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=10, metavar="N", help="how often (10)")
    rounds = parser.parse_args().rounds
    folder = Path(tempfile.mkdtemp(prefix="tq", dir="/tmp"))  # a socket's path is short
    try:
        found = measure(folder, rounds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(tables.machine())
    for line in tables.lines(("seconds", "rounds", "min", "median", "max"),
                             [(name, *tables.spread(values)) for name, values in found.items()]):
        print(line)
    reached = sorted(found["training process killed to the next step"])[rounds // 2]
    print(f"goal for the training process: under {GOAL_SECONDS:g} s; median {reached:.3f} s: "
          f"{'reached' if reached < GOAL_SECONDS else 'missed'}")


if __name__ == "__main__":
    main()
