"""What a drain waits for, and what it does not."""

import pytest

from trainq.cli.draining import _why_it_rests
from trainq.cli.steering import UNHEARD_SECONDS
from trainq.messages import Lifecycle, Overview, ServiceView


def trainer(state: Lifecycle = Lifecycle.RUNNING, *, age_seconds: float = 0.1, gpu: bool = False, rests: bool = False,
            detail: str = "") -> ServiceView:
    return ServiceView(name="trainer", session="s", pid=1, state=state, detail=detail, started_at=0.0,
                       age_seconds=age_seconds, gpu=gpu, rests=rests)


def overview(*, pause: str = "", stop: str = "") -> Overview:
    return Overview(journal_id="j", seq=1, at=0.0, paused_reason=None, counts={}, running=[], waiting=[],
                    waiting_reason="", generation=1, checkpoint="c", step=1, services=[], pause=pause, stop=stop)


@pytest.mark.parametrize(("seen", "unseen_seconds", "why"), [
    (trainer(), 0.0, ""),
    (None, 5.0, ""),
    (None, UNHEARD_SECONDS + 1, "not there"),
    (trainer(Lifecycle.STOPPED), 2.0, ""),
    (trainer(Lifecycle.STOPPED), UNHEARD_SECONDS + 1, "not there"),
    (trainer(age_seconds=UNHEARD_SECONDS + 1), 0.0, "not there"),
    (trainer(Lifecycle.PAUSED, detail="lend-1 (p) has the GPU"), 0.0, ""),
    (trainer(Lifecycle.PAUSED, rests=True, detail="control/.pause is there"), 0.0, "control/.pause is there"),
    (trainer(Lifecycle.PAUSED, rests=True, gpu=True, detail="control/.pause is there"), 0.0, ""),
])
def test_what_goes_on_by_itself_is_waited_for(seen: ServiceView | None, unseen_seconds: float, why: str) -> None:
    said = _why_it_rests(overview(), seen, unseen_seconds)
    assert why in said
    assert bool(why) == bool(said)


def test_an_order_is_not_waited_for_once_it_is_done() -> None:
    assert _why_it_rests(overview(pause="lunch"), trainer(Lifecycle.PAUSED), 0.0) == "lunch"
    assert _why_it_rests(overview(pause="lunch"), trainer(gpu=True), 0.0) == ""
    assert _why_it_rests(overview(stop="enough"), trainer(Lifecycle.PAUSED), 0.0) == "enough"
