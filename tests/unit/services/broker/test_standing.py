"""Standing orders at the desk: what each means, in any order, over restarts; and the GPU lent to somebody."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.stories import TRAINED, Story
from trainq import messages
from trainq.jobs import Effect, EffectKind, JobKind, JobState
from trainq.messages import Done, EvaluateTask, HeartbeatReply, Lease, LeaseState, Lifecycle, Overview

PAUSE, DRAIN, RESUME = messages.PauseQueue, messages.DrainQueue, messages.ResumeQueue


@pytest.fixture
def story(tmp_path: Path) -> Story:
    made = Story(tmp_path)
    beat(made)
    return made


def beat(story: Story, *jobs: tuple[str, int], session: str = "s1", gpu: int = 0, service: str = "trainer",
         rests: bool = False) -> HeartbeatReply:
    reply = story.ask(messages.Heartbeat(
        request_id=story.id(), service=service, session=session, pid=1, state=Lifecycle.RUNNING, gpu=gpu, rests=rests,
        leases=tuple(LeaseState(job=job, token=token) for job, token in jobs)))
    assert isinstance(reply, HeartbeatReply)
    return reply


def order(story: Story, request: type[messages.Request], **fields: object) -> bool:
    done = story.ask(request(request_id=story.id(), **fields))
    assert isinstance(done, Done), done
    return done.changed


def ready(story: Story, content: str = "a") -> None:
    story.submit(content)
    story.prepare_next()


def why(story: Story) -> str:
    overview = story.ask(messages.GetOverview(request_id=story.id()))
    assert isinstance(overview, Overview)
    return overview.waiting_reason


def test_a_pause_is_told_to_the_trainer_and_outlives_the_broker(story: Story) -> None:
    ready(story)
    lease = story.lease(JobKind.TRAIN)
    assert lease is not None
    assert order(story, PAUSE, reason="lunch")
    assert not order(story, PAUSE, reason="dinner"), "it is paused"
    story.restart()
    assert beat(story, (lease.job, lease.token)).pause == "the queue is paused: lunch"
    assert story.state(lease.job) is JobState.RUNNING, "it keeps its lease"
    assert beat(story, service="preparer").pause == ""
    assert order(story, RESUME)
    assert not order(story, RESUME)
    assert beat(story).pause == ""


def test_a_drain_lets_what_runs_go_on_and_grants_nothing(story: Story) -> None:
    ready(story)
    assert order(story, DRAIN, reason="weekend")
    assert beat(story).pause == ""
    assert story.lease(JobKind.TRAIN) is None
    assert why(story) == "the queue is drained: weekend"
    assert order(story, RESUME)
    assert story.lease(JobKind.TRAIN) is not None


def test_a_yield_ends_by_itself_and_a_pause_outlasts_it(story: Story) -> None:
    order(story, DRAIN)
    assert order(story, PAUSE, reason="game", seconds=60)
    assert not order(story, PAUSE, seconds=10), "a yield does not shorten one"
    assert "game (until " in beat(story).pause
    story.clock.now += 59
    story.expire()
    assert beat(story).pause
    story.clock.now += 1
    story.expire()
    assert beat(story).pause == ""
    assert why(story).startswith("the queue is drained"), "which a yield does not touch"
    # A pause until further notice takes its place.
    order(story, PAUSE, seconds=60)
    assert order(story, PAUSE, reason="for good")
    story.clock.now += 3600
    story.expire()
    assert beat(story).pause == "the queue is paused: for good"


def test_a_yield_goes_on_over_a_restart_of_the_broker(story: Story) -> None:
    order(story, PAUSE, seconds=100)
    story.clock.now += 40
    story.restart()
    story.clock.now += 59
    story.expire()
    assert beat(story).pause
    story.clock.now += 1
    story.expire()
    assert beat(story).pause == ""


def test_a_stop_is_for_one_life_of_the_trainer(story: Story) -> None:
    ready(story)
    assert order(story, messages.StopTrainer, reason="enough")
    assert not order(story, messages.StopTrainer)
    assert (beat(story).stop, beat(story).pause) == ("enough", "")
    assert story.lease(JobKind.TRAIN, session="s1") is None
    assert "trainer is stopped: enough" in why(story)
    assert beat(story, session="s2").stop == "", "its next life"
    assert story.lease(JobKind.TRAIN, session="s2") is not None


def test_without_a_trainer_there_is_nothing_to_stop(tmp_path: Path) -> None:
    story = Story(tmp_path)
    reply = story.ask(messages.StopTrainer(request_id=story.id()))
    assert isinstance(reply, messages.Refused)
    assert reply.code == "usage"


def test_quiet_hours_are_a_pause_that_no_resume_ends(tmp_path: Path) -> None:
    story = Story(tmp_path, TRAINQ_TRAINER_QUIET_HOURS='["00:00-01:00"]', TRAINQ_SCHEDULE_TIME_ZONE="UTC")
    assert beat(story).pause == "quiet hours until 1970-01-01 01:00"
    assert not order(story, RESUME)
    story.clock.now = 3600.0
    assert beat(story).pause == ""


def test_a_checkpoint_is_asked_for_where_something_is_trained(story: Story) -> None:
    assert not order(story, messages.AskCheckpoint)
    ready(story)
    assert story.lease(JobKind.TRAIN) is not None
    assert order(story, messages.AskCheckpoint)
    assert beat(story).checkpoint == story.journal.head_seq


def test_keeping_the_steps_of_a_job_is_a_wish_of_its_own(story: Story) -> None:
    ready(story)
    lease = story.lease(JobKind.TRAIN)
    assert lease is not None
    held = (lease.job, lease.token)
    assert order(story, messages.Cancel, job=lease.job, keep=True)
    assert (beat(story, held).cancel, beat(story, held).keep) == ((lease.job,), (lease.job,))
    assert story.submit("a").duplicate, "what it has taught stays, so its content counts"
    assert order(story, messages.Cancel, job=lease.job), "otherwise wanted now"
    assert beat(story, held).keep == ()
    assert not order(story, messages.Cancel, job=lease.job)
    order(story, messages.Cancel, job=lease.job, keep=True)
    cut = Effect(kind=EffectKind.CUT, step=1, value=2)
    assert order(story, messages.ReportEffects, job=lease.job, token=lease.token, effects=(cut,), reason="skipped")
    assert not order(story, messages.ReportEffects, job=lease.job, token=lease.token, effects=(cut,), reason="skipped")
    # Its next holder does its steps like that, too.
    story.ask(messages.Release(request_id=story.id(), job=lease.job, token=lease.token))
    again = story.lease(JobKind.TRAIN)
    assert again is not None
    assert (again.cancel, again.keep, again.effects) == (True, True, (cut,))
    story.complete(again, TRAINED)
    assert story.state(lease.job) is JobState.SUCCEEDED
    assert story.queries.job(lease.job).cancel_reason is None


def test_effects_of_an_attempt_that_failed_are_not_those_of_the_next(story: Story) -> None:
    ready(story)
    lease = story.lease(JobKind.TRAIN)
    assert lease is not None
    skip = Effect(kind=EffectKind.SKIP_BATCH, step=1)
    order(story, messages.ReportEffects, job=lease.job, token=lease.token, effects=(skip,), reason="nan")
    order(story, messages.Fail, job=lease.job, token=lease.token, reason="boom")
    story.clock.now += 3600
    again = story.lease(JobKind.TRAIN)
    assert again is not None
    assert again.effects == ()
    stale = story.ask(messages.ReportEffects(request_id=story.id(), job=lease.job, token=lease.token, effects=(skip,),
                                             reason="late"))
    assert isinstance(stale, messages.Refused)


# ------------------------------------------------------------------------------------------------------------ lending

def ask_for_gpu(story: Story) -> str:
    accepted = story.ask(messages.SubmitTask(request_id=story.id(), task=messages.LendTask(program="p")))
    assert isinstance(accepted, messages.Accepted)
    beat(story, service=accepted.job, session="l")
    return accepted.job


def take(story: Story, job: str) -> messages.Leased:
    reply = story.ask(messages.TakeLease(request_id=story.id(), worker=job, session="l", kinds=(JobKind.LEND,),
                                         job=job))
    assert isinstance(reply, messages.Leased), reply
    return reply


def at_rest(story: Story) -> tuple[Lease, tuple[str, int]]:
    """A train job that is paused, and out of the memory; with what its heartbeats say of it."""
    ready(story)
    lease = story.lease(JobKind.TRAIN)
    assert lease is not None
    held = (lease.job, lease.token)
    order(story, PAUSE)
    beat(story, held)
    return lease, held


def test_why_the_trainer_rests_is_in_the_overview(story: Story) -> None:
    story.ask(messages.Heartbeat(request_id=story.id(), service="trainer", session="s1", pid=1, state=Lifecycle.PAUSED,
                                 cause=messages.PauseCause.WAITING))
    overview = story.ask(messages.GetOverview(request_id=story.id()))
    assert isinstance(overview, messages.Overview)
    assert overview.trainer is not None
    assert overview.trainer.cause is messages.PauseCause.WAITING


def test_the_gpu_is_lent_when_the_trainer_has_given_its_memory_back(story: Story) -> None:
    beat(story, gpu=1)
    job = ask_for_gpu(story)
    assert take(story, job).reason == "the trainer is giving the GPU's memory back"
    told = beat(story, gpu=1)
    assert (told.pause, told.lent) == (f"{job} (p) waits for the GPU", True)
    beat(story, gpu=0)
    lent = take(story, job).lease
    assert lent is not None
    told = beat(story)
    assert (told.pause, told.lent) == (f"{job} (p) has the GPU", True)
    order(story, messages.PauseQueue, reason="lunch")
    told = beat(story)
    assert (told.pause, told.lent) == ("the queue is paused: lunch", False)
    order(story, messages.ResumeQueue)
    ready(story)
    assert story.lease(JobKind.TRAIN) is None
    assert why(story) == f"{job} (p) has the GPU"
    assert beat(story).pause == f"{job} (p) has the GPU"
    order(story, messages.Fail, job=job, token=lent.token, reason="exit 1")
    assert story.lease(JobKind.TRAIN) is not None


def test_some_train_jobs_go_first_and_then_no_other(story: Story) -> None:
    for content in "abc":
        ready(story, content)
    job = ask_for_gpu(story)
    assert take(story, job).reason == "train jobs go first, for a while"
    lease = story.lease(JobKind.TRAIN)
    assert lease is not None
    assert take(story, job).reason == f"{lease.job} (a.jsonl) has the GPU"
    assert beat(story, (lease.job, lease.token), gpu=1).pause == "", "never in the middle of a job"
    story.complete(lease, TRAINED)
    assert story.lease(JobKind.TRAIN) is None
    beat(story, gpu=0)
    assert take(story, job).lease is not None


def test_who_is_gone_holds_nobody_up(story: Story) -> None:
    ready(story)
    job = ask_for_gpu(story)
    story.clock.now += 120
    beat(story)
    assert story.lease(JobKind.TRAIN) is not None, "nobody is there to use it"
    assert story.state(job) is JobState.CANCELLED


def test_a_lender_that_dies_gives_it_back(story: Story) -> None:
    job = ask_for_gpu(story)
    lent = take(story, job).lease
    assert lent is not None
    story.clock.now += 31
    story.expire()
    assert story.state(job) is JobState.FAILED


def test_two_wait_in_their_order(story: Story) -> None:
    first, second = ask_for_gpu(story), ask_for_gpu(story)
    assert take(story, second).reason == f"{first} (p) goes first"
    assert take(story, first).lease is not None
    assert take(story, second).reason == f"{first} (p) has the GPU"


def test_a_trainer_of_which_a_new_broker_has_not_heard_may_hold_the_gpu(story: Story) -> None:
    beat(story, gpu=1)
    job = ask_for_gpu(story)
    story.restart()
    beat(story, service=job, session="l")
    assert take(story, job).lease is None
    story.clock.now += 31
    beat(story, service=job, session="l")
    assert take(story, job).lease is not None, "there is none"


def test_a_lender_whose_job_has_ended_is_told(story: Story) -> None:
    beat(story, gpu=1)
    job = ask_for_gpu(story)
    order(story, messages.Cancel, job=job)
    refused = story.ask(messages.TakeLease(request_id=story.id(), worker=job, session="l", kinds=(JobKind.LEND,),
                                           job=job))
    assert isinstance(refused, messages.Refused)
    assert "cancelled" in refused.message


def test_lenders_leave_nothing_behind(story: Story) -> None:
    for _ in range(260):
        story.clock.now += 5
        beat(story)
        job = ask_for_gpu(story)
        lent = take(story, job).lease
        assert lent is not None, take(story, job).reason
        order(story, messages.Fail, job=job, token=lent.token, reason="done")
    overview = story.ask(messages.GetOverview(request_id=story.id()))
    assert isinstance(overview, Overview)
    assert [service.name for service in overview.services] == ["trainer"]


def test_a_paused_job_is_in_nobodys_way_and_goes_on_after_the_loan(story: Story) -> None:
    ready(story)
    lease = story.lease(JobKind.TRAIN)
    assert lease is not None
    held = (lease.job, lease.token)
    order(story, PAUSE)
    beat(story, held, gpu=1)
    job = ask_for_gpu(story)
    assert take(story, job).lease is None, "it is still in the memory"
    beat(story, held, gpu=0)
    lent = take(story, job).lease
    assert lent is not None
    order(story, RESUME)
    assert beat(story, held).pause == f"{job} (p) has the GPU"
    order(story, messages.Fail, job=job, token=lent.token, reason="done")
    assert beat(story, held).pause == ""


def test_it_is_lent_while_the_trainer_rests_for_a_reason_of_its_own(story: Story) -> None:
    """A file in control/, or the GPU's heat: the broker knows of it by the heartbeat alone."""
    for content in "ab":
        ready(story, content)
    lease = story.lease(JobKind.TRAIN)
    assert lease is not None
    held = (lease.job, lease.token)
    beat(story, held, gpu=1, rests=True)
    job = ask_for_gpu(story)
    assert take(story, job).lease is None, "it is still in the memory"
    beat(story, held, gpu=0, rests=True)
    lent = take(story, job).lease
    assert lent is not None
    assert beat(story, held).pause == f"{job} (p) has the GPU"
    order(story, messages.Fail, job=job, token=lent.token, reason="done")
    story.ask(messages.Release(request_id=story.id(), job=lease.job, token=lease.token))
    beat(story, rests=True)
    assert take(story, ask_for_gpu(story)).lease is not None, "no job can be begun that would go first"


