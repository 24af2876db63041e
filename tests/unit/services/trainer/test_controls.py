"""Which orders hold, and whether the broker knows of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.trainer import controls
from services.trainer.controls import Controls
from trainq.config import Home
from trainq.gpu import Verdict
from trainq.messages import HeartbeatReply, PauseCause

NOTHING = HeartbeatReply(lost=(), cancel=())
HOT, LOST = Verdict(hold="hot", pause="hot"), Verdict(hold="lost", pause="hot", trouble=True)


def test_the_files_the_broker_and_the_gpu(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.control.mkdir()
    told = HeartbeatReply(lost=(), cancel=(), pause="quiet hours")
    assert controls.read(home, NOTHING, Verdict()) == Controls(cause=PauseCause.WAITING)
    assert controls.read(home, NOTHING, HOT) == Controls(pause="hot", unheard_of=True, cause=PauseCause.WAITING)
    assert controls.read(home, told, HOT) == Controls(pause="quiet hours"), "the broker knows of a pause"
    (home.control / controls.PAUSE_FILE).write_text("lunch\n")
    assert controls.read(home, told, Verdict()) == Controls(pause="control/.pause is there: lunch", unheard_of=True,
                                                            by_file=True)


@pytest.mark.parametrize(("told", "file", "seen", "cause"), [
    (HeartbeatReply(pause="quiet hours"), "", Verdict(), PauseCause.ORDERED),
    (HeartbeatReply(stop="enough"), "", HOT, PauseCause.ORDERED),
    (HeartbeatReply(pause="lend-3 (x) has the GPU", lent=True), "", HOT, PauseCause.LENT),
    (HeartbeatReply(pause="lend-3 (x) has the GPU", lent=True, stop="enough"), "", HOT, PauseCause.ORDERED),
    (HeartbeatReply(pause="lend-3 (x) has the GPU", lent=True), controls.STOP_FILE, HOT, PauseCause.ORDERED),
    (NOTHING, controls.STOP_FILE, HOT, PauseCause.ORDERED),
    (NOTHING, controls.PAUSE_FILE, LOST, PauseCause.ORDERED),
    (NOTHING, "", HOT, PauseCause.WAITING),
    (NOTHING, "", LOST, PauseCause.HINDERED)])
def test_whose_doing_it_is(tmp_path: Path, told: HeartbeatReply, file: str, seen: Verdict, cause: PauseCause) -> None:
    home = Home(tmp_path)
    home.control.mkdir()
    if file:
        (home.control / file).touch()
    read = controls.read(home, told, seen)
    assert read.cause is cause
    assert read.gpu_cause is (PauseCause.HINDERED if seen.trouble else PauseCause.WAITING)
