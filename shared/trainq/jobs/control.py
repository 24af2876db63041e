"""Control as facts: who stopped what, and what of it changes which steps a job does.

An *effect* is what changes the weights that a job ends with, apart from its settings: a batch that is left out, another
size of the micro-batches, an end before the plan's. It is in the journal before the step from which it holds
(``effective_step``) is done, and is applied there again, whoever does the step: so a job that is resumed, or derived
from the journal, does the same steps. What only stops and goes on (pause, drain, stop, yield) changes no bit.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from trainq.jobs.base import Event, JobEvent


class EffectKind(StrEnum):
    """What an effect does at its step."""

    # The batch of the step is left out: no weight moves, and the generators of random numbers are seeded anew. The
    # effect's value is 1 where nothing was wrong with it: the line was taken back behind it.
    SKIP_BATCH = "skip_batch"
    # From the step on so many rows go through the model at once (the effect's value); the batch stays what it is.
    MICRO_BATCH = "micro_batch"
    # The job is done before this step: so many steps are all of its plan.
    CUT = "cut"


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """One effect. ``step`` is the job's step from which it holds, counted from 0."""

    kind: EffectKind
    step: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    value: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0


def cut_from(effects: Iterable[Effect]) -> int:
    """How many steps a job was to have that these have cut short; 0 if none has."""
    return next((effect.value for effect in effects if effect.kind is EffectKind.CUT), 0)


def batches_left_out(effects: Iterable[Effect], steps: int) -> int:
    """How many batches of a job's first ``steps`` these leave out."""
    return sum(effect.kind is EffectKind.SKIP_BATCH and effect.step < steps for effect in effects)


class EffectDecided(JobEvent, frozen=True, kw_only=True, tag=True):
    """The job's steps are others from ``effective_step`` on (counted from 0): see :class:`EffectKind`.

    Recorded before that step is done. One of the same kind and step replaces the one before.
    """

    kind: EffectKind
    effective_step: int
    value: int = 0
    reason: str


class QueuePaused(Event, frozen=True, kw_only=True, tag=True):
    """Nothing is trained until the queue is resumed: what runs is saved, and keeps its lease.

    With ``seconds`` it is resumed by itself after so long (``yield``).
    """

    reason: str
    seconds: float = 0.0


class QueueDrained(Event, frozen=True, kw_only=True, tag=True):
    """No further train job is granted until the queue is resumed; the one that runs goes on to its end."""

    reason: str


class QueueResumed(Event, frozen=True, kw_only=True, tag=True):
    """Train jobs are granted again, and a paused one goes on.

    ``after_yield``: the time of a yield is over; a drain or a stop stays what it is.
    """

    after_yield: bool = False


class TrainerStopped(Event, frozen=True, kw_only=True, tag=True):
    """This life of the trainer (``session``) saves, gives its job back, and does no more; its next life does."""

    session: str
    reason: str


class CheckpointRequested(Event, frozen=True, kw_only=True, tag=True):
    """Somebody wants the state of the model published at the next step boundary."""
