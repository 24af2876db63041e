"""Writing a staged generation to the disk: files, manifest, name; in the thread that asks, or in one beside the loop.

No torch here: a helper thread that has used torch once makes every CPU step of the process slower
(:mod:`trainq.ml.determinism`). What is written is memory that :mod:`trainq.ml.staging` has laid out, through functions
that let go of the interpreter's lock while they work: safetensors' own writer, BLAKE3, numpy and the system calls.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, TensorSpec, serialize_file

from trainq import cards, checkpoints, crashpoints, files, manifests, room
from trainq.checkpoints import CheckpointFacts
from trainq.config import Home
from trainq.errors import WeightsNotFiniteError

# How Rust's std::io::Error shows itself.
_OS_ERROR = re.compile(r"\(os error (\d+)\)")

# The bits of an exponent; in what is no finite number all of them are set (IEEE 754; bfloat16 is float32's upper half).
_EXPONENTS: Mapping[str, tuple[Any, int]] = {
    "F64": (np.uint64, 0x7FF0_0000_0000_0000), "F32": (np.uint32, 0x7F80_0000), "F16": (np.uint16, 0x7C00),
    "BF16": (np.uint16, 0x7F80)}
_PIECE_NUMBERS = 1 << 20

# A writer beside the loop gives way to it (setpriority(2): this thread alone). On two busy processors, with 26 million
# parameters, a write took 1.0 s at 0, 1.1 s at 5 and 1.8 s at 10; at 5 the steps beside it were hardly slower.
_NICENESS = 5


@dataclass(frozen=True, slots=True)
class HostTensor:
    """A tensor's bytes in host memory: ``content`` is all of them, flat, and keeps the memory alive."""

    spec: TensorSpec
    content: npt.NDArray[np.uint8]

    @property
    def is_finite(self) -> bool:
        """Whether each of its numbers is finite; numbers of other kinds are."""
        if self.spec.dtype not in _EXPONENTS:
            return True
        kind, exponent = _EXPONENTS[self.spec.dtype]
        numbers, mask = self.content.view(kind), kind(exponent)
        pieces = (numbers[start:start + _PIECE_NUMBERS] for start in range(0, len(numbers), _PIECE_NUMBERS))
        return not any((piece & mask).max() == mask for piece in pieces)


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorFile:
    """A safetensors file to be; ``checked`` are those of its tensors that must be finite numbers."""

    tensors: Mapping[str, HostTensor]
    metadata: Mapping[str, str] | None = None
    checked: frozenset[str] = frozenset()

    @property
    def size_bytes(self) -> int:
        """What its tensors take."""
        return sum(tensor.content.nbytes for tensor in self.tensors.values())


@dataclass(frozen=True, kw_only=True, slots=True)
class Staged:
    """A generation laid out in memory, that no later step changes.

    ``facts`` lack its number only, which is above ``above`` and all that are there. ``files`` are by their paths in the
    generation. ``holds_weights_under_adapter``: it is the one that an adapter's generations name.
    """

    facts: CheckpointFacts
    files: Mapping[str, bytes | TensorFile]
    above: int
    holds_weights_under_adapter: bool

    @property
    def size_bytes(self) -> int:
        """What its files take, the manifest and the headers of tensors left out."""
        return sum(len(content) if isinstance(content, bytes) else content.size_bytes
                   for content in self.files.values())


@dataclass(frozen=True, kw_only=True, slots=True)
class Written:
    """A generation that has its name on the disk.

    ``seconds`` is what the writing took, ``processor_seconds`` what its thread computed meanwhile.
    """

    facts: CheckpointFacts
    path: Path
    size_bytes: int
    seconds: float
    processor_seconds: float


