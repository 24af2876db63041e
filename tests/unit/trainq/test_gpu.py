"""What follows from what the driver says; the driver is a fake here, tests/gpu asks the real one."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from trainq import gpu
from trainq.gpu import Limits, Use, Verdict, View
from trainq.liveness import family

ANY = Limits(required=False, foreign_mib=1000, max_celsius=0)


class NvmlError(Exception):
    def __init__(self, value: int) -> None:
        super().__init__(f"NVML error {value}")
        self.value = value


class Nvml:
    """The calls that are made, with the codes of nvml.h. ``errors`` says which of them fail, and how."""

    NVMLError = NvmlError
    NVML_ERROR_NOT_SUPPORTED, NVML_ERROR_NO_PERMISSION, NVML_ERROR_NOT_FOUND = 3, 4, 6
    NVML_ERROR_DRIVER_NOT_LOADED, NVML_ERROR_LIBRARY_NOT_FOUND = 9, 12
    NVML_TEMPERATURE_GPU = 0

    def __init__(self, **errors: int) -> None:
        self._errors = errors
        self.open = 0
        self.nvmlInit, self.nvmlShutdown = self._init, self._shutdown
        self.nvmlDeviceGetCount = self._device_get_count
        self.nvmlDeviceGetHandleByIndex = self._device_get_handle_by_index
        self.nvmlDeviceGetHandleByUUID = self._device_get_handle_by_uuid
        self.nvmlDeviceGetUUID = self._device_get_uuid
        self.nvmlDeviceGetComputeRunningProcesses = self._device_get_compute_running_processes
        self.nvmlDeviceGetTemperature = self._device_get_temperature
        self.nvmlDeviceGetName = lambda device: self._call("name", device.encode())
        self.nvmlDeviceGetUtilizationRates = lambda _: self._call("rates", SimpleNamespace(gpu=97, memory=40))
        self.nvmlDeviceGetMemoryInfo = lambda _: self._call("memory", SimpleNamespace(used=3 << 30, total=80 << 30))
        self.nvmlDeviceGetPowerUsage = lambda _: self._call("power", 412_345)
        self.nvmlDeviceGetEnforcedPowerLimit = lambda _: self._call("limit", 700_000)

    def _call(self, name: str, value: Any) -> Any:
        if name in self._errors:
            raise NvmlError(self._errors[name])
        return value

    def _init(self) -> None:
        self._call("init", None)
        self.open += 1

    def _shutdown(self) -> None:
        self.open -= 1
        self._call("shutdown", None)

    def _device_get_count(self) -> int:
        return int(self._call("count", 2))

    def _device_get_handle_by_index(self, index: int) -> str:
        return str(self._call("handle", f"device {index}"))

    def _device_get_handle_by_uuid(self, name: str) -> str:
        return str(self._call("handle", name))

    def _device_get_uuid(self, device: str) -> str | bytes:
        return {"device 0": "GPU-12ab-0", "device 1": b"GPU-12cd-1"}[device]

    def _device_get_compute_running_processes(self, device: str) -> list[SimpleNamespace]:
        wanted = {"device 0": 5, "device 1": 6}.get(device, 7)
        return list(self._call("uses", [SimpleNamespace(pid=wanted, usedGpuMemory=3 << 30),
                                        SimpleNamespace(pid=9, usedGpuMemory=None)]))

    def _device_get_temperature(self, _device: str, _sensor: int) -> int:
        return int(self._call("celsius", 61))


@pytest.mark.parametrize(("visible", "pid"), [(None, 5), ("0", 5), ("1,0", 6), ("GPU-12ab", 5), ("GPU-12cd-1", 6),
                                              ("MIG-12ab", 7)])
def test_it_looks_at_the_gpu_that_is_trained_on(visible: str | None, pid: int) -> None:
    nvml = Nvml()
    environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    assert gpu.look(environment, nvml) == View(found=True, uses=(Use(pid, 3072), Use(9, 0)), celsius=61)
    assert nvml.open == 0


@pytest.mark.parametrize("visible", ["", "-1", "2", "none", "GPU-12", "GPU-99"])
def test_a_gpu_that_is_hidden_is_none(visible: str) -> None:
    assert gpu.look({"CUDA_VISIBLE_DEVICES": visible}, Nvml()) == View()


@pytest.mark.parametrize(("errors", "seen"), [
    ({"init": 12}, View()), ({"init": 9}, View()), ({"count": 6}, View()),
    ({"init": 18}, View(trouble="NVML error 18")), ({"handle": 15}, View(trouble="NVML error 15")),
    ({"uses": 15, "shutdown": 15}, View(trouble="NVML error 15")), ({"celsius": 15}, View(trouble="NVML error 15")),
    ({"uses": 3, "celsius": 3}, View(found=True)), ({"uses": 4, "celsius": 4}, View(found=True)),
])
def test_what_the_driver_refuses(errors: dict[str, int], seen: View) -> None:
    nvml = Nvml(**errors)
    assert gpu.look({}, nvml) == seen
    assert nvml.open == 0


def test_every_device_is_listed() -> None:
    nvml = Nvml()
    found = gpu.list_devices(nvml)
    assert [device.name for device in found.devices] == ["device 0", "device 1"]
    assert found.devices[1] == gpu.Device(
        index=1, name="device 1", utilization_percent=97, memory_used_bytes=3 << 30, memory_total_bytes=80 << 30,
        temperature_celsius=61, power_watts=412.3, power_limit_watts=700.0)
    assert (found.reason, found.trouble, nvml.open) == ("", False, 0)


def test_what_the_driver_does_not_say_is_null() -> None:
    silent = gpu.list_devices(Nvml(rates=3, memory=4, power=3, limit=3, celsius=3)).devices[0]
    assert silent == gpu.Device(index=0, name="device 0")


@pytest.mark.parametrize(("errors", "reason", "trouble"), [
    ({"init": 12}, "there is no NVIDIA driver", False), ({"init": 9}, "there is no NVIDIA driver", False),
    ({"count": 6}, "the driver knows of no GPU", False), ({"init": 18}, "NVML error 18", True),
    ({"memory": 15, "shutdown": 15}, "NVML error 15", True),
])
def test_why_no_device_is_listed(errors: dict[str, int], reason: str, trouble: bool) -> None:
    nvml = Nvml(**errors)
    assert gpu.list_devices(nvml) == gpu.Devices(reason=reason, trouble=trouble)
    assert nvml.open == 0


def test_without_the_library_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert gpu.look({}) == View()
    assert gpu.used_by_others() == ""
    assert gpu.list_devices().devices == ()


def test_no_gpu_holds_only_where_one_is_required() -> None:
    assert gpu.judge(View(), [], ANY, was_hot=False) == Verdict()
    held = gpu.judge(View(), [], ANY._replace(required=True), was_hot=False)
    assert "there is no GPU" in held.hold
    assert not held.pause
    assert held.trouble


def test_a_driver_error_holds_wherever_it_is() -> None:
    held = gpu.judge(View(trouble="GPU is lost"), [], ANY, was_hot=False)
    assert ("GPU is lost" in held.hold, held.pause, held.trouble) == (True, "", True)


def test_others_hold_above_the_limit() -> None:
    view = View(found=True)
    assert gpu.judge(view, [Use(5, 600), Use(6, 400)], ANY, was_hot=False) == Verdict()
    held = gpu.judge(view, [Use(5, 600), Use(6, 401)], ANY, was_hot=False)
    assert "others use 1001 MiB of the GPU: process 5 (600 MiB), process 6 (401 MiB) (1000 MiB may be" in held.hold
    assert not held.pause
    assert not held.trouble
    assert gpu.judge(view, [Use(5, 10**6)], ANY._replace(foreign_mib=0), was_hot=False) == Verdict()


def test_heat_pauses_until_it_is_some_degrees_cooler() -> None:
    limits = ANY._replace(max_celsius=80)
    assert not gpu.judge(View(found=True, celsius=80), [], limits, was_hot=False).trouble
    said = [bool(gpu.judge(View(found=True, celsius=celsius), [], limits, was_hot=hot).pause)
            for celsius, hot in ((79, False), (80, False), (79, True), (75, True), (74, True))]
    assert said == [False, True, True, True, False]
    assert gpu.judge(View(found=True, celsius=200), [], ANY, was_hot=False) == Verdict()
    assert gpu.judge(View(found=True, celsius=None), [], limits, was_hot=True) == Verdict()


def test_ours_are_not_foreign() -> None:
    view = View(found=True, uses=(Use(10, 500), Use(11, 700), Use(12, 100)))
    assert gpu.foreign(view, {10, 12}, 10, lambda _: True) == [Use(11, 700)]


def test_in_a_container_the_largest_that_nobody_knows_is_our_own_training_process() -> None:
    view = View(found=True, uses=(Use(901, 500), Use(902, 700), Use(12, 900)))

    def is_here(pid: int) -> bool:
        return pid == 12

    assert gpu.foreign(view, {10}, 10, is_here) == [Use(12, 900), Use(901, 500)]
    assert gpu.foreign(view, {10}, 0, is_here) == [Use(12, 900), Use(902, 700), Use(901, 500)], "we have none"


def test_a_family_is_a_process_and_all_below_it() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert {os.getpid(), child.pid} <= family(os.getpid())
        assert os.getppid() not in family(os.getpid())
        assert family(child.pid) == {child.pid}
    finally:
        child.communicate()
