"""Whose fault an error is."""

from __future__ import annotations

import os

import pytest

from services.trainer.failures import failure
from trainq import gpu
from trainq.errors import InputError, MaskingError, MemoryShortError, StorageError


def test_the_file_the_machine_or_a_file_for_good() -> None:
    errors = (InputError("x"), MaskingError("x"), MemoryShortError("x"), StorageError("x"), OSError(5, "x"))
    failures = {type(error): failure("train-1", error) for error in errors}
    told = {kind: (each.system, each.final) for kind, each in failures.items()}
    assert told == {InputError: (False, False), MaskingError: (False, True), MemoryShortError: (False, False),
                    StorageError: (True, False), OSError: (True, False)}


def test_no_memory_beside_others_is_the_machines_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def driver(mib: int) -> None:
        seen = gpu.View(found=True, uses=(gpu.Use(os.getpid(), 5000), gpu.Use(2**22 + 1, mib)))
        monkeypatch.setattr(gpu, "look", lambda environment: seen if environment else gpu.View())

    driver(gpu.WORTH_NAMING_MIB - 1)
    assert not failure("train-1", MemoryShortError("one row does not fit")).system, "as good as nothing"
    driver(70_000)
    told = failure("train-1", MemoryShortError("one row does not fit"))
    assert (told.system, "others use 70000 MiB of the GPU" in told.reason) == (True, True)
    assert not failure("train-1", InputError("x")).system
