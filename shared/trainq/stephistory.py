"""The history of a job's steps as it lies in ``metrics/<job>.jsonl``: one JSON line for each step that was done.

It needs nobody who runs. The steps behind the newest checkpoint may be cut off again: a job that is resumed does them
anew, with the same numbers. ``trainq.ml.metrics`` writes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from trainq import files


class StepMetrics(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One optimizer step. ``step`` and ``job_step`` count it in (the first is 1); ``epoch`` counts from 0.

    ``loss`` is the mean over the step's trained tokens before the step (nats per token), ``grad_norm`` the norm before
    clipping (null where it was no number), ``tokens`` all tokens but padding, ``seconds`` the step's duration. ``rows``
    went through the model in ``micro_batches`` pieces; both are 0 in what an older trainq wrote. ``skipped``: the
    gradients overflowed in fp16, and the weights stayed as they were. ``grad_spike``: the norm was far above those
    before; ``out_of_band``: for so many steps in a row the loss has been out of its band (:mod:`trainq.ml.guards`).
    """

    step: int
    job_step: int
    loss: float
    learning_rate: float
    grad_norm: float | None
    tokens: int
    trained_tokens: int
    seconds: float
    epoch: int = 0
    rows: int = 0
    micro_batches: int = 0
    skipped: bool = False
    grad_spike: bool = False
    out_of_band: int = 0


def path_of(folder: Path, job: str) -> Path:
    """Where the history of ``job`` lies in the home's folder of metrics."""
    return folder / f"{job}.jsonl"


def decoded(line: bytes) -> StepMetrics | None:
    """The step of a line; None if the line is torn."""
    try:
        return msgspec.json.decode(line, type=StepMetrics) if line.endswith(b"\n") else None
    except msgspec.MsgspecError:
        return None


def read(path: Path) -> Iterator[StepMetrics]:
    """The steps in order, as far as the lines are whole; the last one may just be being written.

    Raises:
        FileNotFoundError: there is no history.
        StorageError: it could not be read.
    """
    try:
        with path.open("rb") as stream:
            for line in stream:
                metrics = decoded(line)
                if metrics is None:
                    return
                yield metrics
    except FileNotFoundError:
        raise
    except OSError as error:
        raise files.storage_error(error, f"reading {path}") from error
