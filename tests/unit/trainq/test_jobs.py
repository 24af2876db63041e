"""The state table: every (state, event) pair is either in it or refused, and what is in it is what the design says."""

import itertools
import typing

import pytest

from trainq import jobs
from trainq.errors import TransitionError
from trainq.jobs import (
    ENDED,
    TRANSITIONS,
    ChampionMove,
    ChampionView,
    JobEvent,
    JobState,
    Priority,
    champion_before,
    rank,
    transition,
)

JOB_EVENTS = [event for event in typing.get_args(jobs.AnyEvent)
              if issubclass(event, JobEvent) and event not in (jobs.JobSubmitted, jobs.TaskSubmitted)]

SAMPLES: dict[type[JobEvent], JobEvent] = {
    jobs.DuplicateSubmitted: jobs.DuplicateSubmitted(job="train-1", request_id="r", request_digest="d"),
    jobs.JobPrepared: jobs.JobPrepared(job="train-1", shard="s", shard_digest="d", rows=1, tokens=1, report={}),
    jobs.PreparationReopened: jobs.PreparationReopened(job="train-1", reason="r"),
    jobs.JobRejected: jobs.JobRejected(job="train-1", reason="r", report={}),
    jobs.HoldPlaced: jobs.HoldPlaced(job="train-1", reason="r"),
    jobs.HoldLifted: jobs.HoldLifted(job="train-1"),
    jobs.JobOvertaken: jobs.JobOvertaken(job="train-1", by="train-2"),
    jobs.LeaseGranted: jobs.LeaseGranted(job="train-1", worker="w", session="s", attempt=1),
    jobs.LeaseEnded: jobs.LeaseEnded(job="train-1", reason="r"),
    jobs.AttemptFailed: jobs.AttemptFailed(job="train-1", reason="r", retry_at=0.0),
    jobs.CheckpointPublished: jobs.CheckpointPublished(job="train-1", generation=1, name="g", step=1, job_step=1,
                                                       done=False, reason="r"),
    jobs.FingerprintChanged: jobs.FingerprintChanged(job="train-1", before={}, after={}),
    jobs.EffectDecided: jobs.EffectDecided(job="train-1", kind=jobs.EffectKind.CUT, effective_step=2, reason="r"),
    jobs.JobUncovered: jobs.JobUncovered(job="train-1", generation=2, reason="r"),
    jobs.JobTakenOut: jobs.JobTakenOut(job="train-1", generation=2, reason="r"),
    jobs.JobReinstated: jobs.JobReinstated(job="train-1", generation=2, reason="r"),
    jobs.JobRetried: jobs.JobRetried(job="train-1"),
    jobs.CancelRequested: jobs.CancelRequested(job="train-1", reason="r"),
    jobs.JobSucceeded: jobs.JobSucceeded(job="train-1", result={}),
    jobs.JobFailed: jobs.JobFailed(job="train-1", reason="r"),
    jobs.JobQuarantined: jobs.JobQuarantined(job="train-1", reason="r"),
    jobs.JobCancelled: jobs.JobCancelled(job="train-1", reason="r"),
}


@pytest.mark.parametrize(("state", "event"), list(itertools.product(JobState, JOB_EVENTS)))
def test_every_pair_is_in_the_table_or_refused(state: JobState, event: type[JobEvent]) -> None:
    sample = SAMPLES[event]
    if (state, event) in TRANSITIONS:
        assert transition("train-1", state, sample) is TRANSITIONS[state, event]
    else:
        with pytest.raises(TransitionError) as caught:
            transition("train-1", state, sample)
        assert (caught.value.entity, caught.value.state, caught.value.event) == ("train-1", state.value, event.__name__)


@pytest.mark.parametrize("state", sorted(ENDED))
def test_ended_states_are_final_but_for_what_was_lost_and_what_a_person_wants(state: JobState) -> None:
    again = (jobs.PreparationReopened, jobs.JobUncovered, jobs.JobRetried, jobs.JobTakenOut, jobs.JobReinstated)
    assert {after for (before, event), after in TRANSITIONS.items()
            if before is state and event not in again} <= {state}
    assert (JobState.REJECTED, jobs.JobRetried) not in TRANSITIONS, "judging the same rows again changes nothing"


def test_every_event_is_somewhere_in_the_table() -> None:
    assert {event for _, event in TRANSITIONS} == set(JOB_EVENTS)


def test_a_job_runs_only_by_a_lease() -> None:
    into_running = {event for (before, event), after in TRANSITIONS.items()
                    if after is JobState.RUNNING and before is not JobState.RUNNING}
    assert into_running == {jobs.LeaseGranted}


def test_a_job_that_failed_does_not_count_as_a_duplicate() -> None:
    for state in (JobState.FAILED, JobState.REJECTED, JobState.QUARANTINED, JobState.CANCELLED):
        assert state not in jobs.COUNTS_AS_DUPLICATE


def test_the_line_is_by_class_and_then_by_who_came_first() -> None:
    assert rank(Priority.HIGH, 5, 20) < rank(Priority.NORMAL, 5, 20) < rank(Priority.LOW, 5, 20)
    assert rank(Priority.NORMAL, 5, 20) < rank(Priority.NORMAL, 6, 20)


def test_a_job_gains_a_class_for_so_many_jobs_started_while_it_waits() -> None:
    waiting = rank(Priority.NORMAL, 0, 20)
    assert rank(Priority.HIGH, 19, 20) < waiting
    assert rank(Priority.HIGH, 21, 20) > waiting
    assert rank(Priority.HIGH, 10**9, 0) < rank(Priority.NORMAL, 0, 0), "without ageing, classes are never crossed"


@pytest.mark.parametrize(("moves", "target"), [
    ("", ""), ("a", ""), ("a b", "a"), ("a b c", "b"),
    # Back to b, then to a.
    ("a b c <b", "a"), ("a b c <b <a", ""),
    # Over b at once.
    ("a b c <a", ""), ("x a b c <a", "x"),
    # Promoted once more, it was not rolled back from any more.
    ("a b <a b", "a"), ("a b <a c", "a"), ("a b <a b c", "b"),
    # Who was rolled back from is named: it is champion, and whom it followed is passed over.
    ("a b <a <b", ""), ("a b c <b <c", "a"),
    # Champion twice, and rolled back from once: it is passed over in both places.
    ("a b a <b", ""), ("a b a d <a", "b"), ("a b a b <a", ""),
])
def test_a_rollback_passes_over_whoever_was_rolled_back_from(moves: str, target: str) -> None:
    views: list[ChampionView] = []
    for seq, word in enumerate(moves.split()):
        how = ChampionMove.ROLLED_BACK if word.startswith("<") else ChampionMove.BY_HAND
        views.append(ChampionView(seq=seq, checkpoint=word.strip("<"), before=views[-1].checkpoint if views else "",
                                  how=how, reason="", by="", at=0.0))
    assert champion_before(views) == target
