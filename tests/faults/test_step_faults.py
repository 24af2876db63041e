"""Faults of the training steps, in a supervised installation: decided, recorded, and the promised bits in the end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from installations import Installation, wait_for
from trainq import checkpoints
from trainq.chaos.processes import TRAINING

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

# 24 rows: 6 steps an epoch, 24 in all.
SETTINGS = {"TRAINQ_TRAIN_THREADS": "1", "TRAINQ_TRAIN_BATCH_ROWS": "4", "TRAINQ_TRAIN_MICRO_BATCH_ROWS": "2",
            "TRAINQ_TRAIN_EPOCHS": "4", "TRAINQ_TRAIN_CHECKPOINT_STEPS": "2",
            "TRAINQ_TRAIN_CHECKPOINT_MAX_SHARE": "1", "TRAINQ_BROKER_MAX_ATTEMPTS": "2",
            "TRAINQ_TRAINER_HANG_SECONDS": "10", "TRAINQ_TRAINER_HANG_FACTOR": "2", "TRAINQ_GUARD_SETTLE_STEPS": "4"}
ROWS, STEPS = 24, 24
PATIENCE_SECONDS = 300.0


@pytest.fixture
def faults(installation: Installation) -> Path:
    folder = installation.step_faults()
    installation.settings = {**SETTINGS, "TRAINQ_STEP_FAULTS": str(folder)}
    return folder


def job(installation: Installation, name: str) -> dict[str, Any]:
    return next(each for each in installation.jobs() if each["id"] == name)


def ends(installation: Installation, name: str, state: str) -> dict[str, Any]:
    def ended() -> dict[str, Any] | None:
        found = job(installation, name)
        assert found["state"] in ("queued", "running", state), found["reason"]
        return found if found["state"] == state else None

    found: dict[str, Any] = wait_for(ended, f"{name} is {state}", PATIENCE_SECONDS)
    return found


def skipped(installation: Installation, name: str) -> list[int]:
    return sorted(event["body"]["effective_step"] for event in installation.events(name)
                  if event["type"] == "EffectDecided" and event["body"]["kind"] == "skip_batch")


def steps_done(installation: Installation, name: str) -> list[int]:
    lines = (installation.home.metrics / f"{name}.jsonl").read_bytes().splitlines()
    return [msgspec.json.decode(line)["job_step"] for line in lines]


def kill_training_process(installation: Installation, when: Callable[[], object]) -> None:
    wait_for(when, "the moment to kill", PATIENCE_SECONDS)
    (pid,) = wait_for(lambda: [seen.pid for seen in installation.processes() if seen.role == TRAINING],
                      "the training process", PATIENCE_SECONDS)
    os.kill(pid, signal.SIGKILL)
    psutil.wait_procs([process for process in installation.psutil_processes() if process.pid == pid], timeout=60)


def prove_bits(installation: Installation) -> None:
    """Train the journal again where nothing fails, and compare."""
    installation.control("stop", "all")
    driver = installation.folder / "driver"
    words = ["-m", "trainq.ml.rederiving", "--home", str(installation.home.root), "--into", str(driver)]
    done = subprocess.run([sys.executable, *words], env=dict(installation.environment), capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stderr
    assert "are those of the undisturbed" in installation.prove("--strict", "--driver", str(driver))


def test_whatever_goes_wrong_in_steps_the_bits_are_those_that_are_promised(installation: Installation,
                                                                           faults: Path) -> None:
    """One installation for all: a start costs more than a fault, and so does the undisturbed run beside it."""
    for name in ("nan.train-1.3", "nan.train-2.5", "nan.train-2.6", "nan.train-2.7", "nan.train-3.every"):
        (faults / name).touch()
    for name in ("zero.train-5.1", "memory.train-6.1", "update.train-7.4", "hang.train-8.15"):
        (faults / name).write_text("ever" if name.startswith(("zero", "memory")) else "once")
    installation.start()
    installation.wait_answers()
    _numbers_that_are_none_are_left_out_then_gone_back_from_then_the_files_fault(installation)
    _masks_memory_and_a_hang(installation, faults)
    for number, lie in enumerate(("zeroed", "gone"), start=9):
        _a_disk_that_lies_about_fsync_costs_the_steps_since_the_generation_before(installation, f"train-{number}", lie)
    assert len(checkpoints.list_set_aside(installation.home.checkpoints)) == 2
    prove_bits(installation)


def _numbers_that_are_none_are_left_out_then_gone_back_from_then_the_files_fault(installation: Installation) -> None:
    for name in ("a.jsonl", "b.jsonl", "c.jsonl", "d.jsonl"):
        installation.submit_rows(name, ROWS)
    # Once the line has gone back, and the batches behind it are to be left out, or some steps later.
    kill_training_process(installation, lambda: 7 in skipped(installation, "train-2"))

    ends(installation, "train-1", "succeeded")
    ends(installation, "train-2", "succeeded")
    assert skipped(installation, "train-1") == [3]
    left_out = skipped(installation, "train-2")
    # From where the newest generation was; those inside a job are written beside the steps.
    assert left_out == list(range(left_out[0], 8))
    assert left_out[0] <= 5
    assert steps_done(installation, "train-2") == [*range(1, left_out[0] + 1), *range(9, STEPS + 1)]
    failed = ends(installation, "train-3", "quarantined")
    ends(installation, "train-4", "succeeded")
    assert (failed["attempts"], failed["failures"]) == (2, 2)
    assert "loss nan" in failed["reason"]
    assert "lines [" in failed["reason"]
    assert "left out" in installation.trainq("show", "train-2").stdout
    assert not [event for event in installation.events() if event["type"] == "QueueHeld"]
    marked = {facts.cursor.job_step: facts.marks for path in checkpoints.list_generations(installation.home.checkpoints)
              if (facts := checkpoints.read_facts(path)).cursor.job == "train-2"}
    assert {step: bool(each) for step, each in marked.items()} == {step: 8 <= step < 12 for step in marked}
    assert marked[STEPS] == ()


def _masks_memory_and_a_hang(installation: Installation, faults: Path) -> None:
    for name in ("e.jsonl", "f.jsonl", "g.jsonl", "h.jsonl"):
        installation.submit_rows(name, ROWS)
    kill_training_process(installation, lambda: (installation.home.metrics / "train-6.jsonl").exists()
                          and len(steps_done(installation, "train-6")) > 3)

    masked = ends(installation, "train-5", "quarantined")
    assert (masked["attempts"], "exactly zero" in masked["reason"], "[[" in masked["reason"]) == (1, True, True)
    for name in ("train-6", "train-7", "train-8"):
        ends(installation, name, "succeeded")
        assert steps_done(installation, name) == list(range(1, STEPS + 1)), "whole batches, all of them"
    fewer = {event["body"]["job"]: (event["body"]["effective_step"], event["body"]["value"])
             for event in installation.events() if event["type"] == "EffectDecided"}
    assert fewer["train-6"] == (0, 1)
    # Whoever was killed knows nothing of it; else the next begins with what has fitted, and has none to give up.
    assert fewer.get("train-7", (0, 1)) in ((0, 1), (4, 1))
    # A hang fails an attempt only if that has published no step; what is written beside the steps is told when it is.
    told = [event["type"] for event in installation.events("train-8")]
    published = told.index("CheckpointPublished")
    assert "AttemptFailed" not in told[published:], told
    assert list(faults.glob("hang.*")) == []


def _a_disk_that_lies_about_fsync_costs_the_steps_since_the_generation_before(installation: Installation, name: str,
                                                                              lie: str) -> None:
    installation.submit_rows(f"{name}.jsonl", 2 * ROWS)
    wait_for(lambda: any(seen.cursor.job == name and not seen.cursor.done and seen.cursor.job_step >= 8 for seen in (
        checkpoints.read_facts(path) for path in checkpoints.list_generations(installation.home.checkpoints)[:1])),
        "it is in the middle", PATIENCE_SECONDS)
    agent = installation.pid("trainer")
    os.kill(agent, signal.SIGSTOP)  # or it would have the next one forked before the disk has lied
    kill_training_process(installation, lambda: True)
    newest, before = checkpoints.list_generations(installation.home.checkpoints)[:2]
    weights = newest / "optimizer.safetensors"
    size = weights.stat().st_size
    # What a power cut leaves where a write was said to be on disk, and was not.
    with weights.open("r+b") as stream:
        if lie == "zeroed":
            stream.seek(size // 2)
            stream.write(bytes(size - size // 2))
        else:
            stream.truncate(0)
    os.kill(agent, signal.SIGCONT)
    ends(installation, name, "succeeded")
    assert newest.name in [str(aside) for aside, _ in checkpoints.list_set_aside(installation.home.checkpoints)]
    lineage = [checkpoints.read_facts(path).parent for path in checkpoints.list_generations(
        installation.home.checkpoints)]
    assert before.name in lineage
    assert newest.name not in lineage


def test_without_the_gpu_that_is_required_nothing_is_begun_and_no_attempt_is_used_up(
        installation: Installation) -> None:
    installation.settings = {**SETTINGS, "TRAINQ_TRAINER_GPU": "required", "CUDA_VISIBLE_DEVICES": ""}
    installation.start()
    installation.wait_answers()
    installation.submit_rows("a.jsonl", ROWS)
    wait_for(lambda: "there is no GPU, and one is required" in installation.trainq("why").stdout, "it says why",
             PATIENCE_SECONDS)
    wait_for(lambda: job(installation, "train-1")["prepared"], "it is prepared meanwhile", PATIENCE_SECONDS)
    assert job(installation, "train-1")["attempts"] == 0
    assert not [seen for seen in installation.processes() if seen.role == TRAINING]
    installation.settings = SETTINGS
    installation.restart()
    assert ends(installation, "train-1", "succeeded")["attempts"] == 1
