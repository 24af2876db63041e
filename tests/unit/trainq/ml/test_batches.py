"""Batches are a function of position: complete, repeatable, different in each epoch; and padding changes nothing."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainq.config import TrainSettings
from trainq.ml import batches
from trainq.ml.batches import Plan
from trainq.shards import ShardRow

DIGEST = "ab" * 32


def plan(rows: int, batch_rows: int = 4, epochs: int = 2, micro_batch_rows: int = 3, seed: int = 0,
         digest: str = DIGEST) -> Plan:
    lengths = np.array([(row * 37) % 50 + 1 for row in range(rows)], dtype=np.int64)
    return Plan(digest, lengths, TrainSettings(epochs=epochs, batch_rows=batch_rows, seed=seed,
                                               micro_batch_rows=micro_batch_rows))


def row(token_ids: list[int], trained: list[bool]) -> ShardRow:
    return ShardRow(token_ids=np.array(token_ids, dtype=np.int64), trained=np.array(trained), digest=b"", line=1)


@given(rows=st.integers(1, 200), batch_rows=st.integers(1, 40), epochs=st.integers(1, 3), micro=st.integers(1, 50))
def test_each_epoch_takes_every_row_once(rows: int, batch_rows: int, epochs: int, micro: int) -> None:
    of = plan(rows, batch_rows, epochs, micro)
    assert of.steps == -(-rows // batch_rows) * epochs
    for epoch in range(epochs):
        steps = [of.rows_of_step(epoch * of.steps_per_epoch + at) for at in range(of.steps_per_epoch)]
        assert sorted(chain.from_iterable(steps)) == list(range(rows))
        assert all(len(step) == batch_rows for step in steps[:-1])
        assert 0 < len(steps[-1]) <= batch_rows
    for step in range(of.steps):
        pieces = of.micro_batches_of_step(step, micro)
        assert sorted(chain.from_iterable(pieces)) == sorted(of.rows_of_step(step))
        assert all(0 < len(piece) <= micro for piece in pieces)


def test_a_step_is_the_same_however_one_comes_to_it() -> None:
    forward = plan(50, epochs=3)
    in_order = [forward.rows_of_step(step) for step in range(forward.steps)]
    backward = plan(50, epochs=3)
    assert [backward.rows_of_step(step) for step in reversed(range(backward.steps))] == in_order[::-1]
    assert plan(50, epochs=3).rows_of_step(20) == in_order[20]


def test_order_differs_between_epochs_seeds_and_shards() -> None:
    def epoch(of: Plan, number: int) -> list[int]:
        return [row for at in range(of.steps_per_epoch) for row in of.rows_of_step(number * of.steps_per_epoch + at)]

    orders = [epoch(plan(60), 0), epoch(plan(60), 1), epoch(plan(60, seed=1), 0), epoch(plan(60, digest="cd" * 32), 0)]
    assert len({tuple(order) for order in orders}) == 4


def test_the_order_is_the_same_on_every_machine_and_for_ever() -> None:
    """A resumed job must meet the batches that it began with, whatever was upgraded meanwhile."""
    of = plan(10, batch_rows=4, epochs=1)
    assert [of.rows_of_step(step) for step in range(3)] == [[2, 9, 5, 1], [0, 7, 3, 6], [8, 4]]


def test_rows_of_like_length_share_a_batch() -> None:
    lengths = np.array([row * 7919 % 1000 + 1 for row in range(640)], dtype=np.int64)
    of = Plan(DIGEST, lengths, TrainSettings(batch_rows=16, micro_batch_rows=16))
    steps = [lengths[of.rows_of_step(step)] for step in range(of.steps)]
    padded = sum(int(step.max()) * len(step) for step in steps)
    assert padded < 1.25 * int(lengths.sum())


@pytest.mark.parametrize("step", [-1, 6])
def test_there_is_no_step_outside_the_plan(step: int) -> None:
    with pytest.raises(IndexError):
        plan(10).rows_of_step(step)


def test_collate_pads_on_the_right_and_trains_only_what_is_trained() -> None:
    batch = batches.collate([row([1, 2, 3], [False, True, True]), row([4], [True])], pad_token_id=9)
    assert batch.tokens_bt.tolist() == [[1, 2, 3], [4, 9, 9]]
    assert batch.labels_bt.tolist() == [[-100, 2, 3], [4, -100, -100]]


def test_the_first_token_is_nobodys_target() -> None:
    assert batches.targets(row([1, 2, 3], [True, False, True])) == 1
