"""Stories of the agent: what happened, and what it does about it."""

import msgspec
import pytest

from services.trainer import wire
from services.trainer.assignment import Assignment
from services.trainer.effects import (
    AcknowledgeCancel,
    BeginLine,
    BeginRestore,
    BeginTraining,
    CompleteJob,
    DropLease,
    Effect,
    FailJob,
    ForgetJob,
    Greet,
    PauseTrainer,
    ReleaseJob,
    ReportFingerprint,
    ReportLostShard,
    ReportPublished,
    ShowProgress,
    ShowTrouble,
    StartProcess,
    StopProcess,
    TakeBack,
)
from services.trainer.phases import Phase
from trainq.service.work import Interruption

READY = wire.Ready(fingerprint={}, head="g", generation=1, step=0, journal_seq=0)
PROGRESS = wire.Progress(job="train-1", job_step=2, steps_planned=10, global_step=12, loss=1.5, learning_rate=0.1,
                         tokens_per_second=100.0, steps_this_run=2, elapsed_seconds=4.0)
PUBLISHED = wire.Published(generation=2, name="g2", step=5, reason="interval", seconds=0.1, size_bytes=9, job="train-1",
                           job_step=5)
FINISHED = wire.Finished(job="train-1", steps_done=10, steps_planned=10, global_step=10, generation=3, checkpoint="g3",
                         first_loss=2.0, last_loss=1.0)
CANCELLED = wire.Cancelled(job="train-1", taken_back=5)
FAILED = wire.Failed(job="train-1", system=False, code="nan", reason="boom")


def types(effects: list[Effect]) -> list[type]:
    return [type(effect) for effect in effects]


@pytest.fixture
def idle() -> Assignment:
    made = Assignment()
    assert made.begin() == [StartProcess()]
    assert not made.wants_job
    assert made.heard(READY) == [Greet(ready=READY)]
    assert not made.wants_job, "no job before the broker and the head agree"
    assert made.greeted(lost=False) == []
    assert made.wants_job
    return made


@pytest.fixture
def training(idle: Assignment) -> Assignment:
    assert idle.leased("train-1") == [BeginTraining()]
    assert not idle.wants_job
    return idle


def test_a_job_goes_through(training: Assignment) -> None:
    (shown,) = training.heard(PROGRESS)
    assert isinstance(shown, ShowProgress)
    assert (shown.progress.step, shown.progress.steps, shown.progress.seconds_left) == (2, 10, 16.0)
    assert types(training.heard(PUBLISHED)) == [ReportPublished]
    (completed,) = training.heard(FINISHED)
    assert isinstance(completed, CompleteJob)
    assert (completed.result.steps_done, completed.result.checkpoint) == (10, "g3")
    assert training.wants_job


def test_a_process_that_dies_is_started_again_and_goes_on(training: Assignment) -> None:
    assert training.ended("signal 9", own=False) == [StartProcess()]
    assert training.heard(READY) == [Greet(ready=READY), BeginTraining()]
    assert types(training.heard(FINISHED)) == [CompleteJob]


def test_three_deaths_from_outside_in_one_step_are_the_jobs_failure(training: Assignment) -> None:
    for _ in range(2):
        training.ended("signal 9", own=False)
        assert training.heard(READY) == [Greet(ready=READY), BeginTraining()]
    training.ended("signal 9", own=False)
    assert training.heard(READY) == [Greet(ready=READY), TakeBack(job="train-1")]
    (failed,) = training.heard(CANCELLED)
    assert isinstance(failed, FailJob)
    assert "signal 9" in failed.reason
    assert failed.counts


def test_deaths_from_outside_in_different_steps_never_count(training: Assignment) -> None:
    for step in range(1, 12):
        training.heard(msgspec.structs.replace(PROGRESS, job_step=step))
        training.ended("signal 9", own=False)
        assert training.heard(READY) == [Greet(ready=READY), BeginTraining()]


def test_an_end_of_its_own_doing_without_progress_is_a_failed_attempt(training: Assignment) -> None:
    training.ended("signal 11", own=True)
    assert training.heard(READY) == [Greet(ready=READY), TakeBack(job="train-1")]
    assert training.heard(CANCELLED) == [
        FailJob(reason="its training process ended by itself in step 1 (signal 11)", counts=True)]


