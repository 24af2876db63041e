"""The plan is the seed's and nothing else's, and meets everything that there is."""

from __future__ import annotations

from itertools import islice

import orjson
import pytest

from trainq.chaos import plan
from trainq.chaos.plan import FaultKind, LoadKind, OrderKind, UpkeepKind
from trainq.chaos.processes import EVALUATION, FORK_SERVER, GENERATION, SERVICES, SUPERVISORD, TRAINING

POINTS = [("broker", "files.fsync"), (TRAINING, "training.stepped"), ("watcher", "files.rename")]
EVERYONE = {*SERVICES, TRAINING, EVALUATION, GENERATION, FORK_SERVER, SUPERVISORD}


def test_a_seed_always_plans_the_same_and_another_one_something_else() -> None:
    def all_of(seed: int) -> tuple[list[plan.Fault], list[plan.Load], list[plan.Upkeep]]:
        return (list(islice(plan.faults(seed, POINTS), 200)), list(islice(plan.loads(seed), 200)),
                [*plan.upkeep(seed)[0], *islice(plan.upkeep(seed)[1], 200)])

    assert all_of(7) == all_of(7)
    for one, other in zip(all_of(7), all_of(8), strict=True):
        assert one != other


@pytest.mark.parametrize("seed", range(5))
def test_every_order_is_given_and_a_resume_ends_each_rest_soon(seed: int) -> None:
    first = list(islice(plan.orders(seed), 200))
    assert {order.kind for order in first} == set(OrderKind)
    rests = 0
    for order in first:
        rests = 0 if order.kind is OrderKind.RESUME else rests + 1
        assert rests <= 3


@pytest.mark.parametrize("seed", range(5))
def test_the_first_faults_kill_everybody_and_are_of_every_kind(seed: int) -> None:
    first = list(islice(plan.faults(seed, POINTS), len(plan.WEIGHTS) + len(FaultKind) - 1))
    assert {fault.kind for fault in first} == set(FaultKind)
    assert {fault.processes[0] for fault in first if fault.kind is FaultKind.KILL} == EVERYONE


def test_in_the_long_run_each_kind_meets_each_process_that_it_can() -> None:
    met: dict[FaultKind, set[str]] = {kind: set() for kind in FaultKind}
    for fault in islice(plan.faults(1, POINTS), 2000):
        met[fault.kind].update(fault.processes)
    assert met[FaultKind.KILL] == met[FaultKind.PAIR] == met[FaultKind.FREEZE] == EVERYONE
    assert met[FaultKind.RESTART] == set(SERVICES), "supervisorctl knows the programs alone"
    assert met[FaultKind.CRASH_POINT] == {process for process, _ in POINTS}


def test_the_numbers_of_faults_are_in_their_bounds() -> None:
    for fault in islice(plan.faults(3, POINTS), 1000):
        assert 0 <= fault.pause_seconds < 30
        assert len(fault.processes) == (2 if fault.kind is FaultKind.PAIR else 1)
        assert len(set(fault.processes)) == len(fault.processes)
        assert (fault.processes[0], fault.point) in POINTS if fault.kind is FaultKind.CRASH_POINT else not fault.point
    frozen = [fault.seconds for fault in islice(plan.faults(3, POINTS), 1000) if fault.kind is FaultKind.FREEZE]
    assert min(frozen) >= 0.2
    assert any(seconds > 5 for seconds in frozen), "some outlast a lease"


def test_no_crash_point_comes_again_before_all_have_come() -> None:
    met = [(fault.processes[0], fault.point) for fault in islice(plan.faults(4, POINTS), 200)
           if fault.kind is FaultKind.CRASH_POINT]
    assert len(met) > 30
    for at in range(0, len(met) - 2, 3):
        assert set(met[at:at + 3]) == set(POINTS)


def test_the_load_begins_with_a_submit_does_everything_and_is_paced() -> None:
    loads = list(islice(plan.loads(2), 1000))
    assert loads[0].kind is LoadKind.SUBMIT
    assert {load.kind for load in loads[:6]} == {load.kind for load in loads[6:]} == set(LoadKind)
    assert 2.0 < sum(load.pause_seconds for load in loads) / len(loads) < 3.0
    assert all(0 <= load.which < 1 and plan.MIN_ROWS <= load.rows <= plan.MAX_ROWS for load in loads)
    assert len({load.name for load in loads}) == len(loads)


def test_a_loads_file_is_its_own_and_always_the_same() -> None:
    loads = [load for load in islice(plan.loads(4), 60) if load.kind is LoadKind.SUBMIT]
    contents = [plan.content(4, load) for load in loads]
    assert contents == [plan.content(4, load) for load in loads]
    rows = [line for content in contents for line in content.splitlines()]
    assert len(set(rows)) == len(rows) == sum(load.rows for load in loads)
    assert all(orjson.loads(row).keys() == {"prompt", "completion"} for row in rows)


def test_bad_rows_are_more_than_a_home_allows() -> None:
    bad = next(load for load in plan.loads(4) if load.kind is LoadKind.BAD_ROWS)
    lines = plan.content(4, bad).splitlines()
    assert sum(not line.startswith(b"{") for line in lines) > 0.1 * len(lines)


@pytest.mark.parametrize("seed", range(1, 6))
def test_upkeep_begins_with_a_snapshot_asks_for_everything_and_is_paced(seed: int) -> None:
    first, more = plan.upkeep(seed)
    steps = [*first, *islice(more, 1000)]
    kinds = set(UpkeepKind) - (set() if plan.trains_an_adapter(seed) else {UpkeepKind.CONSOLIDATION})
    last = [UpkeepKind.RESTORE, UpkeepKind.CONSOLIDATION][:len(first) - 6]
    assert first[0].kind is UpkeepKind.SNAPSHOT
    assert [step.kind for step in first[6:]] == last
    assert sorted(step.kind for step in first) == sorted(kinds)
    assert {step.kind for step in steps} == kinds
    assert 1.5 < sum(step.pause_seconds for step in steps) / len(steps) < 2.0
    assert all(0 <= step.which < 1 for step in steps)


def test_some_seeds_train_an_adapter_and_most_do_not() -> None:
    with_one = [seed for seed in range(100) if plan.trains_an_adapter(seed)]
    assert 20 < len(with_one) < 50
