"""The history of a job's steps: ``metrics/<job>.jsonl``, one JSON line for each step that was done.

Lines are appended as steps are done and made durable before the checkpoint that covers them. A resumed job first cuts
the file to its cursor, so that no step is in it twice; a job that was taken back keeps its lines until it begins again.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self

import msgspec

from trainq import files

_BLOCK_BYTES = 1 << 16


class StepMetrics(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One optimizer step. ``step`` and ``job_step`` count it in (the first is 1).

    ``loss`` is the mean over the step's trained tokens before the step (nats per token), ``grad_norm`` the norm before
    clipping (null where it was no number), ``tokens`` all tokens but padding, ``seconds`` the step's duration.
    ``skipped``: the gradients overflowed in fp16, and the weights stayed as they were.
    """

    step: int
    job_step: int
    loss: float
    learning_rate: float
    grad_norm: float | None
    tokens: int
    trained_tokens: int
    seconds: float
    skipped: bool = False


class MetricsFile:
    """The open file of one job. Also remembers the first and the last loss."""

    def __init__(self, path: Path, keep_steps: int) -> None:
        kept, keep_bytes = _read(path, keep_steps)
        self.first_loss = kept[0].loss if kept else None
        self.last_loss = kept[-1].loss if kept else None
        self._file = files.open_growing(path, keep_bytes)

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
    return MetricsFile(folder / f"{job}.jsonl", keep_steps)


def _read(path: Path, keep_steps: int) -> tuple[list[StepMetrics], int]:
    """The first and last of the whole lines up to ``keep_steps``, and how many bytes those lines take.

    Looks from the end backwards, so that it costs what is cut off, wherever in the file the job goes on.
    """
    if keep_steps == 0 or not path.exists():
        return [], 0
    with path.open("rb") as stream:
        first = _decoded(stream.readline())
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
                    metrics = _decoded(line)
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


def _decoded(line: bytes) -> StepMetrics | None:
    """The line's step; None if it is torn."""
    try:
        return msgspec.json.decode(line, type=StepMetrics) if line.endswith(b"\n") else None
    except msgspec.MsgspecError:
        return None
