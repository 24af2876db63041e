"""Memory for copies: allocated once, used again, and as large as what lies in it."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load

from trainq.config import Home
from trainq.ml.hostmemory import HostMemory, HostMemoryShortError, host_tensor
from trainq.ml.writing import HostTensor, TensorFile, _write_tensors


def numbers(tensor: HostTensor, home: Home) -> torch.Tensor:
    """What a safetensors file of it holds."""
    _write_tensors(home.root / "t.safetensors", TensorFile(tensors={"t": tensor}))
    return load((home.root / "t.safetensors").read_bytes())["t"]


def test_a_copy_stays_what_it_was_and_the_next_one_takes_its_place(home: Home) -> None:
    memory, tensor = HostMemory(), torch.arange(6.0).reshape(2, 3)
    first = memory.copy({"a": tensor, "b": tensor.t(), "c": torch.tensor(3.0)})
    tensor += 1
    assert numbers(first["a"], home).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert numbers(first["b"], home).tolist() == [[0, 3], [1, 4], [2, 5]]
    assert numbers(first["c"], home).item() == 3
    second = memory.copy({"a": tensor, "b": tensor.t()})
    assert second["a"].spec.data_ptr == first["a"].spec.data_ptr
    assert numbers(first["a"], home).tolist() == [[1, 2, 3], [4, 5, 6]]
    assert set(second) == set(memory._kept) == {"a", "b"}


def test_another_shape_or_type_is_other_memory(home: Home) -> None:
    memory = HostMemory()
    for tensor in (torch.ones(3), torch.ones(4), torch.ones(4, dtype=torch.bfloat16), torch.zeros(0)):
        assert torch.equal(numbers(memory.copy({"a": tensor})["a"], home), tensor)
    assert memory.copy({}) == {}


def test_what_lies_in_host_memory_already_is_not_copied() -> None:
    tensor = torch.ones(3, requires_grad=True)
    assert host_tensor(tensor).spec.data_ptr == tensor.data_ptr()


def test_what_lies_elsewhere_and_does_not_fit_here_is_the_machines_fault() -> None:
    with pytest.raises(HostMemoryShortError, match="no host memory"):
        host_tensor(torch.empty(2**50, device="meta"))
