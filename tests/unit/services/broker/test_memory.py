"""The broker sends less, the more memory it has."""

import pytest

from services.broker.memory import LIMITS, MemoryGuard

MIB, KIB = 1 << 20, 1 << 10


class Machine:
    """A clock and a memory by hand."""

    def __init__(self) -> None:
        self.now, self.resident, self.looked = 0.0, 40 * MIB, 0
        self.guard = MemoryGuard(lambda: self.now, self.look)

    def look(self) -> int:
        self.looked += 1
        return self.resident


@pytest.mark.parametrize(("resident", "sizes"), [
    (40 * MIB, (KIB, 64 * KIB, 4 * MIB)), (129 * MIB, (KIB, 64 * KIB)), (161 * MIB, (KIB, 4 * KIB))])
def test_the_largest_reply_shrinks(resident: int, sizes: tuple[int, ...]) -> None:
    machine = Machine()
    machine.resident = resident
    asked = (KIB, 4 * KIB, 4 * KIB + 1, 64 * KIB, 64 * KIB + 1, 4 * MIB)
    assert [size for size in asked if machine.guard.allows(size)] == [size for size in asked if size <= max(sizes)]


def test_it_lets_go_when_the_memory_is_given_back() -> None:
    machine = Machine()
    machine.resident = 500 * MIB
    assert not machine.guard.allows(MIB)
    machine.resident, machine.now = 50 * MIB, 1.0
    assert machine.guard.allows(MIB)


def test_much_that_is_sent_at_once_is_noticed_at_once() -> None:
    machine = Machine()
    assert machine.guard.allows(MIB)
    machine.resident = 200 * MIB
    allowed = [machine.guard.allows(2 * MIB) for _ in range(20)]
    assert allowed[0], "by what was seen last"
    assert not allowed[-1]
    assert machine.looked < 10


def test_small_replies_cost_no_look() -> None:
    machine = Machine()
    assert all(machine.guard.allows(LIMITS[0][1]) for _ in range(1000))
    assert machine.looked == 0
