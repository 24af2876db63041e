"""AdamW: how it is made, how it takes a job's settings, and its state as tensors.

The state is keyed by the names of the parameters, not by their order, and read back strictly: exactly the tensors that
are expected, of exactly their shapes and types.
"""

from __future__ import annotations

import torch
from torch import nn

from trainq.config import TrainSettings
from trainq.errors import DamageError

# beta2 of GPT-3 (https://arxiv.org/abs/2005.14165, appendix B): a shorter memory than 0.999 suits short jobs.
_BETAS = (0.9, 0.95)
_MOMENTS = ("exp_avg", "exp_avg_sq")
_STEP = "step"


def make(model: nn.Module) -> torch.optim.AdamW:
    """AdamW over the parameters of ``model``; matrices decay, vectors (norms, biases) do not.

    Learning rate and decay come from the job: :func:`adopt`.
    """
    matrices = [parameter for parameter in model.parameters() if parameter.requires_grad and parameter.ndim >= 2]
    vectors = [parameter for parameter in model.parameters() if parameter.requires_grad and parameter.ndim < 2]
    groups = [{"params": matrices, "decays": True}, {"params": vectors, "decays": False}]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=0.0, betas=_BETAS, fused=True)


def adopt(optimizer: torch.optim.Optimizer, settings: TrainSettings, rate: float) -> None:
    """Set what the job's settings say, and the learning rate of the step (:mod:`trainq.ml.schedules`)."""
    for group in optimizer.param_groups:
        group["lr"] = rate
        group["weight_decay"] = settings.weight_decay if group["decays"] else 0.0


def state_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """All state, ``<parameter>/<kind>``, as it lives: not copied; empty before the first step."""
    tensors: dict[str, torch.Tensor] = {}
    for name, parameter in model.named_parameters():
        state = optimizer.state.get(parameter, {})
        tensors |= {f"{name}/{kind}": value.detach() for kind, value in state.items()}
    return tensors


def restore_state(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    """Put back what :func:`state_tensors` gave.

    Raises:
        DamageError: it is not exactly the state that this model's optimizer has.
    """
    # A parameter that never had a gradient (an expert never chosen, a head never used) has no state at all.
    parameters = {name: parameter for name, parameter in model.named_parameters()
                  if parameter.requires_grad and any(f"{name}/{kind}" in tensors for kind in (_STEP, *_MOMENTS))}
    expected = {f"{name}/{kind}" for name in parameters for kind in (_STEP, *_MOMENTS)}
    if tensors and tensors.keys() != expected:
        odd = sorted(tensors.keys() ^ expected)[:5]
        raise DamageError("optimizer.safetensors", f"it is not this model's: missing or too many are {odd}")
    for name, parameter in parameters.items() if tensors else ():
        for kind in _MOMENTS:
            moment = tensors[f"{name}/{kind}"]
            if moment.shape != parameter.shape or moment.dtype != parameter.dtype:
                raise DamageError("optimizer.safetensors", f"{name}/{kind} is {moment.dtype} {list(moment.shape)}, "
                                  f"its parameter {parameter.dtype} {list(parameter.shape)}")
        step = tensors[f"{name}/{_STEP}"]
        if step.shape != () or step.dtype != torch.float32:
            raise DamageError("optimizer.safetensors", f"{name}/{_STEP} is no float32 number")
        # fused AdamW keeps its step counter on the parameter's device.
        optimizer.state[parameter] = {
            kind: tensors[f"{name}/{kind}"].clone().to(parameter.device) for kind in (_STEP, *_MOMENTS)}
