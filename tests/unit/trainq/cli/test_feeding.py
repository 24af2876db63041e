"""The losses of the running job, as they are appended, torn, and cut back."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from trainq.cli.feeding import Steps
from trainq.jobs import JobKind, JobState
from trainq.messages import JobView

JOB = JobView(id="train-7", number=7, kind=JobKind.TRAIN, state=JobState.RUNNING, name="a", priority="normal",
              origin="people", digest="0" * 64, size_bytes=10, prepared=True, rows=0, tokens=0, attempts=1, failures=0,
              submitted_at=100.0, started_at=100.0, ended_at=None, retry_at=0.0, reason="", cancel_reason=None,
              result=None)


def line(step: int) -> str:
    return json.dumps({"step": step, "job_step": step, "loss": float(step), "learning_rate": 0.1, "grad_norm": 1.0,
                       "tokens": 9, "trained_tokens": 9, "seconds": 0.1, "pad": "x" * 200}) + "\n"


def test_only_what_is_whole_and_of_this_job(tmp_path: Path) -> None:
    steps, path = Steps(tmp_path), tmp_path / "train-7.jsonl"
    assert steps.losses(JOB) == []
    path.write_text(line(1) + line(2) + line(3)[:20])
    assert steps.losses(JOB) == [1.0, 2.0]
    with path.open("a") as stream:
        stream.write(line(3)[20:])
    assert steps.losses(JOB) == [1.0, 2.0, 3.0]
    assert steps.losses(None) == []
    path.write_text(line(1))
    assert steps.losses(JOB) == [1.0], "it was cut back to a checkpoint"
    (tmp_path / "train-8.jsonl").write_text(line(9))
    assert steps.losses(msgspec.structs.replace(JOB, id="train-8")) == [9.0]


def test_of_a_long_history_only_the_end_is_read(tmp_path: Path) -> None:
    path = tmp_path / "train-7.jsonl"
    path.write_text("".join(line(step) for step in range(1, 5001)))
    losses = Steps(tmp_path).losses(JOB)
    assert losses == [float(step) for step in range(5001 - len(losses), 5001)]
    assert 100 < len(losses) < 2000
