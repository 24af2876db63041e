"""The GPU as the driver sees it, through NVML and without torch: is there one, who uses it, how warm it is.

:func:`look` asks, :func:`judge` decides and is pure. Where ``nvidia-ml-py`` or the driver is not there, there is no GPU
and nothing is wrong, unless one is required. Nothing of the device is changed, and no memory on it is taken.

In a container the driver may name processes by numbers that nobody there knows: then one of them, the largest, counts
as this system's own training process while that runs and is not among those listed.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

# So much cooler than the limit it must be before training goes on.
RELIEF_CELSIUS = 5
# What others have on the GPU that is no reason for a lack of memory, where no limit is set: a desktop, a monitor.
WORTH_NAMING_MIB = 1024
_MIB = 1 << 20
_VISIBLE_KEY = "CUDA_VISIBLE_DEVICES"


class Use(NamedTuple):
    """A process on the GPU, and the memory that it has there (MiB; 0 where the driver does not say)."""

    pid: int
    mib: int


class View(NamedTuple):
    """``found``: there is a GPU. ``trouble``: why it cannot be used, in the driver's words."""

    found: bool = False
    trouble: str = ""
    uses: tuple[Use, ...] = ()
    celsius: int | None = None


class Limits(NamedTuple):
    """As ``[trainer]`` has them: ``gpu`` is required; ``foreign_mib`` and ``max_celsius``, 0 for no limit."""

    required: bool
    foreign_mib: int
    max_celsius: int


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """One GPU as the driver sees it. What the driver does not say is null.

    ``utilization_percent`` is of the time, ``memory_*`` in bytes, ``temperature_celsius`` of the chip, ``power_watts``
    now, and ``power_limit_watts`` the most that it may take.
    """

    index: int
    name: str
    utilization_percent: int | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    temperature_celsius: int | None = None
    power_watts: float | None = None
    power_limit_watts: float | None = None


class Devices(msgspec.Struct, frozen=True, kw_only=True):
    """All GPUs; or the ``reason`` for which none is listed. ``trouble``: there should be one, and it cannot be used."""

    devices: tuple[Device, ...] = ()
    reason: str = ""
    trouble: bool = False


class Verdict(NamedTuple):
    """Why no job is begun, and why also none that runs goes on; empty if it may. ``trouble``: something is wrong."""

    hold: str = ""
    pause: str = ""
    trouble: bool = False


def judge(view: View, others: Sequence[Use], limits: Limits, *, was_hot: bool) -> Verdict:
    """What follows from what was seen.

    Args:
        view: what was seen.
        others: those of its processes that are not ours (:func:`foreign`).
        limits: the settings.
        was_hot: it was too hot when it was last looked at, and is to cool down some more.
    """
    if view.trouble:
        return Verdict(hold=f"the GPU cannot be used: {view.trouble}; it goes on by itself when it can",
                       trouble=True)
    if not view.found:
        missing = "there is no GPU, and one is required ([trainer] gpu)"
        return Verdict(hold=missing, trouble=True) if limits.required else Verdict()
    limit = limits.max_celsius - (RELIEF_CELSIUS if was_hot else 0)
    if limits.max_celsius and view.celsius is not None and view.celsius >= limit:
        hot = (f"the GPU has {view.celsius} degrees, below {limit} it goes on by itself ([trainer] max_celsius is "
               f"{limits.max_celsius})")
        return Verdict(hold=hot, pause=hot)
    used = sum(use.mib for use in others)
    if limits.foreign_mib and used > limits.foreign_mib:
        return Verdict(hold=f"{said(others)} ({limits.foreign_mib} MiB may be: [trainer] foreign_mib); it goes on by "
                       "itself when there is room")
    return Verdict()


def foreign(view: View, own: Collection[int], training: int, is_here: Callable[[int], bool]) -> list[Use]:
    """The processes on the GPU that are not ours, the largest first.

    Args:
        view: what was seen.
        own: the pids of this system.
        training: that of its training process; 0 while there is none.
        is_here: whether a pid is that of a process that can be seen from here.
    """
    others = sorted((use for use in view.uses if use.pid not in own), key=lambda use: (-use.mib, use.pid))
    if training and training not in {use.pid for use in view.uses}:
        unknown = next((use for use in others if not is_here(use.pid)), None)
        if unknown is not None:
            others.remove(unknown)
    return others


def said(others: Sequence[Use]) -> str:
    """Who else is on the GPU, for people."""
    names = ", ".join(f"process {use.pid} ({use.mib} MiB)" for use in others[:3])
    return f"others use {sum(use.mib for use in others)} MiB of the GPU: {names}{', ...' if len(others) > 3 else ''}"


def used_by_others(foreign_mib: int = 0) -> str:
    """Who else takes memory of the GPU that this process trains on, for people; empty if it is nobody's to speak of.

    Beside what ``foreign_mib`` lets others have, jobs are begun: so much is no reason why a job lacks memory, or one
    that never fits would be tried for ever.
    """
    others = foreign(look(os.environ), {os.getpid()}, os.getpid(), is_here)
    return said(others) if sum(use.mib for use in others) > (foreign_mib or WORTH_NAMING_MIB) else ""


def is_here(pid: int) -> bool:
    """Whether there is such a process, as far as can be seen from here."""
    return Path(f"/proc/{pid}").exists()


