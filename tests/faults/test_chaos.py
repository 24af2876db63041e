"""A seeded slice of ``trainq chaos``: the whole system is killed and frozen for a while, and nothing is lost."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import orjson
import pytest

from installations import wait_for
from trainq import config
from trainq.chaos import processes

SEED = 1
FAULT_SECONDS = 20


pytestmark = pytest.mark.slow


@pytest.mark.timeout(400)
def test_a_slice_of_chaos_loses_nothing() -> None:
    folder = Path(tempfile.mkdtemp(prefix="tq", dir="/tmp")) / "c"
    done = subprocess.run(
        [sys.executable, "-m", "trainq.cli", "chaos", "--seed", str(SEED), "--seconds", str(FAULT_SECONDS),
         "--settle-seconds", "150", "--folder", str(folder), "--keep"],
        cwd=config.project_root(), env=dict(os.environ), capture_output=True, text=True, check=False, timeout=380)

    # On a failure the folder stays, and the report says where it is.
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert done.stdout.splitlines()[-1].startswith(f"chaos: PASS seed={SEED} ")
    found = orjson.loads((folder / "chaos.json").read_bytes())
    assert found["passed"]
    assert found["kills_total"] == sum(sum(kinds.values()) for kinds in found["kills"].values())
    assert found["kills_total"] >= 4, "as few as that on a machine that is busy with other things"
    assert found["jobs"]["succeeded"] >= 2
    assert sum(states.get("succeeded", 0) for states in found["tasks"].values()) >= 2
    assert len((folder / "receipts.jsonl").read_text().splitlines()) == found["submits"] >= 2
    assert found["adapter"], "the heavier half of what there is"
    for report in ("fsck", "driver", "checker", "restored-fsck", "restored-checker"):
        assert (folder / f"{report}.out").read_text(), report
    assert not processes.of_home(folder / "h")
    shutil.rmtree(folder.parent)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_whoever_ends_it_ends_everything_that_it_started(number: signal.Signals) -> None:
    folder = Path(tempfile.mkdtemp(prefix="tq", dir="/tmp")) / "c"
    chaos = subprocess.Popen(
        [sys.executable, "-m", "trainq.cli", "chaos", "--seconds", "60", "--folder", str(folder)],
        cwd=config.project_root(), env=dict(os.environ), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        wait_for(lambda: {"broker", "trainer"} <= {one.role for one in processes.of_home(folder / "h")}, "they run")
        chaos.send_signal(number)
        chaos.communicate(timeout=60)
        assert chaos.returncode == (-number if number is signal.SIGKILL else 130)
        # kill -9 lets it end nothing: its supervisord is told to stop by its death.
        wait_for(lambda: not processes.of_home(folder / "h"), "nothing is left", 60 if number is signal.SIGKILL else 1)
    finally:
        chaos.kill()
        chaos.communicate()
        processes.end_all(folder / "h", processes.of_home(folder / "h"))
        shutil.rmtree(folder.parent)
