"""The driver's own word, without torch in this process: who is on the GPU, what that holds, and memory that ends."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from trainq import gpu as watched
from trainq.gpu import Limits

pytestmark = [pytest.mark.gpu, pytest.mark.slow]

# Takes so many MiB in one tensor, says so, and waits.
_BALLAST = """
import torch
held = torch.zeros({mib} << 20, dtype=torch.uint8, device="cuda")
print("held", flush=True)
input()
"""
_MIB = 2048
# Takes nearly all, and then lets a step ask for more: what torch raises must be known for a lack of memory.
_SHORT = """
import torch
from trainq.ml import stepping
free, _ = torch.cuda.mem_get_info()
try:
    with stepping._memory_watched(moved=False):
        torch.zeros(2 * free, dtype=torch.uint8, device="cuda")
except stepping.NoMemoryError as error:
    print("known", str(error)[:60])
"""


@pytest.fixture
def stranger() -> Iterator[int]:
    """The pid of a process that holds memory of the GPU."""
    process = subprocess.Popen([sys.executable, "-c", _BALLAST.format(mib=_MIB)], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process.pid
    process.communicate("\n")


def test_the_driver_is_asked() -> None:
    pytest.importorskip("pynvml")
    seen = watched.look(os.environ)
    assert (seen.found, seen.trouble) == (True, "")
    assert seen.celsius is None or 0 < seen.celsius < 120


def test_a_process_on_it_is_seen_and_holds_what_is_not_ours(stranger: int) -> None:
    pytest.importorskip("pynvml")
    seen = watched.look(os.environ)
    # A container's driver may name it by another number: it is the one that is not here then.
    used = [use for use in seen.uses if use.pid == stranger or not watched.is_here(use.pid)]
    assert max(use.mib for use in used) >= _MIB
    limits = Limits(required=True, foreign_mib=_MIB // 2, max_celsius=0)
    held = watched.judge(seen, watched.foreign(seen, {os.getpid()}, 0, watched.is_here), limits, was_hot=False)
    assert "others use" in held.hold
    ours = watched.foreign(seen, {os.getpid(), stranger}, stranger, watched.is_here)
    assert sum(use.mib for use in ours) < sum(use.mib for use in seen.uses)


def test_a_lack_of_memory_is_known_for_one() -> None:
    done = subprocess.run([sys.executable, "-c", _SHORT], capture_output=True, text=True, check=True, timeout=240)
    assert done.stdout.startswith("known")
