"""Forward and backward in half the bits: autocast, and for fp16 the scale of the loss.

Weights, their gradients and the optimizer are float32 in every precision; autocast computes the operations that bear it
on copies in bfloat16 or float16 (mixed precision: https://arxiv.org/abs/1710.03740). bfloat16 has the range of float32
and needs nothing else.

float16 has not: small gradients would vanish, so the loss is multiplied by a scale, and the gradients are divided by it
again. A scale that is too large makes gradients overflow; then the step is skipped and the scale halved. After
``GROWTH_STEPS`` steps without that it is doubled. These are the rules and numbers of ``torch.amp.GradScaler``; they are
written out here because a decision on numbers that are there anyway needs no state but two numbers, which lie in the
checkpoint's facts. A power of two scales exactly, so the scale itself changes no bit of what does not overflow.

A skipped step is a step of the plan like any other: its rows count as trained with it, and what skips it is a function
of the state, so that it is skipped again wherever it is done again. A loss that is not finite is never the scale's
doing, nor is a gradient at the scale 1.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import torch

from trainq.checkpoints import LossScale
from trainq.config import TrainSettings

GROWTH_STEPS = 2000
_GROWTH, _BACKOFF, _SMALLEST = 2.0, 0.5, 1.0
_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(settings: TrainSettings, device: torch.device) -> contextlib.AbstractContextManager[object]:
    """The context of one forward pass. The backward pass does not belong into it: it uses the types of the forward."""
    if settings.precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=_TYPES[settings.precision])


def scale_of(settings: TrainSettings, known: LossScale | None) -> LossScale | None:
    """By what the loss of this step is multiplied; None: by nothing."""
    return (known or LossScale()) if settings.precision == "fp16" else None


def unscale(parameters: Iterable[torch.nn.Parameter], scale: LossScale) -> None:
    """Divide the gradients, in place."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    torch._foreach_mul_(gradients, 1.0 / scale.scale)


def is_overflow(scale: LossScale | None, *, loss_is_finite: bool, gradients_are_finite: bool) -> bool:
    """Whether the scale was too large for this step: it is to be skipped, and nothing is wrong with its rows."""
    return scale is not None and loss_is_finite and not gradients_are_finite and scale.scale > _SMALLEST


def after_step(scale: LossScale, *, skipped: bool) -> LossScale:
    """The scale of the next step."""
    if skipped:
        return LossScale(scale=max(_SMALLEST, scale.scale * _BACKOFF))
    if scale.good_steps + 1 == GROWTH_STEPS:
        return LossScale(scale=scale.scale * _GROWTH)
    return LossScale(scale=scale.scale, good_steps=scale.good_steps + 1)