def test_between_two_loans_a_train_job_that_waits_has_its_turn(story: Story) -> None:
    first = ask_for_gpu(story)
    lent = take(story, first).lease
    assert lent is not None
    for content in "ab":
        ready(story, content)
    second = ask_for_gpu(story)
    assert beat(story).pause == f"{first} (p) has the GPU"
    order(story, messages.Fail, job=first, token=lent.token, reason="done")
    # What it rests for is the loan that has just ended.
    assert beat(story).pause == ""
    assert take(story, second).reason == "train jobs go first, for a while"
    lease = story.lease(JobKind.TRAIN)
    assert lease is not None
    story.complete(lease, TRAINED)
    assert beat(story).pause == f"{second} (p) waits for the GPU"
    assert take(story, second).lease is not None


def test_a_job_that_was_resumed_is_no_place_for_the_next_loan(story: Story) -> None:
    lease, held = at_rest(story)
    first, second = ask_for_gpu(story), ask_for_gpu(story)
    lent = take(story, first).lease
    assert lent is not None
    order(story, RESUME)
    order(story, messages.Fail, job=first, token=lent.token, reason="done")
    # Before the trainer has heard of it.
    assert take(story, second).reason == f"{lease.job} (a.jsonl) has the GPU"
    assert beat(story, held).pause == ""
    assert take(story, second).lease is None