def look(environment: Mapping[str, str], nvml: Any = None) -> View:
    """What the driver says of the GPU that training uses: the first that ``CUDA_VISIBLE_DEVICES`` leaves, or the first.

    Its numbers are the driver's (``CUDA_DEVICE_ORDER=PCI_BUS_ID``, with which the training process runs). Waits for the
    driver, which may take a second where it is not kept loaded.

    Args:
        environment: the process's.
        nvml: the library's module; found by itself without.
    """
    nvml = nvml or _library()
    if nvml is None:
        return View()
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        absent = (nvml.NVML_ERROR_LIBRARY_NOT_FOUND, nvml.NVML_ERROR_DRIVER_NOT_LOADED)
        return View() if error.value in absent else View(trouble=str(error))
    try:
        device = _device(nvml, environment.get(_VISIBLE_KEY))
        return View() if device is None else View(
            found=True, uses=_uses(nvml, device), celsius=_celsius(nvml, device))
    except nvml.NVMLError as error:
        return View() if error.value == nvml.NVML_ERROR_NOT_FOUND else View(trouble=str(error))
    finally:
        _shut_down(nvml)


def list_devices(nvml: Any = None) -> Devices:
    """All devices, visible to training or not. Waits for the driver, as :func:`look` does."""
    nvml = nvml or _library()
    if nvml is None:
        return Devices(reason="the library nvidia-ml-py is not installed")
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        if error.value in (nvml.NVML_ERROR_LIBRARY_NOT_FOUND, nvml.NVML_ERROR_DRIVER_NOT_LOADED):
            return Devices(reason="there is no NVIDIA driver")
        return Devices(reason=str(error), trouble=True)
    try:
        found = tuple(_listed(nvml, index) for index in range(nvml.nvmlDeviceGetCount()))
        return Devices(devices=found, reason="" if found else "the driver knows of no GPU")
    except nvml.NVMLError as error:
        if error.value == nvml.NVML_ERROR_NOT_FOUND:
            return Devices(reason="the driver knows of no GPU")
        return Devices(reason=str(error), trouble=True)
    finally:
        _shut_down(nvml)


def _listed(nvml: Any, index: int) -> Device:
    device = nvml.nvmlDeviceGetHandleByIndex(index)
    rates = _said(nvml, nvml.nvmlDeviceGetUtilizationRates, device)
    memory = _said(nvml, nvml.nvmlDeviceGetMemoryInfo, device)
    power = _said(nvml, nvml.nvmlDeviceGetPowerUsage, device)
    limit = _said(nvml, nvml.nvmlDeviceGetEnforcedPowerLimit, device)
    return Device(
        index=index, name=_text(nvml.nvmlDeviceGetName(device)),
        utilization_percent=None if rates is None else int(rates.gpu),
        memory_used_bytes=None if memory is None else int(memory.used),
        memory_total_bytes=None if memory is None else int(memory.total), temperature_celsius=_celsius(nvml, device),
        # The driver counts in milliwatts.
        power_watts=None if power is None else round(power / 1000, 1),
        power_limit_watts=None if limit is None else round(limit / 1000, 1))


def _said(nvml: Any, ask: Callable[[Any], Any], device: Any) -> Any:
    """The driver's answer; None where the device has none to give."""
    try:
        return ask(device)
    except nvml.NVMLError as error:
        if error.value in (nvml.NVML_ERROR_NOT_SUPPORTED, nvml.NVML_ERROR_NO_PERMISSION):
            return None
        raise


def _library() -> Any:
    try:
        return importlib.import_module("pynvml")
    except ImportError:
        return None


def _device(nvml: Any, visible: str | None) -> Any:
    """The handle; None if no device is there, or none is visible."""
    first = visible.split(",")[0].strip() if visible is not None else "0"
    if first.startswith("MIG-"):
        return nvml.nvmlDeviceGetHandleByUUID(first)
    if first.startswith("GPU-"):
        # As CUDA does: the beginning of a name will do, if it is that of one alone.
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        named = [handle for handle in handles if _text(nvml.nvmlDeviceGetUUID(handle)).startswith(first)]
        return named[0] if len(named) == 1 else None
    # As CUDA does: what is no number, like "-1" or nothing, hides this device and all behind it.
    if not first.isdecimal() or int(first) >= nvml.nvmlDeviceGetCount():
        return None
    return nvml.nvmlDeviceGetHandleByIndex(int(first))


def _text(name: str | bytes) -> str:
    """Former versions of the library give bytes."""
    return name.decode() if isinstance(name, bytes) else name


def _uses(nvml: Any, device: Any) -> tuple[Use, ...]:
    try:
        found = nvml.nvmlDeviceGetComputeRunningProcesses(device)
    except nvml.NVMLError as error:
        if error.value in (nvml.NVML_ERROR_NOT_SUPPORTED, nvml.NVML_ERROR_NO_PERMISSION):
            return ()
        raise
    return tuple(Use(int(each.pid), int(each.usedGpuMemory or 0) // _MIB) for each in found)


def _celsius(nvml: Any, device: Any) -> int | None:
    said = _said(nvml, lambda asked: nvml.nvmlDeviceGetTemperature(asked, nvml.NVML_TEMPERATURE_GPU), device)
    return None if said is None else int(said)


def _shut_down(nvml: Any) -> None:
    with contextlib.suppress(nvml.NVMLError):  # a driver that is gone has nothing to shut down
        nvml.nvmlShutdown()
