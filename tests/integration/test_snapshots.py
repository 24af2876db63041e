"""Snapshots by real processes: broker, worker and command line; killed, cancelled and lied to."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import generations
from tests.installations import wait_for
from tests.places import Place, place_with_broker
from trainq import files, objects, snapshots

MIB = 1 << 20


@pytest.fixture
def place() -> Iterator[Place]:
    with place_with_broker() as made:
        yield made


def publish(place: Place, generation: int, *, mib: int = 1) -> str:
    """A sealed generation of so many MiB; half of it is the same in all."""
    name = generations.publish(place.home.checkpoints, generation, {
        "model.safetensors": os.urandom(mib * MIB // 2), "optimizer.safetensors": bytes(mib * MIB // 2)})
    place.tell_of(name)
    return name


def names(place: Place) -> list[str]:
    return [entry["snapshot"] for entry in place.json("snapshot", "list")["snapshots"]]


def test_a_generation_of_which_the_broker_is_to_hear_in_a_moment_is_waited_for(place: Place) -> None:
    place.start("snapshot")
    made = generations.publish(place.home.checkpoints, 9, {"model.safetensors": b"w"})
    job = place.json("snapshot", "create", "--generation", made)["job"]
    wait_for(lambda: place.json("show", job)["job"]["state"] == "running", "it is begun")
    place.tell_of(made)
    assert place.json("wait", job)["jobs"][0]["state"] == "succeeded"
    assert names(place) == [made]


def test_snapshots_are_taken_proven_listed_and_exported(place: Place, tmp_path: Path) -> None:
    place.start("snapshot")
    first = publish(place, 9)
    assert place.json("snapshot", "create", "--wait")["jobs"][0]["result"]["facts"]["snapshot"] == first
    second = publish(place, 10)
    created = place.json("snapshot", "create", "--wait")["jobs"][0]
    assert created["result"]["facts"]["shared_bytes"] == MIB // 2
    assert names(place) == [second, first]
    assert place.json("snapshot", "verify", "--wait")["jobs"][0]["result"]["summary"] == "2 snapshots are whole"
    shown = place.json("snapshot", "show", second)
    assert (shown["parent"], shown["checkpoint"]["generation"]) == (first, 10)
    place.json("snapshot", "export", second, str(tmp_path / "out"))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model.safetensors"]
    tasks = place.json("status")["background_tasks"]
    assert (tasks["queue_size"], tasks["running"], len(tasks["recent"])) == (0, [], 3)


def test_damage_is_told(place: Place) -> None:
    place.start("snapshot")
    name = publish(place, 1)
    place.json("snapshot", "create", "--wait")
    kept = snapshots.read(place.home.snapshots / name).manifest.files["model.safetensors"]
    with objects.path_of(place.home.snapshots, kept.blake3).open("r+b") as stream:
        stream.write(b"damage")
    out, _ = place.run("snapshot", "verify", "--wait", "--json", code=1)
    assert "model.safetensors" in out
    place.run("snapshot", "export", name, str(place.home.root / "out"), code=74)
    assert not (place.home.root / "out").exists()
    assert place.json("snapshot", "create", "--wait")["jobs"][0]["result"]["facts"]["copied_bytes"] == MIB // 2
    assert place.json("snapshot", "verify", "--wait")["jobs"][0]["state"] == "succeeded", "it is healed"


def test_a_worker_killed_in_the_middle_goes_on(place: Place) -> None:
    place.environment["TRAINQ_MAINTENANCE_MIB_PER_SECOND"] = "8"
    name = publish(place, 1, mib=16)
    place.start("snapshot")
    job = place.json("snapshot", "create")["job"]

    def is_copying() -> bool:
        return any((place.home.snapshots / objects.FOLDER).rglob(f"{files.TEMPORARY_PREFIX}*"))

    wait_for(is_copying, "it copies")
    place.stop("snapshot", signal.SIGKILL)
    assert names(place) == []
    place.environment["TRAINQ_MAINTENANCE_MIB_PER_SECOND"] = "0"
    place.start("snapshot")
    assert place.json("wait", job)["jobs"][0]["state"] == "succeeded"
    assert place.json("snapshot", "verify", name, "--wait")["jobs"][0]["state"] == "succeeded"
    assert not is_copying(), "what the killed one left is swept"


def test_one_that_is_cancelled_leaves_nothing_half_done(place: Place) -> None:
    place.environment["TRAINQ_MAINTENANCE_MIB_PER_SECOND"] = "4"
    publish(place, 1, mib=64)
    place.start("snapshot")
    job = place.json("snapshot", "create")["job"]
    wait_for(lambda: place.json("show", job)["job"]["state"] == "running", "it runs")
    waiting = place.json("snapshot", "create")["job"]
    tasks = place.json("status")["background_tasks"]
    assert (tasks["queue_size"], [task["id"] for task in tasks["running"]]) == (1, [job])
    for each in (waiting, job):
        place.json("cancel", each)
    place.run("wait", job, waiting, code=1)
    assert place.json("show", job)["job"]["state"] == "cancelled"
    assert names(place) == []
    assert list(place.home.snapshots.rglob(f"{files.TEMPORARY_PREFIX}*")) == []


def test_without_a_generation_there_is_nothing_to_copy(place: Place) -> None:
    place.start("snapshot")
    job = place.json("snapshot", "create")["job"]
    wait_for(lambda: bool(place.json("show", job)["job"]["reason"]), "it has failed once")
    assert "no generation" in place.json("show", job)["job"]["reason"]


def test_they_are_copied_elsewhere_and_proven_there(place: Place, tmp_path: Path) -> None:
    place.start("snapshot")
    first, second = publish(place, 1), publish(place, 2)
    for name in (first, second):
        place.json("snapshot", "create", "--generation", name, "--wait")
    mirror = tmp_path / "mirror"
    one = place.json("snapshot", "copy", str(mirror), second, "--wait")["jobs"][0]["result"]["facts"]
    assert one["copied_bytes"] >= MIB
    rest = place.json("snapshot", "copy", str(mirror), "--wait")["jobs"][0]["result"]["facts"]
    assert rest["there_bytes"] >= MIB // 2
    for name in (first, second):
        assert snapshots.verify(mirror, name, lambda _: None) == []
    place.run("snapshot", "copy", "nowhere://at/all", "--wait", code=1)
