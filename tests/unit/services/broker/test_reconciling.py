"""Reconciliation: what a trainer's head makes of the journal."""

import msgspec
import pytest

from services.broker.reconciling import reconcile, refuse_if_unfit, restore
from trainq import jobs
from trainq.errors import DamageError
from trainq.jobs import AnyEvent, JobKind, JobState
from trainq.journal import JobRow, LineRow, Span
from trainq.messages import DamagedGeneration, Hello, RestoreTask

LINE = LineRow(next_number=9, paused_reason=None, generation=7, checkpoint="g000007-s00000040", step=40, newest=7,
               started=0, held_reason=None, hold_spent=0, failed_jobs="", ageing_jobs=20, next_task=1, inbox_waiting=0)
HELLO = Hello(request_id="r", worker="trainer", session="s", generation=7, name="g000007-s00000040", step=40,
              reason="job_end", journal_seq=50, job="train-3", job_step=10, steps_planned=10, done=True)
TRAINED = JobRow(
    id="train-3", number=3, kind=JobKind.TRAIN, state=JobState.SUCCEEDED, name="a.jsonl", front=1, generated=0,
    priority=1, rank=20, started_before=0, digest="0" * 64, size_bytes=1, blockers=0, submitted_seq=1,
    submitted_at=0.0, prepared=1,
    shard="s", shard_digest="d", rows=1, tokens=1, attempts=1, failures=0, best_step=10, generation=7, deaths=0,
    death_step=None, worker="", session="", token=7, cancel_reason=None, keep=0, started_at=0.0, ended_at=1.0,
    retry_at=0.0,
    reason="", report=None, result=None)


def row(**changes: object) -> JobRow:
    return msgspec.structs.replace(TRAINED, **changes)


def agree(hello: Hello = HELLO, *, head_job: JobRow | None = TRAINED, held: JobRow | None = None,
          uncovered: tuple[JobRow, ...] = (), reinstatable: tuple[tuple[JobRow, int], ...] = (),
          reported: frozenset[tuple[int, str]] = frozenset()) -> list[AnyEvent]:
    return reconcile(hello, line=LINE, head_job=head_job, held=held, uncovered=list(uncovered),
                     reinstatable=list(reinstatable), reported=set(reported))


def hello(**changes: object) -> Hello:
    return msgspec.structs.replace(HELLO, **changes)


def test_a_head_that_the_journal_knows_changes_nothing() -> None:
    assert agree() == []
    assert agree(hello(done=False, job_step=4), head_job=row(state=JobState.QUEUED, front=0)) == []


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.RUNNING])
def test_a_job_that_is_all_in_the_head_has_succeeded_though_nobody_lived_to_say_it(state: JobState) -> None:
    published, succeeded = agree(hello(generation=8, name="g8"), head_job=row(state=state, generation=0))
    assert isinstance(published, jobs.CheckpointPublished)
    assert (published.generation, published.job_step) == (8, 10)
    assert isinstance(succeeded, jobs.JobSucceeded)
    assert (succeeded.result["generation"], succeeded.result["steps_done"]) == (8, 10)


def test_the_job_in_the_workers_own_hands_is_left_to_it() -> None:
    running = row(state=JobState.RUNNING)
    assert agree(head_job=running, held=running) == []


def test_what_only_lost_generations_held_is_trained_again_in_the_old_order() -> None:
    lost = (row(id="train-5", generation=6), row(generation=7))
    damaged = (DamagedGeneration(generation=7, name="damaged-g7", reason="flipped"),)
    events = agree(hello(generation=5, name="g5", job="train-2", damaged=damaged), head_job=row(id="train-2"),
                   uncovered=lost)
    assert events[0] == jobs.CheckpointDamaged(generation=7, name="damaged-g7", reason="flipped")
    assert events[1] == jobs.HeadAdopted(generation=5, name="g5", step=40)
    assert [(event.job, event.generation) for event in events[2:]] == [  # type: ignore[union-attr]
        ("train-5", 6), ("train-3", 7)]