def test_a_paused_job_that_is_to_be_cancelled_comes_before_a_loan(story: Story) -> None:
    lease, held = at_rest(story)
    job = ask_for_gpu(story)
    order(story, messages.Cancel, job=lease.job)
    assert take(story, job).reason == f"{lease.job} (a.jsonl) has the GPU"
    assert beat(story, held, gpu=2).gpu == 2
    order(story, messages.AcknowledgeCancel, job=lease.job, token=lease.token)
    beat(story)
    assert take(story, job).lease is not None


def test_the_memory_is_the_trainers_or_somebody_elses(story: Story) -> None:
    assert (beat(story, gpu=3).gpu, beat(story, gpu=0).gpu) == (3, 0)
    job = ask_for_gpu(story)
    lent = take(story, job).lease
    assert lent is not None
    assert beat(story, gpu=4).gpu == 0
    order(story, messages.Fail, job=job, token=lent.token, reason="done")
    assert beat(story, gpu=4).gpu == 4
    assert take(story, ask_for_gpu(story)).lease is None, "it is about to be in it"


def test_what_needs_a_training_process_is_told_after_the_loan(story: Story) -> None:
    lease, held = at_rest(story)
    job = ask_for_gpu(story)
    lent = take(story, job).lease
    assert lent is not None
    order(story, messages.Cancel, job=lease.job)
    assert beat(story, held).cancel == ()
    assert story.lease(JobKind.TRAIN, session="s2") is None, "nor does another life of the trainer do it"
    order(story, messages.Cancel, job=job)
    assert beat(story, (job, lent.token), session="l", service=job).cancel == (job,), "the program itself is"
    order(story, messages.Fail, job=job, token=lent.token, reason="done")
    again = story.lease(JobKind.TRAIN, session="s2")
    assert again is not None
    assert (again.job, again.cancel) == (lease.job, True)


