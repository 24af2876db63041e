"""A job's history holds each step once: a resumed job cuts it to its cursor, and to the last whole line."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from trainq.ml import metrics as metrics_module
from trainq.ml.metrics import StepMetrics, open_metrics


def metrics(job_step: int) -> StepMetrics:
    return StepMetrics(step=100 + job_step, job_step=job_step, loss=1 / job_step, learning_rate=0.1, grad_norm=2.0,
                       tokens=10, trained_tokens=5, seconds=0.25)


def write(folder: Path, first: int, last: int, keep_steps: int) -> None:
    with open_metrics(folder, "job", keep_steps) as history:
        for job_step in range(first, last + 1):
            history.append(metrics(job_step))
        history.sync()


def steps(folder: Path) -> list[int]:
    lines = (folder / "job.jsonl").read_bytes().splitlines()
    return [msgspec.json.decode(line, type=StepMetrics).job_step for line in lines]


def test_it_is_cut_to_the_cursor(tmp_path: Path) -> None:
    write(tmp_path, 1, 5, keep_steps=0)
    write(tmp_path, 4, 6, keep_steps=3)
    assert steps(tmp_path) == [1, 2, 3, 4, 5, 6]
    write(tmp_path, 1, 2, keep_steps=0)
    assert steps(tmp_path) == [1, 2]


@pytest.mark.parametrize("torn", [b'{"step":10', b"\xff\x00\n", b'{"step":"x"}\n'])
def test_what_a_kill_tore_is_cut_off(tmp_path: Path, torn: bytes) -> None:
    write(tmp_path, 1, 2, keep_steps=0)
    with (tmp_path / "job.jsonl").open("ab") as stream:
        stream.write(torn)
    write(tmp_path, 3, 3, keep_steps=2)
    assert steps(tmp_path) == [1, 2, 3]


def test_first_and_last_loss_come_with_it(tmp_path: Path) -> None:
    with open_metrics(tmp_path, "job", 0) as history:
        assert (history.first_loss, history.last_loss) == (None, None)
    write(tmp_path, 1, 4, keep_steps=0)
    with open_metrics(tmp_path, "job", 2) as history:
        assert (history.first_loss, history.last_loss) == (1.0, 0.5)
        history.append(metrics(3))
        assert (history.first_loss, history.last_loss) == (1.0, 1 / 3)


@pytest.mark.parametrize("block_bytes", [1, 7, 150, 400, 1 << 16])
@pytest.mark.parametrize("keep_steps", [0, 1, 2, 17, 39, 40, 99])
def test_it_is_looked_at_from_the_end_in_blocks_of_any_size(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_bytes: int, keep_steps: int) -> None:
    write(tmp_path, 1, 40, keep_steps=0)
    with (tmp_path / "job.jsonl").open("ab") as stream:
        stream.write(b'{"step":141,"job')
    monkeypatch.setattr(metrics_module, "_BLOCK_BYTES", block_bytes)
    with open_metrics(tmp_path, "job", keep_steps) as history:
        last = min(keep_steps, 40)
        assert history.last_loss == (1 / last if last else None)
    assert steps(tmp_path) == list(range(1, last + 1))


@pytest.mark.parametrize("block_bytes", [7, 200, 1 << 16])
def test_it_is_read_from_its_end_and_cut_while_it_is_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                         block_bytes: int) -> None:
    monkeypatch.setattr(metrics_module, "_BLOCK_BYTES", block_bytes)
    write(tmp_path, 1, 9, keep_steps=0)
    with open_metrics(tmp_path, "job", 9) as history:
        assert [each.job_step for each in history.newest_first()] == [9, 8, 7, 6, 5, 4, 3, 2, 1]
        history.cut(4)
        assert (history.first_loss, history.last_loss) == (1.0, 0.25)
        history.append(metrics(5))
        assert next(history.newest_first()).job_step == 5
        history.cut(0)
        assert list(history.newest_first()) == []
    assert steps(tmp_path) == []
