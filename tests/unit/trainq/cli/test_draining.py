"""What a drain waits for, and what it does not; and when a trainer that is not heard of is gone."""

import pytest

from trainq.cli.draining import _why_it_rests
from trainq.cli.steering import UNHEARD_SECONDS, is_trainer_gone
from trainq.messages import Lifecycle, Overview, ServiceView

LATE = UNHEARD_SECONDS + 1


def trainer(state: Lifecycle = Lifecycle.RUNNING, *, age_seconds: float = 0.1, gpu: bool = False, rests: bool = False,
            until_told: bool = False, detail: str = "") -> ServiceView:
    return ServiceView(name="trainer", session="s", pid=1, state=state, detail=detail, started_at=0.0,
                       age_seconds=age_seconds, gpu=gpu, rests=rests, until_told=until_told)


def overview(seen: ServiceView | None, *, up_seconds: float = 1e6, pause: str = "", stop: str = "") -> Overview:
    return Overview(journal_id="j", seq=1, at=0.0, paused_reason=None, counts={}, running=[], waiting=[],
                    waiting_reason="", generation=1, checkpoint="c", step=1, services=[seen] if seen else [],
                    pause=pause, stop=stop, up_seconds=up_seconds)


@pytest.mark.parametrize(("seen", "up_seconds", "is_gone"), [
    (trainer(), 1e6, False),
    (None, 5.0, False),  # the broker has just come up
    (None, LATE, True),
    (trainer(Lifecycle.STOPPED, age_seconds=2.0), 1e6, False),  # it is restarted
    (trainer(Lifecycle.STOPPED, age_seconds=LATE), 1e6, True),
    (trainer(age_seconds=LATE), 1e6, True),
])
def test_who_is_not_heard_of_is_gone_once_this_broker_would_have(seen: ServiceView | None, up_seconds: float,
                                                                 is_gone: bool) -> None:
    assert is_trainer_gone(overview(seen, up_seconds=up_seconds)) is is_gone
    assert ("not there" in _why_it_rests(overview(seen, up_seconds=up_seconds))) is is_gone


@pytest.mark.parametrize(("seen", "why"), [
    (trainer(), ""),
    (trainer(Lifecycle.PAUSED, detail="lend-1 (p) has the GPU"), ""),
    (trainer(Lifecycle.PAUSED, rests=True, detail="the GPU is too hot"), ""),
    (trainer(Lifecycle.PAUSED, rests=True, until_told=True, detail="control/.pause is there"),
     "control/.pause is there"),
    (trainer(Lifecycle.PAUSED, rests=True, until_told=True, gpu=True, detail="control/.pause is there"), ""),
])
def test_what_goes_on_by_itself_is_waited_for(seen: ServiceView, why: str) -> None:
    assert _why_it_rests(overview(seen)) == why


def test_an_order_is_not_waited_for_once_it_is_done() -> None:
    assert _why_it_rests(overview(trainer(Lifecycle.PAUSED), pause="lunch")) == "lunch"
    assert _why_it_rests(overview(trainer(gpu=True), pause="lunch")) == ""
    assert _why_it_rests(overview(trainer(Lifecycle.PAUSED), stop="enough")) == "enough"