def test_an_end_after_progress_does_not_count_and_the_job_goes_on(training: Assignment) -> None:
    training.heard(PUBLISHED)
    training.ended("exit 1", own=True)
    ready = msgspec.structs.replace(READY, generation=2, job="train-1", job_step=5)
    assert training.heard(ready) == [Greet(ready=ready), BeginTraining()]
    training.ended("exit 1", own=True)
    assert training.heard(ready) == [Greet(ready=ready), TakeBack(job="train-1")], "it got no further than before"


def test_progress_is_a_new_highest_step_of_all_attempts(idle: Assignment) -> None:
    idle.leased("train-1", best_step=5)
    idle.heard(PUBLISHED)  # step 5 again
    idle.ended("exit 1", own=True)
    assert idle.failure


def test_five_ends_of_its_own_doing_pause_the_trainer(idle: Assignment) -> None:
    for number in range(4):
        idle.leased(f"train-{number}")
        idle.ended("exit 1", own=True)
        idle.heard(READY)
        idle.heard(msgspec.structs.replace(CANCELLED, job=f"train-{number}"))
        idle.greeted(lost=False)
    idle.leased("train-9")
    effects = idle.ended("exit 1", own=True)
    assert types(effects) == [ReleaseJob, PauseTrainer]
    assert idle.phase is Phase.PAUSED
    assert not idle.wants_job
    assert idle.stop() == []


def test_a_new_step_forgives_the_ends_before_it(training: Assignment) -> None:
    for step in range(1, 20):
        training.heard(msgspec.structs.replace(PUBLISHED, job_step=step))
        training.ended("exit 1", own=True)
        assert training.phase is Phase.STARTING
        training.heard(READY)


def test_a_head_older_than_what_was_published_waits_for_the_broker(training: Assignment) -> None:
    training.heard(PUBLISHED)
    training.ended("signal 9", own=False)
    assert training.heard(READY) == [Greet(ready=READY)], "generation 2 is gone"
    assert training.greeted(lost=False) == [BeginTraining()]


def test_a_job_whose_ground_was_lost_is_forgotten(training: Assignment) -> None:
    training.heard(PUBLISHED)
    training.ended("signal 9", own=False)
    training.heard(READY)
    assert training.greeted(lost=True) == [ForgetJob()]
    assert training.wants_job


def test_a_job_whose_ground_was_lost_while_its_process_ends_makes_room_for_none(training: Assignment) -> None:
    training.ended("signal 9", own=False)
    training.heard(READY)
    training.controlled(pause="lunch", stop="")
    training.controlled(pause="", stop="")
    assert training.phase is Phase.LEAVING
    assert training.greeted(lost=True) == [ForgetJob()]
    assert (training.phase, training.wants_job) == (Phase.LEAVING, False)


def test_a_job_leased_to_be_failed_is_taken_back_first(idle: Assignment) -> None:
    assert idle.leased("train-1", failure="it kills its worker") == [TakeBack(job="train-1")]
    assert idle.heard(CANCELLED) == [FailJob(reason="it kills its worker", counts=True)]


def test_another_fingerprint_is_reported(training: Assignment) -> None:
    changed = wire.OtherFingerprint(job="train-1", before={"threads": "1"}, after={"threads": "2"})
    assert training.heard(changed) == [ReportFingerprint(before={"threads": "1"}, after={"threads": "2"})]


def test_a_process_that_never_gets_ready_is_started_ever_more_slowly_and_then_no_more() -> None:
    assignment = Assignment()
    assignment.begin()
    pauses = []
    for _ in range(4):
        effects = assignment.ended("exit 1", own=True)
        assert types(effects) == [ShowTrouble, StartProcess]
        pauses += [effect.after_seconds for effect in effects if isinstance(effect, StartProcess)]
    assert pauses == [1, 3, 7, 15]
    assert types(assignment.ended("exit 1", own=True)) == [PauseTrainer]


