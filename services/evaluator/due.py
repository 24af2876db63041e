"""Due: whether the head of the line is to be scored now. Pure: what is known goes in, words come out."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from trainq.jobs import JobKind, JobState


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What is decided from.

    ``counts`` are the broker's {kind: {state: how many}}. ``checkpoint`` is the head of the line (empty: none), with
    which a job has ``ended`` or not; ``trained`` how many files ever were. ``asked_at`` is how many there were when a
    checkpoint was last asked for, ``asked`` that checkpoint; None: this life has asked for none.
    """

    counts: Mapping[str, Mapping[str, int]]
    checkpoint: str
    ended: bool
    trained: int
    asked: str
    asked_at: int | None


def why_not(known: Known, after_jobs: int) -> str:
    """Why no evaluation is asked for now; empty if one is.

    One at a time: where files are trained faster than checkpoints are scored, some are passed over, and the newest is
    the next.
    """
    if not after_jobs:
        return "checkpoints are scored when somebody asks ([evaluation] after_jobs = 0)"
    if not known.checkpoint:
        return "there is no model yet"
    if known.checkpoint == known.asked:
        return f"{known.checkpoint} was asked for"
    if not known.ended:
        return f"{known.checkpoint} is in the middle of a file"
    if known.asked_at is not None and known.trained - known.asked_at < after_jobs:
        return f"{known.asked_at + after_jobs - known.trained} more files are trained first"
    evaluations = known.counts.get(JobKind.EVALUATE.value, {})
    if any(evaluations.get(state.value, 0) for state in (JobState.QUEUED, JobState.RUNNING)):
        return "one is being scored"
    return ""
