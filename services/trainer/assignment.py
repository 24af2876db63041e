"""The assignment: what the agent does about its job and its training process. Pure: events in, effects out.

Rules:

* At most one job and one training process. The process is kept warm between jobs.
* A training process that ends while it has a job is started again and goes on from the newest checkpoint; the third
  such end without a newly published step is the job's failure.
* A job is left in one of four ways: completed, failed, cancelled (each after the training process has said so), or
  released because the agent stops. A lease that was lost is simply forgotten: the process is stopped, which saves.
* ``Finished`` wins over a cancel that was asked for too late.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from services.trainer import wire
from trainq.errors import ShardLostError
from trainq.messages import Progress, TrainResult
from trainq.service.work import Interruption

# The same number as the broker's attempts: a file that kills its process is set aside, not tried for ever.
MAX_ENDS_WITHOUT_PROGRESS = 3
MAX_START_PAUSE_SECONDS = 60.0


class Phase(StrEnum):
    """What the training process is doing, as far as the agent knows."""

    ABSENT = "absent"
    STARTING = "starting"
    IDLE = "idle"
    TRAINING = "training"
    LEAVING = "leaving"


@dataclass(frozen=True, kw_only=True, slots=True)
class StartProcess:
    """Fork a training process, after a pause if the last ones ended before they were ready."""

    after_seconds: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ShowTrouble:
    """Say that nothing can be trained for now, and why."""

    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class BeginTraining:
    """Tell the training process to train the job that is held."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TakeBack:
    """Tell the training process to leave the job with its steps out of the weights."""

    job: str


@dataclass(frozen=True, kw_only=True, slots=True)
class StopProcess:
    """Tell the training process to finish its step, save and end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ShowProgress:
    """Put this into the next heartbeat."""

    progress: Progress


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportPublished:
    """Tell the broker of a new generation."""

    published: wire.Published


@dataclass(frozen=True, kw_only=True, slots=True)
class CompleteJob:
    """Tell the broker that all of the job's steps are in a published generation."""

    result: TrainResult


@dataclass(frozen=True, kw_only=True, slots=True)
class FailJob:
    """Tell the broker that the attempt failed by the job's fault."""

    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ReleaseJob:
    """Give the job back; ``system_fault`` says why nothing can be trained here for now, if that is the reason."""

    reason: str
    system_fault: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportLostShard:
    """Tell the broker that the job's shard must be made again."""

    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class AcknowledgeCancel:
    """Tell the broker that the cancelled job's steps are out of the weights."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ForgetJob:
    """The lease is somebody else's now; tell the broker nothing."""


Effect: TypeAlias = (
    StartProcess | ShowTrouble | BeginTraining | TakeBack | StopProcess | ShowProgress | ReportPublished
    | CompleteJob | FailJob | ReportLostShard | ReleaseJob | AcknowledgeCancel | ForgetJob
)


