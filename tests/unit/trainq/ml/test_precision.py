"""The scale of the loss goes as torch's own scaler goes; what is skipped for it, and what never is."""

from __future__ import annotations

import pytest
import torch

from trainq.checkpoints import LossScale
from trainq.config import TrainSettings
from trainq.ml import precision


def test_it_goes_as_torch_s_scaler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "GROWTH_STEPS", 3)
    theirs = torch.amp.GradScaler("cpu", growth_interval=3)
    ours = LossScale()
    weight = torch.nn.Parameter(torch.ones(4))
    sgd = torch.optim.SGD([weight], lr=0.0)
    for overflows in (False, False, False, True, False, False, True, True, False, False, False, False, False, False):
        theirs.scale(weight.sum()).backward()
        assert weight.grad is not None
        weight.grad[2] = torch.inf if overflows else weight.grad[2]
        theirs.step(sgd)
        theirs.update()
        sgd.zero_grad()
        ours = precision.after_step(ours, skipped=overflows)
        state = theirs.state_dict()
        assert (ours.scale, ours.good_steps) == (state["scale"], state["_growth_tracker"])


def test_gradients_come_back_to_the_bit() -> None:
    weight, unused = torch.nn.Parameter(torch.randn(100)), torch.nn.Parameter(torch.randn(2))
    gradient = torch.randn(100)
    weight.grad = gradient * 65_536.0
    precision.unscale([weight, unused], LossScale())
    assert torch.equal(weight.grad, gradient)


@pytest.mark.parametrize(("scale", "loss", "gradients", "skipped"), [
    (2.0, True, False, True), (2.0, True, True, False), (2.0, False, False, False), (1.0, True, False, False),
    (None, True, False, False)])
def test_what_is_the_scale_s_doing(scale: float | None, loss: bool, gradients: bool, skipped: bool) -> None:
    known = LossScale(scale=scale) if scale is not None else None
    assert precision.is_overflow(known, loss_is_finite=loss, gradients_are_finite=gradients) is skipped


def test_it_never_falls_below_one() -> None:
    assert precision.after_step(LossScale(scale=1.0, good_steps=5), skipped=True) == LossScale(scale=1.0)


@pytest.mark.parametrize(("wanted", "kind"), [
    ("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_autocast(wanted: str, kind: torch.dtype) -> None:
    layer = torch.nn.Linear(2, 2)
    settings = TrainSettings(precision=wanted)  # type: ignore[arg-type]
    with precision.autocast(settings, torch.device("cpu")):
        assert layer(torch.ones(1, 2)).dtype == kind
    assert layer.weight.dtype == torch.float32
    assert precision.scale_of(settings, None) == (LossScale() if wanted == "fp16" else None)
    assert precision.scale_of(settings, LossScale(scale=2.0)) == (LossScale(scale=2.0) if wanted == "fp16" else None)
