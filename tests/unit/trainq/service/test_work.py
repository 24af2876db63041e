"""The ends of leases, with a real broker and a worker in a process of its own."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.installations import wait_for
from tests.places import Place, place_with_broker
from trainq import ingest, messages
from trainq.client import BrokerClient
from trainq.ids import new_request_id
from trainq.jobs import JobKind
from trainq.messages import GenerateTask, JobDetail, ShowJob, TaskResult

WORKER = """
import sys
from trainq import messages
from trainq.jobs import JobKind
from trainq.messages import TaskResult
from trainq.service import Worker, run, take_{sort}

class Wrong(Worker):
    def work(self, held):
        print(held.lease.token, flush=True)
        return {result}

take = lambda peer: take_{sort}(peer, (JobKind.{kind},))
sys.exit(run("{name}", lambda process: Wrong(process, b"event.TaskSubmitted", take).serve()))
"""


@pytest.fixture
def place() -> Iterator[Place]:
    with place_with_broker() as made:
        yield made


def working(place: Place, sort: str, kind: JobKind, result: object) -> subprocess.Popen[str]:
    code = WORKER.format(sort=sort, kind=kind.name, name="tester", result=result)
    return subprocess.Popen([sys.executable, "-c", code], env=place.environment, stdout=subprocess.PIPE, text=True)


def types(place: Place, job: str) -> list[str]:
    return [event["type"] for event in place.events(job)]


def generate(place: Place) -> str:
    with BrokerClient(place.home) as client:
        return client.call(messages.SubmitTask(request_id=new_request_id(), task=GenerateTask(
            generator="syllo", name="syllo", count=5, level=2, seed=7)), messages.Accepted).job


def submit(place: Place) -> None:
    source = place.home.root / "a.jsonl"
    source.write_bytes(b'{"text":"a"}\n')
    stored = ingest.store_file(place.home, source)
    with BrokerClient(place.home) as client:
        client.call(messages.Submit(request_id=new_request_id(), items=[messages.SubmitItem(
            request_id=new_request_id(), name="a.jsonl", digest=stored.digest, size_bytes=stored.size_bytes)]),
            messages.Submitted)


def test_a_task_whose_result_is_refused_for_good_fails_in_the_brokers_words(place: Place) -> None:
    job = generate(place)
    with working(place, "task", JobKind.GENERATE, TaskResult(summary="made", facts={"file": "x"})) as worker:
        try:
            wait_for(lambda: "JobFailed" in types(place, job), "it fails")
        finally:
            worker.terminate()
    assert types(place, job).count("LeaseGranted") == 1
    with BrokerClient(place.home) as client:
        told = client.call(ShowJob(request_id=new_request_id(), job=job), JobDetail).job
    assert told.reason.startswith("the broker refused the result: generate-1: its result is not that of its kind")


def test_a_preparation_whose_result_is_refused_for_good_counts_as_an_attempt(place: Place) -> None:
    submit(place)
    with working(place, "lease", JobKind.PREPARE, TaskResult(summary="done")) as worker:
        try:
            wait_for(lambda: "AttemptFailed" in types(place, "prepare-1"), "the attempt ends")
        finally:
            worker.terminate()
    (failed,) = [event["body"] for event in place.events("prepare-1") if event["type"] == "AttemptFailed"]
    assert failed["counts"]
    assert "prepare-1 is a preparation; it cannot be completed with a TaskResult" in failed["reason"]


def test_a_result_whose_file_is_to_be_stored_again_is_no_failure(place: Place) -> None:
    job = generate(place)
    result = TaskResult(summary="made", facts={"file": {"name": "x.jsonl", "digest": "0" * 64, "size_bytes": 3}})
    with working(place, "task", JobKind.GENERATE, result) as worker:
        assert worker.stdout is not None
        try:
            tokens = [worker.stdout.readline() for _ in range(2)]
        finally:
            worker.terminate()
    assert tokens[0] == tokens[1] != ""
    assert "JobFailed" not in types(place, job)
