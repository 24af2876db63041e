"""The broker as a process on a disk that fails or fills: what it has said is there, what it has not is asked again."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.broker import reserve
from tests.installations import wait_for
from trainq import config, diskfaults, files, ingest, messages, transport
from trainq.client import BrokerClient
from trainq.config import Home
from trainq.errors import StorageError, StorageFullError
from trainq.ids import new_request_id

pytestmark = pytest.mark.slow

# After the broker's start, which makes the journal, and before the last of the submits below.
AT = 200
MOST_SUBMITS = 200


@pytest.fixture
def home() -> Iterator[Home]:
    with tempfile.TemporaryDirectory(prefix="tq", dir="/tmp") as folder:  # short: a socket's path has 107 bytes
        made = Home(Path(folder) / "h")
        for each in made.folders():
            files.make_directory(each)
        yield made


def start(home: Home, fault: str = "", reserve_mib: int = 0) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "TRAINQ_HOME": str(home.root), diskfaults.ENVIRONMENT_KEY: fault,
                   "TRAINQ_DISK_RESERVE_MIB": str(reserve_mib)}
    return subprocess.Popen([sys.executable, "-m", "services.broker"], cwd=config.project_root(), env=environment,
                            stderr=subprocess.DEVNULL)


def submit_request(home: Home, number: int) -> messages.Submit:
    source = home.root / "a.jsonl"
    source.write_bytes(b'{"text":"%d"}\n' % number)
    stored = ingest.store_file(home, source)
    item = messages.SubmitItem(request_id=new_request_id(), name=f"{number}.jsonl", digest=stored.digest,
                               size_bytes=stored.size_bytes)
    return messages.Submit(request_id=new_request_id(), items=[item])


def listed(client: BrokerClient) -> set[str]:
    reply = client.call(messages.ListJobs(request_id=new_request_id()), messages.JobList, timeout_seconds=60)
    return {job.id for job in reply.jobs}


def submit_until_it_fails(home: Home, client: BrokerClient, broker: subprocess.Popen[bytes]) -> set[str]:
    """The jobs with a receipt; ends when a submit was refused, or the broker has ended with the disk's exit code."""
    acknowledged: set[str] = set()
    poller = transport.Poller()
    poller.watch(client.endpoint)
    for number in range(MOST_SUBMITS):
        request = submit_request(home, number)
        client.post(request)
        replies: list[messages.AnyReply] = []
        while not replies and broker.poll() is None:
            poller.wait(0.05)
            replies = client.take_posted()
        for reply in replies or client.take_posted():
            if isinstance(reply, messages.Refused):
                assert reply.code == StorageFullError.code
                return acknowledged
            assert isinstance(reply, messages.Submitted)
            acknowledged.update(receipt.job for receipt in reply.receipts)
        if broker.poll() is not None:
            assert broker.returncode == StorageError.exit_code
            return acknowledged
    pytest.fail("the fault was not met")


@pytest.mark.parametrize("fault", [f"{error}:{AT}:{how}" for error, how in (
    ("EIO", "once"), ("EIO", "ever"), ("EROFS", "ever"), ("EMFILE", "ever"), ("ENOSPC", "once"), ("ENOSPC", "ever"))])
def test_what_was_acknowledged_is_there_and_work_goes_on(home: Home, fault: str) -> None:
    broker = start(home, fault)
    try:
        with BrokerClient(home) as client:
            acknowledged = submit_until_it_fails(home, client, broker)
            if broker.poll() is None:
                assert listed(client) == acknowledged, "a full disk hinders no reading"
    finally:
        broker.terminate()
        broker.wait(timeout=60)
    assert acknowledged
    again = start(home)
    try:
        with BrokerClient(home) as client:
            assert acknowledged <= listed(client)
            client.call(submit_request(home, MOST_SUBMITS), messages.Submitted, timeout_seconds=60)
    finally:
        again.terminate()
        assert again.wait(timeout=60) == 0


def test_with_a_reserve_nobody_notices_that_the_disk_was_full_for_a_moment(home: Home) -> None:
    broker = start(home, f"ENOSPC:{AT}:once", reserve_mib=1)
    try:
        with BrokerClient(home) as client:
            wait_for((home.root / reserve.NAME).exists, "it is laid by")
            for number in range(MOST_SUBMITS):
                client.call(submit_request(home, number), messages.Submitted, timeout_seconds=60)
                if not (home.root / reserve.NAME).exists():
                    break
            else:
                pytest.fail("the fault was not met")
            assert len(listed(client)) > 0
            wait_for((home.root / reserve.NAME).exists, "it is laid by again")
    finally:
        broker.terminate()
        assert broker.wait(timeout=60) == 0
