"""What is asked for by itself, by a trigger and by hand, with a real broker, watcher and worker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from tests import generations
from tests.installations import wait_for
from tests.places import ROOT, Place, place_with_broker

OFTEN = '{often = {task = "snapshot", every_hours = 0.001}}'


@pytest.fixture
def place() -> Iterator[Place]:
    with place_with_broker() as made:
        made.tell_of(generations.publish(made.home.checkpoints, 1, {"model.safetensors": b"w"}))
        yield made


def tasks(place: Place) -> list[str]:
    return [job["id"] for job in place.json("status")["background_tasks"]["recent"]]


def test_a_slot_asks_for_a_task_and_a_restart_for_none(place: Place) -> None:
    place.environment |= {"TRAINQ_SCHEDULE_ENABLED": "true", "TRAINQ_SCHEDULE_RULES": OFTEN}
    place.stop("broker")
    place.start("broker")
    place.start("snapshot")
    wait_for(lambda: len(tasks(place)) >= 2, "two slots have come", 30)
    place.stop("broker", signal.SIGKILL)
    place.start("broker")
    wait_for(lambda: len(tasks(place)) >= 4, "and two more after a kill", 30)
    events = [event["body"] for event in place_events(place) if event["type"] == "ScheduleFired"]
    assert len({event["slot"] for event in events}) == len(events)
    listed = {view["name"]: view for view in place.json("schedule", "list")["schedules"]}
    assert listed["often"]["last_job"].startswith("snapshot-")
    assert listed["retention"]["when"] == "every 6 h"
    assert listed["snapshot-daily"]["next_at"] > 0
    asked = place.json("schedule", "run", "often", "--wait")["jobs"][0]
    assert place.json("show", asked["id"])["cause"] == "schedule often, run by a person"
    place.run("schedule", "run", "never", code=66)


def place_events(place: Place) -> list[dict[str, object]]:
    out, _ = place.run("events", "--json")
    return [json.loads(line) for line in out.splitlines()]


def test_a_trigger_asks_once_also_when_the_broker_comes_later(place: Place) -> None:
    place.start("snapshot")
    place.start("watcher")
    (place.home.control / ".trigger_snapshot").touch()
    (place.home.control / ".trigger_dance").touch()
    wait_for(lambda: tasks(place) == ["snapshot-1"], "the trigger is heeded")
    assert os.listdir(place.home.control) == [".trigger_dance"]
    place.stop("broker")
    (place.home.control / ".trigger_snapshot").touch()
    wait_for(lambda: not (place.home.control / ".trigger_snapshot").exists(), "it is claimed")
    place.stop("watcher", signal.SIGKILL)
    place.start("broker")
    place.start("watcher")
    wait_for(lambda: tasks(place) == ["snapshot-2", "snapshot-1"], "the claim of a killed watcher is heeded")
    assert os.listdir(place.home.control) == [".trigger_dance"]


def test_the_inbox_is_counted_when_the_first_file_comes_and_when_the_last_has_gone(place: Place) -> None:
    place.environment["TRAINQ_WATCHER_SETTLE_SECONDS"] = "0.5"
    place.start("watcher")
    for name in ("a.jsonl", "b.jsonl"):
        (place.home.inbox / name).write_text(json.dumps({"prompt": name, "completion": "b"}) + "\n")
    wait_for(lambda: len(place.json("list")["jobs"]) == 2, "both are submitted")

    def counted() -> list[int]:
        out, _ = place.run("events", "--json")
        events = [json.loads(line) for line in out.splitlines()]
        return [event["body"]["waiting"] for event in events if event["type"] == "InboxCounted"]

    wait_for(lambda: bool(counted()) and counted()[-1] == 0, "nothing waits in the inbox")
    first, *_, last = counted()
    assert (first > 0, last) == (True, 0)


def test_the_scripts_of_cron_wait_and_say_what_they_did(place: Place) -> None:
    place.start("retention")
    done = subprocess.run([ROOT / "scripts" / "run_retention.sh"], env=place.environment, capture_output=True,
                          text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "deleted 0, freed 0.0 GB" in done.stdout
    place.start("consolidator")
    done = subprocess.run([ROOT / "scripts" / "weekly_consolidation.sh"], env=place.environment, capture_output=True,
                          text=True, check=False, timeout=60)
    assert (done.returncode, "consolidate-" in done.stdout) == (0, True), (done.stdout, done.stderr)


def test_a_consolidation_of_a_marked_head_ends_and_is_waited_for_by_nobody(place: Place) -> None:
    place.environment["TRAINQ_LORA_RANK"] = "4"
    place.tell_of(generations.publish(place.home.checkpoints, 2, {"w": b"1"}, marks=("a batch was left out",)))
    place.start("consolidator")
    said = place.json("consolidate", "--wait")["jobs"][0]
    assert (said["state"], said["result"]["summary"].partition(";")[0]) == (
        "succeeded", "put off: the state of the head is marked (a batch was left out)")
    assert place.run("wait", "--idle")[0] == "idle\n"
