"""One life of a process that trains: ``python -m tests.gpu.lives PLAN``, PLAN being the JSON of a :class:`Plan`.

It does what a training process does, without an agent: begins the line or restores its newest generation, and trains
the shards one after the other, from where the cursor says, until the end that the plan wants. What it did goes to
stdout as the JSON of a :class:`Lived`, unless it was to be killed.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Literal

import msgspec
import torch

from trainq import checkpoints, files, locks
from trainq.checkpoints import Cursor
from trainq.config import Home, TrainSettings
from trainq.ml import checkpointing, determinism, line, model, training
from trainq.ml.checkpointing import Publication
from trainq.ml.line import ModelLine
from trainq.ml.metrics import StepMetrics
from trainq.ml.training import Ending, Job, Wish
from trainq.shards import Shard

SEED = 5


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """``end``: when this life has done ``after_steps`` steps it is told to stop, or killed; or trains all there is."""

    home: str
    model: str
    shards: list[str]
    settings: TrainSettings
    end: Literal["done", "stop", "kill"] = "done"
    after_steps: int = 0


class Lived(msgspec.Struct, frozen=True, kw_only=True):
    """``device`` is where the weights lie; ``seconds`` are those of the steps alone; ``peak_bytes`` on the GPU."""

    steps: int
    first_step: int
    last_step: int
    device: str
    fingerprint: dict[str, str]
    seconds: float
    losses: list[float]
    peak_bytes: int


class _Life:
    """An observer that ends as planned."""

    def __init__(self, plan: Plan, home: Home) -> None:
        self._plan, self._home = plan, home
        self.steps: list[StepMetrics] = []

    @property
    def _is_over(self) -> bool:
        return self._plan.end != "done" and len(self.steps) >= self._plan.after_steps

    def wish(self) -> Wish:
        return Wish.STOP if self._is_over else Wish.GO_ON

    def stepped(self, metrics: StepMetrics, cursor: Cursor) -> None:
        assert metrics.job_step == cursor.job_step
        self.steps.append(metrics)
        if self._is_over and self._plan.end == "kill":
            os.kill(os.getpid(), signal.SIGKILL)

    def publishing(self, size_bytes: int, *, waits: bool) -> None:
        pass

    def published(self, publication: Publication) -> None:  # noqa: ARG002  # an observer's
        for old in checkpoints.list_generations(self._home.checkpoints)[1:]:
            files.remove_tree(old)

    def taken_back(self, reason: str) -> None:
        raise AssertionError(reason)

    def fingerprint_changed(self, before: dict[str, str], after: dict[str, str]) -> None:
        raise AssertionError(f"it is the same machine: {before} {after}")


def live(plan: Plan) -> Lived:
    """Train as planned; with ``kill`` it does not return."""
    home = Home(Path(plan.home))
    for folder in home.folders():
        files.make_directory(folder)
    model.silence_libraries()
    determinism.enforce()
    determinism.set_threads(plan.settings.threads)
    lock = locks.acquire_lock(home.checkpoints / checkpoints.LOCK_NAME, "training process")
    files.sweep_temporaries(home.checkpoints, home.root)
    opened, life = _open(plan, home), _Life(plan, home)
    for job in _jobs_to_do(plan, opened.facts.cursor):
        if training.train(opened, job, home, life).ending is not Ending.FINISHED:
            break
    lock.release()
    (device,) = {str(tensor.device) for tensor in opened.model.parameters()}
    steps = life.steps
    return Lived(
        steps=len(steps), first_step=steps[0].step if steps else 0, last_step=opened.facts.step, device=device,
        fingerprint=opened.facts.fingerprint, seconds=round(sum(step.seconds for step in steps), 3),
        losses=[step.loss for step in steps],
        peak_bytes=torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0)


def _open(plan: Plan, home: Home) -> ModelLine:
    found, damaged = checkpoints.newest_verified(home.checkpoints)
    assert not damaged
    if found is not None:
        return checkpointing.restore(found)
    begun = line.begin(plan.model, SEED)
    checkpointing.publish(begun, home, "initial")
    return begun


def _jobs_to_do(plan: Plan, cursor: Cursor) -> list[Job]:
    jobs = []
    for number, shard in enumerate(plan.shards, start=1):
        with Shard.open(Path(shard), verify=False) as opened:
            jobs.append(Job(id=f"train-{number}", token=number, shard=Path(shard), shard_digest=opened.digest,
                            settings=plan.settings, journal_seq=number))
    at = next((index for index, job in enumerate(jobs) if job.id == cursor.job), 0)
    return jobs[at + cursor.done:]


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(live(msgspec.json.decode(sys.argv[1], type=Plan))))
