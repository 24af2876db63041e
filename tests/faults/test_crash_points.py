"""No instant between two durable operations at which a kill leaves anything but the state before or after."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from trainq import config

pytestmark = pytest.mark.slow


def test_killed_at_every_crash_point_it_comes_to_the_same_end(tmp_path: Path) -> None:
    root = config.project_root()
    environment = {**os.environ, "PYTHONPATH": f"{root / 'shared'}:{root}"}
    done = subprocess.run([sys.executable, str(root / "tests" / "faults" / "every_crash_point.py"), str(tmp_path)],
                          env=environment, capture_output=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr.decode()
    found = orjson.loads(done.stdout)
    assert found["wrong"] == []
    assert found["kills"].keys() == {"training to the end", "taking back", "setting aside"}
    assert all(kills >= 2 for kills in found["kills"].values()), found["kills"]
    assert sum(found["kills"].values()) > 60