# ------------------------------------------------------------------------------------------------------- odds and ends

def test_a_longer_yield_lengthens_one(story: Story) -> None:
    order(story, PAUSE, seconds=60)
    assert order(story, PAUSE, seconds=7200)
    story.clock.now += 61
    story.expire()
    assert beat(story).pause


def test_what_is_paused_has_been_saved(story: Story) -> None:
    ready(story)
    assert story.lease(JobKind.TRAIN) is not None
    order(story, PAUSE)
    assert not order(story, messages.AskCheckpoint)


def test_a_trainer_that_was_not_heard_of_lately_is_not_stopped(story: Story) -> None:
    story.clock.now += 31
    refused = story.ask(messages.StopTrainer(request_id=story.id()))
    assert isinstance(refused, messages.Refused)


def test_a_drain_lets_a_job_go_on_that_was_given_back_in_the_middle(story: Story) -> None:
    for content in "ab":
        ready(story, content)
    lease = story.lease(JobKind.TRAIN)
    assert lease is not None
    order(story, DRAIN)
    story.ask(messages.Release(request_id=story.id(), job=lease.job, token=lease.token))
    overview = story.ask(messages.GetOverview(request_id=story.id()))
    assert isinstance(overview, Overview)
    assert (overview.training, overview.half_done) == (None, lease.job), "who drains waits for it"
    again = story.lease(JobKind.TRAIN, session="s2")
    assert again is not None
    assert again.job == lease.job
    story.complete(again, TRAINED)
    assert story.lease(JobKind.TRAIN, session="s2") is None


