"""Which orders hold, and whether the broker knows of them."""

from __future__ import annotations

from pathlib import Path

from services.trainer import controls
from services.trainer.controls import Controls
from trainq.config import Home
from trainq.messages import HeartbeatReply

NOTHING = HeartbeatReply(lost=(), cancel=())


def test_the_files_the_broker_and_the_gpu(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.control.mkdir()
    told = HeartbeatReply(lost=(), cancel=(), pause="quiet hours")
    assert controls.read(home, NOTHING, "") == Controls()
    assert controls.read(home, NOTHING, "hot") == Controls(pause="hot", unheard_of=True)
    assert controls.read(home, told, "hot") == Controls(pause="quiet hours"), "the broker knows of a pause"
    (home.control / controls.PAUSE_FILE).write_text("lunch\n")
    assert controls.read(home, told, "") == Controls(pause="control/.pause is there: lunch", unheard_of=True,
                                                     by_file=True)
