"""A process's life: one instance, signals that only set a flag, errors that are reported and survived."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

BODY = """
import os, signal, sys
from trainq.messages import Lifecycle
from trainq.service import run
def body(process):
    {body}
sys.exit(run("tester", body))
"""


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tq", dir="/tmp") as folder:
        yield Path(folder) / "h"


def start(home: Path, body: str, **environment: str) -> subprocess.Popen[bytes]:
    code = BODY.format(body=body.replace("\n", "\n    "))
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            env={**os.environ, "TRAINQ_HOME": str(home), **environment})


def finish(process: subprocess.Popen[bytes]) -> tuple[int, str, str]:
    out, error = process.communicate(timeout=30)
    return process.returncode, out.decode(), error.decode()


def events(home: Path) -> list[dict[str, object]]:
    return [orjson.loads(line) for line in (home / "logs" / "tester.log").read_bytes().splitlines()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_wait_at_once(home: Path, number: signal.Signals) -> None:
    process = start(home, "print('up', flush=True)\nwhile not process.stopping:\n    process.wait(60)\nprint('down')")
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    process.send_signal(number)
    assert finish(process)[:2] == (0, "down\n")
    assert [event["event"] for event in events(home)] == ["started", "ended"]


def test_a_second_instance_is_refused(home: Path) -> None:
    first = start(home, "print('up', flush=True)\nprocess.wait(60)")
    assert first.stdout is not None
    first.stdout.readline()
    code, _, error = finish(start(home, "print('never')"))
    assert code == 75
    assert str(first.pid) in error
    first.terminate()
    finish(first)


def test_every_mistake_in_the_configuration_is_told_before_anything_starts(home: Path) -> None:
    code, _, error = finish(start(home, "print('never')", TRAINQ_TRAIN_SEED="x", TRAINQ_LOG_LEVEL="loud"))
    assert code == 78
    assert "train.seed" in error
    assert "log.level" in error
    assert not home.exists()


def test_a_turn_that_fails_is_reported_and_tried_again(home: Path) -> None:
    body = ("turns = []\ndef turn():\n    turns.append(1)\n    if len(turns) == 1: raise ZeroDivisionError('boom')\n"
            "    process.stopping = True\nprocess.loop(turn)\nprint(len(turns), process.state, process.detail)")
    code, out, _ = finish(start(home, body))
    assert (code, out) == (0, "2 ERROR ZeroDivisionError: boom\n")
    failed = next(event for event in events(home) if event["event"] == "turn_failed")
    assert "boom" in str(failed["traceback"])


def test_a_signal_ends_a_backoff(home: Path) -> None:
    body = ("def turn():\n    print('up', flush=True)\n    raise ZeroDivisionError\n"
            "process._failures = 6\nprocess.loop(turn)")
    process = start(home, body)
    assert process.stdout is not None
    process.stdout.readline()
    process.terminate()
    assert finish(process)[0] == 0


def test_an_error_of_ours_is_an_exit_code(home: Path) -> None:
    code, _, error = finish(start(home, "from trainq.errors import DamageError\nraise DamageError('x', 'torn')"))
    assert code == 74
    assert "torn" in error


def test_the_folders_are_private(home: Path) -> None:
    finish(start(home, "pass"))
    assert (home / "run").stat().st_mode & 0o777 == 0o700
    assert (home / "logs" / "tester.log").stat().st_mode & 0o777 == 0o600