def write(staged: Staged, home: Home) -> Written:
    """Publish what was staged; only the process that holds the lock on the checkpoints' folder calls this.

    Raises:
        WeightsNotFiniteError: a weight is not finite; nothing was published.
        StorageError, StorageFullError: nothing was published.
    """
    started, computed = time.monotonic(), time.thread_time()
    _refuse_non_finite(staged)
    facts = msgspec.structs.replace(staged.facts, generation=checkpoints.next_generation(home.checkpoints,
                                                                                         above=staged.above))
    if staged.holds_weights_under_adapter:
        facts = msgspec.structs.replace(facts, adapter_of=facts.name)
    path = home.checkpoints / facts.name
    # Known before a byte is written: a disk that fills up in the middle costs everybody on it.
    room.refuse_without(home.checkpoints, staged.size_bytes, f"the checkpoint {facts.name}")
    with files.publish_directory(path) as folder:
        for name, content in staged.files.items():
            files.make_directory((folder / name).parent)
            if isinstance(content, bytes):
                (folder / name).write_bytes(content)
            else:
                _write_tensors(folder / name, content)
        (folder / cards.NAME).write_bytes(cards.text(facts))
        manifest = manifests.seal(folder, checkpoints.KIND, msgspec.to_builtins(facts))
    crashpoints.reach("checkpoint.published")
    return Written(facts=facts, path=path, size_bytes=manifest.size_bytes, seconds=time.monotonic() - started,
                   processor_seconds=time.thread_time() - computed)


def point_current_at(home: Home, facts: CheckpointFacts) -> None:
    """Make the link ``current`` lead to this generation. It is for people; nothing is resumed from it."""
    target = f"{home.checkpoints.name}/{facts.name}"
    if not home.current.is_symlink() or str(home.current.readlink()) != target:
        files.replace_link(home.current, target)


def os_error_number(error: BaseException | None) -> int | None:
    """The system's error number behind an error of safetensors or transformers, if there is one.

    safetensors is Rust, which shows a system's error as ``No space left on device (os error 28)``; transformers wraps
    what it meets into an ``OSError`` without a number.
    """
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        if isinstance(error, OSError) and error.errno is not None:
            return error.errno
        found = _OS_ERROR.search(str(error))
        if found:
            return int(found[1])
        seen.append(error)
        error = error.__cause__ or error.__context__
    return None


class Writer:
    """One write in flight beside the loop, at most. Owned by the loop's thread.

    Each has a thread of its own, that ends with it: between checkpoints there is none.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._written: Written | None = None
        self._error: BaseException | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a write was begun that nobody has taken the end of."""
        return self._thread is not None

    def begin(self, staged: Staged, home: Home, before: Callable[[], None]) -> None:
        """Begin to write, and return; ``before`` is called first, in the writer's thread.

        Raises:
            ValueError: one is in flight.
        """
        if self._thread is not None:
            raise ValueError("a checkpoint is being written already")
        self._written = self._error = None
        self._thread = threading.Thread(target=self._work, args=(staged, home, before), name="checkpoint-writer",
                                        daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Until what is in flight has ended, however it did. Its end is still to be taken."""
        if self._thread is not None:
            self._thread.join()

    def take(self) -> tuple[Written | None, BaseException | None] | None:
        """How the write ended, once: what it has published, and what it failed with; None if there is no end to take.

        Both are there if the generation has its name, and ``current`` does not lead to it.
        """
        if self._thread is None or self._thread.is_alive():
            return None
        self._thread = None
        return self._written, self._error

    def _work(self, staged: Staged, home: Home, before: Callable[[], None]) -> None:
        try:
            _be_polite()
            before()
            self._written = write(staged, home)
            point_current_at(home, self._written.facts)
        except BaseException as error:
            self._error = error


def _be_polite() -> None:
    """Only ever less than others: to ask for more needs a right (setpriority(2)), and no write may fail for it."""
    thread = threading.get_native_id()
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, thread, max(_NICENESS, os.getpriority(os.PRIO_PROCESS, thread)))


def _write_tensors(path: Path, content: TensorFile) -> None:
    try:
        serialize_file({name: tensor.spec for name, tensor in content.tensors.items()}, path,
                       dict(content.metadata) if content.metadata is not None else None)
    except SafetensorError as error:
        number = os_error_number(error)
        if number is None:
            raise
        raise OSError(number, os.strerror(number), str(path)) from error


def _refuse_non_finite(staged: Staged) -> None:
    for content in staged.files.values():
        if isinstance(content, bytes):
            continue
        for name in sorted(content.checked):
            if not content.tensors[name].is_finite:
                raise WeightsNotFiniteError("a weight is not a finite number any more", field=name,
                                            mend="lower the learning rate, or look at the rows of this file")