def test_a_new_line_is_published_only_when_the_broker_knows_of_none() -> None:
    assignment = Assignment()
    assignment.begin()
    begun = msgspec.structs.replace(READY, generation=0, begun=True)
    assert assignment.heard(begun) == [Greet(ready=begun)]
    assert assignment.greeted(lost=False) == [BeginLine()]
    assert not assignment.wants_job
    assert assignment.heard(READY) == [Greet(ready=READY)]
    assert assignment.greeted(lost=False) == []
    assert assignment.wants_job


def test_a_job_that_is_held_does_not_go_on_upon_a_new_line(training: Assignment) -> None:
    training.ended("signal 9", own=False)
    begun = msgspec.structs.replace(READY, generation=0, begun=True)
    assert training.heard(begun) == [Greet(ready=begun)]
    assert training.greeted(lost=False) == [BeginLine()]
    assert training.heard(READY) == [Greet(ready=READY), BeginTraining()]


def test_a_fault_of_the_machine_at_the_start_is_tried_again_for_ever() -> None:
    assignment = Assignment()
    assignment.begin()
    pauses = []
    for _ in range(20):
        assignment.heard(wire.Failed(job="", system=True, code="storage_full", reason="no room"))
        (trouble, start) = assignment.ended("exit 73", own=True)
        assert isinstance(trouble, ShowTrouble)
        assert "no room" in trouble.reason
        assert isinstance(start, StartProcess)
        pauses.append(start.after_seconds)
    assert pauses[:4] == [1, 3, 7, 15]
    assert max(pauses) == pauses[-1] == 60


def test_a_driver_that_fails_again_and_again_pauses_nobody(idle: Assignment) -> None:
    for number in range(8):
        idle.leased(f"train-{number}")
        lost = wire.Failed(job=f"train-{number}", system=True, code="AcceleratorError", reason="context lost")
        assert types(idle.heard(lost)) == [ReleaseJob]
        trouble, start = idle.ended("exit 70", own=True)
        assert isinstance(trouble, ShowTrouble)
        assert isinstance(start, StartProcess)
        assert start.after_seconds == min(60, 2**(number + 1) - 1), "nothing was done since, so ever more slowly"
        idle.heard(READY)
        idle.greeted(lost=False)
    idle.leased("train-9")
    idle.heard(msgspec.structs.replace(PROGRESS, job="train-9"))
    idle.heard(msgspec.structs.replace(lost, job="train-9"))
    assert StartProcess(after_seconds=1.0) in idle.ended("exit 70", own=True), "a step forgives"


def test_a_new_line_that_cannot_be_published_is_tried_again_ever_more_slowly() -> None:
    assignment = Assignment()
    assignment.begin()
    pauses = []
    for _ in range(9):
        assignment.heard(msgspec.structs.replace(READY, generation=0, begun=True))
        assert assignment.greeted(lost=False) == [BeginLine()]
        assignment.heard(wire.Failed(job="", system=True, code="storage_full", reason="no room"))
        pauses += [effect.after_seconds for effect in assignment.ended("exit 73", own=True)
                   if isinstance(effect, StartProcess)]
    assert pauses == [1, 3, 7, 15, 31, 60, 60, 60, 60]


def test_what_was_named_before_the_fifth_end_is_said(idle: Assignment) -> None:
    for number in range(5):
        idle.leased(f"train-{number}")
        idle.heard(wire.Failed(job="", system=False, code="TypeError", reason="a bug"))
        effects = idle.ended("exit 70", own=True)
        idle.heard(READY)
    assert "exit 70; TypeError: a bug" in effects[-1].reason  # type: ignore[union-attr]


def test_a_job_that_ends_forgives_although_it_was_trained_before(idle: Assignment) -> None:
    for _ in range(8):
        idle.leased("train-1", best_step=5)
        idle.heard(msgspec.structs.replace(PUBLISHED, done=True))
        idle.ended("exit 1", own=True)
        assert idle.phase is Phase.STARTING
        idle.heard(READY)
        idle.greeted(lost=False)


