"""Endings: who may end a lease, and what an end brings with it."""

import dataclasses

import msgspec
import pytest

from services.broker import endings
from trainq import jobs
from trainq.errors import StaleLeaseError, TransitionError, UsageError
from trainq.jobs import JobKind, JobState
from trainq.journal import JobRow, LineRow
from trainq.messages import PrepareResult, RejectResult, TrainResult

ROW = JobRow(
    id="train-1", number=1, kind=JobKind.TRAIN, state=JobState.RUNNING, name="a.jsonl", front=1, generated=0,
    priority=1, rank=20, started_before=0, digest="0" * 64, size_bytes=1, blockers=0, submitted_seq=1,
    submitted_at=0.0, prepared=1,
    shard="s", shard_digest="d", rows=1, tokens=1, attempts=1, failures=0, best_step=0, generation=0, deaths=0,
    death_step=None, worker="trainer", session="s", token=7,
    cancel_reason=None, keep=0, started_at=0.0, ended_at=None, retry_at=0.0, reason="", report=None, result=None)
PREPARE = msgspec.structs.replace(ROW, id="prepare-1", kind=JobKind.PREPARE)
TRAINED = TrainResult(steps_done=3, steps_planned=3, global_step=3, generation=2, checkpoint="g")
PREPARED = PrepareResult(shard="s", shard_digest="0" * 64, rows=1, tokens=2, report={})


def row(base: JobRow = ROW, **changes: object) -> JobRow:
    return msgspec.structs.replace(base, **changes)


LINE = LineRow(next_number=9, paused_reason=None, generation=1, checkpoint="g", step=0, newest=1, started=0,
               held_reason=None, hold_spent=0, failed_jobs="", ageing_jobs=20, next_task=1, inbox_waiting=0)
POLICY = endings.Policy(max_attempts=3, now_wall=1000.0, jitter=0.0, line=LINE)


def fail(of: JobRow, train: JobRow = ROW, failures: int = 0, jitter: float = 0.0, failed_jobs: str = "",
         hold_spent: int = 0, counts: bool = True) -> list[jobs.AnyEvent]:
    line = msgspec.structs.replace(LINE, failed_jobs=failed_jobs, hold_spent=hold_spent)
    policy = dataclasses.replace(POLICY, jitter=jitter, line=line)
    return endings.fail(row(of, failures=failures), train, 7, "boom", policy, counts=counts)


def test_a_job_is_done_when_all_of_its_steps_are() -> None:
    assert [type(event) for event in endings.complete(ROW, ROW, 7, TRAINED)] == [jobs.JobSucceeded]


@pytest.mark.parametrize(("done", "planned"), [(0, 0), (2, 3), (4, 3)])
def test_a_job_with_other_steps_than_planned_is_not_done(done: int, planned: int) -> None:
    with pytest.raises(UsageError):
        endings.complete(ROW, ROW, 7, msgspec.structs.replace(TRAINED, steps_done=done, steps_planned=planned))


def test_a_completion_that_comes_twice_changes_nothing() -> None:
    assert endings.complete(row(state=JobState.SUCCEEDED), ROW, 7, TRAINED) == []


@pytest.mark.parametrize("state", [state for state in JobState if state is not JobState.RUNNING])
def test_nobody_ends_what_does_not_run(state: JobState) -> None:
    token = 6 if state is JobState.SUCCEEDED else 7
    with pytest.raises(StaleLeaseError):
        endings.complete(row(state=state), ROW, token, TRAINED)


def test_an_old_token_ends_nothing() -> None:
    for attempt in (lambda: endings.complete(ROW, ROW, 6, TRAINED),
                    lambda: endings.fail(ROW, ROW, 6, "x", POLICY),
                    lambda: endings.acknowledge_cancel(row(cancel_reason="x"), 6)):
        with pytest.raises(StaleLeaseError):
            attempt()
    assert endings.release(ROW, 6, "x") == []


def test_results_fit_their_kind() -> None:
    with pytest.raises(UsageError):
        endings.complete(ROW, ROW, 7, PREPARED)
    with pytest.raises(UsageError):
        endings.complete(PREPARE, ROW, 7, TRAINED)


