"""Writers of other clients: a subscriber in another language, written from docs/protocol.md, rides over restarts."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.installations import Installation
from trainq import config

pytestmark = pytest.mark.slow

FOLLOW = config.project_root() / "examples" / "follow.mjs"
NEEDED = ("zeromq", "@msgpack/msgpack")


@pytest.fixture
def follower(tmp_path: Path) -> Path:
    """The script beside the packages that it needs, as npm has installed them for Node to find."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no node")
    asked = os.environ.get("TRAINQ_TEST_NODE_MODULES") or subprocess.run(
        ["npm", "root", "--global"], capture_output=True, text=True, check=False).stdout.strip()
    packages = Path(asked or "/nowhere")
    missing = [name for name in NEEDED if not (packages / name / "package.json").exists()]
    if missing:
        pytest.skip(f"npm install {' '.join(missing)}, and TRAINQ_TEST_NODE_MODULES=.../node_modules")
    (tmp_path / "node_modules").symlink_to(packages)
    return Path(shutil.copy(FOLLOW, tmp_path))


def test_node_follows_a_job_through_restarts_of_broker_and_status(installation: Installation, follower: Path) -> None:
    installation.start()
    installation.submit_rows("rows.jsonl", 3000)
    process = subprocess.Popen(["node", str(follower), str(installation.home.root), "train-1"], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    seen: list[dict[str, Any]] = []
    try:
        assert process.stdout is not None
        while not (seen and seen[-1]["step"] > 3):
            seen.append(orjson.loads(process.stdout.readline()))
        before = len(seen)
        for program in ("broker", "status", "broker"):
            installation.kill(program)
            installation.wait_answers()
        out, error = process.communicate(timeout=240)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, error
    seen += [orjson.loads(line) for line in out.splitlines()]
    assert seen[-1]["state"] == "succeeded"
    steps = [each["step"] for each in seen if each["state"] == "running" and each["step"]]
    assert steps == sorted(steps)
    assert len({each["step"] for each in seen[before:-1]}) > 3, "what came after the restarts was seen"
    assert seen[-1]["step"] >= steps[-1]