@dataclass(slots=True)
class Assignment:
    """The agent's state. Every method takes one event and returns the effects to perform, in order."""

    phase: Phase = Phase.ABSENT
    job: str = ""
    stopping: bool = False
    failure: str = ""
    generation: int = 0
    _ends_without_progress: int = 0
    _ends_before_ready: int = 0
    _cancelling: bool = field(default=False)

    @property
    def wants_job(self) -> bool:
        """Whether the agent should ask for a lease."""
        return not self.job and not self.stopping and self.phase is Phase.IDLE

    def begin(self) -> list[Effect]:
        """The agent is up: have a warm process before the first job comes."""
        self.phase = Phase.STARTING
        return [StartProcess()]

    def leased(self, job: str, *, cancel: bool = False, known_generation: int = 0) -> list[Effect]:
        """A job was leased while the process was idle.

        Args:
            job: its id.
            cancel: it is to be left with none of its steps in the weights.
            known_generation: the newest that the journal knows. To train on an older one would drop, without a word,
                what jobs that count as trained had taught.
        """
        self.job, self._ends_without_progress, self._cancelling, self.failure = job, 0, cancel, ""
        if self.generation < known_generation:
            return self._left(ReleaseJob(system_fault=True, reason=(
                f"the newest checkpoint that verifies is generation {self.generation}, and the journal knows "
                f"{known_generation}: bring checkpoints/ back, or begin anew with another home")))
        self.phase = Phase.TRAINING
        return [TakeBack(job=job)] if cancel else [BeginTraining()]

    def interrupted(self, why: Interruption) -> list[Effect]:
        """The broker or a signal wants the work ended; said again and again until it is."""
        if why is Interruption.STOPPING:
            return self.stop()
        if not self.job or self.phase is Phase.LEAVING:
            return []
        if why is Interruption.LOST:
            self.job = ""
            return [ForgetJob(), *self._stop_process()]
        if self._cancelling or self.phase is not Phase.TRAINING:
            return []
        self._cancelling = True
        return [TakeBack(job=self.job)]

    def stop(self) -> list[Effect]:
        """The agent is to end: save first."""
        if self.stopping:
            return []
        self.stopping = True
        return self._stop_process()

    def heard(self, message: wire.FromTraining) -> list[Effect]:
        """The training process said something."""
        match message:
            case wire.Ready():
                self.generation = message.generation
                return self._ready()
            case wire.Progress() if message.job == self.job:
                return [ShowProgress(progress=_shown(message))]
            case wire.Published():
                self.generation, self._ends_without_progress = message.generation, 0
                # A generation that takes an earlier job back is published under the lease of the present one.
                return [ReportPublished(published=message)] if self.job else []
            case wire.Finished() if message.job == self.job:
                return self._left(CompleteJob(result=TrainResult(
                    steps_done=message.steps_done, steps_planned=message.steps_planned,
                    global_step=message.global_step, generation=message.generation, checkpoint=message.checkpoint,
                    first_loss=message.first_loss, last_loss=message.last_loss)))
            case wire.Cancelled() if message.job == self.job:
                return self._left(FailJob(reason=self.failure) if self.failure else AcknowledgeCancel())
            case wire.Failed() if not message.job:
                return [ShowTrouble(reason=f"{message.code}: {message.reason}")]
            case wire.Failed() if message.job == self.job:
                return self._failed(message)
            case _:
                return []  # about a job that is no longer held

    def ended(self, how: str) -> list[Effect]:
        """The training process ended, by its own doing or from outside."""
        before, self.phase = self.phase, Phase.ABSENT
        if self.stopping:
            job, self.job = self.job, ""
            return [ReleaseJob(reason="the trainer stops")] if job else []
        self._ends_before_ready = self._ends_before_ready + 1 if before is Phase.STARTING else 0
        if self.job and before is Phase.TRAINING:
            self._ends_without_progress += 1
            if self._ends_without_progress >= MAX_ENDS_WITHOUT_PROGRESS and not self.failure:
                ends = self._ends_without_progress
                self.failure = f"its training process ended {ends} times without progress (last: {how})"
        self.phase = Phase.STARTING
        given_back: list[Effect] = []
        if self.job and self._ends_before_ready >= MAX_ENDS_WITHOUT_PROGRESS:
            reason = f"the training process ends before it is ready ({how})"
            given_back = [ReleaseJob(reason=reason, system_fault=True)]
            self.job, self.failure, self._cancelling = "", "", False
        pause = min(MAX_START_PAUSE_SECONDS, 2.0**self._ends_before_ready - 1)
        trouble = ShowTrouble(reason=f"the training process ended before it was ready ({how})")
        return [*given_back, *([trouble] if pause else []), StartProcess(after_seconds=pause)]

    def _ready(self) -> list[Effect]:
        self._ends_before_ready = 0
        if self.phase is Phase.LEAVING:
            return []  # it was told to stop before it was ready, and will
        self.phase = Phase.IDLE
        if not self.job:
            return []
        self.phase = Phase.TRAINING
        # A failed or cancelled job may have steps in a published generation: they are taken back first.
        if self.failure or self._cancelling:
            return [TakeBack(job=self.job)]
        return [BeginTraining()]

    def _failed(self, message: wire.Failed) -> list[Effect]:
        reason = f"{message.code}: {message.reason}"
        if message.code == ShardLostError.code:
            return self._left(ReportLostShard(reason=message.reason))
        if message.system:
            return self._left(ReleaseJob(reason=reason, system_fault=True))
        self.failure = reason
        return [TakeBack(job=self.job)]

    def _left(self, effect: Effect) -> list[Effect]:
        self.job, self.failure, self._cancelling = "", "", False
        if self.phase is Phase.TRAINING:
            self.phase = Phase.IDLE
        return [effect]

    def _stop_process(self) -> list[Effect]:
        if self.phase in (Phase.ABSENT, Phase.LEAVING):
            return []
        self.phase = Phase.LEAVING
        return [StopProcess()]


def _shown(message: wire.Progress) -> Progress:
    left = message.steps_planned - message.job_step
    per_step = message.elapsed_seconds / message.steps_this_run if message.steps_this_run else None
    return Progress(
        step=message.job_step, steps=message.steps_planned, unit="steps", global_step=message.global_step,
        loss=message.loss, learning_rate=message.learning_rate, tokens_per_second=message.tokens_per_second,
        seconds_left=None if per_step is None else round(left * per_step, 1))
