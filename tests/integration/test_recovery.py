"""What is done about damage, hangs and silence, with real services: nothing lost, nothing twice, and a record of it."""

import os
import signal
from typing import Any

import orjson
import psutil
import pytest

from installations import Installation, wait_for
from trainq import checkpoints

pytestmark = pytest.mark.slow

FAST = {"TRAINQ_TRAIN_THREADS": "1", "TRAINQ_TRAIN_BATCH_ROWS": "4", "TRAINQ_TRAIN_MICRO_BATCH_ROWS": "2",
        "TRAINQ_TRAIN_CHECKPOINT_SECONDS": "1"}


def types(installation: Installation) -> list[str]:
    return [event["type"] for event in installation.events()]


def training_process(installation: Installation) -> psutil.Process | None:
    """The one that the fork server has forked."""
    servers = [process for process in installation.psutil_processes()
               if "services.trainer.forkserver" in process.cmdline()]
    parents = {process.pid for process in servers}
    return next((process for process in servers if process.ppid() in parents), None)


def logged(installation: Installation, service: str, event: str) -> list[dict[str, Any]]:
    path = installation.home.logs / f"{service}.log"
    lines = [orjson.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []
    return [line for line in lines if line["event"] == event]


@pytest.mark.timeout(600)
def test_damaged_checkpoints_are_passed_over_and_missing_ones_waited_for(installation: Installation) -> None:
    installation.settings = FAST
    installation.start()
    installation.wait_answers()
    for name in ("a.jsonl", "b.jsonl"):
        installation.submit_rows(name, 12)
    wait_for(lambda: len(installation.jobs("succeeded")) == 2, "both are trained", 120)
    _what_a_damaged_generation_held_is_trained_again(installation)
    _checkpoints_that_are_not_there_are_waited_for_and_never_begun_anew(installation)
    assert "1 set aside" in installation.prove()


def _what_a_damaged_generation_held_is_trained_again(installation: Installation) -> None:
    second = installation.jobs("succeeded")[0]["result"]["checkpoint"]
    installation.control("stop", "all")
    weights = installation.home.checkpoints / second / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)

    installation.control("start", "all")
    wait_for(lambda: "JobUncovered" in types(installation), "the loss is in the journal", 120)
    wait_for(lambda: len(installation.jobs("succeeded")) == 2, "it is trained again", 120)
    assert [event["body"]["job"] for event in installation.events() if event["type"] == "JobUncovered"] == ["train-2"]
    assert "CheckpointDamaged" in types(installation)
    ((name, kept),) = checkpoints.list_set_aside(installation.home.checkpoints)
    assert str(name) == second
    assert kept.is_dir()


def test_a_hung_training_process_leaves_its_stacks_and_the_job_goes_on(installation: Installation) -> None:
    installation.settings = {**FAST, **installation.slow_steps(), "TRAINQ_TRAINER_HANG_SECONDS": "5",
                             "TRAINQ_TRAINER_HANG_FACTOR": "2"}
    installation.start()
    installation.wait_answers()
    installation.submit_rows("a.jsonl", 120)
    wait_for(lambda: types(installation).count("CheckpointPublished") >= 1, "it has begun", 120)
    hung = training_process(installation)
    assert hung is not None
    os.kill(hung.pid, signal.SIGSTOP)
    (line,) = wait_for(lambda: logged(installation, "trainer", "training_process_hangs"), "it is noticed", 120)
    assert line["job"] == "train-1"
    assert "training_process.py" in line["stacks"]
    assert "a step is missing" in line["reason"] or "a checkpoint" in line["reason"]
    wait_for(lambda: installation.jobs("succeeded"), "the job goes on to its end", 200)
    assert not hung.is_running()
    installation.prove()


def test_a_broker_that_was_frozen_takes_nobodys_lease_away(installation: Installation) -> None:
    installation.settings = {**FAST, **installation.slow_steps(), "TRAINQ_BROKER_LEASE_SECONDS": "2",
                             "TRAINQ_BROKER_HEARTBEAT_SECONDS": "0.5"}
    installation.start()
    installation.wait_answers()
    installation.control("stop", "status")  # it has one that hangs started again
    installation.submit_rows("a.jsonl", 240)
    wait_for(lambda: types(installation).count("CheckpointPublished") >= 1, "it has begun", 120)
    broker = installation.pid("broker")
    steps = installation.home.metrics / "train-1.jsonl"
    before = len(steps.read_bytes().splitlines())
    os.kill(broker, signal.SIGSTOP)
    try:
        # Far longer than a lease, by what the trainer has done meanwhile: it trains on without the broker.
        wait_for(lambda: logged(installation, "trainer", "broker_does_not_take_it"), "the trainer misses the broker")
        wait_for(lambda: len(steps.read_bytes().splitlines()) >= before + 15, "the training goes on", 120)
    finally:
        os.kill(broker, signal.SIGCONT)
    wait_for(lambda: installation.jobs("succeeded"), "it is trained", 200)
    assert types(installation).count("LeaseGranted") == 2, "one for its preparation and one for its training"
    installation.prove()


def _checkpoints_that_are_not_there_are_waited_for_and_never_begun_anew(installation: Installation) -> None:
    uncovered = types(installation).count("JobUncovered")
    installation.control("stop", "trainer")
    folder, away = installation.home.checkpoints, installation.folder / "away"
    folder.rename(away)
    installation.submit_rows("c.jsonl", 12)
    refused = len(logged(installation, "trainer", "head_refused"))
    for life in (1, 2):  # an answer that only the first life gets would be none
        installation.control("start", "trainer")
        wait_for(lambda life=life: len(logged(installation, "trainer", "head_refused")) >= refused + life,
                 "it is refused", 120)
        assert "it is empty, and the journal knows of generation" in installation.trainq("why").stdout
        installation.control("stop", "trainer")
    assert checkpoints.list_generations(folder) == []
    assert {job["id"]: job["state"] for job in installation.jobs()} == {
        "train-1": "succeeded", "train-2": "succeeded", "train-3": "queued"}

    (folder / checkpoints.LOCK_NAME).unlink()
    folder.rmdir()
    away.rename(folder)
    installation.control("start", "trainer")
    wait_for(lambda: len(installation.jobs("succeeded")) == 3, "it goes on where it was", 120)
    assert types(installation).count("JobUncovered") == uncovered
