"""Looking at the machine: its processors and memory, the services' memory, and the GPUs. Reads only, and rarely."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future

import psutil

from trainq import gpu, liveness
from trainq.figures import Cpu

LOOK_SECONDS = 10.0
# Where there is no GPU, one may still be plugged in, or its driver be loaded.
ABSENT_SECONDS = 300.0
# A driver that is not kept loaded takes a second or a few; one that takes so long hangs.
HANG_SECONDS = 30.0


def cpu() -> Cpu:
    """The machine as it is; ``percent`` is since the last call of this process (0 at the first)."""
    memory = psutil.virtual_memory()
    one, five, fifteen = (round(value, 2) for value in os.getloadavg())
    return Cpu(processors=os.cpu_count() or 1, percent=psutil.cpu_percent(), load=(one, five, fifteen),
               memory_total_bytes=memory.total, memory_available_bytes=memory.available)


def memory_of(pids: Mapping[str, int]) -> dict[str, int]:
    """Resident bytes by name, of each process with all its children; without those that are not there."""
    found = liveness.resident_bytes(pids.values())
    return {name: found[pid] for name, pid in pids.items() if pid in found}


class GpuLook:
    """Asks the driver in a thread of its own, so that one that hangs stops nothing. Owned by the main thread."""

    def __init__(self, monotonic: Callable[[], float],
                 look: Callable[[], gpu.Devices] = gpu.list_devices) -> None:
        self._monotonic, self._look = monotonic, look
        self._answer: Future[gpu.Devices] | None = None
        self._asked_at = 0.0
        self._look_at = float("-inf")

    def take(self) -> gpu.Devices | None:
        """What the driver has said since the last call, None if nothing; and ask again, if it is time to."""
        now, found = self._monotonic(), self._heard()
        if found is not None and self._answer is None:
            self._look_at = now + (LOOK_SECONDS if found.devices or found.trouble else ABSENT_SECONDS)
        if self._answer is None and now >= self._look_at:
            self._asked_at, self._answer = now, Future()
            threading.Thread(target=_ask, args=(self._look, self._answer), name="gpu-look", daemon=True).start()
        return found

    def _heard(self) -> gpu.Devices | None:
        if self._answer is None:
            return None
        if not self._answer.done():
            if self._monotonic() - self._asked_at < HANG_SECONDS:
                return None
            return gpu.Devices(reason=f"its driver has not answered for {HANG_SECONDS:.0f} s", trouble=True)
        answer, self._answer = self._answer, None
        try:
            return answer.result()
        except Exception as error:  # whatever a driver's library does must not end the status
            return gpu.Devices(reason=f"{type(error).__name__}: {error}", trouble=True)


def _ask(look: Callable[[], gpu.Devices], answer: Future[gpu.Devices]) -> None:
    try:
        answer.set_result(look())
    except BaseException as error:
        answer.set_exception(error)
