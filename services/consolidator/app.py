"""The consolidator's loop: lease a task, have a child merge and check, report. No torch here.

The broker grants the task only while nothing is trained, and asks the trainer for a rebase in the transaction in which
this reports. A kill at any instruction leaves the line as it was, and at most a merged model under ``merged/``, which
is taken as it is or goes when no rebase waits for it.
"""

from __future__ import annotations

from typing import Any

import msgspec
import orjson

from trainq import checkpoints, files, manifests, merged
from trainq.checkpoints import CheckpointFacts
from trainq.errors import BrokerUnavailableError, StorageError, StorageFullError, TrainqError, UsageError
from trainq.ids import new_request_id
from trainq.jobs import JobKind, JobState
from trainq.merged import MergedFacts
from trainq.messages import (
    ConsolidateTask,
    GetOverview,
    JobList,
    ListJobs,
    Overview,
    RebaseTask,
    TaskLease,
    TaskResult,
)
from trainq.service import HeldTask, Process, Worker, take_task
from trainq.service.child import Child
from trainq.service.politeness import be_polite

_OPEN = (JobState.QUEUED, JobState.RUNNING)
_LOOK_SECONDS = 0.2
_TIDY_SECONDS = 5.0
# Each holds up the training: a merge that is killed, or meets the disk's end, so often is no accident.
_ATTEMPTS = 3
_ADAPTER_CONFIG = "adapter_config.json"


class Consolidator(Worker[TaskLease]):
    """Does one task at a time. Owned by the main thread."""

    def __init__(self, process: Process) -> None:
        super().__init__(process, b"event.TaskSubmitted", lambda peer: take_task(peer, (JobKind.CONSOLIDATE,)))
        self._home = process.home
        self._tidy_at = 0.0
        files.make_directory(self._home.merged)
        files.sweep_temporaries(self._home.merged)
        be_polite(process.settings.maintenance)

    def turn(self) -> None:
        self._tidy()
        super().turn()

    def work(self, held: HeldTask) -> TaskResult:
        head = self._peer.call(GetOverview(request_id=new_request_id()), Overview, held.states).checkpoint
        if not head:
            return TaskResult(summary="there is no model yet")
        facts = checkpoints.read_facts(self._home.checkpoints / head)
        if facts.cursor.job and not facts.cursor.done:
            raise UsageError(f"{head} is in the middle of {facts.cursor.job}", mend="ask again when it has ended")
        if not facts.adapter_of and not self._process.settings.lora.rank:
            return TaskResult(summary="there is no adapter: all weights are trained")
        if facts.is_bad and not _asked_now(held):
            return TaskResult(summary=f"put off: the state of the head is marked ({', '.join(facts.marks)}); "
                              "trainq consolidate --now merges it all the same")
        if not facts.adapter_of:
            return TaskResult(summary=f"{head} has no adapter yet: one is put on its weights",
                              facts={"rebase": self._rebase(head)})
        if not self._has_learned(facts):
            return TaskResult(summary=f"nothing was learned since {facts.adapter_of}, and [lora] is as it was")
        try:
            made = self._merge(held, head)
        except (StorageError, StorageFullError) as error:
            if held.lease.attempt < _ATTEMPTS:
                raise
            raise TrainqError(f"after {_ATTEMPTS} attempts: {error.message}", mend=error.mend) from error
        size_bytes = manifests.read(merged.path_of(self._home, head), merged.KIND).size_bytes
        return TaskResult(
            summary=f"{head} is merged: over {made.positions} tokens of {made.rows} rows no logit differs by more than "
                    f"{made.max_logit_delta:.2g}",
            size_bytes=size_bytes,
            facts={"rebase": self._rebase(head), "rows": made.rows, "positions": made.positions,
                   "max_logit_delta": made.max_logit_delta})

    def _rebase(self, head: str) -> dict[str, Any]:
        """What the trainer is to do next, by the settings that this was merged with."""
        settings = self._process.settings
        task = RebaseTask(source=head, lora=settings.lora, seed=settings.train.seed, threads=settings.train.threads,
                          warmup=True)
        document: dict[str, Any] = msgspec.to_builtins(task)
        return document

    def _has_learned(self, head: CheckpointFacts) -> bool:
        """Whether the adapter has taken a step since it was fresh, or is to be another one."""
        if not head.has_weights and checkpoints.read_facts(self._home.checkpoints / head.adapter_of).step != head.step:
            return True
        path = self._home.checkpoints / head.name / checkpoints.ADAPTER_FOLDER / _ADAPTER_CONFIG
        has = orjson.loads(path.read_bytes())
        wanted = self._process.settings.lora
        # None means all linear ones, which peft has written out.
        targets = set(wanted.target_modules) or set(has["target_modules"])
        return (has["r"], has["lora_alpha"], has["lora_dropout"], set(has["target_modules"])) != (
            wanted.rank, wanted.alpha, wanted.dropout, targets)

    def _merge(self, held: HeldTask, head: str) -> MergedFacts:
        try:
            return self._merged_by_child(held, head)
        finally:
            files.sweep_temporaries(self._home.merged)  # of a child that was killed

    def _merged_by_child(self, held: HeldTask, head: str) -> MergedFacts:
        settings = self._process.settings
        limit = settings.consolidation.limit_seconds
        with Child(self._home.logs / "consolidation.log", "trainq.ml.consolidating", {
                "home": str(self._home.root), "source": head, "rows": settings.consolidation.check_rows,
                "max_logit_delta": settings.consolidation.max_logit_delta, "threads": settings.train.threads}) as child:
            held.keep_until_ended(child, limit, UsageError(
                f"it took longer than {limit:g} s ([consolidation] limit_seconds)",
                mend="the adapter is kept, and training goes on with it"), look_seconds=_LOOK_SECONDS)
            return child.result(MergedFacts)

    def _tidy(self) -> None:
        """Remove merged models that no rebase waits for."""
        now = self._process.clock.monotonic()
        if now < self._tidy_at or not checkpoints.list_generations(self._home.merged):
            return
        self._tidy_at = now + _TIDY_SECONDS
        request = ListJobs(request_id=new_request_id(), kinds=(JobKind.CONSOLIDATE, JobKind.REBASE), states=_OPEN)
        try:
            waiting = self._peer.client.call(request, JobList, timeout_seconds=2.0).jobs
        except BrokerUnavailableError:
            return
        if not waiting:
            self._process.log.info("merged_removed", names=merged.remove_all(self._home))


def _asked_now(held: HeldTask) -> bool:
    task = held.lease.task
    return isinstance(task, ConsolidateTask) and task.now


def serve(process: Process) -> None:
    """Run the consolidator until it is told to stop."""
    Consolidator(process).serve()
