"""The agent looks seldom, remembers that it was hot, and asks a slow driver less often."""

from __future__ import annotations

import threading

import pytest

from services.trainer.gpuguard import HANG_SECONDS, LOOK_SECONDS, GpuGuard
from trainq.config import TrainerSettings
from trainq.gpu import Use, View


class Driver:
    def __init__(self) -> None:
        self.now, self.looks, self.takes = 100.0, 0, 0.0
        self.view = View(found=True, celsius=50)

    def monotonic(self) -> float:
        return self.now

    def look(self) -> View:
        self.looks += 1
        self.now += self.takes
        return self.view


def test_it_lets_go_by_itself() -> None:
    driver = Driver()
    guard = GpuGuard(TrainerSettings(max_celsius=80), driver.monotonic, driver.look)
    said = []
    for celsius in (79, 80, 79, 75, 74, 79):
        driver.view = View(found=True, celsius=celsius)
        said.append(bool(guard.verdict(0).pause))
        driver.now += LOOK_SECONDS
    assert said == [False, True, True, True, False, False]


def test_it_looks_every_few_seconds_and_a_slow_driver_less_often() -> None:
    driver = Driver()
    guard = GpuGuard(TrainerSettings(), driver.monotonic, driver.look)
    for _ in range(3):
        guard.verdict(0)
        driver.now += LOOK_SECONDS / 2
    assert driver.looks == 2
    driver.now, driver.takes = 200.0, 1.0
    guard.verdict(0)
    driver.now += 40
    guard.verdict(0)
    assert driver.looks == 3
    driver.now += 11
    guard.verdict(0)
    assert driver.looks == 4


def test_a_stranger_holds_and_pauses_nothing() -> None:
    driver = Driver()
    driver.view = View(found=True, uses=(Use(2**22 + 1, 5000),))
    seen = GpuGuard(TrainerSettings(foreign_mib=1024), driver.monotonic, driver.look).verdict(0)
    assert "others use 5000 MiB" in seen.hold
    assert not seen.pause


def test_a_driver_that_hangs_holds_the_work_and_nobody_waits_for_it() -> None:
    driver, answers = Driver(), threading.Event()

    def hanging() -> View:
        assert answers.wait(60)
        return driver.look()

    guard = GpuGuard(TrainerSettings(), driver.monotonic, hanging, wait_seconds=0.01)
    assert "has not answered yet" in guard.verdict(0).hold
    driver.now += HANG_SECONDS
    assert "its driver has not answered for 30 s" in guard.verdict(0).hold
    assert driver.looks == 0
    answers.set()
    while driver.looks == 0 or guard.verdict(0).hold:
        pass
    driver.now += LOOK_SECONDS * 100
    guard.verdict(0)
    assert driver.looks == 2


def test_what_goes_wrong_in_a_look_is_raised_and_it_looks_again() -> None:
    driver = Driver()
    driver.view = None  # type: ignore[assignment]  # no view: an error in whoever judges it
    guard = GpuGuard(TrainerSettings(), driver.monotonic, driver.look)
    with pytest.raises(AttributeError):
        guard.verdict(0)
    driver.view = View(found=True)
    driver.now += LOOK_SECONDS
    assert guard.verdict(0).hold == ""


def test_a_process_on_the_processor_is_told_of_once_for_each_time_that_the_gpu_was_away() -> None:
    driver = Driver()
    guard = GpuGuard(TrainerSettings(foreign_mib=1024), driver.monotonic, driver.look)
    said = []
    for view in (View(), View(found=True), View(found=True), View(found=True, uses=(Use(2**22 + 1, 5000),)),
                 View(found=True), View(trouble="lost"), View(found=True), View(found=True)):
        driver.view = view
        guard.verdict(0)
        said.append((guard.is_passed_over("NVIDIA H100"), guard.is_passed_over("cpu")))
        driver.now += LOOK_SECONDS
    assert not any(on_gpu for on_gpu, _ in said)
    assert [on_processor for _, on_processor in said] == [False, True, False, False, False, False, True, False]
