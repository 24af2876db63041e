"""Control through a real installation: what is ordered is done with the next step, in any state, and costs no bit."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import orjson
import psutil
import pytest

from tests.drills import Drill
from tests.installations import Installation, wait_for
from trainq import checkpoints

pytestmark = pytest.mark.slow

# So many steps that whatever is ordered meets the middle of the job.
LONG = 1000


def step(drill: Drill) -> int:
    """The step of the running job; 0 if there is none, or it has done none."""
    running = [job for job in drill.installation.overview().running if job.kind == "train"]
    return running[0].progress.step if running and running[0].progress else 0


def until_step(drill: Drill, wanted: int) -> int:
    return int(wait_for(lambda: found if (found := step(drill)) >= wanted else 0, f"step {wanted}", 120))


def training_process(drill: Drill) -> bool:
    def is_one(seen: psutil.Process) -> bool:
        try:
            parent = seen.parent()
            return parent is not None and all("forkserver" in " ".join(each.cmdline()) for each in (seen, parent))
        except psutil.NoSuchProcess:  # it ends just now
            return False

    return any(is_one(seen) for seen in drill.installation.psutil_processes())


@pytest.mark.timeout(600)
def test_whatever_is_ordered_in_whatever_order_the_weights_are_those_of_an_undisturbed_run(
        installation: Installation) -> None:
    drill = Drill(installation, slow=True)
    _the_gpu_is_lent_between_two_jobs_and_the_trainer_gives_its_memory_back_before(drill)
    before = drill.states()
    trainq: Any = drill.installation.trainq
    job = drill.train("first.jsonl", LONG)
    until_step(drill, 5)
    # Pause: saved, memory free, lease kept.
    trainq("pause", "--wait", "--reason", "lunch")
    assert drill.states() == {job: "running", **before}
    wait_for(lambda: not training_process(drill), "the training process is gone")
    assert drill.facts().reason == "stop"
    assert "lunch" in trainq("why").stdout
    stood = step(drill)
    # A resume goes on, a checkpoint is published in the middle.
    trainq("resume")
    until_step(drill, stood + 5)
    name = trainq("checkpoint", "--wait").stdout.strip()
    assert checkpoints.read_facts(drill.home.checkpoints / name).reason == "asked"
    # Drain while paused: it goes on, and nothing new is begun.
    second = drill.train("second.jsonl", 8)
    trainq("pause", "--wait")
    trainq("drain", "--no-wait")
    trainq("yield", "1h")  # changes nothing: it is paused
    trainq("resume")
    trainq("stop", "--wait", "--reason", "the trainer rests")
    wait_for(lambda: drill.states() == {job: "queued", second: "queued", **before}, "the job is given back")
    assert "the trainer rests" in trainq("why").stdout
    # What cannot go on by itself is not waited for.
    assert trainq("drain", expect=1).stdout.startswith(f"{job} is saved, and not at its end: the trainer is stopped")
    drill.installation.control("restart", "trainer")  # a stop is for one life of the trainer
    trainq("resume")
    stood = until_step(drill, 1)
    # Files do it without the broker.
    drill.installation.control("stop", "broker")
    (drill.home.control / ".pause").write_text("by hand\n")
    wait_for(lambda: not training_process(drill), "the training process is gone")
    (drill.home.control / ".pause").unlink()
    wait_for(lambda: training_process(drill), "it is back")
    drill.installation.control("start", "broker")
    drill.installation.wait_answers()
    until_step(drill, 1)
    # What is done stays; the rest of the file is skipped.
    assert "running" in trainq("skip", "--keep").stdout
    drill.until_trained(job, second)
    shown = drill.installation.json("show", job)
    assert shown["job"]["result"]["cut_from"] == LONG // 4 > shown["job"]["result"]["steps_done"] > 0
    assert [effect["kind"] for effect in shown["effects"]] == ["cut"]
    _what_is_to_end_is_ended_while_all_is_paused(drill)
    drill.rederive()


def _what_is_to_end_is_ended_while_all_is_paused(drill: Drill) -> None:
    trainq: Any = drill.installation.trainq
    before, ended = drill.bits(), drill.states()
    job = drill.train("third.jsonl", LONG)
    until_step(drill, 3)
    trainq("pause", "--wait")
    trainq("cancel", job)
    drill.until({job: "cancelled", **ended})
    wait_for(lambda: not training_process(drill), "the memory is free again")
    assert drill.facts().reason == "take_back"
    assert drill.bits() == before
    # The same for one whose steps are to stay; paused while it loads.
    kept = drill.train("fourth.jsonl", LONG)
    trainq("resume")
    until_step(drill, 3)
    trainq("stop", "--wait")
    trainq("resume")
    trainq("pause")
    trainq("cancel", kept, "--keep")
    drill.until({job: "cancelled", kept: "succeeded", **ended})
    assert "paused" in trainq("why").stdout
    trainq("resume")


def _the_gpu_is_lent_between_two_jobs_and_the_trainer_gives_its_memory_back_before(drill: Drill) -> None:
    installation = drill.installation
    first, *others = (drill.train(name, rows) for name, rows in (("a.jsonl", LONG), ("b.jsonl", 8), ("c.jsonl", 8)))
    until_step(drill, 1)
    probe = ("import json, os; from trainq.client import BrokerClient; from trainq.config import Home; "
             "from trainq.ids import new_request_id; from trainq.messages import *; "
             "c = BrokerClient(Home(__import__('pathlib').Path(os.environ['TRAINQ_HOME']))); "
             "print(json.dumps([j.id for j in c.call(GetOverview(request_id=new_request_id()), Overview).running])); "
             "print(os.environ['TRAINQ_LENT'])")
    lending = subprocess.Popen([sys.executable, "-m", "trainq.cli", "lend", "--", sys.executable, "-c", probe],
                               env=dict(installation.environment), stdout=subprocess.PIPE, text=True)
    wait_for(lambda: "lend-1" in [event["job"] for event in installation.events()], "it is asked for")
    installation.trainq("skip", "--keep")
    said, _ = lending.communicate(timeout=120)
    assert said.split("\n")[:2] == ["[]", "lend-1"], "no train job beside it"
    drill.until_trained(first, *others)
    kinds = [(event["type"], event["job"]) for event in installation.events()]
    # [broker] gpu_wait_jobs = 1: it lets one go first.
    before, after = (kinds.index(("JobSucceeded", job)) for job in others)
    assert before < kinds.index(("LeaseGranted", "lend-1")) < after
    assert installation.trainq("lend", "--limit", "1s", "--", "sleep", "60", expect=128 + 15)
    assert installation.trainq("lend", "--", "false", expect=1)
    # Nobody whom it has started stays beside the trainer, nor who goes on after its end. Other tests sleep, too.
    orphan = installation.folder / "orphan"
    words = f"sleep 6173 & echo $! > {orphan}; sleep 6173 & wait"
    assert installation.trainq("lend", "--limit", "1s", "--", "bash", "-c", words, expect=128 + 15)
    assert installation.trainq("lend", "--", "bash", "-c", f"kill -0 $(cat {orphan}) && exit 3; sleep 6173 & exit 0")
    assert not [line for line in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True,
                                                check=True).stdout.splitlines() if line == "sleep 6173"]
    ended = {job["id"]: job["state"] for job in installation.json("status")["background_tasks"]["recent"]}
    told = [orjson.loads(line) for line in (drill.home.logs / "trainer.log").read_bytes().splitlines()]
    rests = [line["cause"] for line in told if line["event"] == "state_changed" and line["state"] == "PAUSED"]
    assert set(rests) == {"lent"}
    assert ended == {"lend-1": "succeeded", "lend-2": "failed", "lend-3": "failed", "lend-4": "failed",
                     "lend-5": "succeeded"}
    wait_for(lambda: training_process(drill), "the model is back")
    (drill.home.inbox / "third.jsonl").write_bytes(b'{"prompt": "third?", "completion": "yes"}\n')
    assert installation.trainq("wait", "--idle").stdout == "idle\n"
    assert len(drill.states()) == 4


def test_a_yield_ends_by_itself_and_quiet_hours_by_the_clock(installation: Installation) -> None:
    drill = Drill(installation, slow=True, TRAINQ_TRAINER_IDLE_MINUTES="0.01")
    trainq: Any = installation.trainq
    job = drill.train("first.jsonl", 120)
    until_step(drill, 3)
    trainq("yield", "3s", "--wait")
    assert "until" in trainq("why").stdout
    drill.until_trained(job)
    # With nothing to do its memory is given back, and the next job loads it.
    wait_for(lambda: not training_process(drill), "the memory is given back")
    drill.until_trained(drill.train("second.jsonl", 8))
    installation.settings["TRAINQ_TRAINER_QUIET_HOURS"] = '["00:00-12:00", "12:00-00:00"]'
    installation.restart()
    installation.wait_answers()
    waiting = drill.train("third.jsonl", 8)
    wait_for(lambda: "quiet hours until" in trainq("why").stdout, "the quiet hours are said")
    assert drill.states()[waiting] == "queued"
    drill.prove()
