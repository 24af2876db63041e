"""Maintenance killed at every instant, and on disks that fail or fill: whole or not there, and done in the end."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.faults.maintenance import ACTS
from tests.faults.test_failing_disks import has_mounts
from trainq import config

pytestmark = pytest.mark.slow

ROOT = config.project_root()
NAMES = [each.__name__ for each in ACTS]
# About half of the kills each, for two processors.
HALVES = (NAMES[:4], NAMES[4:])
# Samples, each some seconds: prime to the four faults at each place; how many pages.
STRIDE = 17
WRITES = 4


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory, where there is such a place: an fsync there costs nothing, and no power is cut here."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="tq", dir=memory if os.access(memory, os.W_OK) else None) as made:
        yield Path(made)


def run(script: str, *words: str) -> Any:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'shared'}:{ROOT}"}
    done = subprocess.run([sys.executable, str(ROOT / "tests" / "faults" / script), *words], env=environment,
                          capture_output=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr.decode()
    found = orjson.loads(done.stdout)
    assert found["wrong"] == [], done.stderr.decode()
    return found


def test_killed_anywhere_it_is_done_by_the_next_life(folder: Path) -> None:
    """At every third place; at all of them by hand (docs/reliability.md)."""
    with ThreadPoolExecutor() as pool:
        for half, found in zip(HALVES, pool.map(lambda half: run(
                "every_maintenance_kill.py", str(folder / half[0]), *half, "--stride", "3"), HALVES), strict=True):
            assert found["kills"].keys() == set(half)
            assert all(number >= 5 for number in found["kills"].values()), found


def test_a_sample_of_all_faults(folder: Path) -> None:
    faults = run("every_maintenance_fault.py", str(folder), str(STRIDE))["faults"]
    assert faults.keys() == set(NAMES)
    assert all(faults.values()), faults


@pytest.mark.skipif(not has_mounts(), reason="no file system can be mounted here (unshare -rm mount -t tmpfs fails)")
def test_on_a_disk_that_is_full_it_says_so_and_is_done_when_there_is_room(folder: Path) -> None:
    full = run("every_full_disk.py", str(folder), str(WRITES))["full"]
    # A trigger is not read, and waits.
    assert all(number >= 4 for name, number in full.items() if name != "Trigger"), full


@pytest.mark.skipif(not has_mounts(), reason="no file system can be mounted here (unshare -rm mount -t tmpfs fails)")
def test_a_merge_is_whole_or_not_there_wherever_it_is_killed_and_wherever_the_disk_is_full(folder: Path) -> None:
    found = run("every_merge_fault.py", str(folder), "3", "12")
    assert found["kills"] >= 5
    assert found["full"] >= 2
