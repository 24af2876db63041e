"""Steps are counted once, whatever becomes of their file meanwhile."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from services.web import stepreading
from services.web.stepreading import Steps
from trainq.stephistory import StepMetrics


def line(job_step: int, tokens: int = 10, seconds: float = 0.5) -> bytes:
    return msgspec.json.encode(StepMetrics(
        step=job_step, job_step=job_step, loss=1.0 / job_step, learning_rate=0.1, grad_norm=1.0, tokens=tokens,
        trained_tokens=tokens // 2, seconds=seconds, rows=4)) + b"\n"


def lines(first: int, last: int) -> bytes:
    return b"".join(line(each) for each in range(first, last + 1))


@pytest.fixture
def history(tmp_path: Path) -> Path:
    return tmp_path / "train-1.jsonl"


def test_whole_lines_as_they_come(history: Path) -> None:
    steps = Steps(history.parent)
    steps.follow("train-1", from_start=True)
    steps.look()
    assert steps.steps == 0, "there is no file yet"
    history.write_bytes(lines(1, 3) + line(4)[:20])
    steps.look()
    assert (steps.steps, steps.tokens, steps.trained_tokens, steps.rows, steps.seconds.sum) == (3, 30, 15, 12, 1.5)
    history.write_bytes(lines(1, 5))
    steps.look()
    steps.look()
    assert (steps.steps, steps.last_job) == (5, "train-1")
    assert steps.last is not None
    assert steps.last.job_step == 5


def test_what_was_there_before_counting_began_is_shown_and_not_counted(history: Path) -> None:
    history.write_bytes(lines(1, 400))
    steps = Steps(history.parent)
    steps.follow("train-1", from_start=False)
    steps.look()
    assert steps.steps == 0
    assert steps.last is not None
    assert steps.last.job_step == 400
    with history.open("ab") as stream:
        stream.write(lines(401, 403))
    steps.look()
    assert steps.steps == 3


@pytest.mark.parametrize("kept", [0, 1, 700, 990])
def test_a_history_that_is_cut_and_grows_again_counts_each_step_once(history: Path, kept: int) -> None:
    history.write_bytes(lines(1, 1000))
    steps = Steps(history.parent)
    steps.follow("train-1", from_start=True)
    steps.look()
    history.write_bytes(lines(1, kept))  # a job that is resumed
    steps.look()
    # Done again, a little differently: other sizes of lines.
    again = b"".join(line(each, seconds=0.123456) for each in range(kept + 1, 1001))
    history.write_bytes(lines(1, kept) + again)
    steps.look()
    history.write_bytes(lines(1, kept) + again + lines(1001, 1010))
    steps.look()
    steps.look()
    assert steps.steps == 1010


def test_cut_and_longer_than_before_between_two_looks(history: Path) -> None:
    history.write_bytes(lines(1, 1000))
    steps = Steps(history.parent)
    steps.follow("train-1", from_start=True)
    steps.look()
    history.write_bytes(lines(1, 900) + b"".join(line(each, seconds=0.12345678) for each in range(901, 1100)))
    steps.look()
    assert steps.steps == 1099


def test_one_look_reads_no_more_than_its_limit(history: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stepreading, "MAX_READ_BYTES", 3000)
    history.write_bytes(lines(1, 100))
    steps = Steps(history.parent)
    steps.follow("train-1", from_start=True)
    steps.look()
    assert 0 < steps.steps < 30
    for _ in range(20):
        steps.look()
    assert steps.steps == 100


@pytest.mark.parametrize("rubbish", [b"", b"\n", b"{}\n", b"\xff" * 200, b"\n" * 5000, b"[" * 100_000 + b"\n"])
def test_rubbish_counts_nothing(history: Path, rubbish: bytes) -> None:
    for from_start in (True, False):
        history.write_bytes(rubbish)
        steps = Steps(history.parent)
        steps.follow("train-1", from_start=from_start)
        steps.look()
        steps.look()
        assert steps.steps == 0


def test_a_job_is_followed_once_and_few_at_a_time(history: Path) -> None:
    history.write_bytes(lines(1, 2))
    steps = Steps(history.parent)
    for number in range(100):
        steps.follow(f"train-{number}", from_start=True)
        steps.follow(f"train-{number}", from_start=False)
    steps.follow("train-1", from_start=True)
    steps.look()
    assert steps.steps == 2
