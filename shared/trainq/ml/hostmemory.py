"""Copies of tensors in host memory that is allocated once and used again."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from safetensors import TensorSpec

from trainq.errors import StorageError
from trainq.ml.writing import HostTensor


class HostMemoryShortError(StorageError):
    """The host has no memory for a copy of the model's state: the machine's fault, and no file's."""


class HostMemory:
    """Takes as much room as what was last copied into it, until it is dropped.

    Pinned memory takes more: torch rounds each tensor's up to a power of two, and keeps it for the process.
    """

    def __init__(self) -> None:
        self._kept: dict[str, tuple[torch.Tensor, HostTensor]] = {}

    def copy(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, HostTensor]:
        """Copies of the tensors as they are now; the copies made before are overwritten.

        From a CUDA device into pinned memory (so that they run at the bus's speed, one after the other), and waited for
        once.

        Raises:
            HostMemoryShortError: there is no room; what was kept is let go of.
        """
        for name in self._kept.keys() - tensors.keys():
            del self._kept[name]
        for name, tensor in tensors.items():
            kept = self._kept.get(name)
            if kept is None or kept[0].shape != tensor.shape or kept[0].dtype != tensor.dtype:
                self._kept[name] = self._allocated(tensor)
        if tensors:
            torch._foreach_copy_([self._kept[name][0] for name in tensors], list(tensors.values()), non_blocking=True)
        for device in {tensor.device for tensor in tensors.values() if tensor.is_cuda}:
            torch.cuda.synchronize(device)
        return {name: self._kept[name][1] for name in tensors}

    def _allocated(self, like: torch.Tensor) -> tuple[torch.Tensor, HostTensor]:
        try:
            fresh = _empty(like, pinned=like.is_cuda)
        except HostMemoryShortError:
            self._kept.clear()
            raise
        return fresh, host_tensor(fresh)


def host_tensor(tensor: torch.Tensor) -> HostTensor:
    """The bytes of a tensor as they lie in host memory, if they lie there in one piece; else a copy of them.

    Raises:
        HostMemoryShortError: there is no room for the copy.
    """
    laid_out = tensor.detach()
    if laid_out.device.type != "cpu":
        laid_out = _empty(laid_out, pinned=False).copy_(laid_out)
    laid_out = laid_out.contiguous()
    content = laid_out.reshape(-1).view(torch.uint8).numpy()
    # No tensor of nothing has an address, and no slice in Rust is without one.
    return HostTensor(TensorSpec(dtype=str(laid_out.dtype).removeprefix("torch."), shape=list(laid_out.shape),
                                 data_ptr=laid_out.data_ptr() or 1, data_len=content.nbytes), content)


def _empty(like: torch.Tensor, *, pinned: bool) -> torch.Tensor:
    try:
        return torch.empty(like.shape, dtype=like.dtype, pin_memory=pinned)
    except (MemoryError, RuntimeError) as error:
        raise HostMemoryShortError(f"there is no host memory for a copy of the model's state: {error}",
                                   mend="end what else takes memory, or train a smaller model") from error
