"""A child that does what no control process may: asked once on stdin, it answers once on stdout, and never outlives its
parent.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec

from trainq import files, logs
from trainq.errors import StorageError, StorageFullError, TrainqError

Answer = TypeVar("Answer")

_ENVIRONMENT = {
    "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "HF_DEACTIVATE_ASYNC_LOAD": "1",
    "TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1",
}
# Who works on the processor leaves the GPU to what trains.
_WITHOUT_GPU = {"CUDA_VISIBLE_DEVICES": ""}
# Who waits sends no heartbeat: half of the 30 seconds for which a lease holds. A large model is gone in a few.
_END_SECONDS = 15.0


class ChildKilledError(StorageError):
    """Somebody has ended the child: the kernel, for want of memory, or a person. It may go well the next time."""


class ChildStuckError(ChildKilledError):
    """The child was killed and is still there: it waits in the kernel for a disk or a GPU."""


class _Failure(msgspec.Struct, frozen=True):
    """What a child says that could not do it."""

    error: str
    code: str


class Child:
    """``python -m module``, asked ``request``; ended with all that it has started when the block is left.

    Leaving it raises :class:`ChildStuckError` where the kernel does not end the child. What it says besides its answer
    goes to ``log``. A request gets this process's pid as ``parent``, with which the child ends. Only with ``gpu`` it
    sees a GPU.
    """

    def __init__(self, log: Path, module: str, request: dict[str, Any], *, gpu: bool = False) -> None:
        self._log, self._module = log, module
        self._environment = {**_ENVIRONMENT, **({} if gpu else _WITHOUT_GPU)}
        self._request = msgspec.json.encode({**request, "parent": os.getpid()})

    def __enter__(self) -> Self:
        files.set_aside_large(self._log, logs.MAX_FILE_BYTES)
        # No pipe: it would be full before a long answer is, and nobody reads it until the child has ended.
        self._answer = os.memfd_create("answer", os.MFD_CLOEXEC)
        try:
            log = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, files.PRIVATE_FILE_MODE)
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", self._module], stdin=subprocess.PIPE, stdout=self._answer, stderr=log,
                    env={**os.environ, **self._environment}, start_new_session=True)
            finally:
                os.close(log)
        except BaseException:
            os.close(self._answer)
            raise
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended, which is seen next
            self._process.stdin.write(self._request)
            self._process.stdin.close()
        return self

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def cut_log(self) -> None:
        """Keep only the newest of what it has said, once that is much: its log is renamed at a start alone.

        A program that it runs may write without an end, and a limit for the size of files (setrlimit(2)) would end what
        it is to write, too. What comes while the log is cut is lost.
        """
        with contextlib.suppress(StorageError, StorageFullError):  # it is a log: the child goes on without
            files.cut_large(self._log, logs.MAX_FILE_BYTES)

    def result(self, answer: type[Answer]) -> Answer:
        """What it has answered, once it has ended.

        Raises:
            StorageError, StorageFullError: the disk, as it says; it may pass.
            ChildKilledError: it was ended from outside.
            TrainqError: why it could not do it; or that it ended without an answer.
        """
        said, status = os.pread(self._answer, os.fstat(self._answer).st_size, 0), self._process.returncode
        try:
            if status == 0:
                return msgspec.json.decode(said, type=answer)
            failure = msgspec.json.decode(said, type=_Failure)
        except msgspec.MsgspecError:
            if status < 0:
                raise ChildKilledError(f"{self._module} was ended by signal {-status}") from None
            raise TrainqError(f"{self._module} ended with exit code {status}",
                              mend=f"its last words are in {self._log}") from None
        for passing in (StorageError, StorageFullError):
            if failure.code == passing.code:
                raise passing(failure.error)
        raise TrainqError(failure.error)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            raise ChildStuckError(f"{self._module} (process {self._process.pid}) was killed, and the kernel has not "
                                  f"ended it within {_END_SECONDS:g} s",
                                  mend="a disk or a GPU hangs: dmesg says more") from error
        finally:
            os.close(self._answer)
