"""The learning rate is a function of the line's step, and only matrices decay."""

from __future__ import annotations

import pytest
from torch import nn

from trainq.config import TrainSettings
from trainq.ml import optimizer


@pytest.mark.parametrize(("warmup_steps", "step", "rate"), [
    (10, 0, 0.001), (10, 4, 0.005), (10, 9, 0.01), (10, 10, 0.01), (10, 10**9, 0.01), (0, 0, 0.01), (1, 0, 0.01)])
def test_it_rises_and_stays(warmup_steps: int, step: int, rate: float) -> None:
    settings = TrainSettings(learning_rate=0.01, warmup_steps=warmup_steps)
    assert optimizer.learning_rate(settings, step) == pytest.approx(rate)


def test_a_jobs_settings_are_adopted() -> None:
    adamw = optimizer.make(nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3)))
    rate = optimizer.adopt(adamw, TrainSettings(learning_rate=0.01, warmup_steps=2, weight_decay=0.5), step=0)
    assert rate == 0.005
    assert [(group["lr"], group["weight_decay"], len(group["params"])) for group in adamw.param_groups] == [
        (0.005, 0.5, 1), (0.005, 0.0, 3)]
