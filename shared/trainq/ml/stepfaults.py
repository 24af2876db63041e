"""Faults of a training step that a test orders: a loss that is no number, no memory, a hang, masks that hide all, time.

A no-op unless armed. ``TRAINQ_STEP_FAULTS`` in the environment names a folder; a file in it is a fault, named
``<kind>.<job>.<at>``:

* ``nan.<job>.<step>``: the loss of this step (from 0) is no number, and so are its gradients;
* ``zero.<job>.<step>``: no token of this step is trained;
* ``hang.<job>.<step>``: this step never ends; ``slow.<job>.<step>``: it takes :data:`SLOW_SECONDS` more, at rest, so
  that a job lasts as long as a test needs and leaves the processors to others;
* ``memory.<job>.<rows>``: there is no memory for more rows at once than this; ``backward.<job>.<step>``: none for the
  backward pass of this step; ``update.<job>.<step>``: none for the optimizer in it;
* ``weights.<job>.<step>``: a weight is no finite number after this step.

``any`` stands for every job, ``every`` for every step. A file with the content ``once`` is used up by the first who
meets it, and removed; one that says anything else stays. What is ordered can be changed while it runs. The environment
is read by :func:`arm_from_environment`, which the training process calls; importing this module reads nothing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import torch

ENVIRONMENT_KEY = "TRAINQ_STEP_FAULTS"
KINDS = ("nan", "zero", "hang", "slow", "memory", "backward", "update", "weights")
SLOW_SECONDS = 0.2

_folder: Path | None = None
# What was met when the step began, and of which job it is.
_nan = _zero = _backward = False
_job = ""


def arm_from_environment(environment: Mapping[str, str]) -> None:
    """Take the folder that ``TRAINQ_STEP_FAULTS`` names.

    Raises:
        ValueError: there is no such folder, or a file in it is no fault: nobody should believe that it was ordered.
    """
    arm(environment.get(ENVIRONMENT_KEY, ""))


def arm(folder: str) -> None:
    """Take this folder; none with an empty name.

    Raises:
        ValueError: as :func:`arm_from_environment`.
    """
    global _folder
    _folder = None
    if folder:
        names = [entry.name for entry in Path(folder).iterdir()] if Path(folder).is_dir() else None
        if names is None or not all(_is_fault(name) for name in names):
            raise ValueError(f"{ENVIRONMENT_KEY}={folder} is no folder of faults: {names}")
        _folder = Path(folder)


def _is_fault(name: str) -> bool:
    kind, _, rest = name.partition(".")
    job, _, at = rest.partition(".")
    return kind in KINDS and bool(job) and (at == "every" or at.isdecimal())


def begin_step(job: str, job_step: int) -> None:
    """A step is about to be computed."""
    global _nan, _zero, _backward, _job
    if _folder is None:
        return
    _job = job
    _nan, _zero = _meets("nan", job_step), _meets("zero", job_step)
    _backward = _meets("backward", job_step)
    if _meets("hang", job_step):
        while True:
            time.sleep(3600)
    if _meets("slow", job_step):
        time.sleep(SLOW_SECONDS)


def begin_backward() -> None:
    """A micro-batch has gone forward, and is about to go backward.

    Raises:
        torch.OutOfMemoryError: it is ordered.
    """
    if _folder is not None and _backward:
        raise torch.OutOfMemoryError("out of memory, as ordered, in the backward pass")


def begin_update(job_step: int) -> None:
    """The optimizer is about to move the weights.

    Raises:
        torch.OutOfMemoryError: it is ordered.
    """
    if _folder is not None and _meets("update", job_step):
        raise torch.OutOfMemoryError("out of memory, as ordered, in the optimizer")


def end_update(job_step: int, model: torch.nn.Module) -> None:
    """The optimizer has moved the weights."""
    if _folder is not None and _meets("weights", job_step):
        weight = next(weight for weight in model.parameters() if weight.requires_grad)
        with torch.no_grad():
            weight.view(-1)[0] = float("inf")


def refuse_rows(rows: int) -> None:
    """So many rows are about to go through the model.

    Raises:
        torch.OutOfMemoryError: it is ordered for so many.
    """
    if _folder is None:
        return
    limits = [entry.name.rpartition(".")[2] for job in (_job, "any") for entry in _folder.glob(f"memory.{job}.*")]
    if any(rows > int(limit) for limit in limits if limit.isdecimal()):
        raise torch.OutOfMemoryError(f"out of memory, as ordered, for {rows} rows")


def masked(labels_bt: torch.Tensor) -> torch.Tensor:
    """The labels of a micro-batch, or none of them."""
    return torch.full_like(labels_bt, -100) if _folder is not None and _zero else labels_bt


def spoiled(loss: torch.Tensor) -> torch.Tensor:
    """The loss of a micro-batch, or no number."""
    return loss * float("nan") if _folder is not None and _nan else loss


def _meets(kind: str, job_step: int) -> bool:
    assert _folder is not None
    for name in (f"{kind}.{job}.{at}" for job in (_job, "any") for at in (job_step, "every")):
        path = _folder / name
        try:
            once = path.read_bytes().strip() == b"once"
            if once:
                path.unlink()  # whoever removes it has met it
        except FileNotFoundError:
            continue
        return True
    return False
