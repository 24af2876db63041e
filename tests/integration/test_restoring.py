"""Restore drills: from a snapshot, from a damaged one, from a generation; with nothing left that verifies; and killed.

The runs go on bit for bit: what is trained again after a restore ends with the weights of before.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.drills import Drill
from tests.installations import Installation, wait_for
from trainq import checkpoints, crashpoints, objects, snapshots

pytestmark = pytest.mark.slow

def flip(path: Path) -> None:
    """One bit of a file, in an inode of its own."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()
    path.write_bytes(content)


@pytest.mark.timeout(600)
def test_there_and_back_again_also_when_it_is_killed(installation: Installation) -> None:
    plans = installation.folder / "plans"
    plans.mkdir()
    drill = Drill(installation, TRAINQ_CRASH_PLANS=str(plans))
    one = drill.train("one.jsonl")
    drill.until_trained(one)
    snapshot, early = drill.snapshot(), drill.bits()
    two, three = drill.train("two.jsonl"), drill.train("three.jsonl")
    drill.until_trained(two, three)
    late_name, late = drill.head().name, drill.bits()

    plan = installation.json("restore", snapshot, "--plan")
    assert (plan["taken_out"], plan["brought_back"], plan["goes_on"]) == ([two, three], [], "")
    assert drill.restore(snapshot)["state"] == "succeeded"
    assert drill.bits() == early
    facts = drill.facts()
    assert (facts.reason, facts.parent, facts.restored_from) == ("restore", late_name, 2)
    drill.until({one: "succeeded", two: "cancelled", three: "cancelled"})
    assert snapshot in installation.json("show", two)["job"]["reason"]

    # A restore can be undone: the generation of before is still there.
    assert drill.restore(late_name, "--from", "checkpoints")["state"] == "succeeded"
    assert drill.bits() == late
    drill.until({one: "succeeded", two: "succeeded", three: "succeeded"})

    # Trained again from the snapshot, the bits are those of before.
    assert drill.restore(snapshot, "--retrain")["state"] == "succeeded"
    drill.until_trained(one, two, three)
    assert drill.bits() == late

    # The snapshot of a line that was left says what that line held.
    again = installation.json("snapshot", "create", "--generation", late_name, "--wait")
    assert again["jobs"][0]["state"] == "succeeded"
    held = snapshots.read(drill.home.snapshots / late_name)
    assert held.facts.jobs == 3

    # From a damaged one nothing is restored, and the damage is named.
    before = drill.head().name
    record = snapshots.read(drill.home.snapshots / snapshot).manifest.files["model.safetensors"]
    flip(objects.path_of(drill.home.snapshots, record.blake3))
    failed = drill.restore(snapshot, code=1)
    assert (failed["state"], "model.safetensors" in failed["reason"]) == ("failed", True)
    assert (drill.head().name, drill.bits()) == (before, late)
    four = drill.train("four.jsonl")
    drill.until_trained(one, two, three, four)
    _killed_in_the_middle_it_is_done_all_the_same(drill, plans)
    drill.prove()


def lose_all(drill: Drill) -> None:
    for path in checkpoints.list_generations(drill.home.checkpoints):
        shutil.rmtree(path)


def damage_all(drill: Drill) -> None:
    for path in checkpoints.list_generations(drill.home.checkpoints):
        flip(path / "model.safetensors")


def test_with_no_checkpoint_left_a_snapshot_brings_the_line_back(installation: Installation) -> None:
    drill = Drill(installation)
    one = drill.train("one.jsonl")
    drill.until_trained(one)
    snapshot = drill.snapshot()
    two = drill.train("two.jsonl")
    drill.until_trained(two)
    late = drill.bits()
    for accident, said in ((lose_all, "bring the checkpoints back"), (damage_all, "trainq restore")):
        installation.control("stop", "trainer")
        accident(drill)
        installation.control("start", "trainer")
        wait_for(lambda said=said: said in installation.trainq("why").stdout, "it is said what helps", 60)
        assert drill.restore(snapshot, "--retrain")["state"] == "succeeded"
        drill.until_trained(one, two)
        assert drill.bits() == late
    drill.prove()


def test_in_the_middle_of_a_job(installation: Installation) -> None:
    drill = Drill(installation, slow=True, TRAINQ_TRAIN_CHECKPOINT_STEPS="3", TRAINQ_TRAIN_CHECKPOINT_MAX_SHARE="1")
    one = drill.train("one.jsonl", 120)
    # Written beside the steps, one at a time: at which steps is the disk's business.
    middle = wait_for(lambda: next((path.name for path in checkpoints.list_generations(drill.home.checkpoints)
                                    if checkpoints.read_facts(path).reason == "interval"), ""), "its middle", 60)
    stands_at = checkpoints.read_facts(drill.home.checkpoints / middle).cursor.job_step
    installation.trainq("snapshot", "create", "--generation", middle, "--wait")
    drill.until_trained(one)
    late, newest = drill.bits(), drill.facts().generation

    # One that was taken in the middle of a job: that goes on from there.
    assert installation.json("restore", middle, "--plan")["goes_on"] == one
    assert drill.restore(middle)["state"] == "succeeded"
    drill.until_trained(one)
    assert drill.bits() == late
    steps = [event["body"]["job_step"] for event in installation.events(one)
             if event["type"] == "CheckpointPublished" and event["body"]["generation"] > newest]
    assert steps[0] >= stands_at + 3, "it goes on there"

    # A job that runs makes way at once, and comes again.
    long = drill.train("long.jsonl", 400)
    wait_for(lambda: ((installation.json("show", long)["job"]["progress"] or {}).get("step") or 0) >= 2,
             "it has begun", 60)
    assert drill.restore(middle)["state"] == "succeeded"
    assert drill.states()[long] in ("queued", "running")
    installation.trainq("cancel", long)
    drill.until({one: "succeeded", long: "cancelled"})
    assert drill.bits() == late
    drill.prove()


KILLS = (("files.fsync", 2), ("files.rename", 1), ("files.renamed", 3), ("files.fsync_directory", 1),
         ("checkpoint.published", 1))


def _killed_in_the_middle_it_is_done_all_the_same(drill: Drill, plans: Path) -> None:
    states = {drill.snapshot(): drill.bits()}
    last = drill.train("five.jsonl")
    drill.until_trained(last)
    states[drill.snapshot()] = drill.bits()
    for number, (point, hits) in enumerate(KILLS, start=1):
        name = sorted(states)[(number + 1) % 2]
        armed = plans / f"training.{point}"
        armed.write_bytes(crashpoints.plan(number, hits))
        assert drill.restore(name)["state"] == "succeeded"
        assert not armed.exists(), f"it was killed at {point}"
        assert drill.bits() == states[name]
        wait_for(lambda number=number: drill.states()[last] == ("cancelled" if number % 2 else "succeeded"),
                 f"the last job is in the weights or not, as they are ({point})")