def test_a_preparation_gives_its_verdict_to_the_train_job() -> None:
    waiting = row(state=JobState.QUEUED, shard_digest="")
    good = endings.complete(PREPARE, waiting, 7, PREPARED)
    assert [(type(event), event.job) for event in good] == [
        (jobs.JobSucceeded, "prepare-1"), (jobs.JobPrepared, "train-1")]
    bad = endings.complete(PREPARE, waiting, 7, RejectResult(reason="r", report={}))
    assert [type(event) for event in bad] == [jobs.JobSucceeded, jobs.JobRejected]


def test_a_verdict_on_a_cancelled_job_is_no_event() -> None:
    assert len(endings.complete(PREPARE, row(state=JobState.CANCELLED), 7, PREPARED)) == 1


def test_retries_wait_longer_each_time_and_then_it_is_quarantined() -> None:
    first, second, third = fail(ROW), fail(ROW, failures=1), fail(ROW, failures=2)
    assert [event.retry_at for event in first + second] == [1030.0, 1120.0]  # type: ignore[union-attr]
    assert isinstance(third[0], jobs.JobQuarantined)
    assert "boom" in third[0].reason
    assert fail(ROW, jitter=1.0)[0].retry_at == pytest.approx(1033.0)  # type: ignore[union-attr]


def test_a_failure_after_progress_is_tried_again_and_does_not_count() -> None:
    (event,) = fail(ROW, failures=2, counts=False)
    assert isinstance(event, jobs.AttemptFailed)
    assert not event.counts


def test_three_different_jobs_failing_in_a_row_hold_the_queue_once_and_cost_nothing() -> None:
    ended, held = fail(ROW, failures=2, failed_jobs="train-5 train-6")
    assert isinstance(ended, jobs.LeaseEnded)
    assert isinstance(held, jobs.QueueHeld)
    assert held.failures_in_a_row
    assert isinstance(fail(ROW, failed_jobs="train-1 train-6")[0], jobs.AttemptFailed), "it is one of the two"
    assert isinstance(fail(ROW, failures=2, failed_jobs="train-5 train-6", hold_spent=1)[0], jobs.JobQuarantined)


def test_a_fault_that_another_attempt_would_only_repeat_sets_the_file_aside_at_once() -> None:
    def final(of: JobRow, failed_jobs: str = "") -> list[jobs.AnyEvent]:
        policy = dataclasses.replace(POLICY, line=msgspec.structs.replace(LINE, failed_jobs=failed_jobs))
        return endings.fail(of, ROW, 7, "its masks", policy, counts=False, final=True)

    assert final(ROW) == [jobs.JobQuarantined(job="train-1", reason="its masks")]
    assert final(ROW, "train-7 train-8") == final(ROW), "it says nothing of the machine"
    assert final(row(state=JobState.QUARANTINED)) == [], "its reply was lost"
    assert final(row(cancel_reason="no more")) == [jobs.JobCancelled(job="train-1", reason="no more")]


def test_a_machines_fault_gives_the_job_back_and_holds_the_queue() -> None:
    assert [type(event) for event in endings.release(ROW, 7, "no GPU", 30.0)] == [jobs.LeaseEnded, jobs.QueueHeld]
    assert [type(event) for event in endings.release(ROW, 7, "stops")] == [jobs.LeaseEnded]


def test_a_worker_that_dies_with_a_preparation_three_times_has_failed_it() -> None:
    (first,) = endings.lose_worker(PREPARE, ROW, "restarted", 0, POLICY)
    assert first == jobs.LeaseEnded(job="prepare-1", reason="restarted", died=True, step=0)
    dying = row(PREPARE, deaths=2, death_step=0)
    assert [type(event) for event in endings.lose_worker(dying, ROW, "restarted", 0, POLICY)] == [jobs.AttemptFailed]
    assert [type(event) for event in endings.lose_worker(dying, ROW, "restarted", None, POLICY)] == [jobs.LeaseEnded]


def test_a_train_job_that_takes_its_worker_along_is_failed_by_the_next() -> None:
    (event,) = endings.lose_worker(row(deaths=2, death_step=7), ROW, "restarted", 7, POLICY)
    assert isinstance(event, jobs.LeaseEnded), "only the trainer can take its steps back"
    assert endings.failure_of(row(deaths=2, death_step=7)) == ""
    assert "step 7" in endings.failure_of(row(deaths=3, death_step=7))


