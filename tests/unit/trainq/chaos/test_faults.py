"""The breaker on real processes that stand where a service would: what it does, counts, and sets right again."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from installations import wait_for
from trainq import crashpoints
from trainq.chaos.faults import Breaker
from trainq.chaos.installation import Installation, NotInTimeError
from trainq.chaos.plan import Fault, FaultKind


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    made = Installation(tmp_path)
    yield made
    made.end()


@pytest.fixture
def watcher(installation: Installation) -> Iterator[subprocess.Popen[bytes]]:
    code = "import sys; print(flush=True); sys.stdin.read()"
    process = subprocess.Popen([sys.executable, "-c", code, "services.watcher"], env=dict(installation.environment),
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    process.kill()
    process.communicate()


@pytest.fixture
def breaker(installation: Installation, tmp_path: Path) -> Breaker:
    (tmp_path / "plans").mkdir()
    return Breaker(installation, tmp_path / "plans", seed=1)


def state(process: subprocess.Popen[bytes]) -> str:
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_kill_is_counted_once_and_only_if_it_met_somebody(breaker: Breaker,
                                                            watcher: subprocess.Popen[bytes]) -> None:
    fault = Fault(FaultKind.PAIR, 0.0, ("watcher", "broker"))
    breaker.do(fault)
    assert watcher.wait(10) == -9
    breaker.do(fault)
    assert breaker.tally.kills == {("watcher", "pair"): 1}


def test_a_frozen_process_goes_on_when_its_time_is_over(breaker: Breaker, watcher: subprocess.Popen[bytes]) -> None:
    breaker.do(Fault(FaultKind.FREEZE, 0.0, ("watcher",), seconds=0.05))
    wait_for(lambda: state(watcher) == "T", "it is frozen")
    wait_for(lambda: breaker.tend() or state(watcher) == "S", "it goes on")
    assert breaker.tally.freezes == {"watcher": 1}


def test_all_are_thawed_at_the_end_whatever_their_time(breaker: Breaker, watcher: subprocess.Popen[bytes]) -> None:
    breaker.do(Fault(FaultKind.FREEZE, 0.0, ("watcher",), seconds=1000.0))
    wait_for(lambda: state(watcher) == "T", "it is frozen")
    breaker.thaw_all()
    wait_for(lambda: state(watcher) == "S", "it goes on")


def test_a_crash_point_counts_when_somebody_took_its_file(breaker: Breaker, tmp_path: Path) -> None:
    breaker.do(Fault(FaultKind.CRASH_POINT, 0.0, ("broker",), point="journal.commit"))
    breaker.do(Fault(FaultKind.CRASH_POINT, 0.0, ("watcher",), point="files.rename"))
    breaker.tend()
    assert breaker.tally.killed == 0
    (tmp_path / "plans" / "broker.journal.commit").unlink()
    breaker.tend()
    breaker.tend()
    assert breaker.tally.kills == {("broker", "crash point"): 1}
    assert breaker.tally.points == {"broker.journal.commit": 1}


def test_a_kill_is_counted_also_if_its_point_is_armed_again_at_once(breaker: Breaker, tmp_path: Path) -> None:
    fault = Fault(FaultKind.CRASH_POINT, 0.0, ("broker",), point="journal.commit", hits=2)
    breaker.do(fault)
    breaker.do(fault)
    assert breaker.tally.killed == 0, "the first plan was taken back unused"
    (tmp_path / "plans" / "broker.journal.commit").unlink()
    breaker.do(fault)
    assert breaker.tally.points == {"broker.journal.commit": 1}
    assert (tmp_path / "plans" / "broker.journal.commit").read_bytes() == crashpoints.plan(3, 2)


def test_a_command_that_hangs_is_said_to(breaker: Breaker, installation: Installation,
                                         monkeypatch: pytest.MonkeyPatch) -> None:
    hanging = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    monkeypatch.setattr(Installation, "runs", True)
    monkeypatch.setattr(installation, "supervisorctl", lambda *_: hanging)
    try:
        breaker.do(Fault(FaultKind.RESTART, 0.0, ("broker",)))
        with pytest.raises(NotInTimeError, match="supervisorctl"):
            breaker.mend(0.01)
        breaker.end_commands()
        assert hanging.poll() is not None
    finally:
        hanging.kill()
        hanging.communicate()
