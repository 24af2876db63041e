"""The broker as a process: nothing is said before it is on disk. A real process, killed around its commit."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from trainq import config, files, ingest, messages
from trainq.client import BrokerClient
from trainq.config import Home
from trainq.errors import BrokerUnavailableError
from trainq.ids import new_request_id

ROOT = config.project_root()


@pytest.fixture
def home() -> Iterator[Home]:
    with tempfile.TemporaryDirectory(prefix="tq", dir="/tmp") as folder:  # short: a socket's path has 107 bytes
        made = Home(Path(folder) / "h")
        for each in made.folders():
            files.make_directory(each)
        yield made


def start(home: Home, crash_at: str = "") -> subprocess.Popen[bytes]:
    environment = {**os.environ, "TRAINQ_HOME": str(home.root), "TRAINQ_CRASH_AT": crash_at}
    return subprocess.Popen([sys.executable, "-m", "services.broker"], cwd=ROOT, env=environment)


def submit_request(home: Home) -> messages.Submit:
    source = home.root / "a.jsonl"
    source.write_bytes(b'{"text":"a"}\n')
    stored = ingest.store_file(home, source)
    item = messages.SubmitItem(request_id=new_request_id(), name="a.jsonl", digest=stored.digest,
                               size_bytes=stored.size_bytes)
    return messages.Submit(request_id=new_request_id(), items=[item])


# The first commit is the record that the broker began.
@pytest.mark.parametrize(("crash_at", "kept"), [("journal.commit:2", False), ("journal.committed:2", True)])
def test_a_broker_killed_around_its_commit_has_promised_nothing(home: Home, crash_at: str, kept: bool) -> None:
    request = submit_request(home)
    broker = start(home, crash_at)
    with BrokerClient(home) as client:
        # Sent once: sent again, it would wait for the next life.
        client.post(request)
        assert broker.wait(timeout=60) == -signal.SIGKILL
        assert client.take_posted() == [], "it has answered before it could know"
    again = start(home)
    try:
        with BrokerClient(home) as client:
            listed = client.call(messages.ListJobs(request_id=new_request_id()), messages.JobList, timeout_seconds=60)
            assert bool(listed.jobs) is kept
            reply = client.call(request, messages.Submitted, timeout_seconds=60)
            assert reply.receipts[0].job == "train-1"
            listed = client.call(messages.ListJobs(request_id=new_request_id()), messages.JobList, timeout_seconds=60)
            assert len(listed.jobs) == 1, "once, whether the first was kept or not"
    finally:
        again.terminate()
        again.wait(timeout=60)


def test_without_a_broker_nothing_is_known(home: Home) -> None:
    with BrokerClient(home) as client, pytest.raises(BrokerUnavailableError):
        client.call(messages.ListJobs(request_id=new_request_id()), messages.JobList, timeout_seconds=0.2)
