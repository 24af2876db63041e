"""The services on disks that really fill, go read-only and come back: nothing lost, refused or held against a file."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

import orjson
import pytest

from trainq import config

pytestmark = pytest.mark.slow

# Some 50 s; the others of tests/faults/every_failing_disk.py are run by hand, before a release.
DRAWN = ("full-bytes", "read-only", "armed-watcher")


def has_mounts() -> bool:
    """Whether a file system can be mounted here, in a namespace of one's own."""
    try:
        done = subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True,
                              check=False)
    except FileNotFoundError:
        return False
    return done.returncode == 0


@pytest.mark.skipif(not has_mounts(), reason="no file system can be mounted here (unshare -rm mount -t tmpfs fails)")
def test_the_services_go_on_by_themselves_and_every_file_is_trained_once() -> None:
    root = config.project_root()
    environment = {**os.environ, "PYTHONPATH": f"{root / 'shared'}:{root}"}
    with tempfile.TemporaryDirectory(prefix="tq", dir="/tmp") as folder:  # short: a socket's path has 107 bytes
        done = subprocess.run([sys.executable, "-m", "tests.faults.every_failing_disk", folder, *DRAWN], cwd=root,
                              env=environment, capture_output=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr.decode()
    found = orjson.loads(done.stdout)
    assert found["wrong"] == [], "\n".join(found["wrong"])
    assert found["scenarios"].keys() == set(DRAWN)
