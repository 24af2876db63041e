"""The watch: what counts as a hang, and what does not."""

from services.trainer import wire
from services.trainer.watch import Watch
from trainq.config import TrainerSettings

SETTINGS = TrainerSettings(hang_factor=10, hang_seconds=120, start_seconds=600)


def test_a_process_without_work_is_never_overdue() -> None:
    watch = Watch(SETTINGS)
    assert watch.overdue(1e9) == ""
    watch.expect_step(0.0)
    watch.expect_nothing()
    assert watch.overdue(1e9) == ""


def test_a_first_step_may_take_two_minutes() -> None:
    watch = Watch(SETTINGS)
    watch.expect_step(100.0)
    assert watch.overdue(220.0) == ""
    assert "a step is missing for 121 s, 120 s are allowed" in watch.overdue(221.0)


def test_slow_steps_may_take_ten_times_the_slowest() -> None:
    watch = Watch(SETTINGS)
    watch.expect_step(0.0)
    for now in (5.0, 35.0, 40.0):  # the slowest took 30 s
        watch.stepped(now)
    assert watch.overdue(340.0) == ""
    assert watch.overdue(341.0)


def test_a_large_checkpoint_may_take_as_long_as_a_slow_disk_needs() -> None:
    watch = Watch(SETTINGS)
    watch.expect_step(0.0)
    watch.stepped(1.0)
    watch.expect_save(1.0, 10_000_000_000)
    assert watch.overdue(1.0 + 120 + 1000) == ""
    assert "checkpoint" in watch.overdue(1.0 + 120 + 1001)
    watch.expect_step(50.0)
    assert watch.overdue(171.0), "once it is written, a step is due again"


def test_what_a_job_reads_before_its_first_step_has_its_time_and_is_no_step() -> None:
    watch = Watch(SETTINGS)
    watch.expect_job(0.0, 10_000_000_000)
    assert watch.overdue(120.0 + 1000.0) == ""
    assert "the first step is missing" in watch.overdue(120.0 + 1001.0)
    watch.stepped(900.0)
    watch.stepped(901.0)
    assert watch.overdue(901.0 + 121.0), "ten times the slowest step, and not of what came before the first"


def test_loading_has_its_own_limit() -> None:
    watch = Watch(SETTINGS)
    watch.expect_start(0.0)
    assert watch.overdue(600.0) == ""
    assert "loaded" in watch.overdue(601.0)


def test_a_checkpoint_beside_the_steps_changes_nothing_about_the_step_that_is_due() -> None:
    watch = Watch(SETTINGS)
    watch.expect_step(0.0)
    watch.stepped(30.0)
    watch.expect_save_beside(30.0, 10_000_000_000)
    watch.stepped(40.0)
    assert watch.slowest_step_seconds == 30.0, "the steps beside it are steps"
    assert "a step is missing" in watch.overdue(341.0)
    watch.saved(50.0)
    assert "a step is missing" in watch.overdue(341.0), "its end is no step"
    watch.stepped(60.0)
    assert watch.overdue(360.0) == ""


def test_a_checkpoint_beside_the_steps_that_never_ends_is_a_hang() -> None:
    watch = Watch(SETTINGS)
    watch.expect_step(0.0)
    watch.expect_save_beside(0.0, 10_000_000_000)
    for now in range(100, 2400, 100):
        watch.stepped(float(now))
    assert watch.overdue(2399.0) == "", "that it is done is told at the end of a step"
    watch.stepped(2400.0)
    assert "written beside the steps for more than 2240 s" in watch.overdue(2401.0)


def test_a_checkpoint_that_is_on_the_disk_long_before_it_can_be_told_is_no_hang() -> None:
    watch = Watch(SETTINGS)
    for now in (0.0, 60.0, 120.0):
        watch.stepped(now)
    watch.expect_save_beside(120.0, 10_000_000)
    assert watch.overdue(700.0) == "", "a slow step, as slow as is allowed"
    watch.stepped(700.0)
    watch.saved(700.1)
    watch.stepped(800.0)
    assert watch.overdue(801.0) == ""
    watch.expect_save_beside(801.0, 10_000_000)
    watch.expect_answer()
    assert watch.overdue(10_000.0) == "", "the broker is away"
    watch.expect_nothing()
    assert watch.overdue(1e9) == ""


def test_a_checkpoint_beside_the_steps_that_came_to_nothing_is_not_waited_for() -> None:
    watch = Watch(SETTINGS)
    watch.expect_step(0.0)
    # Its weights were no numbers: the line is taken back, and goes on.
    for message in (wire.Saving(size_bytes=10_000_000, waits=False), wire.TakenBack(job="train-1", reason="a weight"),
                    wire.Saving(size_bytes=10_000_000, waits=True)):
        watch.heard(1.0, message)
    for now in range(2, 600):
        watch.stepped(float(now))
    assert watch.overdue(600.0) == ""


def test_after_a_checkpoint_that_was_waited_for_a_step_is_due() -> None:
    watch = Watch(SETTINGS)
    watch.expect_save(0.0, 10_000_000_000)
    watch.saved(900.0)
    assert watch.overdue(1020.0) == ""
    assert "a step is missing" in watch.overdue(1021.0)
