"""The rules of ``[guard]``: what is made of a step's numbers. Pure: numbers in, verdicts out.

Rules:

* A loss or a gradient that is no finite number: its batch is left out. The third in a row (a setting) takes the line
  back to its newest generation, and leaves out the batches since, the good ones too; the line goes on behind them. If
  that comes again in the same job, or too large a share of its batches were no finite numbers, the attempt has failed.
* A weight that is no finite number, found where it was to be published or by a loss that is none, takes the line back
  to its newest generation. The steps since are done again, and the weights are looked at after each of them: the batch
  of the one that spoils them, twice, is left out. If none does, it was the machine, and nothing of it stays; after the
  third time in vain it is the machine's fault.
* A gradient's norm far above the median of the steps before is noted, and nothing else: it is clipped.
* A loss far above that median is out of its band; so many steps in a row are a bad state. Four times as many, and it is
  the line's level: from then on it enters the median, and what stays there comes back into the band.
* A state is marked from then on, or from a batch that was left out, until so many steps went well.

Good batches are left out, too: three bad ones in a row are a sign of weights that went wrong before them, and whoever
did the same steps again would come to the same weights. How many there are since the newest generation depends on when
that was made, and may be all of the file: so many of the last ones go with the bad ones as the share allows, and those
before them are done again. Whether an attempt fails by its losses and gradients depends on these alone.

All of it is a function of the job's effects, of its steps' numbers and of the head's facts: what is resumed anywhere
decides the same.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain, islice
from typing import NamedTuple

from trainq.checkpoints import CheckpointFacts
from trainq.config import GuardSettings
from trainq.ml.metrics import StepMetrics

# Fewer steps have no median worth the name.
LEAST_STEPS = 16

# After so many times ``band_steps`` steps out of its band a loss is the level of the line, and is compared with.
ACCEPTED_AFTER = 4

# All effects of a job, each with its reason, travel in one message.
MOST_SKIPPED = 4000
# So many of them may be batches that were no finite numbers, and so many steps may lie behind the newest generation.
MOST_NOT_FINITE = MOST_UNPUBLISHED = MOST_SKIPPED // 2

SKIPPED = "a batch was left out"
OUT_OF_BAND = "the loss was out of its band"

# A machine that spoils the weights again and again is not the one to train on.
MOST_SEARCHES = 3


class Reaction(StrEnum):
    """What follows on a loss or a gradient that is no finite number."""

    SKIP = "skip"
    ROLL_BACK = "roll_back"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Answer:
    """``steps`` are those whose batches are left out, or would have been; ``reason`` is for people.

    ``good`` are those of them in which nothing was wrong.
    """

    reaction: Reaction
    steps: range
    reason: str
    good: frozenset[int] = frozenset()


@dataclass(slots=True)
class Search:
    """For the step that spoils the weights: they are looked at after each of the job's steps before ``until``."""

    until: int = 0
    # The one that has done it in this life; it is believed once it does it again.
    suspect: int | None = None
    # How often the line was taken back for it in this life since a step was found.
    times: int = 0


# Why a batch is left out, as its effect says it.
WHY = NOT_FINITE, GOOD, SPOILS = 0, 1, 2


class LeftOut(NamedTuple):
    """The steps whose batches are left out already, in the order of :data:`WHY`.

    For a loss or a gradient that is none; good ones, with a roll back; for what their update makes of the weights.
    """

    not_finite: Collection[int] = frozenset()
    good: Collection[int] = frozenset()
    spoils: Collection[int] = frozenset()

    def were_taken_back(self, in_a_row: int) -> bool:
        """Whether the line was: without that there are no good ones, and always fewer than so many in a row."""
        return bool(self.good) or any(_in_a_row_before(self.not_finite, step + 1) >= in_a_row
                                      for step in self.not_finite)


def after_non_finite(settings: GuardSettings, left_out: LeftOut, *, job_step: int, head_step: int,
                     planned: int) -> Answer:
    """What follows on such a loss or gradient.

    Args:
        settings: the job's.
        left_out: what is left out already.
        job_step: the step in which it was met, from 0.
        head_step: how many of the job's steps the newest generation covers.
        planned: how many steps the job was to have.
    """
    refusal = _too_many(settings, left_out, job_step, planned)
    if refusal:
        return refusal
    in_a_row = 1 + _in_a_row_before(left_out.not_finite, job_step)
    if in_a_row < settings.non_finite_in_a_row:
        return _this_alone(job_step)
    return _taken_back(settings, left_out, range(min(head_step, job_step), job_step + 1), planned, in_a_row)


def after_bad_weights(settings: GuardSettings, left_out: LeftOut, *, job_step: int, planned: int) -> Answer:
    """What follows on a step whose update makes a weight no finite number: as above."""
    return _too_many(settings, left_out, job_step, planned) or _this_alone(job_step)


def _too_many(settings: GuardSettings, left_out: LeftOut, job_step: int, planned: int) -> Answer | None:
    """Why this one cannot be left out beside the others, if so."""
    count = len({*left_out.not_finite, *left_out.spoils, job_step})
    share = count / planned
    if share > settings.max_skipped_share:
        why = f"{share:.0%} of its batches would be left out, at most {settings.max_skipped_share:.0%} may be"
    elif count >= planned:
        why = "nothing of it would be trained"
    elif count > MOST_NOT_FINITE:
        why = f"{count} of its batches would be left out, at most {MOST_NOT_FINITE} may be"
    else:
        return None
    return Answer(Reaction.FAIL, range(job_step, job_step + 1), why)


