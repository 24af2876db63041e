"""A job's rate and decay are adopted, and only matrices decay."""

from __future__ import annotations

from torch import nn

from trainq.config import TrainSettings
from trainq.ml import optimizer


def test_a_jobs_settings_are_adopted() -> None:
    adamw = optimizer.make(nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3)))
    optimizer.adopt(adamw, TrainSettings(weight_decay=0.5), rate=0.005)
    assert [(group["lr"], group["weight_decay"], len(group["params"])) for group in adamw.param_groups] == [
        (0.005, 0.5, 1), (0.005, 0.0, 3)]
