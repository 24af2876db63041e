"""Consolidation through all the services: merged, checked, gone on from; a barrier; and killed anywhere."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.drills import Drill
from tests.installations import Installation, wait_for
from trainq import checkpoints, crashpoints

pytestmark = pytest.mark.slow

LORA = {"TRAINQ_LORA_RANK": "4", "TRAINQ_LORA_ALPHA": "8", "TRAINQ_LORA_DROPOUT": "0.1",
        "TRAINQ_TRAIN_SCHEDULE": "cosine", "TRAINQ_TRAIN_REWARM_STEPS": "2", "TRAINQ_TRAIN_PRECISION": "bf16"}


def rebases(drill: Drill) -> list[str]:
    """The states of all rebases, oldest first."""
    return [event["type"] for event in drill.installation.events() if event["type"] == "LineRebased"]


def consolidate(drill: Drill, *words: str) -> dict[str, object]:
    """Ask for it and wait; how it ended. The rebase that follows it has ended, too."""
    job = drill.installation.json("consolidate", *words, "--wait")["jobs"][0]
    wait_for(lambda: not drill.installation.tasks_waiting(), "all tasks have ended", 120)
    return dict(job)


def rederived(drill: Drill) -> str:
    """Stop all, train everything again elsewhere, and have the checker compare; what it says."""
    into = drill.installation.folder / "undisturbed"
    drill.installation.control("stop", "all")
    done = subprocess.run(
        [sys.executable, "-m", "trainq.ml.rederiving", "--home", str(drill.home.root), "--into", str(into)],
        env=drill.installation.environment, check=False, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return drill.installation.prove("--driver", str(into))


def test_merged_checked_and_gone_on_from(installation: Installation) -> None:
    drill = Drill(installation, **LORA)
    one = drill.train("one.jsonl")
    drill.until_trained(one)
    before = drill.facts()
    assert (before.adapter_of, before.has_weights) == ("g000001-s00000000", False)

    done = consolidate(drill)
    assert done["state"] == "succeeded"
    facts = drill.facts()
    assert (facts.reason, facts.has_weights, facts.step, facts.parent) == ("rebase", True, before.step, before.name)
    assert facts.cursor == before.cursor
    assert len(rebases(drill)) == 1
    wait_for(lambda: not list(drill.home.merged.iterdir()), "nothing of the merge is left")

    # Nothing was learned since: it is not done again.
    again = consolidate(drill)
    assert again["state"] == "succeeded"
    assert "nothing was learned" in str(again["result"])
    assert drill.facts() == facts

    # It goes on from there; a snapshot takes the weights along, and a restore brings them back.
    two = drill.train("two.jsonl")
    drill.until_trained(one, two)
    assert drill.facts().adapter_of == facts.name
    late = drill.bits()
    name = drill.snapshot()
    assert sorted(path.name for path in checkpoints.list_generations(drill.home.snapshots)) == [facts.name, name]
    assert drill.restore(before.name, "--from", "checkpoints")["state"] == "succeeded"
    assert drill.facts().adapter_of == before.adapter_of
    assert drill.restore(name)["state"] == "succeeded"
    assert drill.bits() == late
    folder = installation.folder / "exported"
    installation.trainq("snapshot", "export", name, str(folder))
    short = ("--max-new-tokens", "4")
    assert installation.trainq("sample", "one.jsonl 1?", *short, "--checkpoint", str(folder)).stdout == (
        installation.trainq("sample", "one.jsonl 1?", *short).stdout)


KILLS = (("training", "checkpoint.published", 1),)


def test_files_wait_for_it_and_killed_in_the_middle_it_is_done_all_the_same(installation: Installation) -> None:
    plans = installation.folder / "plans"
    plans.mkdir()
    drill = Drill(installation, TRAINQ_CRASH_PLANS=str(plans), **LORA)
    jobs = [drill.train("one.jsonl")]
    drill.until_trained(*jobs)
    # A file waits, so it would; but a person wants it now.
    installation.trainq("pause")
    jobs.append(drill.train("two.jsonl"))
    installation.json("consolidate")
    wait_for(lambda: installation.tasks_waiting() == 1, "it waits")
    installation.json("consolidate", "--now")
    installation.trainq("resume")
    drill.until_trained(*jobs)
    events = [(event["type"], event["job"]) for event in installation.events()]
    assert events.index(("LineRebased", "")) < events.index(("JobSucceeded", jobs[1]))

    for number, (process, point, hits) in enumerate(KILLS, start=1):
        jobs.append(drill.train(f"file-{number}.jsonl", 4))
        drill.until_trained(*jobs)
        done = len(rebases(drill))
        armed = plans / f"{process}.{point}"
        armed.write_bytes(crashpoints.plan(number, hits))
        assert consolidate(drill)["state"] == "succeeded"
        assert not armed.exists(), f"it was killed at {process}.{point}"
        assert len(rebases(drill)) == done + 1
        assert (drill.facts().reason, drill.facts().has_weights) == ("rebase", True)
    jobs.append(drill.train("last.jsonl", 4))
    drill.until_trained(*jobs)
    assert "under the adapter" in rederived(drill)
