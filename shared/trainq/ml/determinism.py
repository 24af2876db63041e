"""Same bits again: deterministic kernels, a pinned number of threads, and the fingerprint under which bits repeat.

Bits depend on the torch build, the device, the CPU's instruction set and the number of threads (measured: one
transformer step gives six different results under {default, AVX2, AVX512} x {1, 2} threads). Under one fingerprint they
repeat. A helper thread that has used torch makes every CPU step slower until it sets its own number of threads to one,
so there are none that do.
"""

from __future__ import annotations

import functools
import os
import platform
import random
from collections.abc import Mapping, Set
from importlib import metadata
from typing import Any

import numpy as np
import torch

from trainq import __version__

# The key of what bf16 and fp16 depend on beside all else, and fp32 does not. Fingerprints of before lack it.
HALF_PRECISION = "half_precision"


def enforce() -> None:
    """Make torch choose deterministic kernels, or raise where an operation has none. Call once, before any work.

    On CUDA, ``CUBLAS_WORKSPACE_CONFIG=:4096:8`` must be in the environment before the first use of cuBLAS
    (https://docs.nvidia.com/cuda/cublas/#results-reproducibility). Whatever it was, it is that: the bits depend on it.
    """
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    torch.use_deterministic_algorithms(True)
    # Filling fresh memory would only hide reads of it, and costs a pass over every output.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined] # set on its module class
    torch.backends.cudnn.benchmark = False
    torch.set_float32_matmul_precision("highest")


def set_threads(threads: int) -> None:
    """Use ``threads`` threads inside an operation; 0 means one for each processor that this process may use."""
    torch.set_num_threads(threads or len(os.sched_getaffinity(0)))


def seed(number: int) -> None:
    """Set every random number generator that model code may use."""
    random.seed(number)
    np.random.seed(number)  # the legacy global generator is the one that libraries use
    torch.manual_seed(number)


def fingerprint(device: torch.device) -> dict[str, str]:
    """What must be equal for bits to repeat."""
    kind = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    # torch's own version names its CUDA; cuDNN is a package of its own, and may change beneath it.
    libraries: dict[str, str] = {}
    if device.type == "cuda":
        libraries["cudnn"] = str(torch.backends.cudnn.version())  # type: ignore[no-untyped-call] # torch has none
    if device.type == "cpu":
        libraries[HALF_PRECISION] = _half_precision()
    return {
        "torch": str(torch.__version__),
        "device": kind,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": str(torch.get_num_threads()),
        "deterministic": str(torch.are_deterministic_algorithms_enabled()).lower(),
        "matmul_precision": torch.get_float32_matmul_precision(),
        **libraries,
    }


def versions(*, adapted: bool) -> dict[str, str]:
    """The libraries that train; of ``peft`` only where there is an adapter."""
    libraries = ("torch", "transformers", "accelerate", *(("peft",) if adapted else ()))
    return {"trainq": __version__, "python": platform.python_version(),
            **{library: _version_of(library) for library in libraries}}


def computing() -> dict[str, str]:
    """The libraries that decide what a model says, and what it is given, as installed."""
    return {library: _version_of(library) for library in ("torch", "transformers", "tokenizers", "peft")}


@functools.cache
def _version_of(library: str) -> str:
    """Read from its metadata on disk, so once, and not between two jobs."""
    return metadata.version(library)


def _half_precision() -> str:
    """The processor's instructions for 16 bits, among which oneDNN chooses by itself.

    Measured: one step in bf16 gives three different results with AMX, with AVX512-BF16 and with neither, all of which
    are one capability to torch; in fp32 it gives one.
    """
    ask: Any = getattr(torch.cpu, "get_capabilities", None)  # torch 2.10, say, has none
    if ask is None:
        return "unknown"
    return " ".join(sorted(name for name, has in ask().items()
                           if has is True and ("f16" in name or "fp16" in name or name == "avx_ne_convert")))


def differing(before: Mapping[str, str], after: Mapping[str, str],
              ignored: Set[str]) -> tuple[dict[str, str], dict[str, str]] | None:
    """What is not equal in two fingerprints, of the keys that are not ignored: as it was, and as it is. Else None."""
    keys = sorted(key for key in (before.keys() | after.keys()) - ignored if before.get(key) != after.get(key))
    return ({key: before.get(key, "") for key in keys}, {key: after.get(key, "") for key in keys}) if keys else None
