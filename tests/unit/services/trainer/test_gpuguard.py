"""The agent looks seldom, remembers that it was hot, and asks a slow driver less often."""

from __future__ import annotations

from services.trainer.gpuguard import LOOK_SECONDS, GpuGuard
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