def _this_alone(job_step: int) -> Answer:
    return Answer(Reaction.SKIP, range(job_step, job_step + 1), "its batch is left out")


def _taken_back(settings: GuardSettings, left_out: LeftOut, since: range, planned: int, in_a_row: int) -> Answer:
    """``since``: the steps since the newest generation, of which the last ones are left out."""
    if left_out.were_taken_back(settings.non_finite_in_a_row):
        return Answer(Reaction.FAIL, since, "it has come again after the line had been taken back once")
    not_finite = {*left_out.not_finite, since[-1]}
    most = min(int(planned * settings.max_skipped_share), MOST_SKIPPED, planned - 1)
    first, together = since.stop, {*not_finite, *left_out.spoils}
    while first > since.start and (first - 1 in together or len(together) < most):
        first -= 1
        together.add(first)
    steps = range(first, since.stop)
    good = frozenset(steps).difference(not_finite, left_out.spoils)
    return Answer(Reaction.ROLL_BACK, steps, f"{in_a_row} batches in a row: the line is taken back to its newest "
                  f"generation, and the batches of the last {len(steps)} steps are left out, {len(good)} good ones "
                  "among them", good)


def _in_a_row_before(steps: Collection[int], job_step: int) -> int:
    count = 0
    while job_step - 1 - count in steps:
        count += 1
    return count


def masking_fault(trained_tokens: int, tokens: int, settings: GuardSettings) -> str:
    """What is wrong with a file of which so many of all tokens are trained; empty if nothing is."""
    if trained_tokens >= tokens * settings.min_trained_share:
        return ""
    return (f"{trained_tokens} of its {tokens} tokens are trained, at least {settings.min_trained_share:.4%} should be "
            "([guard] min_trained_share)")


def halved(rows: int) -> int:
    """How many rows go through the model at once where ``rows`` did not fit; 0 if one did not."""
    return rows // 2


@dataclass(frozen=True, slots=True)
class Judged:
    """What is to be said of a step: see :class:`~trainq.ml.metrics.StepMetrics`."""

    grad_spike: bool
    out_of_band: int


class History:
    """The steps of one job with which its next one is compared."""

    def __init__(self, settings: GuardSettings, newest_first: Iterable[StepMetrics]) -> None:
        self._settings = settings
        self.rebuild(newest_first)

    def rebuild(self, newest_first: Iterable[StepMetrics]) -> None:
        """Begin with what the job has done; reads back as far as it needs to."""
        steps = iter(newest_first)
        newest = next(steps, None)
        self._out_of_band = newest.out_of_band if newest is not None else 0
        every = chain([newest] if newest is not None else [], steps)
        entered = ((each.loss, each.grad_norm) for each in every if self._enters(each.out_of_band))
        # One window for both, so that it is the same wherever it is read back.
        self._window = deque(list(islice(entered, self._settings.window_steps))[::-1], self._settings.window_steps)

    def _enters(self, out_of_band: int) -> bool:
        """Whether a step is compared with. One out of the band is not: what stays high would soon be the measure.

        It becomes that only after long, so that every bad state ends some time.
        """
        return not out_of_band or out_of_band > ACCEPTED_AFTER * self._settings.band_steps

    def judge(self, loss: float, grad_norm: float | None) -> Judged:
        """Compare a step with those before it, and count it among them; of one that overflowed in fp16 the loss alone.
        """
        settings, spike, is_out = self._settings, False, False
        if len(self._window) >= min(LEAST_STEPS, settings.window_steps):
            norms = [norm for _, norm in self._window if norm is not None]
            spike = (grad_norm is not None and bool(norms)
                     and grad_norm > settings.spike_factor * statistics.median(norms))
            median = statistics.median(loss for loss, _ in self._window)
            is_out = loss > settings.band_factor * median + settings.band_margin
        self._out_of_band = self._out_of_band + 1 if is_out else 0
        if self._enters(self._out_of_band):
            self._window.append((loss, grad_norm))
        return Judged(grad_spike=spike, out_of_band=self._out_of_band)


@dataclass(frozen=True, slots=True)
class State:
    """What is wrong with the state of the line: ``marks``, until its step ``settled_at``."""

    marks: tuple[str, ...]
    settled_at: int

    @classmethod
    def of(cls, facts: CheckpointFacts) -> State:
        """That of the line with these facts."""
        return cls(facts.marks, facts.settled_at)

    def after_skip(self, step: int, settings: GuardSettings) -> State:
        """A batch was left out; the line has done ``step`` steps."""
        return self._marked(SKIPPED, step + settings.settle_steps) if settings.settle_steps else self

    def after_step(self, step: int, judged: Judged, settings: GuardSettings) -> State:
        """A step was done, the line's ``step``-th."""
        if judged.out_of_band >= settings.band_steps:
            return self._marked(OUT_OF_BAND, step + settings.settle_steps + 1)
        return self if step < self.settled_at else State((), 0)

    def _marked(self, mark: str, settled_at: int) -> State:
        return State(tuple(dict.fromkeys((*self.marks, mark))), max(self.settled_at, settled_at))
