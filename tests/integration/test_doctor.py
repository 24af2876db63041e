"""doctor and bundle beside real processes: a broker that runs, hangs or was killed, and a disk that is full."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.places import ROOT, Place, Worker, place_with_broker
from trainq.jobs import JobKind

pytestmark = pytest.mark.slow

# In a mount namespace of its own: a home on a disk of one MiB, filled to its last byte and inode, looked at by doctor.
FULL_DISK = """
import json, os, pathlib, subprocess, sys
home = pathlib.Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=40,mode=700", "tmpfs", str(home)], check=True)
os.environ["TRAINQ_HOME"] = str(home)
try:
    with (home / "filler").open("wb") as stream:
        while True:
            stream.write(b"x" * 4096); stream.flush()
except OSError:
    pass
try:
    for number in range(100):
        (home / f"inode-{number}").touch()
except OSError:
    pass
from trainq.cli import main
sys.exit(main(["doctor", "--json"]))
"""


def has_mounts() -> bool:
    return subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True,
                          check=False).returncode == 0


@pytest.fixture
def place() -> Iterator[Place]:
    with place_with_broker() as made:
        yield made


def checks(place: Place, code: int) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for check in place.json("doctor", code=code)["checks"]:
        found.setdefault(check["name"], []).append(check)
    return found


def test_a_broker_that_runs_hangs_and_was_killed(place: Place) -> None:
    pid = place.pid("broker")
    found = checks(place, 0)
    assert "answers in" in found["broker"][0]["found"]
    assert found["journal"][0]["verdict"] == "ok"
    assert any(f"run/broker.lock is held by process {pid}" in check["found"] for check in found["locks"])
    assert [check["found"] for check in found["sockets"]] == ["2 have a listener"]
    assert {check["found"].split()[0] for check in found["services"]} >= {"trainer", "preparer", "watcher"}

    signal_broker(place, signal.SIGSTOP)
    found = checks(place, 1)
    assert found["broker"][0]["verdict"] == "fail"
    assert "supervisorctl restart broker" in found["broker"][0]["mend"]
    assert any(check["mend"] == f"kill -CONT {pid}" for check in found["locks"])
    signal_broker(place, signal.SIGCONT)

    place.stop("broker", signal.SIGKILL)
    found = checks(place, 0)
    assert any("free" in check["found"] and str(pid) in check["found"] for check in found["locks"])
    assert all("without a listener" in check["found"] for check in found["sockets"])
    assert found["broker"][0]["mend"] == "supervisorctl start broker"
    place.start("broker")
    assert checks(place, 0)["broker"][0]["verdict"] == "ok"


def signal_broker(place: Place, number: int) -> None:
    place._services["broker"].send_signal(number)


def test_a_report_of_a_home_with_jobs_has_no_words_of_their_rows(place: Place, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"prompt": "my private words", "completion": "x"}\n' * 3)
    place.run("submit", str(tmp_path / "a.jsonl"))
    worker = Worker(place.home)
    report = {"read": 3, "bad_rows": [{"line": 1, "reason": "the role 'my private words' is not known"}],
              "reasons": {"my private words": 1}}
    worker.complete(worker.lease(JobKind.PREPARE), report)
    worker.fail(worker.lease(JobKind.TRAIN), "with what is trained in [[ ]]: my private [[words]]")
    worker.client.close()
    target = tmp_path / "out.tar.gz"
    said = place.json("bundle", "-o", str(target))
    assert said["size_bytes"] < 200_000
    contents = {}
    with tarfile.open(target) as archive:
        for member in archive:
            stream = archive.extractfile(member)
            assert stream is not None
            contents[Path(member.name).name] = stream.read()
    events = [json.loads(line) for line in contents["events.jsonl"].splitlines()]
    assert {"JobSubmitted", "JobPrepared", "AttemptFailed"} <= {event["type"] for event in events}
    assert contents["broker.json"]
    for name, content in contents.items():
        assert b"private" not in content, name


@pytest.mark.skipif(not has_mounts(), reason="no file system can be mounted here (unshare -rm mount -t tmpfs fails)")
def test_a_full_disk(tmp_path: Path) -> None:
    done = subprocess.run(
        ["unshare", "-rm", sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, check=False,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{ROOT / 'shared'}:{ROOT}"}, timeout=60)
    assert done.returncode == 1, done.stderr
    found = {check["name"]: check for check in json.loads(done.stdout)["checks"] if check["verdict"] != "ok"}
    assert found["disk"]["verdict"] == "fail"
    assert found["inodes"]["verdict"] == "fail"
    assert "make room" in found["disk"]["mend"]
    assert "reboot" in found["file system"]["found"]
