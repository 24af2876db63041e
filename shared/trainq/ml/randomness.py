"""The state of every random number generator, as tensors and JSON, so that a resumed run draws the same numbers.

Torch's generators (CPU and each GPU), numpy's legacy global one and Python's own.
"""

from __future__ import annotations

import random
from typing import Any, NamedTuple

import msgspec
import numpy as np
import torch

from trainq.errors import DamageError

_CPU, _CUDA, _NUMPY, _PYTHON = "torch_cpu", "torch_cuda_", "numpy", "python"


class Remainder(msgspec.Struct, frozen=True, kw_only=True):
    """What is no array: positions, and the second number of a pair of normal draws kept for the next call."""

    numpy_position: int
    numpy_has_gauss: int
    numpy_cached_gaussian: float
    python_version: int
    python_gauss_next: float | None


class Moment(NamedTuple):
    """The states at one moment of this process, as the generators themselves give them."""

    torch_cpu: torch.Tensor
    torch_cuda: tuple[torch.Tensor, ...]
    numpy: Any
    python: Any


def remember() -> Moment:
    """The states now, for this process alone: below 0.1 ms, which each step can afford."""
    # What was never initialised has drawn nothing.
    of_gpus = tuple(torch.cuda.get_rng_state_all()) if torch.cuda.is_initialized() else ()  # type: ignore[no-untyped-call]
    return Moment(torch.get_rng_state(), of_gpus, np.random.get_state(legacy=True), random.getstate())


def go_back(moment: Moment) -> None:
    """Be where the generators were then."""
    torch.set_rng_state(moment.torch_cpu)
    if moment.torch_cuda:
        torch.cuda.set_rng_state_all(moment.torch_cuda)
    np.random.set_state(moment.numpy)
    random.setstate(moment.python)


def capture() -> tuple[dict[str, torch.Tensor], Remainder]:
    """The states now. Changes none of them."""
    _, key, position, has_gauss, cached = np.random.get_state(legacy=True)
    version, words, gauss_next = random.getstate()
    tensors = {
        _CPU: torch.get_rng_state(),
        _NUMPY: torch.from_numpy(np.asarray(key, dtype=np.uint32).astype(np.int64)),
        _PYTHON: torch.tensor(words, dtype=torch.int64),
    }
    if torch.cuda.is_available():
        tensors |= {f"{_CUDA}{index}": state for index, state in enumerate(torch.cuda.get_rng_state_all())}
    return tensors, Remainder(numpy_position=int(position), numpy_has_gauss=int(has_gauss),
                              numpy_cached_gaussian=float(cached), python_version=version,
                              python_gauss_next=gauss_next)


def restore(tensors: dict[str, torch.Tensor], remainder: Remainder) -> None:
    """Put the states back.

    Generators of GPUs that this machine lacks are passed over (the fingerprint tells of that).

    Raises:
        DamageError: they are no states of these generators.
    """
    try:
        torch.set_rng_state(tensors[_CPU])
        key = tensors[_NUMPY].numpy().astype(np.uint32)
        state: Any = ("MT19937", key, remainder.numpy_position, remainder.numpy_has_gauss,
                      remainder.numpy_cached_gaussian)
        np.random.set_state(state)
        random.setstate((remainder.python_version, tuple(tensors[_PYTHON].tolist()), remainder.python_gauss_next))
        for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
            if f"{_CUDA}{index}" in tensors:
                torch.cuda.set_rng_state(tensors[f"{_CUDA}{index}"], index)
    except (LookupError, ValueError, TypeError, RuntimeError) as error:
        raise DamageError("rng.safetensors", f"no states of the random number generators: {error}") from error