def test_after_a_refused_end_of_a_job_no_other_is_taken_before_they_agree_again(training: Assignment) -> None:
    training.heard(FINISHED)
    training.doubted()
    assert not training.wants_job
    assert training.greeted(lost=False) == []
    assert training.wants_job


def test_one_that_is_killed_while_it_starts_is_started_at_once() -> None:
    assignment = Assignment()
    assignment.begin()
    for _ in range(20):
        assert assignment.ended("signal 9", own=False) == [StartProcess()]


def test_a_failed_job_is_taken_back_before_it_is_reported(training: Assignment) -> None:
    assert training.heard(FAILED) == [TakeBack(job="train-1")]
    assert training.heard(CANCELLED) == [FailJob(reason="nan: boom")]
    assert training.wants_job


def test_a_death_while_taking_back_takes_back_again(training: Assignment) -> None:
    training.heard(FAILED)
    training.ended("signal 9", own=False)
    assert training.heard(READY) == [Greet(ready=READY), TakeBack(job="train-1")]
    assert training.heard(CANCELLED) == [FailJob(reason="nan: boom")]


def test_the_machines_fault_is_not_the_jobs(training: Assignment) -> None:
    (released,) = training.heard(wire.Failed(job="train-1", system=True, code="disk", reason="full"))
    assert released == ReleaseJob(reason="disk: full", system_fault=True)


def test_a_final_fault_is_said_when_the_steps_are_out_of_the_weights(training: Assignment) -> None:
    masking = wire.Failed(job="train-1", system=False, code="masking", reason="nothing is trained", final=True)
    assert training.heard(masking) == [TakeBack(job="train-1")]
    assert training.heard(CANCELLED) == [FailJob(reason="masking: nothing is trained", final=True)]
    training.leased("train-2")
    training.heard(msgspec.structs.replace(FAILED, job="train-2"))
    assert training.heard(msgspec.structs.replace(CANCELLED, job="train-2")) == [FailJob(reason="nan: boom")]


def test_a_lost_shard_is_neither_the_jobs_fault_nor_the_machines(training: Assignment) -> None:
    lost = wire.Failed(job="train-1", system=False, code="shard_lost", reason="gone")
    assert training.heard(lost) == [ReportLostShard(reason="gone")]
    assert training.wants_job


def test_a_cancel_is_asked_for_once_and_acknowledged(training: Assignment) -> None:
    assert training.interrupted(Interruption.CANCELLED) == [TakeBack(job="train-1")]
    assert training.interrupted(Interruption.CANCELLED) == []
    assert training.heard(CANCELLED) == [AcknowledgeCancel()]
    assert training.wants_job


def test_a_cancel_while_the_process_starts_is_carried_out_when_it_is_ready(training: Assignment) -> None:
    training.ended("signal 9", own=False)
    assert training.interrupted(Interruption.CANCELLED) == []
    training.heard(READY)
    assert training.interrupted(Interruption.CANCELLED) == [TakeBack(job="train-1")]


def test_a_finish_wins_over_a_late_cancel(training: Assignment) -> None:
    training.interrupted(Interruption.CANCELLED)
    assert types(training.heard(FINISHED)) == [CompleteJob]
    assert training.heard(CANCELLED) == []


def test_a_lost_lease_is_forgotten_and_the_process_saves(training: Assignment) -> None:
    assert training.interrupted(Interruption.LOST) == [ForgetJob(), StopProcess()]
    assert training.heard(PUBLISHED) == [], "what it saves is nobody's report"
    assert training.ended("exit 0", own=True) == [StartProcess()]
    training.heard(READY)
    training.greeted(lost=False)
    assert training.wants_job


def test_stopping_saves_and_hands_back(training: Assignment) -> None:
    assert training.stop() == [StopProcess()]
    assert training.stop() == []
    assert types(training.heard(PUBLISHED)) == [ReportPublished]
    assert training.ended("exit 0", own=True) == [ReleaseJob(reason="the trainer stops")]
    assert training.phase is Phase.ABSENT


def test_a_job_that_finishes_while_stopping_is_completed(training: Assignment) -> None:
    training.stop()
    assert types(training.heard(FINISHED)) == [CompleteJob]
    assert training.ended("exit 0", own=True) == []


