"""How long jobs take, from overviews and events."""

from __future__ import annotations

from services.status.timing import Timing
from tests.pictures import job, overview
from trainq.figures import Expected, Measured, Observations
from trainq.jobs import JobState
from trainq.messages import EventView, Overview, Progress

PLANNED = {"train-1": 1000, "train-2": 4000}


def running(step: int, rate: float = 100.0, name: str = "train-1", **changes: str) -> Overview:
    progress = Progress(step=step, steps=100, tokens_per_second=rate)
    return overview(running=[job(id=name, state=JobState.RUNNING, progress=progress)], planned_tokens=PLANNED,
                    **changes)


def event(kind: str, at: float, name: str = "train-1") -> EventView:
    return EventView(seq=1, at=at, type=kind, job=name, body={})


def test_the_running_job_s_end_is_expected_and_forgotten_with_it() -> None:
    timing = Timing(Observations())
    for step in range(11):
        timing.saw(running(step), float(step), 5000.0 + step)
    assert timing.expected == Expected(job="train-1", ends_at=(5100.0, 5100.0))
    timing.saw(running(11, pause="the queue is paused: lunch"), 11.0, 5011.0)
    assert timing.expected is None
    timing.saw(running(12), 12.0, 5012.0)
    timing.saw(overview(), 13.0, 5013.0)
    assert timing.expected is None


def test_a_former_life_s_expectation_holds_until_it_is_known_better() -> None:
    before = Expected(job="train-1", ends_at=(5100.0, 5100.0))
    timing = Timing(Observations(expected=before))
    assert timing.expected == before
    timing.saw(running(1, name="train-2"), 0.0, 5000.0)
    assert timing.expected is None


def test_what_a_job_took_beyond_its_steps_is_measured() -> None:
    timing = Timing(Observations())
    timing.saw(running(1), 0.0, 0.0)
    timing.heard(event("LeaseGranted", 100.0))
    timing.heard(event("JobSucceeded", 112.5))
    assert timing.measured == Measured(tokens_per_second=(100.0, 100.0), beyond_seconds=(2.5, 2.5))


def test_a_job_with_a_break_in_it_tells_nothing() -> None:
    for breaks in ("LeaseEnded", "QueuePaused", "BrokerStarted"):
        timing = Timing(Observations())
        timing.saw(running(1), 0.0, 0.0)
        timing.heard(event("LeaseGranted", 100.0))
        timing.heard(event(breaks, 105.0, "" if breaks != "LeaseEnded" else "train-1"))
        timing.heard(event("JobSucceeded", 900.0))
        assert timing.measured == Measured(tokens_per_second=(100.0, 100.0))


def test_another_job_s_break_is_none() -> None:
    timing = Timing(Observations())
    timing.saw(running(1), 0.0, 0.0)
    timing.heard(event("LeaseGranted", 100.0))
    timing.heard(event("LeaseGranted", 101.0, "prepare-9"))
    timing.heard(event("AttemptFailed", 101.0, "prepare-9"))
    timing.heard(event("JobSucceeded", 110.0))
    assert timing.measured == Measured(tokens_per_second=(100.0, 100.0), beyond_seconds=(0.0, 0.0))
