"""How a service begins and ends: its earlier lives let it work, wait, or rest. Real processes, really ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pytest

from trainq.service import ends
from trainq.service.ends import Ends

pytestmark = pytest.mark.slow

PATIENCE_SECONDS = 30.0
BODY = """
import os, signal, sys, time
from trainq.service import run
def body(process):
    print("works", flush=True)
    {body}
sys.exit(run("preparer", body))
"""


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tq", dir="/tmp") as folder:
        yield Path(folder) / "h"


def start(home: Path, body: str, **environment: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", BODY.format(body=body)], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, env={**os.environ, "TRAINQ_HOME": str(home), **environment})


def live(home: Path, body: str, **environment: str) -> tuple[int, bytes]:
    """A whole life; its exit code and output."""
    process = start(home, body, **environment)
    out, _ = process.communicate(timeout=PATIENCE_SECONDS)
    return process.returncode, out


def recorded(home: Path) -> Ends:
    return ends.read(home / "run", "preparer")


def logged(home: Path, event: str) -> list[dict[str, object]]:
    path = home / "logs" / "preparer.log"
    lines = [orjson.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []
    return [line for line in lines if line["event"] == event]


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def rest_until_stopped(home: Path, reason: str, cause: str, **environment: str) -> None:
    """A life that rests, says why, does none of its work, and ends in order."""
    process = start(home, "raise SystemExit(9)", **environment)
    wait_for(lambda: any(reason in str(line["detail"]) for line in logged(home, "state_changed")
                         if (line["state"], line["cause"], line["pid"]) == ("PAUSED", cause, process.pid)))
    process.terminate()
    out, error = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, out, error) == (0, b"", b"")


@pytest.mark.parametrize(("body", "reason"), [
    ("return 3", "exit 3"), ("return 0", "exit 0"), ("raise ZeroDivisionError('boom')", "ZeroDivisionError: boom"),
    ("os.kill(os.getpid(), signal.SIGSEGV)", "Fatal Python error: Segmentation fault"),
    ("os.abort()", "Fatal Python error: Aborted"),
    ("from trainq.errors import DamageError; raise DamageError('x', 'torn')", "x: torn"),
])
def test_an_end_by_its_own_doing_counts(home: Path, body: str, reason: str) -> None:
    live(home, body)
    assert live(home, "os.kill(os.getpid(), signal.SIGTERM)")[1] == b"works\n", "once is no habit"
    live(home, body)
    process = start(home, "process.wait(60)")  # a crash is seen by the next life
    assert process.stdout is not None
    assert process.stdout.readline() == b"works\n"
    assert recorded(home) == Ends(own=1, reason=reason)
    process.kill()
    process.communicate(timeout=PATIENCE_SECONDS)


def test_what_a_killed_life_left_half_written_beside_its_records_goes(home: Path) -> None:
    live(home, "from trainq import files; files.temporary_beside(process.home.token_file).touch(); "
               "os.kill(os.getpid(), signal.SIGKILL)")
    assert list((home / "run").glob(".tmp-*"))
    assert live(home, "os.kill(os.getpid(), signal.SIGTERM)") == (0, b"works\n")
    assert not list((home / "run").glob(".tmp-*"))


def test_after_five_it_rests_until_somebody_restarts_it(home: Path) -> None:
    (home / "run").mkdir(parents=True)
    (home / "run" / "preparer.ends").write_bytes(b'{"own": 4, "machine": 0, "reason": "exit 3"}')
    process = start(home, "return 3")  # waits for its time first
    assert process.communicate(timeout=PATIENCE_SECONDS)[0] == b"works\n"
    assert recorded(home).own == 5
    # Killed it rests again; restarted by hand it works.
    process = start(home, "return 9")
    wait_for(lambda: logged(home, "paused_by_itself"))
    process.kill()
    assert process.communicate(timeout=PATIENCE_SECONDS)[0] == b""
    rest_until_stopped(home, "it has ended 5 times by its own doing", "given_up")
    assert recorded(home) == Ends()
    assert live(home, "os.kill(os.getpid(), signal.SIGTERM)") == (0, b"works\n")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_what_somebody_else_does_counts_for_nothing(home: Path, number: signal.Signals) -> None:
    for _ in range(2):
        process = start(home, "process.wait(60)")
        assert process.stdout is not None
        assert process.stdout.readline() == b"works\n"
        process.send_signal(number)
        process.communicate(timeout=PATIENCE_SECONDS)
    assert recorded(home) == Ends()


def test_what_the_disk_has_done_only_makes_it_wait(home: Path) -> None:
    for _ in range(2):
        assert live(home, "raise OSError(28, 'No space left on device')") == (74, b"works\n")
    assert recorded(home).machine == 2
    began = time.monotonic()
    assert live(home, "process.progressed(); os.kill(os.getpid(), signal.SIGTERM)") == (0, b"works\n")
    assert time.monotonic() - began >= 1.0
    assert recorded(home) == Ends()


def test_something_that_lasts_forgives_what_was_before(home: Path) -> None:
    (home / "run").mkdir(parents=True)
    (home / "run" / "preparer.ends").write_bytes(b'{"own": 1, "reason": "exit 3"}')
    assert live(home, "process.progressed(); return 3") == (3, b"works\n")
    assert recorded(home) == Ends(own=1, reason="exit 3")


def test_one_that_the_configuration_does_not_want_rests(home: Path) -> None:
    rest_until_stopped(home, "not enabled: [services.preparer] enabled = false", "disabled",
                       TRAINQ_SERVICES_PREPARER="{enabled = false}")


def test_a_pause_file_holds_it_between_two_turns(home: Path) -> None:
    body = "process.loop(lambda: (print('turn', flush=True), process.wait(0.05)))"
    (home / "control").mkdir(parents=True)
    order = home / "control" / ".pause-preparer"
    order.write_text("lunch")
    process = start(home, body)
    wait_for(lambda: logged(home, "state_changed"))
    assert logged(home, "state_changed")[-1]["state"] == "PAUSED"
    assert logged(home, "state_changed")[-1]["cause"] == "ordered"
    assert logged(home, "state_changed")[-1]["detail"] == "control/.pause-preparer is there: lunch"
    order.unlink()
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(2)] == [b"works\n", b"turn\n"]
    assert logged(home, "state_changed")[-1]["state"] == "RUNNING"
    assert logged(home, "state_changed")[-1]["cause"] is None
    process.terminate()
    process.communicate(timeout=PATIENCE_SECONDS)


def test_it_gives_signs_of_life_while_it_waits_and_while_it_rests(home: Path) -> None:
    lock = home / "run" / "preparer.lock"
    (home / "control").mkdir(parents=True)
    (home / "control" / ".pause-preparer").touch()
    process = start(home, "process.loop(lambda: process.wait(0.2))")
    wait_for(lock.exists)
    for order in (home / "control" / ".pause-preparer", None):
        seen: set[int] = set()
        wait_for(lambda seen=seen: seen.add(lock.stat().st_mtime_ns) or len(seen) >= 3)
        if order is not None:
            order.unlink()
    process.terminate()
    process.communicate(timeout=PATIENCE_SECONDS)
