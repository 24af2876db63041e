"""The learning rate of a step, on a model line that has no end.

It is a pure function of the job's frozen settings and of where the step lies (:class:`Moment`): there is no scheduler
with a state of its own to save, and a job that is resumed, trained again or derived again has the same rates.

The rate is ``learning_rate`` times the smaller of two factors:

- the **warm-up** of the optimizer: from nothing linearly to 1 over ``warmup_steps`` of its own steps. AdamW's second
  moments are guesses at first (https://arxiv.org/abs/1910.04209), so it follows the optimizer and not the job: it is
  that of the line's first steps, and comes again where a rebase has begun a fresh optimizer.
- the factor **of the job**. A schedule that decays to the end of training has nothing to decay to on a line that
  goes on with every file, so each job is a cycle of its own: with ``rewarm_steps`` it begins at ``min_rate_fraction``,
  where the job before has left off, and rises linearly to 1 (re-warming, then decaying again, is what continual
  pre-training needs: https://arxiv.org/abs/2308.04014, https://arxiv.org/abs/2403.08763). Then

  - ``constant`` stays at 1;
  - ``cosine`` falls along half a cosine (https://arxiv.org/abs/1608.03983), ``linear`` along a line, towards
    ``min_rate_fraction``, which the step after the job's last would have;
  - ``wsd`` (warm-up, stable, decay: https://arxiv.org/abs/2404.06395) stays at 1 and decays over the last
    ``decay_fraction`` of the job's steps towards ``min_rate_fraction``, by 1 - sqrt, the best shape of those compared
    in https://arxiv.org/abs/2405.18392. That the next file goes on from the decayed weights at the full rate is its
    variant for one line, WSD-S (https://arxiv.org/abs/2410.05192).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from trainq.config import TrainSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class Moment:
    """Where a step lies. Steps count from 0.

    ``step`` is the line's global step, ``job_step`` that of the job, of ``steps_planned`` in all; ``optimizer_since``
    is the global step with which the optimizer began.
    """

    step: int
    job_step: int
    steps_planned: int
    optimizer_since: int = 0


def learning_rate(settings: TrainSettings, moment: Moment) -> float:
    """The rate of one step: more than 0, and at most ``settings.learning_rate``."""
    return settings.learning_rate * min(_of_optimizer(settings, moment), _of_job(settings, moment))


def _of_optimizer(settings: TrainSettings, moment: Moment) -> float:
    return min(1.0, (moment.step - moment.optimizer_since + 1) / max(1, settings.warmup_steps))


def _of_job(settings: TrainSettings, moment: Moment) -> float:
    steps, at, floor = moment.steps_planned, moment.job_step, settings.min_rate_fraction
    # A short job would else end before it has reached the rate, and never train at it.
    rewarm = min(settings.rewarm_steps, steps // 2)
    risen = _between(floor, (at + 1) / rewarm) if at < rewarm else 1.0
    return min(risen, _between(floor, _decayed(settings, at, steps, rewarm)))


def _decayed(settings: TrainSettings, at: int, steps: int, rewarm: int) -> float:
    """From 1 towards 0 by the schedule. ``at`` is the step of the job, ``rewarm`` how many of its steps rise."""
    done = max(0.0, (at - rewarm) / (steps - rewarm))
    match settings.schedule:
        case "cosine":
            # (1 + cos(pi x)) / 2, in the form that does not round to 0 just before the end.
            return math.cos(math.pi * done / 2) ** 2
        case "linear":
            return 1.0 - done
        case "wsd":
            decaying = round(settings.decay_fraction * steps)
            gone = at - (steps - decaying) + 1
            return 1.0 - math.sqrt(gone / (decaying + 1)) if gone > 0 else 1.0
        case "constant":
            return 1.0


def _between(floor: float, part: float) -> float:
    """``part`` of the way from ``floor`` up to 1; exactly 1 at its end."""
    return floor + (1.0 - floor) * part if part < 1.0 else 1.0
