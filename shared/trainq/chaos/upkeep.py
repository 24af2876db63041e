"""A caretaker in a thread of its own: asks for snapshots, proofs, retention, backups, restores and consolidations, and
for files to be made and checkpoints to be scored.

Also at the worst moments: what it asks for is done by processes that are killed meanwhile. Restores train again what
they take out, so that each file is in the weights once at the end.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from trainq import checkpoints, snapshots
from trainq.chaos import plan
from trainq.chaos.load import Person, ask_patiently
from trainq.chaos.plan import Upkeep, UpkeepKind
from trainq.client import BrokerClient
from trainq.config import Home
from trainq.errors import NotFoundError, TrainqError, UsageError
from trainq.ids import new_request_id
from trainq.jobs import TASKS, JobKind, JobState, Origin
from trainq.messages import (
    Accepted,
    BackupTask,
    ConsolidateTask,
    EvaluateTask,
    GenerateTask,
    JobView,
    RestoreTask,
    RetentionTask,
    SnapshotTask,
    SubmitTask,
    Task,
    VerifyTask,
)

# Before there is a model there is nothing to take care of.
_LOOK_SECONDS = 0.5
_PATIENCE_LOOKS = 120
_GENERATED_ROWS, _SEEDS = 24, 1 << 31
# Up to so many backups stay, or all.
_MOST_BACKUPS = 3
LAST_COPIES = (JobKind.SNAPSHOT.value, JobKind.BACKUP.value)
_ANSWER_SECONDS = 60.0
# How a task may fail though everything is as it should be.
_MAY_FAIL = re.compile("|".join((
    # There is nothing to do it to, or nothing any more.
    rf"{NotFoundError.__name__}: there is no generation", r"not_found: ",
    # A restore goes before the rebase that was to follow a consolidation: the restored state has another adapter.
    r"usage: the line stands at g\S+, and g\S+ was merged",
    # Three kills in a row met it at the same place; who asked is told, and asks again.
    r"its training process ended in the middle \(signal 9", r"\d+ of its workers in a row were lost with it",
    rf"{TrainqError.__name__}: after \d+ attempts: \S+ was ended by signal 9")))


class Caretaker(Person):
    """Does what the plan says, its first round in any case."""

    def __init__(self, home: Home, seed: int, backups_folder: Path) -> None:
        super().__init__("caretaker", home)
        self._seed = seed
        self._backups_folder = backups_folder

    def act(self, broker: BrokerClient) -> None:
        first, more = plan.upkeep(self._seed)
        # Also when it is told to stop meanwhile: where all is slow, nothing would be proven of it.
        patience = _PATIENCE_LOOKS
        while not checkpoints.list_generations(self.home.checkpoints):
            patience -= self._stopping.is_set()
            if not patience or self._giving_up.wait(_LOOK_SECONDS):
                return
        for step in first:
            if self._giving_up.wait(step.pause_seconds):
                return
            self._do(broker, step)
        for step in self.paced(more):
            self._do(broker, step)

    def ask_for_last_copies(self, broker: BrokerClient) -> None:
        """A snapshot and a backup of all that is there, when nobody breaks anything any more."""
        for task in (SnapshotTask(), BackupTask(destination=str(self._backups_folder))):
            ask_patiently(broker, SubmitTask(request_id=new_request_id(), task=task, cause="chaos"), Accepted,
                          _ANSWER_SECONDS)

    def _do(self, broker: BrokerClient, step: Upkeep) -> None:
        task = self._task(step)
        if task is None:
            return
        try:
            self.ask(broker, SubmitTask(request_id=new_request_id(), task=task, cause="chaos"), Accepted)
        except (NotFoundError, UsageError):
            if step.kind is not UpkeepKind.RESTORE:
                raise
            # Another one is open, or what it needs is not there any more.

    def _task(self, step: Upkeep) -> Task | None:
        match step.kind:
            case UpkeepKind.SNAPSHOT:
                return SnapshotTask()
            case UpkeepKind.VERIFY:
                return VerifyTask()
            case UpkeepKind.RETENTION:
                return RetentionTask()
            case UpkeepKind.BACKUP:
                return BackupTask(destination=str(self._backups_folder),
                                  keep_last=int(step.which * (_MOST_BACKUPS + 1)))
            case UpkeepKind.CONSOLIDATION:
                return ConsolidateTask(now=step.which < 0.5)
            case UpkeepKind.GENERATE:
                return GenerateTask(generator="arithmetic", name="arithmetic", count=_GENERATED_ROWS, level=1,
                                    seed=int(step.which * _SEEDS))
            case UpkeepKind.EVALUATE:
                # The broker may not have heard of it; it is kept until it is scored.
                return EvaluateTask(checkpoint=checkpoints.list_generations(self.home.checkpoints)[0].name)
            case UpkeepKind.RESTORE:
                there = snapshots.list_snapshots(self.home.snapshots)
                return RestoreTask(name=there[int(step.which * len(there))].name, retrain=True) if there else None


def fed_wrongly(tasks: Sequence[JobView], files: Sequence[JobView]) -> list[str]:
    """What is wrong with what was generated: each task that succeeded is one file, and no other is a file."""
    done = sum(task.kind is JobKind.GENERATE and task.state is JobState.SUCCEEDED for task in tasks)
    made = sum(job.origin == Origin.GENERATED for job in files)
    return [] if done == made else [f"{done} files were generated, and {made} are jobs"]


def failed_wrongly(tasks: Sequence[JobView]) -> list[str]:
    """What did not come to a good end, and had no good reason."""
    return [f"{job.id} ended {job.state.value}: {job.reason}" for job in tasks
            if job.kind in TASKS and job.state is not JobState.SUCCEEDED
            and not (job.state is JobState.FAILED and _MAY_FAIL.match(job.reason or ""))]
