"""Threads are as asked, seeds reach every generator, and the fingerprint says what bits depend on."""

from __future__ import annotations

import os
import random

import numpy as np
import torch

from trainq.ml import determinism


def test_seeds_reach_every_generator() -> None:
    def draw() -> tuple[float, float, float]:
        determinism.seed(4)
        return random.random(), float(np.random.random_sample()), float(torch.rand(()))

    assert draw() == draw()


def test_zero_threads_are_one_for_each_processor() -> None:
    determinism.set_threads(0)
    assert torch.get_num_threads() == len(os.sched_getaffinity(0))
    determinism.set_threads(1)
    assert determinism.fingerprint(torch.device("cpu"))["threads"] == "1"


def test_the_fingerprint_is_plain_text() -> None:
    fingerprint = determinism.fingerprint(torch.device("cpu"))
    assert {type(value) for value in fingerprint.values()} == {str}
    assert fingerprint["deterministic"] == "true"
    assert determinism.HALF_PRECISION in fingerprint
    assert determinism.HALF_PRECISION not in determinism.fingerprint(torch.device("meta"))