def test_a_running_job_comes_after_what_was_lost_under_it() -> None:
    running = row(id="train-8", state=JobState.RUNNING)
    events = agree(hello(generation=5, name="g5"), held=running, uncovered=(row(generation=7),))
    kinds = [type(event) for event in events]
    assert kinds == [jobs.HeadAdopted, jobs.LeaseEnded, jobs.JobUncovered]


def test_damage_is_recorded_once() -> None:
    damaged = (DamagedGeneration(generation=6, name="damaged-g6", reason="it was set aside before"),)
    assert agree(hello(damaged=damaged), reported=frozenset({(6, "damaged-g6")})) == []


def test_a_take_back_of_which_nobody_was_told_is_adopted() -> None:
    (event,) = agree(hello(generation=8, name="g8"))
    assert event == jobs.HeadAdopted(generation=8, name="g8", step=40)


def test_the_first_head_of_all_is_adopted() -> None:
    fresh = msgspec.structs.replace(LINE, generation=0, newest=0)
    begun = hello(generation=0, name="g0", step=0, job="", done=False, begun=True)
    for _ in range(2):  # asked again, because the reply was lost
        refuse_if_unfit(begun, fresh, 60, [], set())
        assert reconcile(begun, line=fresh, head_job=None, held=None, uncovered=[], reinstatable=[],
                         reported=set()) == []
    first = hello(generation=1, name="g1", step=0, job="", done=False)
    refuse_if_unfit(first, fresh, 60, [], set())
    assert reconcile(first, line=fresh, head_job=None, held=None, uncovered=[], reinstatable=[], reported=set()) == [
        jobs.HeadAdopted(generation=1, name="g1", step=0)]


def test_a_journal_behind_its_checkpoints_is_refused() -> None:
    refuse_if_unfit(HELLO, LINE, 50, [], set())
    with pytest.raises(DamageError, match="has seen its event 50, and it ends at 49"):
        refuse_if_unfit(HELLO, LINE, 49, [], set())


def test_an_emptied_checkpoints_folder_is_no_new_beginning() -> None:
    with pytest.raises(DamageError, match="generation 7"):
        refuse_if_unfit(hello(generation=0, begun=True, journal_seq=0), LINE, 50, [], set())


def test_a_generation_that_is_missing_is_not_damaged_and_nothing_is_trained_again_for_it() -> None:
    older, lost = hello(generation=5, name="g5"), [row(generation=6), row(id="train-4", generation=7)]
    six = DamagedGeneration(generation=6, name="damaged-g6", reason="flipped")
    with pytest.raises(DamageError, match="generation 6, with train-3 in it, is missing"):
        refuse_if_unfit(older, LINE, 50, lost, set())
    with pytest.raises(DamageError, match=r"with train-4 in it, is missing.*mkdir checkpoints/damaged-g000007"):
        refuse_if_unfit(msgspec.structs.replace(older, damaged=(six,)), LINE, 50, lost, set())
    refuse_if_unfit(msgspec.structs.replace(older, damaged=(six,)), LINE, 50, lost, {7})


def test_what_a_lost_restore_had_taken_out_is_trained_after_all() -> None:
    cancelled, queued = row(id="train-5", state=JobState.CANCELLED), row(id="train-3", state=JobState.QUEUED)
    events = agree(hello(generation=6, name="g6"), head_job=queued, reinstatable=((queued, 4), (cancelled, 6)))
    assert [type(event).__name__ for event in events] == ["HeadAdopted", "JobReinstated", "JobReinstated"]
    assert [(event.job, event.generation) for event in events[1:] if isinstance(event, jobs.JobReinstated)] == [
        ("train-3", 4), ("train-5", 6)]


RESTORE = row(id="restore-1", kind=JobKind.RESTORE, state=JobState.RUNNING)
RESTORED = hello(generation=9, name="g9", reason="restore", made_by="restore-1", restored_from=4)
TASK = RestoreTask(name="g000004-s00000020")


