"""The picture: what is said, and above all why nothing is training."""

import msgspec
import pytest

from tests.pictures import RUNNING, fold, job, learning, overview, service
from trainq import picture
from trainq.config import BrokerSettings
from trainq.figures import (
    Ages,
    Alarm,
    Cpu,
    Expected,
    Generation,
    Life,
    Measured,
    Observations,
    ServiceError,
    SnapshotFigure,
)
from trainq.gpu import Device, Devices
from trainq.jobs import JobKind
from trainq.messages import Lifecycle, Overview, PauseCause, ServiceView


def without(name: str, *others: ServiceView) -> list[ServiceView]:
    return [service(other) for other in picture.SERVICES if other != name] + list(others)


GIVEN_UP, DISABLED, HINDERED, LENT, WAITING, NO_CAUSE = (
    msgspec.structs.replace(service("trainer", Lifecycle.PAUSED, "ended five times"), cause=cause)
    for cause in (PauseCause.GIVEN_UP, PauseCause.DISABLED, PauseCause.HINDERED, PauseCause.LENT, PauseCause.WAITING,
                  None))


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
    (overview(pause="quiet hours until 6", services=without("trainer", GIVEN_UP)), 0.5, "", "PAUSED: ended five times"),
    (overview(stop="a stop", services=without("trainer", DISABLED)), 0.5, "", "PAUSED: ended five times"),
    (overview(pause="quiet hours until 6", services=without("trainer", HINDERED)), 0.5, "", "PAUSED: ended five times"),
    (overview(pause="quiet hours until 6", services=without("trainer", LENT)), 0.5, "", "quiet hours until 6"),
    (overview(pause="quiet hours until 6", services=without("trainer", WAITING)), 0.5, "", "quiet hours until 6"),
    (overview(pause="quiet hours until 6", services=without("trainer", NO_CAUSE)), 0.5, "", "quiet hours until 6"),
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
                      "snapshot": "RUNNING", "retention": "RUNNING", "consolidator": "RUNNING", "evaluator": "RUNNING",
                      "datagen": "RUNNING", "status": "DEAD", "web": "RUNNING"}
    broker = shown.services[0]
    assert (broker.age_seconds, broker.uptime_seconds) == (3.0, 100.0)
    causes = {one.name: one.cause for one in fold(overview(services=without("trainer", GIVEN_UP))).services}
    assert (causes["trainer"], causes["watcher"]) == (PauseCause.GIVEN_UP, None)


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


ERROR = ServiceError(at=990.0, text="turn_failed: no room")
OBSERVED = Observations(
    session="life", n=4, lives={"trainer": Life(session="s", restarts=2, memory_bytes=5 << 20, last_error=ERROR)},
    machine_at=998.0, cpu=Cpu(processors=2, percent=50.0, load=(1.0, 2.0, 3.0), memory_total_bytes=9,
                              memory_available_bytes=3),
    gpu_at=995.0, gpu=Devices(devices=(Device(index=0, name="H100"),)), copies_at=990.0,
    generations=(Generation(name="g", generation=1, step=0, at=900.0),),
    snapshots=(SnapshotFigure(name="g", generation=1, step=0, at=950.0),),
    expected=Expected(job="train-1", ends_at=(1010.0, 1020.0)),
    measured=Measured(tokens_per_second=(1.0, 2.0)),
    alarms=(Alarm(code="head_marked", subject="g", level="warn", text="t", mend="m", since=5.0),))


def test_what_was_observed_is_in_the_picture_with_its_age() -> None:
    shown = fold(overview(running=[RUNNING], marks=("x",), learning=learning()), observed=OBSERVED)
    assert shown.ages == Ages(broker=0.5, progress=1.5, machine=2.0, gpu=5.0, copies=10.0, checkpoint=100.0,
                              evaluation=30.0)
    assert shown.learning == learning()
    trainer = next(each for each in shown.services if each.name == "trainer")
    assert (trainer.restarts, trainer.memory_bytes, trainer.last_error) == (2, 5 << 20, ERROR)
    job_now = shown.running_job
    assert job_now is not None
    assert (job_now.job, job_now.step, job_now.steps, job_now.ends_at, job_now.checkpoint_at) == (
        "train-1", 3, 10, (1010.0, 1020.0), 900.0)
    assert shown.alarms[0].since == 5.0
    assert (shown.session, shown.n) == ("life", 4)


def test_a_picture_tells_the_next_life_all_that_was_observed() -> None:
    of = overview(running=[RUNNING], marks=("x",))
    again = picture.observations_of(fold(of, observed=OBSERVED))
    assert fold(of, observed=again) == fold(of, observed=OBSERVED)


def test_memory_is_that_of_the_life_that_was_measured() -> None:
    views = without("trainer", msgspec.structs.replace(service("trainer"), session="another"))
    shown = fold(overview(services=views), observed=OBSERVED)
    assert next(each for each in shown.services if each.name == "trainer").memory_bytes is None


def test_who_is_paused_ends_nobody_knows_when() -> None:
    shown = fold(overview(running=[RUNNING], pause="the queue is paused: lunch", waiting=[job(id="train-2")],
                          planned_tokens={"train-2": 10}), observed=OBSERVED)
    assert shown.running_job is not None
    assert shown.running_job.ends_at is None
    assert [(each.why, each.starts_at) for each in shown.waiting] == [("the queue is paused: lunch", None)]


def test_the_waiting_have_their_place_and_moments() -> None:
    shown = fold(overview(running=[RUNNING], waiting=[job(id="train-2"), job(id="train-3", prepared=False)],
                          planned_tokens={"train-2": 10}, waiting_reason=""), observed=OBSERVED)
    assert [(each.position, each.why, each.starts_at) for each in shown.waiting] == [
        (1, "next", (1010, 1020)), (2, "to be prepared", None)]
    without_trainer = fold(overview(waiting=[job(id="train-2")]), dead="trainer", observed=OBSERVED)
    assert without_trainer.waiting[0].why == "the trainer is not up"


def test_a_status_json_of_version_1_can_be_read() -> None:
    document = msgspec.to_builtins(fold(overview(waiting=[job()])))
    first = {name: document[name] for name in (
        "at", "journal_id", "seq", "training", "why", "broker_age_seconds", "paused_reason", "counts", "running",
        "generation", "checkpoint", "step")}
    services = [{name: each[name] for name in ("name", "pid", "state", "detail", "uptime_seconds", "age_seconds")}
                for each in document["services"]]
    waiting = [{name: each[name] for name in document["waiting"][0]
                if name not in ("position", "why", "starts_at", "ends_at")} for each in document["waiting"]]
    read = msgspec.convert({**first, "v": 1, "services": services, "waiting": waiting}, picture.StatusPicture)
    assert picture.observations_of(read).machine_at is None
