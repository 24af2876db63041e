"""Every generator goes on from its captured state, also in the middle of a pair of normal draws."""

from __future__ import annotations

import random

import msgspec
import numpy as np
import pytest
import torch

from trainq.errors import DamageError
from trainq.ml import determinism, randomness
from trainq.ml.randomness import Remainder


def test_states_go_through_tensors_and_json() -> None:
    determinism.seed(8)
    random.gauss(0, 1)  # leaves the second of a pair behind
    np.random.standard_normal()

    def draw() -> list[float]:
        return [random.gauss(0, 1), float(np.random.standard_normal()), float(np.random.random_sample()),
                *torch.randn(5).tolist()]

    tensors, remainder = randomness.capture()
    drawn = draw()
    randomness.restore(tensors, msgspec.json.decode(msgspec.json.encode(remainder), type=Remainder))
    assert draw() == drawn


def test_a_moment_is_gone_back_to() -> None:
    determinism.seed(8)
    random.gauss(0, 1)

    def draw() -> list[float]:
        return [random.gauss(0, 1), float(np.random.standard_normal()), *torch.randn(5).tolist()]

    moment = randomness.remember()
    drawn = draw()
    randomness.go_back(moment)
    assert draw() == drawn


def test_what_is_no_state_is_refused() -> None:
    tensors, remainder = randomness.capture()
    for name in ("torch_cpu", "numpy", "python"):
        for wrong in ({**tensors, name: torch.zeros(3)}, {key: value for key, value in tensors.items() if key != name}):
            with pytest.raises(DamageError):
                randomness.restore(wrong, remainder)
