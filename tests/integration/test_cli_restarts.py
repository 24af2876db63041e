"""Those who wait, follow and watch, while everything under them is killed and started anew; a real installation."""

from __future__ import annotations

import subprocess
import sys
from typing import IO

import orjson
import pytest

from tests.drills import Drill
from tests.installations import Installation, wait_for
from trainq.chaos import processes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]


def start(installation: Installation, *words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "trainq.cli", *words], env=dict(installation.environment),
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def end_services(installation: Installation) -> list[processes.Seen]:
    """Kill what still lives of the services, which outlive their supervisord; those that there were."""
    left = [seen for seen in installation.processes() if seen.role != processes.OTHER]
    processes.end_all(installation.home.root, left)
    return left


def last_picture(stream: IO[bytes] | None, training: bool) -> None:
    """Read pictures until one says whether it trains."""
    assert stream is not None
    for line in stream:
        if orjson.loads(line).get("training") is training:
            return
    raise AssertionError("it ended")


def test_waiting_following_and_watching_survive_everything(installation: Installation) -> None:
    drill = Drill(installation, slow=True)
    job = drill.train("long.jsonl", 300)
    waiting, following = start(installation, "wait", job), start(installation, "follow", job)
    watching = start(installation, "watch", "--json", "--every", "0.2s")
    try:
        last_picture(watching.stdout, training=True)
        for program in ("broker", "trainer", "status"):
            installation.kill(program)
        installation.kill_supervisord()
        wait_for(lambda: not end_services(installation), "all services are gone")
        last_picture(watching.stdout, training=False)
        assert (waiting.poll(), following.poll(), watching.poll()) == (None, None, None)
        installation.start()
        last_picture(watching.stdout, training=True)
        out, err = waiting.communicate(timeout=200)
        assert (waiting.returncode, out.split()[:2]) == (0, [job.encode(), b"succeeded"]), err
        out, err = following.communicate(timeout=30)
        assert (following.returncode, out.split()[:2]) == (0, [job.encode(), b"succeeded"]), err
        assert b"the broker is back" in err
    finally:
        for each in (waiting, following, watching):
            each.kill()
            each.communicate()
