"""What tests on a real GPU share: without one they are skipped, and with one each has it for itself."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

# Asked in a process of its own: the tests' own process, like the agent, never touches the GPU.
_ASK = """
import torch
print(torch.cuda.get_device_name() if torch.cuda.is_available() and torch.version.cuda else "")
"""


def _gpu_name() -> str:
    """What torch calls the GPU that it would use; empty if there is none. Imports torch only where a driver is."""
    if not (Path("/dev/nvidiactl").exists() or Path("/dev/dxg").exists()):
        return ""
    done = subprocess.run([sys.executable, "-c", _ASK], capture_output=True, text=True, check=True, timeout=120)
    return done.stdout.strip()


@pytest.fixture(scope="session")
def gpu() -> str:
    """The name of the GPU; without one the test is skipped."""
    name = _gpu_name()
    if not name:
        pytest.skip("NOT TESTED ON A GPU: there is none here that torch can use (torch.cuda.is_available() is false)")
    return name


@pytest.fixture(autouse=True)
def _alone(gpu: str) -> Iterator[None]:  # noqa: ARG001  # it is what skips
    """One test at a time on the GPU: beside others, times and memory would say nothing."""
    with (Path(tempfile.gettempdir()) / "trainq-gpu-tests.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