@pytest.mark.parametrize("state", [JobState.QUARANTINED, JobState.CANCELLED])
def test_a_job_that_was_set_aside_is_tried_again(state: JobState) -> None:
    events = endings.retry(row(state=state), row(PREPARE, state=JobState.SUCCEEDED), None)
    assert events == [jobs.JobRetried(job="train-1")]
    unprepared = endings.retry(row(state=state, prepared=0), row(PREPARE, state=JobState.FAILED), None)
    assert [event.job for event in unprepared] == ["train-1", "prepare-1"]  # type: ignore[union-attr]
    other_shard = endings.retry(row(state=state, prepared=0), row(PREPARE, state=JobState.SUCCEEDED), None)
    assert [type(event) for event in other_shard] == [jobs.JobRetried, jobs.PreparationReopened]


@pytest.mark.parametrize("of", [PREPARE, row(state=JobState.REJECTED)])
def test_what_cannot_be_tried_again_is_said_with_its_mend(of: JobRow) -> None:
    with pytest.raises(UsageError) as caught:
        endings.retry(of, PREPARE, None)
    assert caught.value.mend


def test_a_job_whose_content_came_again_is_not_trained_twice_by_a_retry() -> None:
    with pytest.raises(UsageError, match="train-4"):
        endings.retry(row(state=JobState.QUARANTINED), PREPARE, ("train-4", JobState.QUEUED))


def test_what_runs_or_has_succeeded_is_not_tried_again() -> None:
    for state in (JobState.RUNNING, JobState.QUEUED, JobState.SUCCEEDED, JobState.HELD):
        with pytest.raises(TransitionError):
            endings.retry(row(state=state), PREPARE, None)


def test_a_preparation_that_fails_for_good_quarantines_the_file() -> None:
    events = fail(PREPARE, row(state=JobState.QUEUED), failures=2)
    assert [(type(event), event.job) for event in events] == [  # type: ignore[union-attr]
        (jobs.JobFailed, "prepare-1"), (jobs.JobQuarantined, "train-1")]


def test_cancelling() -> None:
    assert [type(event) for event in endings.cancel(row(state=JobState.QUEUED), "x")] == [jobs.JobCancelled]
    assert [type(event) for event in endings.cancel(ROW, "x")] == [jobs.CancelRequested]
    assert endings.cancel(row(cancel_reason="x"), "y") == []
    assert endings.cancel(row(state=JobState.CANCELLED), "y") == []
    with pytest.raises(TransitionError):
        endings.cancel(row(state=JobState.SUCCEEDED), "x")


def test_a_cancel_is_acknowledged_only_when_it_was_asked_for() -> None:
    assert [type(event) for event in endings.acknowledge_cancel(row(cancel_reason="x"), 7)] == [jobs.JobCancelled]
    assert endings.acknowledge_cancel(row(state=JobState.CANCELLED, cancel_reason="x"), 7) == []
    with pytest.raises(UsageError):
        endings.acknowledge_cancel(ROW, 7)


def test_an_end_takes_dependants_and_an_unneeded_preparation_along() -> None:
    ended = row(state=JobState.REJECTED)
    events = endings.follow_end(ended, ["train-2"], row(PREPARE, state=JobState.QUEUED))
    assert [(type(event), event.job) for event in events] == [  # type: ignore[union-attr]
        (jobs.JobCancelled, "train-2"), (jobs.JobCancelled, "prepare-1")]
    assert "rejected" in events[0].reason  # type: ignore[union-attr]
    assert endings.follow_end(ended, [], row(PREPARE, state=JobState.SUCCEEDED)) == []


def test_a_preparation_that_was_cancelled_comes_back_if_its_train_job_waits_for_it() -> None:
    cancelled = row(PREPARE, state=JobState.CANCELLED)
    waiting = row(state=JobState.QUEUED, prepared=0)
    assert endings.follow_end(cancelled, [], waiting) == [jobs.JobRetried(job="prepare-1")]
    assert endings.follow_end(cancelled, [], row(state=JobState.CANCELLED, prepared=0)) == []
    assert endings.follow_end(row(PREPARE, state=JobState.SUCCEEDED), [], waiting) == []
