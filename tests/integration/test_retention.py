"""Retention by real processes: plan, apply, trash, undelete, pins; killed at every instant, nothing needed goes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from tests import generations
from tests.installations import wait_for
from tests.places import Place, place_with_broker
from trainq import checkpoints, crashpoints, ingest, manifests, objects, snapshots


@pytest.fixture
def place() -> Iterator[Place]:
    with place_with_broker(TRAINQ_RETENTION_CHECKPOINTS_LAST="2", TRAINQ_RETENTION_SNAPSHOTS_LAST="1",
                           TRAINQ_RETENTION_SNAPSHOTS_DAILY="0", TRAINQ_RETENTION_SNAPSHOTS_WEEKLY="0") as made:
        yield made


def publish(place: Place, *numbers: int) -> list[str]:
    """Generations, each after the one before, with a snapshot of each; the last one is the head. All there are now."""
    names = left(place.home.checkpoints)
    for number in numbers:
        parent = names[-1] if names else ""
        name = generations.publish(
            place.home.checkpoints, number, {"model.safetensors": b"%d" % number, "same": b"same"}, base=parent,
            parent=parent, job=f"train-{number}")
        snapshots.create(place.home.snapshots, place.home.checkpoints / name, jobs=b"", job_count=0,
                         created_at=float(number), created_by="test", on_chunk=lambda _: None)
        names.append(name)
    place.tell_of(names[-1])
    return names


def left(folder: Path) -> list[str]:
    return [path.name for path in checkpoints.list_generations(folder)][::-1]


def apply(place: Place) -> dict[str, object]:
    (job,) = place.json("retention", "apply", "--wait")["jobs"]
    assert job["state"] == "succeeded", job
    facts: dict[str, object] = job["result"]["facts"]
    return facts


def test_the_plan_is_what_apply_does_and_all_of_it_can_be_had_back(place: Place) -> None:
    names = publish(place, 1, 2, 3, 4, 10)
    place.json("retention", "pin", names[0], "--reason", "for the paper")
    place.json("snapshot", "pin", names[1])
    plan = place.json("retention", "plan")
    reasons = {(each["item"]["store"], each["item"]["name"]): each["reasons"][0] for each in plan["copies"]}
    assert reasons["checkpoints", names[0]] == "pinned: for the paper"
    assert reasons["checkpoints", names[3]].startswith("the generation before")
    assert reasons["snapshots", names[4]] == "the newest snapshot"
    going = [f"{each['item']['store']}/{each['item']['name']}" for each in plan["copies"] if not each["keep"]]
    assert left(place.home.checkpoints) == names, "a plan changes nothing"
    place.start("retention")
    assert sorted(apply(place)["removed"]) == sorted(going) != []  # type: ignore[arg-type]  # strings
    assert left(place.home.checkpoints) == [names[0], *names[3:]]
    assert left(place.home.snapshots) == [names[1], names[4]]
    trash = place.json("retention", "trash")["trash"]
    assert sorted(f"{each['store']}/{each['name']}" for each in trash) == sorted(going)
    for each in trash:
        (job,) = place.json("retention", "undelete", str(each["removal"]), "--wait")["jobs"]
        assert job["state"] == "succeeded", job
    assert left(place.home.checkpoints) == left(place.home.snapshots) == names
    for name in names:
        checkpoints.verify(place.home.checkpoints / name)
        assert snapshots.verify(place.home.snapshots, name, lambda _: None) == []
    place.run("retention", "undelete", str(trash[0]["removal"]), "--wait", code=1)


def test_the_trash_is_emptied_when_its_time_is_over(place: Place) -> None:
    place.environment["TRAINQ_RETENTION_TRASH_HOURS"] = "0"
    names = publish(place, 1, 2, 3)
    place.start("retention")
    assert apply(place)["purged"] == 0
    done = apply(place)
    assert done["purged"] == 3
    assert list(place.home.trash.iterdir()) == []
    assert place.json("retention", "trash")["trash"] == []
    kept = snapshots.read(place.home.snapshots / names[2]).manifest.files.values()
    left = [path.name for path in (place.home.snapshots / objects.FOLDER).glob("*/*")]
    assert sorted(left) == sorted({record.blake3 for record in kept})


def test_nothing_older_goes_while_the_newest_do_not_verify(place: Place) -> None:
    names = publish(place, 1, 2, 3, 4)
    with (place.home.checkpoints / names[3] / "model.safetensors").open("r+b") as stream:
        stream.write(b"?")
    place.start("retention")
    (job,) = place.json("retention", "apply", "--wait", code=1)["jobs"]
    assert (job["state"], "do not verify" in job["reason"]) == ("failed", True)
    assert left(place.home.checkpoints) == names


def test_content_that_no_job_names_goes_after_a_day_and_old_shards_do(place: Place, tmp_path: Path) -> None:
    """Killed between the decision and the deletion, the next life of the worker makes it true."""
    publish(place, 1, 2)
    place.environment |= {"TRAINQ_RETENTION_SHARD_DAYS": "1", crashpoints.PLANS_KEY: str(tmp_path)}
    files = {}
    for name in ("old", "new", "named"):
        (tmp_path / name).write_text(orjson.dumps({"prompt": name, "completion": name}).decode() + "\n")
        if name == "named":
            place.run("submit", str(tmp_path / name))
        files[name] = ingest.data_path(place.home, ingest.store_file(place.home, tmp_path / name).digest)
    for name in ("old", "named"):
        os.utime(files[name], (1.0, 1.0))
    foreign = place.home.cache / "mine"
    foreign.mkdir()
    (foreign / manifests.MANIFEST_NAME).write_bytes(b"{}")
    os.utime(foreign / manifests.MANIFEST_NAME, (0.0, 0.0))
    for number in range(10):
        shard = place.home.cache / f"shard-{number}"
        shard.mkdir()
        manifests.write(shard, "shard", {}, {})
        os.utime(shard / manifests.MANIFEST_NAME, (float(number + 1), float(number + 1)))

    plan = tmp_path / "retention.files.remove"
    plan.write_bytes(crashpoints.plan(1, 1))
    place.start("retention")
    job = place.json("retention", "apply")["job"]
    place.wait_end("retention")
    assert (plan.exists(), files["old"].exists()) == (False, True)
    # In the middle of it a submit of the very content is told to send it again, until that is over.
    late = place.json("submit", str(tmp_path / "old"), code=75)["receipts"][0]
    assert late["error"]["code"] == "send_again"
    place.start("retention")
    assert place.json("wait", job)["jobs"][0]["state"] == "succeeded"
    assert place.json("submit", str(tmp_path / "old"))["receipts"][0]["state"] == "queued"
    assert all(path.exists() for path in files.values())
    assert sorted(path.name for path in place.home.cache.iterdir()) == [
        "mine", *(f"shard-{number}" for number in range(2, 10))]
    events, _ = place.run("events", "--json")
    assert [event for event in map(orjson.loads, events.splitlines()) if event["type"] == "DataGone"]


def test_killed_at_every_instant_it_comes_to_the_same_end(place: Place, tmp_path: Path) -> None:
    """A round a kill; each is decided, moved and journalled, or not at all, and the next one goes on from there."""
    place.environment |= {"TRAINQ_RETENTION_TRASH_HOURS": "0", crashpoints.PLANS_KEY: str(tmp_path)}
    place.start("retention")
    newest, kills, killed = 2, 0, 0
    names = publish(place, 1, 2)
    for point in ("files.rename", "files.renamed", "files.remove", "files.fsync_directory"):
        for hits in (1, 2, 3):
            newest += 1
            names = publish(place, newest)
            plan = tmp_path / f"retention.{point}"
            kills += 1
            plan.write_bytes(crashpoints.plan(kills, hits))
            job = place.json("retention", "apply")["job"]
            wait_for(lambda plan=plan, job=job: not plan.exists() or place.json("show", job)["job"]["ended_at"],
                     "it is killed, or done")
            if plan.exists():
                plan.unlink()
                continue
            killed += 1
            place.wait_end("retention")
            assert {names[-1]} <= set(left(place.home.checkpoints)) & set(left(place.home.snapshots))
            place.start("retention")
            assert place.json("wait", job)["jobs"][0]["state"] == "succeeded"
    assert killed == kills, "each of them is reached"
    apply(place)
    apply(place)
    assert left(place.home.checkpoints) == names[-2:]
    assert left(place.home.snapshots) == names[-1:]
    for name in left(place.home.checkpoints):
        checkpoints.verify(place.home.checkpoints / name)
    assert snapshots.verify(place.home.snapshots, names[-1], lambda _: None) == []
    assert list(place.home.trash.iterdir()) == []
    place.stop("broker")
    place.run("fsck", "--fast")
