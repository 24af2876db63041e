"""The machine's faults, planted: a full disk, a clock in the future, a driver in trouble, low limits."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

import pytest

from trainq import gpu, room
from trainq.config import DiskSettings, Home, Settings, TrainerSettings
from trainq.doctor import machine
from trainq.doctor.findings import Finding, Subject, Verdict

GIB = 1 << 30


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    made = Subject({}, tmp_path, Home(tmp_path), Settings(disk=DiskSettings(warn_gib=50, hold_gib=10)))
    made.home.inbox.mkdir()
    return made


def first(found: Iterable[Finding]) -> Finding:
    return next(iter(found))


@pytest.mark.parametrize(("free_gib", "verdict"), [(0, Verdict.FAIL), (9, Verdict.FAIL), (49, Verdict.WARN),
                                                   (51, Verdict.OK)])
def test_room(subject: Subject, monkeypatch: pytest.MonkeyPatch, free_gib: int, verdict: Verdict) -> None:
    monkeypatch.setattr(room, "usage", lambda _folder: room.Usage(100 * GIB, free_gib * GIB))
    found = first(machine.disk(subject))
    assert found.verdict is verdict
    assert f"{free_gib}.0 of 100.0 GiB" in found.found
    assert bool(found.mend) == (verdict is not Verdict.OK)


def test_a_full_disk_without_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "usage", lambda _folder: room.Usage(100 * GIB, 0))
    settings = Settings(disk=DiskSettings(warn_gib=0, hold_gib=0))
    subject = Subject({}, tmp_path, Home(tmp_path / "not" / "there"), settings)
    found = first(machine.disk(subject))
    assert (found.verdict, "full" in found.found) == (Verdict.FAIL, True)


@pytest.mark.parametrize(("left", "of", "verdict"), [(0, 1000, Verdict.FAIL), (40, 1000, Verdict.WARN), (0, 0, None),
                                                     (900, 1000, None)])
def test_inodes(subject: Subject, monkeypatch: pytest.MonkeyPatch, left: int, of: int, verdict: Verdict | None) -> None:
    monkeypatch.setattr(room, "usage", lambda _folder: room.Usage(100 * GIB, 99 * GIB))
    monkeypatch.setattr(os, "statvfs", lambda _folder: SimpleNamespace(f_files=of, f_favail=left))
    assert [each.verdict for each in machine.disk(subject) if each.name == "inodes"] == ([verdict] if verdict else [])


def test_a_clock_that_was_set_back(subject: Subject) -> None:
    subject.home.journal.touch()
    os.utime(subject.home.journal, (time.time() + 7200,) * 2)
    found = first(machine.clock(subject))
    assert found.verdict is Verdict.FAIL
    assert "journal.db was written at" in found.found
    assert "wait for 2.0 hours" in found.mend


def test_a_clock_of_before_there_was_trainq(subject: Subject) -> None:
    found = first(machine.clock(subject, wall=lambda: 1000.0))
    assert (found.verdict, "1970" in found.found) == (Verdict.FAIL, True)


def test_who_keeps_the_clock(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    for unsynchronised, verdict in ((True, Verdict.WARN), (False, Verdict.OK)):
        monkeypatch.setattr(machine, "_is_unsynchronised", lambda answer=unsynchronised: answer)
        assert first(machine.clock(subject)).verdict is verdict


@pytest.mark.parametrize(("view", "required", "verdict", "said"), [
    (gpu.View(), False, Verdict.OK, "none"),
    (gpu.View(), True, Verdict.FAIL, "required"),
    (gpu.View(trouble="driver mismatch"), False, Verdict.FAIL, "driver mismatch"),
    (gpu.View(found=True, celsius=50), True, Verdict.OK, "50 degrees"),
    (gpu.View(found=True, uses=(gpu.Use(1, 9000),)), False, Verdict.WARN, "process 1 (9000 MiB)")])
def test_the_gpu(tmp_path: Path, view: gpu.View, required: bool, verdict: Verdict, said: str) -> None:
    settings = Settings(trainer=TrainerSettings(gpu="required" if required else "auto"))
    subject = Subject({}, tmp_path, Home(tmp_path), settings)
    found = first(machine.gpu_driver(subject, look=lambda _environment: view))
    assert (found.verdict, said in found.found) == (verdict, True), found


def test_limits(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    def limit(which: int) -> tuple[int, int]:
        return (100, 256) if which == resource.RLIMIT_NOFILE else (GIB, GIB)

    monkeypatch.setattr(resource, "getrlimit", limit)
    monkeypatch.setattr(machine, "_number", lambda path: 3 if path.name == "max_user_watches" else 1000)
    for name in "abcde":
        (subject.home.inbox / name / "inner").mkdir(parents=True)
    found = [each.found for each in machine.limits(subject)]
    assert "256 files open" in found[0]
    assert "1.0 GiB" in found[1]
    assert "max_user_watches is 3, and 11" in found[2]
    assert len(found) == 3


def test_memory(subject: Subject) -> None:
    assert "GiB are available" in first(machine.memory(subject)).found