def test_a_drain_begins_none_in_the_place_of_one_that_must_be_prepared_again(story: Story) -> None:
    for content in "ab":
        ready(story, content)
    lease = story.lease(JobKind.TRAIN)
    assert lease is not None
    order(story, DRAIN)
    story.ask(messages.ReportLostShard(request_id=story.id(), job=lease.job, token=lease.token, reason="damaged"))
    assert story.lease(JobKind.TRAIN) is None
    story.clock.now += 1e6
    beat(story)
    assert story.lease(JobKind.TRAIN) is None
    story.prepare_next()
    again = story.lease(JobKind.TRAIN)
    assert again is not None
    assert again.job == lease.job


def test_a_failure_that_holds_the_queue_begins_anew_too(story: Story) -> None:
    for content in "abc":
        ready(story, content)
    for _ in range(2):
        lease = story.lease(JobKind.TRAIN)
        assert lease is not None
        order(story, messages.Fail, job=lease.job, token=lease.token, reason="boom")
    lease = story.lease(JobKind.TRAIN)
    assert lease is not None
    skip = Effect(kind=EffectKind.SKIP_BATCH, step=1)
    order(story, messages.ReportEffects, job=lease.job, token=lease.token, effects=(skip,), reason="nan")
    order(story, messages.Fail, job=lease.job, token=lease.token, reason="boom")
    assert "QueueHeld" in story.types()
    story.clock.now += 301
    story.expire()
    again = story.lease(JobKind.TRAIN)
    assert again is not None
    assert (again.job, again.effects) == (lease.job, ())


def test_a_head_in_the_middle_of_an_earlier_attempt_brings_its_effects_back(story: Story) -> None:
    """The state before the job does not verify, to which a failed attempt went back: the head is in that attempt."""
    ready(story)
    first = messages.Hello(request_id=story.id(), worker="train", session="s1", generation=1, name="g000001-s00000000",
                           step=0, reason="initial")
    story.ask(first)
    lease = story.lease(JobKind.TRAIN)
    assert lease is not None
    skip = Effect(kind=EffectKind.SKIP_BATCH, step=1)
    order(story, messages.ReportEffects, job=lease.job, token=lease.token, effects=(skip,), reason="nan")
    for generation, name, job_step in ((2, "g000002-s00000005", 5), (3, "g000003-s00000000", 0)):
        order(story, messages.ReportCheckpoint, job=lease.job, token=lease.token, generation=generation, name=name,
              step=job_step, job_step=job_step, done=False, reason="r")
    order(story, messages.Fail, job=lease.job, token=lease.token, reason="boom")
    middle = messages.Hello(
        request_id=story.id(), worker="train", session="s2", generation=2, name="g000002-s00000005", step=5,
        reason="interval", job=lease.job, job_step=5, steps_planned=10, effects=(skip,),
        damaged=(messages.DamagedGeneration(generation=3, name="g000003-s00000000", reason="x"),))
    assert isinstance(story.ask(middle), messages.Greeted)
    order(story, DRAIN)  # which lets what is half done go on
    again = story.lease(JobKind.TRAIN, session="s2")
    assert again is not None
    assert (again.job, again.effects) == (lease.job, (skip,)), "it goes on there, before anything else"
    order(story, RESUME)
    # Said again, nothing changes.
    before = len(story.types())
    story.ask(middle)
    assert len(story.types()) == before