def test_stopping_while_starting_waits_for_the_process() -> None:
    assignment = Assignment()
    assignment.begin()
    assert assignment.stop() == [StopProcess()]
    assert assignment.ended("exit 0", own=True) == []


def test_trouble_of_the_process_itself_is_shown(idle: Assignment) -> None:
    assert idle.heard(wire.Failed(job="", system=True, code="model", reason="no such folder")) == [
        ShowTrouble(reason="model: no such folder")]


def test_a_job_leased_to_be_cancelled_is_taken_back(idle: Assignment) -> None:
    assert idle.leased("train-1", cancel=True) == [TakeBack(job="train-1")]
    assert idle.interrupted(Interruption.CANCELLED) == []
    assert idle.heard(CANCELLED) == [AcknowledgeCancel()]


def test_a_take_back_that_fails_gives_the_job_back(training: Assignment) -> None:
    training.interrupted(Interruption.CANCELLED)
    (released,) = training.heard(wire.Failed(job="train-1", system=True, code="storage_full", reason="full"))
    assert released == ReleaseJob(reason="storage_full: full", system_fault=True)


def test_a_job_is_given_back_when_the_process_cannot_start(training: Assignment) -> None:
    training.ended("signal 9", own=False)
    training.ended("exit 1", own=True)
    training.ended("exit 1", own=True)
    effects = training.ended("exit 1", own=True)
    assert types(effects) == [ReleaseJob, ShowTrouble, StartProcess]
    assert training.job == ""


def test_a_lease_lost_while_starting_waits_for_the_leaving_process(training: Assignment) -> None:
    training.ended("signal 9", own=False)
    assert training.interrupted(Interruption.LOST) == [ForgetJob(), StopProcess()]
    assert training.heard(READY) == [StopProcess()], "there was nobody yet to hear the first one"
    assert not training.wants_job
    assert training.ended("exit 0", own=True) == [StartProcess()]


RESTORED = msgspec.structs.replace(READY, head="g9", generation=9, made_by="restore-1", restored_from=4)
LOST = wire.NoLine(reason="none of its checkpoints verifies")


@pytest.fixture
def restoring(idle: Assignment) -> Assignment:
    assert idle.wants_restore
    assert idle.leased_restore("restore-1") == [BeginRestore()]
    assert (idle.wants_job, idle.wants_restore) == (False, False)
    return idle


def test_a_restore_is_over_when_the_broker_has_heard_of_its_head(restoring: Assignment) -> None:
    (shown,) = restoring.heard(wire.Restoring(job="restore-1", done_bytes=3, total_bytes=9))
    assert isinstance(shown, ShowProgress)
    assert (shown.progress.step, shown.progress.steps, shown.progress.unit) == (3, 9, "bytes")
    assert restoring.heard(RESTORED) == [Greet(ready=RESTORED)]
    assert not restoring.wants_job
    assert restoring.greeted(lost=False) == [DropLease()]
    assert restoring.wants_job


def test_a_restore_that_fails_leaves_the_line_as_it_was(restoring: Assignment) -> None:
    failed = wire.Failed(job="restore-1", system=True, code="damage", reason="model.safetensors")
    assert restoring.heard(failed) == [FailJob(reason="damage: model.safetensors")]
    assert restoring.wants_job


def test_a_restore_that_is_cancelled_is_left(restoring: Assignment) -> None:
    assert restoring.interrupted(Interruption.CANCELLED) == [TakeBack(job="restore-1")]
    assert restoring.interrupted(Interruption.CANCELLED) == []
    assert restoring.heard(wire.Cancelled(job="restore-1", taken_back=0)) == [AcknowledgeCancel()]
    assert restoring.wants_job


def test_a_restore_killed_before_it_published_is_begun_again_and_after_it_is_not(restoring: Assignment) -> None:
    assert restoring.ended("signal 9", own=False) == [StartProcess()]
    assert restoring.heard(READY) == [BeginRestore()]
    assert restoring.ended("signal 9", own=False) == [StartProcess()]
    assert restoring.heard(RESTORED) == [Greet(ready=RESTORED)]
    assert restoring.greeted(lost=False) == [DropLease()]


