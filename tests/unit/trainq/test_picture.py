"""The picture: what is said, and above all why nothing is training."""

from typing import Any

import msgspec
import pytest

from trainq import picture
from trainq.config import BrokerSettings
from trainq.jobs import JobKind, JobState
from trainq.messages import JobView, Lifecycle, Overview, Progress, ServiceView

PIDS = {name: number for number, name in enumerate(picture.SERVICES, start=100)}


def service(name: str, state: Lifecycle = Lifecycle.RUNNING, detail: str = "", age: float = 1.0) -> ServiceView:
    return ServiceView(name=name, session="s", pid=PIDS[name], state=state, detail=detail, started_at=900.0,
                       age_seconds=age)


def job(**changes: Any) -> JobView:
    fields: dict[str, Any] = {
        "id": "train-1", "number": 1, "kind": JobKind.TRAIN, "state": JobState.QUEUED, "name": "a.jsonl",
        "priority": "normal", "origin": "people", "digest": "d", "size_bytes": 1, "prepared": True, "rows": 1,
        "tokens": 1, "attempts": 0, "failures": 0, "submitted_at": 0.0, "started_at": None, "ended_at": None,
        "retry_at": 0.0, "reason": "", "cancel_reason": None, "result": None, **changes}
    return JobView(**fields)


def overview(**changes: Any) -> Overview:
    fields: dict[str, Any] = {
        "journal_id": "j", "seq": 7, "at": 999.0, "paused_reason": None, "counts": {}, "running": [], "waiting": [],
        "waiting_reason": "the queue is empty", "generation": 1, "checkpoint": "g", "step": 0,
        "services": [service(name) for name in picture.SERVICES], **changes}
    return Overview(**fields)


def fold(of: Overview | None, age: float | None = 0.5, dead: str = "") -> picture.StatusPicture:
    return picture.fold(of, overview_age_seconds=age, now_wall=1000.0, silent_after_seconds=10.0,
                        is_alive=lambda pid: pid != PIDS.get(dead))


def without(name: str, *others: ServiceView) -> list[ServiceView]:
    return [service(other) for other in picture.SERVICES if other != name] + list(others)


RUNNING = job(state=JobState.RUNNING, progress=Progress(step=3, steps=10, loss=1.25))


@pytest.mark.parametrize(("of", "age", "dead", "words"), [
    (None, None, "", "the broker has not been heard of"),
    (overview(), 12.0, "", "not answered for 12 s"),
    (overview(), 3.0, "broker", "not answered for 3 s"),
    (overview(services=without("trainer", service("trainer", age=61.5))), 0.5, "",
     "the trainer has not been heard of for 62 s: supervisorctl restart trainer"),
    (overview(waiting=[job(prepared=False)], services=without("preparer", service("preparer", age=61.5))), 0.5, "",
     "train-1 waits to be prepared and the preparer has not been heard of for 62 s: supervisorctl restart preparer"),
    (overview(), 0.5, "trainer", "the trainer is not running"),
    (overview(services=without("trainer")), 0.5, "", "the trainer has not been heard of yet"),
    (overview(services=without("trainer", service("trainer", Lifecycle.STOPPED))), 0.5, "", "trainer is not running"),
    (overview(services=without("trainer", service("trainer", Lifecycle.ERROR, "no GPU"))), 0.5, "", "ERROR: no GPU"),
    (overview(), 0.5, "", "the queue is empty"),
    (overview(waiting=[job(prepared=False)]), 0.5, "preparer", "the preparer is DEAD"),
    (overview(waiting=[job(prepared=False)], waiting_reason="it is being prepared"), 0.5, "", "being prepared"),
    (overview(marks=("a batch was left out",)), 0.5, "", "the queue is empty; g is marked: a batch was left out"),
    (overview(running=[RUNNING], waiting_reason=""), 0.5, "", "training train-1 (a.jsonl): step 3 of 10, loss 1.250"),
])
def test_why(of: Overview | None, age: float | None, dead: str, words: str) -> None:
    assert words in fold(of, age, dead).why


def test_training_is_said_only_when_it_is_so() -> None:
    busy = overview(running=[RUNNING])
    assert fold(busy).training
    assert not fold(busy, dead="trainer").training
    assert not fold(busy, age=60.0).training
    assert not fold(overview(running=[msgspec.structs.replace(RUNNING, kind=JobKind.PREPARE)])).training


def test_every_expected_service_is_listed_with_its_age() -> None:
    shown = fold(overview(services=without("watcher")), age=2.0, dead="status")
    states = {one.name: one.state for one in shown.services}
    assert states == {"broker": "RUNNING", "watcher": "ABSENT", "preparer": "RUNNING", "trainer": "RUNNING",
                      "snapshot": "RUNNING", "retention": "RUNNING", "consolidator": "RUNNING", "status": "DEAD"}
    broker = shown.services[0]
    assert (broker.age_seconds, broker.uptime_seconds) == (3.0, 100.0)


def test_a_stopped_process_is_stopped_and_not_dead() -> None:
    shown = fold(overview(services=without("watcher", service("watcher", Lifecycle.STOPPED))), dead="watcher")
    assert {one.name: one.state for one in shown.services}["watcher"] == "STOPPED"


def states(of: Overview, age: float = 0.5, dead: str = "") -> dict[str, str]:
    return {one.name: one.state for one in fold(of, age, dead).services}


def test_a_living_process_that_is_not_heard_of_is_silent() -> None:
    hung = overview(services=without("trainer", service("trainer", age=10.5)), running=[RUNNING])
    assert states(hung)["trainer"] == "SILENT"
    assert not fold(hung).training
    assert states(hung, dead="trainer")["trainer"] == "DEAD"
    assert states(overview(services=without("trainer", service("trainer", age=10.0))))["trainer"] == "RUNNING"
    stopped = overview(services=without("trainer", service("trainer", Lifecycle.STOPPED, age=1e6)))
    assert states(stopped)["trainer"] == "STOPPED"


def test_a_broker_that_hangs_makes_only_itself_silent() -> None:
    found = states(overview(), age=60.0)
    assert found.pop("broker") == "SILENT"
    assert set(found.values()) == {"RUNNING"}


def test_a_process_is_silent_no_earlier_than_its_lease_is_taken() -> None:
    assert picture.silent_after(BrokerSettings(lease_seconds=30, heartbeat_seconds=5)) == 30
    assert picture.silent_after(BrokerSettings(lease_seconds=1, heartbeat_seconds=5)) == 10
