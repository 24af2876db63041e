"""Faults are ordered by files in a folder, and nothing is believed to be one that is none."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from trainq.ml import stepfaults


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    stepfaults.arm("")


def test_unarmed_nothing_happens() -> None:
    stepfaults.arm_from_environment({})
    stepfaults.begin_step("train-1", 0)
    stepfaults.begin_backward()
    stepfaults.begin_update(0)
    stepfaults.refuse_rows(10**6)
    assert float(stepfaults.spoiled(torch.tensor(2.0))) == 2.0
    assert stepfaults.masked(torch.tensor([[7]])).tolist() == [[7]]


def test_each_fault_at_its_step_and_job(tmp_path: Path) -> None:
    for name in ("nan.train-1.3", "zero.any.4", "update.train-1.every", "memory.train-1.2"):
        (tmp_path / name).touch()
    stepfaults.arm_from_environment({"TRAINQ_STEP_FAULTS": str(tmp_path)})
    met = []
    for job, step in (("train-1", 2), ("train-1", 3), ("train-2", 3), ("train-2", 4)):
        stepfaults.begin_step(job, step)
        met.append((float(stepfaults.spoiled(torch.tensor(2.0))) != 2.0, stepfaults.masked(torch.tensor([[7]])).item()))
    assert met == [(False, 7), (True, 7), (False, 7), (False, -100)]
    stepfaults.begin_update(9)
    stepfaults.refuse_rows(3)
    stepfaults.begin_step("train-1", 9)
    stepfaults.refuse_rows(2)
    for call, number in ((stepfaults.begin_update, 9), (stepfaults.refuse_rows, 3)):
        with pytest.raises(torch.OutOfMemoryError):
            call(number)


def test_no_memory_in_the_backward_pass_of_one_step(tmp_path: Path) -> None:
    (tmp_path / "backward.train-1.5").touch()
    stepfaults.arm(str(tmp_path))
    stepfaults.begin_step("train-1", 5)
    with pytest.raises(torch.OutOfMemoryError):
        stepfaults.begin_backward()
    stepfaults.begin_step("train-1", 6)
    stepfaults.begin_backward()


def test_a_slow_step_takes_its_time(tmp_path: Path) -> None:
    (tmp_path / "slow.train-1.5").touch()
    stepfaults.arm(str(tmp_path))
    began = time.monotonic()
    stepfaults.begin_step("train-1", 5)
    assert time.monotonic() - began >= stepfaults.SLOW_SECONDS


def test_one_that_comes_once_is_used_up(tmp_path: Path) -> None:
    (tmp_path / "update.any.5").write_text("once\n")
    stepfaults.arm(str(tmp_path))
    stepfaults.begin_step("train-1", 5)
    with pytest.raises(torch.OutOfMemoryError):
        stepfaults.begin_update(5)
    stepfaults.begin_update(5)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["nan", "nan.train-1", "nan..3", "boom.any.3", "nan.any.x"])
def test_what_is_no_fault_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(ValueError, match="is no folder of faults"):
        stepfaults.arm(str(tmp_path))
    with pytest.raises(ValueError, match="is no folder of faults"):
        stepfaults.arm(str(tmp_path / "none"))
