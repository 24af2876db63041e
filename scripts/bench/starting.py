"""``scripts/bench/start``: whole processes, from the fork to the end, in turn, in one run.

The floor is an interpreter that imports zmq and msgpack, asks :mod:`bench.floor` once and ends. All processes find
their modules compiled, as in an installation, whatever this shell says about bytecode: it lies in the run's own folder,
and the first round, which compiles, is not counted.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench import tables
from bench.queueing import Servers

GOAL = 1.5
FLOOR = "floor: import zmq, msgpack; one round trip"
_ASKS = ("import sys, zmq, msgpack\ns = zmq.Context().socket(zmq.REQ)\ns.connect('ipc://' + sys.argv[1])\n"
         "s.send(msgpack.packb({'name': 'x'}))\ns.recv()\n")


def seconds(words: Sequence[str], environment: Mapping[str, str]) -> float:
    """From the start of a process until it has ended, well."""
    started = time.perf_counter()
    subprocess.run(words, env=environment, check=True, capture_output=True)
    return time.perf_counter() - started


def commands(servers: Servers, source: Path) -> dict[str, list[str]]:
    """What is measured; ``source`` is a new file of one row."""
    python = sys.executable
    return {
        FLOOR: [python, "-c", _ASKS, str(servers.floor_socket)],
        "trainq submit FILE": [str(Path(python).with_name("trainq")), "submit", str(source.with_suffix(".1.jsonl"))],
        "python -m trainq.cli submit FILE": [python, "-m", "trainq.cli", "submit", str(source.with_suffix(".2.jsonl"))],
        "trainq version": [python, "-m", "trainq.cli", "version"],
        "interpreter alone": [python, "-c", ""],
        "import zmq, msgspec": [python, "-c", "import zmq, msgspec"],
        "import services.broker.app": [python, "-c", "import services.broker.app"],
    }


def measure(folder: Path, rounds: int) -> dict[str, list[float]]:
    environment = {**os.environ, "TRAINQ_HOME": str(folder / "h"), "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    found: dict[str, list[float]] = {}
    servers = Servers(folder)
    try:
        servers.broker.ask(servers.submit())
        for number in range(rounds + 1):
            source = folder / f"{number}.jsonl"
            for copy in ("1", "2"):
                source.with_suffix(f".{copy}.jsonl").write_text(f'{{"text": "row {number}.{copy}"}}\n')
            for name, words in commands(servers, source).items():
                taken = seconds(words, environment)
                if number:
                    found.setdefault(name, []).append(taken)
    finally:
        servers.end()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=20, metavar="N", help="how often (20)")
    rounds = parser.parse_args().rounds
    folder = Path(tempfile.mkdtemp(prefix="tq", dir="/tmp"))  # a socket's path is short
    try:
        found = measure(folder, rounds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(tables.machine())
    floor = statistics.median(found[FLOOR])
    rows = [(name, *tables.spread([value * 1000 for value in values], 1), f"{statistics.median(values) / floor:.2f}")
            for name, values in found.items()]
    for line in tables.lines(("milliseconds", "rounds", "min", "median", "max", "times the floor"), rows):
        print(line)
    reached = statistics.median(found["trainq submit FILE"]) / floor
    print(f"goal: trainq submit at most {GOAL:g} times the floor; {reached:.2f}: "
          f"{'reached' if reached <= GOAL else 'missed'}")


if __name__ == "__main__":
    main()
