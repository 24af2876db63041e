"""No failure of a durable operation loses, half does or acknowledges anything; when it has passed, the act succeeds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from trainq import config

pytestmark = pytest.mark.slow

# Prime to the ten faults at each place, so that all of them are drawn at changing places. All of them by hand.
STRIDE = 41


def test_a_sample_of_all_faults(tmp_path: Path) -> None:
    root = config.project_root()
    environment = {**os.environ, "PYTHONPATH": f"{root / 'shared'}:{root}"}
    done = subprocess.run(
        [sys.executable, str(root / "tests" / "faults" / "every_io_fault.py"), str(tmp_path), str(STRIDE)],
        env=environment, capture_output=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr.decode()
    found = orjson.loads(done.stdout)
    assert found["wrong"] == [], done.stderr.decode()
    assert all(found["faults"].values()), found["faults"]
    assert sum(found["faults"].values()) > 50
