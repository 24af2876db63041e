"""The disk guard: when it warns, holds and lets go, and what it forecasts."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.broker.guarding import LOOK_SECONDS, SAMPLE_SECONDS, DiskGuard, hours_left
from trainq.config import DiskSettings
from trainq.room import Usage

GIB = 1 << 30


class Disk:
    def __init__(self, free_gib: float = 100.0, total_gib: float = 1000.0) -> None:
        self.free_gib, self.total_gib, self.now = free_gib, total_gib, 0.0
        self.is_broken = False

    def usage(self, _folder: Path) -> Usage:
        if self.is_broken:
            raise OSError(5, "Input/output error")
        return Usage(int(self.total_gib * GIB), int(self.free_gib * GIB))

    def guard(self, **settings: float) -> DiskGuard:
        return DiskGuard(Path("/"), DiskSettings(**settings), lambda: self.now, self.usage)

    def later(self, free_gib: float, seconds: float = LOOK_SECONDS) -> None:
        self.free_gib = free_gib
        self.now += seconds


def state(guard: DiskGuard) -> str:
    view = guard.view()
    assert view is not None
    return view.state


def test_it_warns_holds_and_lets_go_with_some_more() -> None:
    disk = Disk()
    guard = disk.guard()
    seen = []
    for free in (100, 50, 49, 10, 9.9, 10.5, 10.9, 11, 9.9, 60):
        disk.later(free)
        seen.append(state(guard))
    assert seen == ["ok", "ok", "warn", "warn", "hold", "hold", "hold", "warn", "hold", "ok"]


def test_the_reason_says_what_there_is_what_is_kept_and_which_setting() -> None:
    disk = Disk(free_gib=5)
    why = disk.guard().why_held()
    assert "5.4 GB free" in why
    assert "10.7 GB are kept" in why
    assert "[disk] hold_gib" in why
    disk.later(500)
    assert disk.guard().why_held() == ""


def test_percent_counts_where_it_is_more() -> None:
    disk = Disk(free_gib=150)
    assert state(disk.guard(warn_percent=10, hold_percent=20)) == "hold"
    assert state(disk.guard(warn_percent=20, hold_percent=1)) == "warn"
    assert state(disk.guard(warn_gib=0, hold_gib=0)) == "ok"


def test_the_disk_is_not_asked_for_every_job() -> None:
    disk = Disk()
    guard = disk.guard()
    guard.view()
    disk.free_gib = 1
    assert state(guard) == "ok"
    disk.now += LOOK_SECONDS
    assert state(guard) == "hold"


def test_a_disk_that_cannot_be_asked_holds_nobody_up() -> None:
    disk = Disk()
    disk.is_broken = True
    guard = disk.guard()
    assert guard.view() is None
    assert guard.why_held() == ""


def test_it_says_when_the_disk_will_be_full() -> None:
    disk = Disk(free_gib=100)
    guard = disk.guard()
    view = guard.view()
    for _ in range(30):
        disk.later(disk.free_gib - 0.5, SAMPLE_SECONDS)
        view = guard.view()
    assert view is not None
    assert view.full_in_hours == pytest.approx(85 / 0.5 / 60, abs=0.01)


@pytest.mark.parametrize(("samples", "free", "hours"), [
    ([], 100, None), ([(0.0, 100), (60.0, 90)], 90, None), ([(0.0, 1), (60.0, 2), (120.0, 3)], 3, None),
    ([(0.0, 7), (60.0, 7), (120.0, 7)], 7, None), ([(5.0, 9), (5.0, 8), (5.0, 7)], 7, None),
    ([(0.0, 7200), (3600.0, 3600), (7200.0, 0)], 3600, 1.0),
    ([(0.0, 10**12), (60.0, 10**12 - 1), (120.0, 10**12 - 2)], 10**12, None)])
def test_forecasts(samples: list[tuple[float, int]], free: int, hours: float | None) -> None:
    assert hours_left(samples, free) == hours
