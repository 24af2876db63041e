"""The machine as it is, and a GPU's driver that answers, fails, or hangs."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from services.status import machine
from services.status.machine import GpuLook
from trainq.gpu import Device, Devices

ONE = Devices(devices=(Device(index=0, name="H100"),))


def test_the_machine_is_looked_at() -> None:
    found = machine.cpu()
    assert found.processors >= 1
    assert 0 <= found.memory_available_bytes <= found.memory_total_bytes
    assert len(found.load) == 3


def test_memory_is_that_of_those_who_live() -> None:
    found = machine.memory_of({"own": os.getpid(), "gone": 2**22 + 1})
    assert set(found) == {"own"}
    assert found["own"] > 1 << 20


class Driver:
    """Answers when it is let to."""

    def __init__(self, answer: Callable[[], Devices]) -> None:
        self.now, self.asked = 100.0, 0
        self.may_answer = threading.Event()
        self.may_answer.set()
        self._answer = answer
        self.look = GpuLook(lambda: self.now, self._ask)

    def _ask(self) -> Devices:
        self.asked += 1
        self.may_answer.wait()
        return self._answer()

    def until_it_says(self) -> Devices:
        while (found := self.look.take()) is None:
            pass
        return found


def test_a_driver_is_asked_every_few_seconds() -> None:
    driver = Driver(lambda: ONE)
    assert driver.look.take() is None, "it was only just asked"
    assert driver.until_it_says() == ONE
    driver.now += machine.LOOK_SECONDS / 2
    assert driver.look.take() is None
    assert driver.asked == 1
    driver.now += machine.LOOK_SECONDS
    assert driver.until_it_says() == ONE
    assert driver.asked == 2


def test_where_there_is_none_it_is_looked_for_rarely() -> None:
    driver = Driver(lambda: Devices(reason="there is no NVIDIA driver"))
    assert driver.until_it_says().devices == ()
    driver.now += machine.ABSENT_SECONDS - 1
    assert driver.look.take() is None
    assert driver.asked == 1


def test_one_that_hangs_is_said_and_stops_nobody() -> None:
    driver = Driver(lambda: ONE)
    driver.may_answer.clear()
    assert driver.look.take() is None
    driver.now += machine.HANG_SECONDS
    late = driver.look.take()
    assert late is not None
    assert (late.trouble, driver.asked) == (True, 1)
    driver.may_answer.set()
    while driver.until_it_says().trouble:
        pass


def test_one_that_breaks_is_said() -> None:
    def broken() -> Devices:
        raise RuntimeError("half a driver")

    assert Driver(broken).until_it_says() == Devices(reason="RuntimeError: half a driver", trouble=True)
