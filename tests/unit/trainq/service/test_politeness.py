"""Politeness: a rate is kept on the average, and a process is lower in priority than others."""

import os
import subprocess
import sys

from trainq.clock import SystemClock
from trainq.service.politeness import Pace


class HandClock(SystemClock):
    now = 100.0

    def monotonic(self) -> float:
        return self.now


def test_a_rate_is_kept() -> None:
    clock = HandClock()

    def pause(seconds: float) -> None:
        clock.now += seconds

    pace = Pace(clock, 10.0, pause)
    for _ in range(50):
        pace.passed(1 << 20)
    assert clock.now == 105.0
    clock.now += 10
    for _ in range(50):
        pace.passed(1 << 20)
    assert clock.now == 115.0, "what was slow before may be made up for"


def test_without_a_rate_nobody_waits() -> None:
    def pause(_: float) -> None:
        raise AssertionError

    pace = Pace(HandClock(), 0.0, pause)
    pace.passed(1 << 40)
    assert pace.size_bytes == 1 << 40


def test_a_polite_process_is_nice_and_idle_at_the_disk() -> None:
    code = ("import os, psutil\nfrom trainq.config import MaintenanceSettings\n"
            "from trainq.service.politeness import be_polite\n"
            "be_polite(MaintenanceSettings(niceness=15))\nbe_polite(MaintenanceSettings(niceness=15))\n"
            "print(os.nice(0), psutil.Process().ionice().ioclass == psutil.IOPRIO_CLASS_IDLE)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(max(15, os.nice(0))), "True"]