def test_a_restore_is_given_up_when_its_process_ends_by_itself_or_three_times(restoring: Assignment) -> None:
    for _ in range(2):
        assert restoring.ended("signal 9", own=False) == [StartProcess()]
        assert restoring.heard(READY) == [BeginRestore()]
    assert restoring.ended("signal 9", own=False) == [StartProcess()]
    gave_up, greet = restoring.heard(READY)
    assert isinstance(gave_up, FailJob)
    assert greet == Greet(ready=READY)
    restoring.greeted(lost=False)
    restoring.leased_restore("restore-2")
    assert restoring.ended("exit 70", own=True) == [StartProcess()]
    assert isinstance(restoring.heard(READY)[0], FailJob)


def test_a_restore_whose_outcome_does_not_verify_fails_and_is_not_begun_again_and_again(restoring: Assignment) -> None:
    gave_up, greet = restoring.heard(READY)
    assert gave_up == FailJob(reason="what it has published does not verify")
    assert greet == Greet(ready=READY)
    restoring.greeted(lost=False)
    assert restoring.wants_job


def test_a_restore_that_published_before_its_process_ended_is_done(restoring: Assignment) -> None:
    assert restoring.ended("exit 74", own=True) == [StartProcess()]
    assert restoring.heard(RESTORED) == [Greet(ready=RESTORED)]
    assert restoring.greeted(lost=False) == [DropLease()]


def test_a_greeting_that_was_put_off_for_a_restore_is_made_up_for(restoring: Assignment) -> None:
    restoring.ended("signal 9", own=False)
    assert restoring.heard(READY) == [BeginRestore()]
    failed = wire.Failed(job="restore-1", system=False, code="damage", reason="w")
    assert restoring.heard(failed) == [FailJob(reason="damage: w"), Greet(ready=READY)]
    assert not restoring.wants_job
    restoring.greeted(lost=False)
    assert restoring.wants_job


def test_a_cancel_that_comes_too_late_does_not_undo_a_restore(restoring: Assignment) -> None:
    assert restoring.heard(RESTORED) == [Greet(ready=RESTORED)]
    assert restoring.heard(wire.Cancelled(job="restore-1", taken_back=0)) == []
    assert not restoring.wants_job
    assert restoring.greeted(lost=False) == [DropLease()]


def test_without_a_line_only_a_restore_is_wanted() -> None:
    made = Assignment()
    made.begin()
    assert made.heard(LOST) == [ShowTrouble(reason=LOST.reason)]
    assert (made.wants_job, made.wants_restore) == (False, True)
    made.leased_restore("restore-1")
    failed = wire.Failed(job="restore-1", system=False, code="not_found", reason="no such")
    assert made.heard(failed) == [FailJob(reason="not_found: no such")]
    assert (made.wants_job, made.wants_restore) == (False, True)
    assert made.leased_restore("restore-2") == [BeginRestore()]
    assert made.ended("signal 9", own=False) == [StartProcess()]
    assert made.heard(LOST) == [BeginRestore()]
    restored = msgspec.structs.replace(RESTORED, made_by="restore-2")
    assert made.heard(restored) == [Greet(ready=restored)]
    assert made.greeted(lost=False) == [DropLease()]
    assert made.wants_job


def test_a_job_that_was_held_when_the_line_was_lost_is_given_back(training: Assignment) -> None:
    training.ended("signal 9", own=False)
    given_back, _ = training.heard(LOST)
    assert isinstance(given_back, ReleaseJob)
    assert given_back.system_fault
    assert training.phase is Phase.LINELESS


def test_a_restore_whose_lease_is_lost_is_forgotten(restoring: Assignment) -> None:
    assert restoring.interrupted(Interruption.LOST) == [ForgetJob(), StopProcess()]
    assert restoring.ended("exit 0", own=True) == [StartProcess()]


def test_a_restore_is_given_back_when_the_agent_stops(restoring: Assignment) -> None:
    assert restoring.stop() == [StopProcess()]
    assert restoring.ended("exit 0", own=True) == [ReleaseJob(reason="the trainer stops")]
