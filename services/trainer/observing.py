"""Between the training loop and the agent: what the loop tells of a job, and what it is to do."""

from __future__ import annotations

import time
from typing import Protocol

from services.trainer import surroundings, wire
from trainq.checkpoints import Cursor
from trainq.errors import OtherFingerprintError
from trainq.jobs import Effect, EffectKind
from trainq.ml.checkpointing import Publication
from trainq.ml.metrics import StepMetrics
from trainq.ml.training import Wish


class Told(Protocol):
    """The training process, as far as a job's observer has to do with it."""

    @property
    def holds_on_other_fingerprint(self) -> bool:
        """Whether a person is to decide before anything is computed on other ground."""
        ...

    def wait_until_recorded(self, job: str) -> bool:
        """Wait until what was said last is in the journal; false if the job is to be left before."""
        ...

    def wish(self, job: str) -> Wish:
        """What the waiting orders mean for the running job."""
        ...

    def fitted(self, rows: int) -> None:
        """So many rows at once are to fit into memory, where more have not."""
        ...

    def say(self, message: wire.WireMessage) -> None:
        """Tell the agent, without waiting."""
        ...


class Observer:
    """Between the training loop and the agent, for one job."""

    def __init__(self, process: Told, job: str) -> None:
        self._process, self._job = process, job
        self._started, self._steps, self._tokens, self._spikes = time.monotonic(), 0, 0, 0

    def wish(self) -> Wish:
        return self._process.wish(self._job)

    def stepped(self, metrics: StepMetrics, cursor: Cursor) -> None:
        elapsed = time.monotonic() - self._started
        self._steps += 1
        self._tokens += metrics.tokens
        self._spikes += metrics.grad_spike
        if metrics.grad_spike:
            surroundings.note(f"gradient spike: the norm is {metrics.grad_norm:.4g} at step {metrics.job_step} of "
                              f"{self._job}\n")
        self._process.say(wire.Progress(
            job=self._job, job_step=cursor.job_step, steps_planned=cursor.steps_planned, global_step=metrics.step,
            loss=metrics.loss, learning_rate=metrics.learning_rate,
            tokens_per_second=round(self._tokens / max(elapsed, 1e-9), 1), steps_this_run=self._steps,
            elapsed_seconds=round(elapsed, 3), grad_spikes=self._spikes, out_of_band=metrics.out_of_band))

    def publishing(self, size_bytes: int, *, waits: bool) -> None:
        self._process.say(wire.Saving(size_bytes=size_bytes, waits=waits))

    def published(self, publication: Publication) -> None:
        self._process.say(published_message(publication))

    def decide(self, effects: tuple[Effect, ...], reason: str) -> bool:
        self._process.say(wire.Deciding(job=self._job, effects=effects, reason=reason))
        recorded = self._process.wait_until_recorded(self._job)
        for effect in effects if recorded else ():
            if effect.kind is EffectKind.MICRO_BATCH:
                self._process.fitted(effect.value)
        return recorded

    def taken_back(self, reason: str) -> None:
        surroundings.note(f"{self._job}: {reason}\n")
        self._process.say(wire.TakenBack(job=self._job, reason=reason))

    def fingerprint_changed(self, before: dict[str, str], after: dict[str, str]) -> None:
        if self._process.holds_on_other_fingerprint:
            raise OtherFingerprintError(before, after)
        self._process.say(wire.OtherFingerprint(job=self._job, before=before, after=after))
        self._process.wait_until_recorded(self._job)


def published_message(publication: Publication) -> wire.Published:
    """What the agent is told of a new generation."""
    facts = publication.facts
    return wire.Published(
        generation=facts.generation, name=facts.name, step=facts.step, reason=facts.reason,
        seconds=round(publication.seconds, 3), write_seconds=round(publication.write_seconds, 3),
        size_bytes=publication.size_bytes, job=facts.cursor.job, job_step=facts.cursor.job_step,
        done=facts.cursor.done, effects=facts.cursor.effects, marks=facts.marks)
