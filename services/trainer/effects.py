"""What the agent is to do: the effects that the assignment decides on, and the agent performs in order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from services.trainer import wire
from trainq.jobs import Effect
from trainq.messages import Progress, TrainResult


@dataclass(frozen=True, kw_only=True, slots=True)
class StartProcess:
    """Fork a training process, after a pause if the last ones ended before they were ready."""

    after_seconds: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class PauseTrainer:
    """Start no training process any more until a person restarts the trainer; go on saying why."""

    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Greet:
    """Tell the broker of the head, and hear what it makes of it."""

    ready: wire.Ready


@dataclass(frozen=True, kw_only=True, slots=True)
class BeginLine:
    """Tell the training process to publish its new line."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportFingerprint:
    """Tell the broker that bits do not repeat across this point."""

    before: dict[str, str]
    after: dict[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class ShowTrouble:
    """Say that nothing can be trained for now, and why."""

    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class BeginRestore:
    """Tell the training process to restore what the task that is held names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BeginTraining:
    """Tell the training process to train the job that is held."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TakeBack:
    """Tell the training process to leave the job with its steps out of the weights."""

    job: str


@dataclass(frozen=True, kw_only=True, slots=True)
class KeepSteps:
    """Tell the training process to end the job with the steps that are done, ``step`` of them at least."""

    job: str
    step: int


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishNow:
    """Tell the training process to publish what it has of the job."""

    job: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportEffects:
    """Tell the broker that the job's steps are others from these on."""

    effects: tuple[Effect, ...]
    reason: str


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
    """Tell the broker that the attempt failed by the job's fault; ``counts`` unless it had made progress.

    ``final``: another attempt would end the same.
    """

    reason: str
    counts: bool = True
    final: bool = False


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


@dataclass(frozen=True, kw_only=True, slots=True)
class DropLease:
    """The broker has ended the job itself, when it heard of the head."""


ToProcess: TypeAlias = BeginLine | StopProcess | KeepSteps | PublishNow | TakeBack
AgentEffect: TypeAlias = (
    StartProcess | PauseTrainer | Greet | BeginLine | ReportFingerprint | ShowTrouble | BeginTraining | BeginRestore
    | TakeBack | StopProcess | ShowProgress | ReportPublished | CompleteJob | FailJob | ReportLostShard | ReleaseJob
    | AcknowledgeCancel | ForgetJob | DropLease | KeepSteps | PublishNow | ReportEffects
)