def test_a_journal_that_was_brought_back_learns_the_effects_from_the_head(story: Story) -> None:
    ready(story)
    story.ask(messages.Hello(request_id=story.id(), worker="train", session="s1", generation=1,
                             name="g000001-s00000000", step=0, reason="initial"))
    lease = story.lease(JobKind.TRAIN)
    assert lease is not None
    skip = Effect(kind=EffectKind.SKIP_BATCH, step=1)
    greeted = story.ask(messages.Hello(
        request_id=story.id(), worker="train", session="s1", generation=2, name="g000002-s00000005", step=5,
        reason="interval", job=lease.job, job_step=5, steps_planned=10, effects=(skip,)))
    assert isinstance(greeted, messages.Greeted)
    assert greeted.lost, "its lease knows nothing of them"
    again = story.lease(JobKind.TRAIN, session="s1")
    assert again is not None
    assert again.effects == (skip,)


def test_a_job_that_was_cut_and_not_reported_says_from_what(story: Story) -> None:
    ready(story)
    lease = story.lease(JobKind.TRAIN)
    assert lease is not None
    cut = Effect(kind=EffectKind.CUT, step=5, value=10)
    order(story, messages.ReportEffects, job=lease.job, token=lease.token, effects=(cut,), reason="skipped")
    story.ask(messages.Release(request_id=story.id(), job=lease.job, token=lease.token))
    story.ask(messages.Hello(request_id=story.id(), worker="train", session="s2", generation=2,
                             name="g000002-s00000005", step=5, reason="job_end", job=lease.job, job_step=5,
                             steps_planned=5, done=True, effects=(cut,)))
    detail = story.ask(messages.ShowJob(request_id=story.id(), job=lease.job))
    assert isinstance(detail, messages.JobDetail)
    assert detail.job.result is not None
    assert detail.job.result["cut_from"] == 10


def test_an_evaluation_on_the_gpu_waits_as_a_loan_does_and_one_beside_it_does_not(tmp_path: Path) -> None:
    story = Story(tmp_path, TRAINQ_EVALUATION_DEVICE="gpu")
    ready(story)
    trained = story.lease(JobKind.TRAIN)
    assert trained is not None
    story.ask(messages.SubmitTask(request_id=story.id(), task=EvaluateTask(checkpoint="g000001-s00000000")))
    beat(story, service="evaluator")
    held = (trained.job, trained.token)
    assert beat(story, held, gpu=1).pause == "", "never in the middle of a job"
    assert story.task(JobKind.EVALUATE) == (None, "train-1 (a.jsonl) has the GPU")
    story.complete(trained, TRAINED)
    assert beat(story, gpu=1).lent
    assert story.task(JobKind.EVALUATE) == (None, "the trainer is giving the GPU's memory back")
    beat(story, gpu=0)
    lease, _ = story.task(JobKind.EVALUATE)
    assert lease is not None
    assert lease.gpu
    ready(story, "b")
    assert story.lease(JobKind.TRAIN) is None
    assert "evaluate-1" in why(story)
    story.expire()
    order(story, messages.Fail, job=lease.job, token=lease.token, reason="no room")
    assert story.lease(JobKind.TRAIN) is not None

    (tmp_path / "beside").mkdir()
    beside = Story(tmp_path / "beside")
    ready(beside)
    running = beside.lease(JobKind.TRAIN)
    beside.ask(messages.SubmitTask(request_id=beside.id(), task=EvaluateTask(checkpoint="g000001-s00000000")))
    scored, _ = beside.task(JobKind.EVALUATE)
    assert running is not None
    assert scored is not None
    assert not scored.gpu
