"""The services under a real supervisord: steered, dead and seen so, hanging and started again, resting."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import orjson
import pytest

from installations import Installation, wait_for
from trainq import locks, picture, supervising
from trainq.service import ends

pytestmark = pytest.mark.slow

# What takes 30 seconds in life.
SETTINGS = {"TRAINQ_BROKER_LEASE_SECONDS": "4", "TRAINQ_BROKER_HEARTBEAT_SECONDS": "2", "TRAINQ_TRAIN_THREADS": "1"}


def shown(installation: Installation, name: str) -> dict[str, Any]:
    """What ``status.json`` says of a service; empty while there is none."""
    try:
        services = orjson.loads(installation.home.status_file.read_bytes())["services"]
    except (OSError, orjson.JSONDecodeError):
        return {}
    return next(service for service in services if service["name"] == name)


def said(installation: Installation, hung: str) -> str:
    """The alarm for a service that hung; empty if there is none."""
    alarms = orjson.loads(installation.home.status_file.read_bytes())["alarms"]
    return next((alarm["text"] for alarm in alarms if (alarm["code"], alarm["subject"]) == ("service_hung", hung)), "")


def state(installation: Installation, name: str) -> str:
    return str(shown(installation, name).get("state"))


def begin(installation: Installation, **settings: str) -> None:
    installation.settings = {**SETTINGS, **settings}
    installation.start()
    until_known(installation)


def until_known(installation: Installation) -> None:
    for name in picture.SERVICES:
        wait_for(lambda name=name: state(installation, name) in ("RUNNING", "PAUSED"), f"{name} is heard of", 120)


def listed(installation: Installation) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in installation.json("services", "list")["services"]}


def logged(installation: Installation, service: str, event: str) -> list[dict[str, Any]]:
    lines = (installation.home.logs / f"{service}.log").read_bytes().splitlines()
    return [line for line in map(orjson.loads, lines) if line["event"] == event]


def test_services_are_steered_by_hand(installation: Installation) -> None:
    begin(installation, TRAINQ_SERVICES_PROFILE="minimal")
    known = listed(installation)
    assert {each["program"] for each in known.values()} == {"RUNNING"}
    assert known["preparer"]["state"] == "RUNNING"
    assert known["preparer"]["memory_bytes"] > 10_000_000
    for outside in ("snapshot", "retention", "consolidator", "evaluator", "datagen"):
        assert known[outside]["state"] == "PAUSED"
        assert "not in profile" in known[outside]["note"]

    before = installation.pid("preparer")
    installation.trainq("services", "restart", "preparer")
    assert installation.pid("preparer") not in (0, before)
    installation.trainq("services", "stop", "preparer", "trainer")
    stopped = listed(installation)
    assert [stopped[name]["program"] for name in ("preparer", "trainer", "watcher")] == [
        "STOPPED", "STOPPED", "RUNNING"]
    wait_for(lambda: state(installation, "preparer") == "STOPPED", "it has said goodbye")
    installation.trainq("services", "start", "--profile", "minimal")
    assert {each["program"] for each in listed(installation).values()} == {"RUNNING"}
    assert installation.trainq("services", "stop", "nobody", expect=66).stderr.count("there are broker, ") == 0

    # A pause needs no broker and outlives it; what is submitted waits.
    installation.trainq("services", "pause", "preparer", "--reason", "lunch")
    wait_for(lambda: state(installation, "preparer") == "PAUSED", "the preparer rests")
    assert shown(installation, "preparer")["detail"] == "control/.pause-preparer is there: lunch"
    job = installation.submit_rows("a.jsonl", 8)
    installation.trainq("services", "restart", "broker", "preparer")
    wait_for(lambda: state(installation, "preparer") == "PAUSED", "it still does")
    assert installation.json("show", job)["job"]["state"] == "queued"
    installation.trainq("services", "resume", "preparer")
    installation.trainq("wait", job)
    installation.trainq("services", "pause", "trainer")
    wait_for(lambda: "paused" in str(installation.json("why")["why"]), "training is paused")
    installation.trainq("services", "resume", "trainer")
    assert "lease_taken" in installation.trainq("logs", job, "-n", "500").stdout
    assert list((installation.home.logs / "jobs").glob(f"{job}.1.trainer.first.log"))


def test_a_dead_process_shows_dead_within_ten_seconds(shared: Installation) -> None:
    until_known(shared)
    pid = shared.pid("preparer")
    # Nothing can take its place: the lock is ours as soon as it has died.
    os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    lock = _take(shared)
    wait_for(lambda: state(shared, "preparer") == "DEAD", "it is shown dead", 10.0)
    assert time.monotonic() - began < 10.0
    # One that is slow to find that the lock is taken is RUNNING for a moment.
    wait_for(lambda: listed(shared)["preparer"]["program"] in ("BACKOFF", "STARTING", "EXITED"), "as supervisord says")
    lock.release()
    wait_for(lambda: state(shared, "preparer") == "RUNNING", "it is back")
    # And one that supervisord is told to leave dead.
    shared.supervisor.stop("snapshot")
    wait_for(lambda: state(shared, "snapshot") in ("STOPPED", "DEAD"), "it is shown so", 10.0)
    shared.supervisor.start("snapshot")


def _take(installation: Installation) -> locks.Lock:
    def taken() -> locks.Lock | None:
        try:
            return locks.acquire_lock(installation.home.run / "preparer.lock", "preparer")
        except Exception:
            return None

    lock = wait_for(taken, "its lock is free", 10.0)
    assert isinstance(lock, locks.Lock)
    return lock


def test_one_that_lives_and_does_not_go_on_is_started_again(shared: Installation) -> None:
    until_known(shared)
    shared.trainq("services", "pause", "preparer")
    wait_for(lambda: state(shared, "preparer") == "PAUSED", "the preparer rests")
    before = set(shared.home.data.glob("??/*"))
    job = shared.submit_rows("hangs.jsonl", 8)
    # A pipe in place of what it reads: to open it waits for a writer that never comes.
    (content,) = set(shared.home.data.glob("??/*")) - before
    content.rename(shared.folder / "content")
    os.mkfifo(content)
    pids = {name: shared.pid(name) for name in ("broker", "preparer", "status")}
    until_seen(shared, *pids)
    shared.trainq("services", "resume", "preparer")
    prepared = job.replace("train", "prepare")
    wait_for(lambda: [line for line in logged(shared, "preparer", "lease_taken") if line["job"] == prepared],
             "the preparer is stuck")
    os.kill(pids["broker"], signal.SIGSTOP)
    for name in ("broker", "preparer"):
        until_started_again(shared, name, pids[name], by="status")

    # A loop that is stuck leaves its stacks, and that counts as its own doing.
    (told, *_) = wait_for(lambda: [line["stacks"] for line in logged(shared, "preparer", "earlier_life_crashed")
                                   if line["stacks"].startswith("Fatal Python error: Aborted")], "its stacks are kept")
    assert "preparing.py" in told
    (shared.folder / "content").rename(content)
    shared.kill("preparer")  # stuck again, and its start may take its time
    shared.trainq("wait", job)

    until_seen(shared, "status")
    os.kill(pids["status"], signal.SIGSTOP)
    until_started_again(shared, "status", pids["status"], by="watcher")


def until_seen(installation: Installation, *names: str) -> None:
    """Whoever watches has seen them go on."""
    def sign(name: str) -> int:
        return (installation.home.run / f"{name}.lock").stat().st_mtime_ns

    first = {name: sign(name) for name in names}
    wait_for(lambda: all(sign(name) > at + 4_000_000_000 for name, at in first.items()), "they give signs")


def until_started_again(installation: Installation, name: str, pid: int, by: str) -> None:
    wait_for(lambda: installation.pid(name) not in (0, pid), f"{name} is started again", 60)
    wait_for(lambda: state(installation, name) == "RUNNING", "it works")
    wait_for(lambda: "it is started again" in (said(installation, name) or str(shown(installation, by).get("detail"))),
             "it is said")
    told = next(event for event in logged(installation, by, "service_hangs") if event["hung_pid"] == pid)
    assert (told["hung"], told["level"]) == (name, "error")


def test_one_that_always_ends_by_itself_rests_until_it_is_restarted(shared: Installation) -> None:
    until_known(shared)
    # Four times is written down, the fifth is a real one.
    shared.trainq("services", "stop", "preparer")
    before = ends.Ends(own=ends.MOST_OWN - 1, reason="exit 70")
    ends.Record(shared.home.run, "preparer").put(before)
    shared.supervisor.start("preparer")
    wait_for(lambda: shown(shared, "preparer")["detail"].startswith("it has ended by itself"), "it waits")
    os.kill(shared.pid("preparer"), signal.SIGSEGV)
    wait_for(lambda: "it has ended 5 times by its own doing" in str(shown(shared, "preparer")["detail"]),
             "it rests")
    assert state(shared, "preparer") == "PAUSED"
    rested = len(logged(shared, "preparer", "paused_by_itself"))
    shared.kill("preparer")  # nobody's decision
    wait_for(lambda: len(logged(shared, "preparer", "paused_by_itself")) == rested + 1, "it still rests")
    shared.kill("preparer")
    # A life that is ended before it has begun does not know of the order; it is a new beginning all the same.
    shared.trainq("services", "restart", "preparer")
    wait_for(lambda: state(shared, "preparer") == "RUNNING", "it works")
    shared.trainq("wait", shared.submit_rows("rests.jsonl", 8))


def test_supervisord_away_is_said(installation: Installation) -> None:
    assert "scripts/up" in installation.trainq("services", "restart", "all", expect=69).stderr
    assert supervising.ANSWER_SECONDS < 5
