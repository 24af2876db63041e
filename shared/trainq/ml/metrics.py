"""Writing the history of a job's steps (:mod:`trainq.stephistory`).

Lines are appended as steps are done and made durable before the checkpoint that covers them. A resumed job first cuts
the file to its cursor, so that no step is in it twice; a job that was taken back keeps its lines until it begins again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import msgspec

from trainq import files
from trainq.stephistory import StepMetrics, decoded, path_of

__all__ = ["MetricsFile", "StepMetrics", "open_metrics"]

_BLOCK_BYTES = 1 << 16


class MetricsFile:
    """The open file of one job. Also remembers the first and the last loss."""

    def __init__(self, path: Path, keep_steps: int) -> None:
        self._path = path
        self._open(keep_steps)

    def _open(self, keep_steps: int) -> None:
        kept, keep_bytes = _read(self._path, keep_steps)
        self.first_loss = kept[0].loss if kept else None
        self.last_loss = kept[-1].loss if kept else None
        self._file = files.open_growing(self._path, keep_bytes)

    def cut(self, keep_steps: int) -> None:
        """Drop what is behind the job's first ``keep_steps`` steps."""
        former = self._file
        self._open(keep_steps)
        former.close()

    def newest_first(self) -> Iterator[StepMetrics]:
        """The steps that are in the file, from its end backwards."""
        return _backwards(self._path)

    def append(self, metrics: StepMetrics) -> None:
        """Add a step."""
        if self.first_loss is None:
            self.first_loss = metrics.loss
        self.last_loss = metrics.loss
        self._file.append(msgspec.json.encode(metrics) + b"\n")

    def sync(self) -> None:
        """Make the lines durable; before a checkpoint that covers them is published."""
        self._file.sync()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def open_metrics(folder: Path, job: str, keep_steps: int) -> MetricsFile:
    """Open the history of ``job``, cut to its first ``keep_steps`` steps."""
    return MetricsFile(path_of(folder, job), keep_steps)


def _read(path: Path, keep_steps: int) -> tuple[list[StepMetrics], int]:
    """The first and last of the whole lines up to ``keep_steps``, and how many bytes those lines take.

    Looks from the end backwards, so that it costs what is cut off, wherever in the file the job goes on.
    """
    if keep_steps == 0 or not path.exists():
        return [], 0
    with path.open("rb") as stream:
        first = decoded(stream.readline())
        end = stream.seek(0, os.SEEK_END)
        rest = b""
        while end > 0 and first is not None:
            start = max(0, end - _BLOCK_BYTES)
            stream.seek(start)
            rest = stream.read(end - start) + rest
            # What precedes the first line end may begin before this block.
            begin = 0 if start == 0 else rest.find(b"\n") + 1
            kept, size_bytes = None, begin
            if begin or start == 0:
                for line in rest[begin:].splitlines(keepends=True):
                    metrics = decoded(line)
                    # A line that was torn by a kill: the step is done again.
                    if metrics is None or metrics.job_step > keep_steps:
                        break
                    kept, size_bytes = metrics, size_bytes + len(line)
            if kept is not None:
                return [first, kept], start + size_bytes
            if begin:
                rest = rest[:begin]  # what is behind it was looked at
            end = start
    return [], 0


def _backwards(path: Path) -> Iterator[StepMetrics]:
    with path.open("rb") as stream:
        end, rest = stream.seek(0, os.SEEK_END), b""
        while end > 0:
            start = max(0, end - _BLOCK_BYTES)
            stream.seek(start)
            rest = stream.read(end - start) + rest
            # What precedes the first line end may begin before this block.
            begin = 0 if start == 0 else rest.find(b"\n") + 1
            if begin or start == 0:
                for line in reversed(rest[begin:].splitlines(keepends=True)):
                    metrics = decoded(line)
                    if metrics is not None:
                        yield metrics
                rest = rest[:begin]
            end = start
