"""When a checkpoint is due: by the clock, by steps, and never at more than its share of the time."""

from __future__ import annotations

import msgspec
import pytest

from trainq.config import TrainSettings
from trainq.ml.pacing import Pace, round_seconds

SETTINGS = TrainSettings(checkpoint_seconds=600.0)
BY_STEPS = msgspec.structs.replace(SETTINGS, checkpoint_steps=10)


@pytest.mark.parametrize(("cost", "share"), [(1.0, 0.05), (30.0, 0.05), (2.0, 0.5), (0.0, 0.05)])
def test_a_checkpoint_is_at_most_its_share_of_the_time_to_the_next(cost: float, share: float) -> None:
    assert cost == pytest.approx(share * round_seconds(cost, share))


def test_the_clock_says_when() -> None:
    pace = Pace(SETTINGS, last_at=100.0)
    assert not pace.is_due(699.0, 1_000_000)
    assert pace.is_due(700.0, 1)


def test_steps_say_when_where_they_are_set() -> None:
    pace = Pace(BY_STEPS, last_at=100.0)
    assert [pace.is_due(100.5, steps) for steps in (9, 10, 11)] == [False, True, True]
    assert pace.is_due(700.0, 1), "and the clock all the same"


@pytest.mark.parametrize("settings", [BY_STEPS, msgspec.structs.replace(SETTINGS, checkpoint_seconds=1.0)])
def test_what_the_last_one_cost_puts_the_next_one_off_whatever_the_settings_say(settings: TrainSettings) -> None:
    pace = Pace(settings, last_at=0.0, cost_seconds=10.0)
    assert not pace.is_due(199.9, 1_000_000)
    assert pace.is_due(200.0, 1_000_000)
    pace.cost_seconds = 0.1
    assert pace.is_due(190.0, 1_000_000)


def test_a_share_of_one_puts_nothing_off() -> None:
    settings = msgspec.structs.replace(BY_STEPS, checkpoint_max_share=1.0)
    assert Pace(settings, last_at=0.0, cost_seconds=1e6).is_due(0.1, 10)
