"""The time that a stop needs: what it is made of, what is said when supervisord gives less, and what is kept of it."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import pytest

from services.trainer import stopping, wire
from services.trainer.stopping import Measured, StopTime, shortage, usable_seconds
from trainq import files
from trainq.config import Home, project_root
from trainq.logs import EventLog

PATIENCE_SECONDS = 60.0


def published(seconds: float, write_seconds: float = 0.0) -> wire.Published:
    return wire.Published(generation=2, name="g000002-s00000001", step=1, reason="interval", seconds=seconds,
                          write_seconds=write_seconds, size_bytes=1)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    files.make_directory(made.run)
    return made


@pytest.fixture
def log() -> EventLog:
    return EventLog(logging.getLogger("stopping"))


def test_the_agent_waits_for_a_save_shorter_than_supervisord_does() -> None:
    assert [usable_seconds(given) for given in (180, 60, 40, 10)] == [150, 30, 20, 5]


def test_a_stop_needs_a_step_and_two_saves() -> None:
    measured = Measured(step_seconds=10, save_seconds=70)
    assert measured.stop_seconds == 150
    assert shortage(measured, 180, "trainer") == ""
    told = shortage(Measured(step_seconds=11, save_seconds=70), 180, "trainer")
    assert "180 s after a stop, which may need 151 s (a step 11 s, a save 70 s" in told
    assert "set stopwaitsecs=260 for [program:trainer] in supervisord.conf" in told
    assert shortage(Measured(step_seconds=11, save_seconds=70), 260, "trainer") == ""


def test_the_slowest_of_the_recent_saves_counts_and_is_kept(home: Home, log: EventLog) -> None:
    time_ = StopTime(home, log, {})
    time_.saved(published(0.1, 40.0), 2.0)
    time_.saved(published(20.0), 3.0)
    assert msgspec.json.decode((home.run / "stop-time.json").read_bytes()) == {"step_seconds": 2.0,
                                                                                "save_seconds": 40.0}
    for _ in range(10):
        time_.saved(published(5.0), 3.0)
    assert msgspec.json.decode((home.run / "stop-time.json").read_bytes()) == {"step_seconds": 3.0,
                                                                                "save_seconds": 5.0}
    # The next life knows it before it has measured anything.
    StopTime(home, log, {}).saved(published(1.0), 3.0)
    assert msgspec.json.decode((home.run / "stop-time.json").read_bytes())["save_seconds"] == 5.0


def test_what_is_kept_and_damaged_is_measured_again(home: Home, log: EventLog) -> None:
    (home.run / "stop-time.json").write_bytes(b"{")
    StopTime(home, log, {}).saved(published(1.0), 3.0)
    assert msgspec.json.decode((home.run / "stop-time.json").read_bytes())["save_seconds"] == 1.0


@pytest.mark.parametrize("environment", [
    {}, {"SUPERVISOR_PROCESS_NAME": "trainer", "SUPERVISOR_SERVER_URL": "http://localhost:9001"},
    {"SUPERVISOR_PROCESS_NAME": "trainer", "SUPERVISOR_SERVER_URL": "unix:///nowhere.sock"}])
def test_where_nobody_says_nothing_is_checked(home: Home, log: EventLog, environment: dict[str, str]) -> None:
    time_ = StopTime(home, log, environment)
    time_.saved(published(1e6), 1e6)
    assert (time_.save_seconds, time_.warning) == (150.0, "")


# Asks as the agent does, and writes down what it was told.
ASKER = """
import logging, sys, time
from pathlib import Path
from services.trainer import stopping
from trainq.config import Home
from trainq.logs import EventLog
found = stopping.StopTime(Home(Path(sys.argv[1])), EventLog(logging.getLogger()))
Path(sys.argv[1], "said.tmp").write_text(f"{found.save_seconds}\\n{found.warning}")
Path(sys.argv[1], "said.tmp").rename(Path(sys.argv[1], "said"))
time.sleep(600)
"""


@pytest.fixture
def under_supervisord(home: Home, tmp_path: Path) -> Iterator[Path]:
    """A real supervisord that runs it as a program with a ``stopwaitsecs`` of its own; gives what it was told."""
    (tmp_path / "asker.py").write_text(ASKER)
    root = project_root()
    # A path to a unix socket has at most 107 bytes, so it is named from the folder.
    (tmp_path / "supervisord.conf").write_text(f"""
[unix_http_server]
file=%(here)s/s
[supervisord]
nodaemon=true
logfile=%(here)s/log
pidfile=%(here)s/pid
environment=PYTHONPATH="{root / 'shared'}:{root}"
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[program:other]
command=sleep 600
stopwaitsecs=5
[program:asker]
command={sys.executable} %(here)s/asker.py {home.root}
stopwaitsecs=77
stopsignal=KILL
""")
    supervisord = subprocess.Popen(
        [sys.executable, "-m", "supervisor.supervisord", "-c", str(tmp_path / "supervisord.conf")], cwd=tmp_path,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={key: value for key, value in os.environ.items() if not key.startswith("SUPERVISOR")})
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (home.root / "said").exists():
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            assert supervisord.poll() is None
            time.sleep(0.05)
        yield home.root / "said"
    finally:
        children = psutil.Process(supervisord.pid).children()
        supervisord.terminate()
        supervisord.wait(PATIENCE_SECONDS)
        psutil.wait_procs(children, PATIENCE_SECONDS)


@pytest.fixture
def slow_saves(home: Home) -> None:
    (home.run / "stop-time.json").write_bytes(msgspec.json.encode(Measured(step_seconds=1, save_seconds=30)))


@pytest.mark.slow
@pytest.mark.usefixtures("slow_saves")
def test_supervisord_itself_says_how_long_it_waits(under_supervisord: Path) -> None:
    usable, warning = under_supervisord.read_text().split("\n")
    assert float(usable) == 47.0
    assert "supervisord kills it 77 s after a stop, which may need 61 s" in warning
    assert "set stopwaitsecs=130 for [program:asker]" in warning


def test_what_the_shipped_supervisord_gives_is_what_is_taken_for_given() -> None:
    shipped = (project_root() / "supervisord.conf").read_text()
    assert f"\nstopwaitsecs={stopping.DEFAULT_STOP_WAIT_SECONDS:.0f}\n" in shipped.partition("[program:trainer]")[2]