def test_a_restore_takes_out_what_it_does_not_hold_and_brings_back_what_it_does() -> None:
    out, back = row(id="train-7", generation=7), row(id="train-2", state=JobState.CANCELLED)
    line, *rest, done = restore(RESTORED, by=RESTORE, task=TASK, middle=None, uncovered=[out], reinstatable=[(back, 3)])
    assert line == jobs.LineRestored(generation=9, name="g9", step=40, source=4, by="restore-1")
    assert [type(event).__name__ for event in rest] == ["JobTakenOut", "JobReinstated"]
    assert isinstance(done, jobs.JobSucceeded)
    assert "jobs taken out: 1, brought back: 1, trained again: 0" in done.result["summary"]


def test_a_restore_that_retrains_queues_what_it_does_not_hold() -> None:
    task = msgspec.structs.replace(TASK, retrain=True)
    _, again, _ = restore(RESTORED, by=RESTORE, task=task, middle=None,
                          uncovered=[row(id="train-7", generation=7)], reinstatable=[])
    assert isinstance(again, jobs.JobUncovered)


@pytest.mark.parametrize("state", [JobState.SUCCEEDED, JobState.QUEUED, JobState.CANCELLED, JobState.QUARANTINED])
def test_the_job_in_the_middle_of_which_it_was_taken_goes_on_first_whatever_became_of_it(state: JobState) -> None:
    middle = msgspec.structs.replace(RESTORED, job="train-7", done=False, job_step=4)
    job = row(id="train-7", generation=7, state=state)
    events = restore(middle, by=RESTORE, task=TASK, middle=job, reinstatable=[],
                     uncovered=[job, row(id="train-8", generation=8)])
    assert [type(event).__name__ for event in events] == ["LineRestored", "JobUncovered", "JobTakenOut",
                                                          "JobSucceeded"]
    assert isinstance(events[1], jobs.JobUncovered)
    assert (events[1].job, events[1].generation) == ("train-7", 0)


def test_a_restore_that_failed_and_was_published_all_the_same_is_recorded() -> None:
    failed = msgspec.structs.replace(RESTORE, state=JobState.FAILED)
    assert len(restore(RESTORED, by=failed, task=TASK, middle=None, uncovered=[], reinstatable=[])) == 1


def test_what_a_restore_had_brought_back_is_lost_with_what_it_published() -> None:
    lost = [row(generation=2)]
    older = hello(generation=5, name="g5")
    with pytest.raises(DamageError, match="generation 7, with train-3 in it, is missing"):
        refuse_if_unfit(older, LINE, 50, lost, set(), spans=[Span(0, 2), Span(7, 7)])
    refuse_if_unfit(older, LINE, 50, lost, {7}, spans=[Span(0, 2), Span(7, 7)])


def test_a_restore_whose_generation_is_only_missing_is_not_undone() -> None:
    older, back = hello(generation=5, name="g5"), [(row(state=JobState.CANCELLED), 4)]
    with pytest.raises(DamageError, match="generation 7, with which the line went back, is missing"):
        refuse_if_unfit(older, LINE, 50, [], set(), spans=[Span(0, 2), Span(7, 7)], reinstatable=back)
    refuse_if_unfit(older, LINE, 50, [], {7}, spans=[Span(0, 2), Span(7, 7)], reinstatable=back)


def test_what_retention_has_removed_is_no_loss_once_the_head_is_known_to_be_damaged() -> None:
    older, lost = hello(generation=3, name="g3"), [row(generation=4), row(generation=5)]
    with pytest.raises(DamageError, match="generation 4"):
        refuse_if_unfit(older, LINE, 50, lost, set(), removed={4, 5})
    refuse_if_unfit(older, LINE, 50, lost, {7}, removed={4, 5})


def test_a_running_job_that_the_older_head_holds_is_taken_out_of_its_worker_s_hands() -> None:
    running = row(state=JobState.RUNNING)
    events = agree(hello(generation=6, name="g6", job="train-9", done=False), head_job=None, held=running,
                   reinstatable=((running, 4),), uncovered=(row(id="train-5"),))
    assert [type(event).__name__ for event in events] == ["HeadAdopted", "JobUncovered", "LeaseEnded",
                                                          "JobReinstated"]
