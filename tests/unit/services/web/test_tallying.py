"""What the events say, summed up."""

from __future__ import annotations

from typing import Any

from services.web.tallying import JOB_BOUNDS, Histogram, Tally
from trainq.messages import EventView


def event(type_: str, job: str = "", at: float = 0.0, **body: Any) -> EventView:
    return EventView(seq=1, at=at, type=type_, job=job, body=body)


def tallied(*events: EventView) -> Tally:
    tally = Tally()
    for each in events:
        tally.take(each)
    return tally


def test_a_value_that_equals_a_bound_is_below_it() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 99.0):
        histogram.observe(value)
    assert (histogram.counts, histogram.sum) == ([2, 2, 1], 104.0)


def test_a_jobs_seconds_are_those_of_all_its_leases_and_of_no_pause_between() -> None:
    tally = tallied(
        event("LeaseGranted", "train-1", 100, attempt=1), event("LeaseEnded", "train-1", 110, died=True),
        event("LeaseGranted", "train-1", 500, attempt=2), event("JobSucceeded", "train-1", 505, result={}))
    assert (tally.job_seconds["train"].sum, sum(tally.job_seconds["train"].counts)) == (15.0, 1)
    assert +tally.ended == {("train", "succeeded"): 1}
    assert +tally.lost_workers == {"train": 1}
    assert tally.take_begun() == ["train-1"]
    assert tally.take_begun() == []


def test_a_job_that_ran_before_counting_began_is_timed_from_its_start() -> None:
    tally = Tally()
    tally.begin([("snapshot-4", 50.0)])
    tally.take(event("JobSucceeded", "snapshot-4", 60.0, result={"summary": "", "facts": {"freed_bytes": 9}}))
    assert tally.job_seconds["snapshot"].sum == 10.0
    assert tally.freed_bytes == 0, "only retention frees"


def test_a_job_that_never_ran_is_not_timed_and_a_clock_that_went_back_takes_nothing() -> None:
    tally = tallied(event("JobCancelled", "train-1", 9.0, reason="r"),
                    event("LeaseGranted", "train-2", 100, attempt=1), event("JobSucceeded", "train-2", 40, result={}))
    assert tally.job_seconds == {}
    assert +tally.ended == {("train", "cancelled"): 1, ("train", "succeeded"): 1}


def test_rows_by_what_became_of_them() -> None:
    report = {"read": 10, "trained": 6, "rejected": 2, "duplicate": 2, "reasons": {"x": 2}}
    tally = tallied(event("JobPrepared", "train-1", report=report), event("JobRejected", "train-2", report=report),
                    event("JobPrepared", "train-3", report=None))
    assert tally.rows == {"trained": 12, "held_out": 0, "rejected": 4, "dropped_long": 0, "duplicate": 4}
    assert +tally.ended == {("train", "rejected"): 1}


def test_checkpoints_of_which_only_the_head_was_heard_have_no_seconds() -> None:
    tally = tallied(
        event("CheckpointPublished", "train-1", generation=2, stall_seconds=0.02, write_seconds=3.0, size_bytes=100),
        event("CheckpointPublished", "train-1", generation=3))
    assert (tally.checkpoints, tally.checkpoint_bytes) == (2, 100)
    assert sum(tally.checkpoint_write_seconds.counts) == sum(tally.checkpoint_stall_seconds.counts) == 1


def test_what_else_is_counted() -> None:
    tally = tallied(
        event("JobSubmitted", "train-1", origin="people"), event("AttemptFailed", "train-1", reason="r"),
        event("FileRefused", name="x"), event("QueueHeld", reason="r", failures_in_a_row=True),
        event("QueueHeld", reason="r"), event("EffectDecided", "train-1", kind="skip_batch"),
        event("CheckpointDamaged", generation=1), event("RemovalDecided", store="checkpoints", size_bytes=5),
        event("JobSucceeded", "retention-3", 9.0, result={"facts": {"freed_bytes": 7}}), event("OfALaterVersion"))
    assert (tally.submitted, tally.failed_attempts) == ({"people": 1}, {"train": 1})
    assert (tally.refused_files, tally.damaged_checkpoints, tally.freed_bytes) == (1, 1, 7)
    assert tally.holds == {"failures_in_a_row": 1, "machine": 1}
    assert tally.effects == {"skip_batch": 1}
    assert (tally.removals, tally.removed_bytes) == ({"checkpoints": 1}, {"checkpoints": 5})


def test_labels_have_few_values_whatever_an_event_holds() -> None:
    tally = tallied(event("JobFailed", "made-up-kind-7", 3.0), event("JobFailed", "", 3.0),
                    event("JobPrepared", "train-1", report={"trained": "many", "rejected": -1}))
    assert set(+tally.ended) == {("other", "failed")}
    assert sum(tally.rows.values()) == 0
    assert tuple(sorted(JOB_BOUNDS)) == JOB_BOUNDS


def test_what_makes_the_model_better() -> None:
    made = {"summary": "made", "facts": {"file": {"name": "a"}, "generator": "syllo", "rows": 100}}
    tally = tallied(
        event("ChampionMoved", how="promoted"), event("CheckpointJudged", outcome="keep", regressed=True),
        event("CheckpointJudged", outcome="promote"), event("LevelJudged", generator="syllo", before=1, after=2),
        event("LevelJudged", generator="syllo", before=2, after=2), event("JobSucceeded", "generate-1", result=made),
        event("JobSucceeded", "generate-2", result={"summary": "nothing came of it", "facts": {}}))
    assert +tally.champion_moves == {"promoted": 1}
    assert (+tally.judged, tally.regressions) == ({"keep": 1, "promote": 1}, 1)
    assert tally.level_moves == {("syllo", "up"): 1}
    assert (tally.generated_files, tally.generated_rows) == ({"syllo": 1}, {"syllo": 100})
