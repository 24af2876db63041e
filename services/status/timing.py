"""How fast training goes: the running job's pace, and what the last jobs took. Pure."""

from __future__ import annotations

from trainq import forecasting
from trainq.figures import Expected, Measured, Observations
from trainq.forecasting import Pace, Rates
from trainq.messages import EventView, Overview

# Events after which the time since a job's start is not the time that it takes.
_BREAKS = frozenset({"LeaseEnded", "AttemptFailed", "CancelRequested", "QueuePaused", "TrainerStopped",
                     "BrokerStarted"})
# The topics of all that is looked at.
EVENTS = frozenset({*_BREAKS, "LeaseGranted", "JobSucceeded"})


class Timing:
    """Fed with every overview and event; ``observed`` is what a former life of the process had found."""

    def __init__(self, observed: Observations) -> None:
        self._rates = Rates(observed.measured)
        self._pace = Pace()
        self._expected = observed.expected
        # Of jobs that run since their start: when that was, and what they are to train.
        self._begun: dict[str, tuple[float, int]] = {}
        self._planned: dict[str, int] = {}

    @property
    def measured(self) -> Measured | None:
        """How fast the last jobs went."""
        return self._rates.measured()

    @property
    def expected(self) -> Expected | None:
        """When the running job is expected to end; None if there is none, or nobody knows."""
        return self._expected

    def saw(self, overview: Overview, now: float, now_wall: float) -> None:
        """The broker's newest overview, at ``now`` (monotonic seconds)."""
        self._planned = overview.planned_tokens
        job = overview.training
        if job is None or (self._expected is not None and self._expected.job != job.id):
            self._pace, self._expected = Pace(), None
        if job is None or job.progress is None or job.progress.unit != "steps":
            return
        if overview.pause or overview.stop:
            self._pace, self._expected = Pace(), None
            return
        self._pace.note(job.progress.step, now)
        self._rates.stepped(job.id, job.progress.tokens_per_second or 0.0)
        span = forecasting.moments(self._pace.span_left(job.progress, now), now_wall)
        before = self._expected.ends_at if self._expected is not None else None
        steady = forecasting.steady(before, span, now_wall)
        self._expected = None if steady is None else Expected(job=job.id, ends_at=steady)

    def heard(self, event: EventView) -> None:
        """One of :data:`EVENTS`."""
        if event.type == "LeaseGranted":
            if planned := self._planned.get(event.job):
                self._begun = {event.job: (event.at, planned)}
        elif event.type == "JobSucceeded":
            if begun := self._begun.pop(event.job, None):
                self._rates.ended(event.job, begun[1], event.at - begun[0])
        elif not event.job or event.job in self._begun:
            self._begun.clear()
