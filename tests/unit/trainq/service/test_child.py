"""A child that is asked once: its answer may be long, and what it cannot do it says."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from trainq.errors import TrainqError
from trainq.service.child import Child


def ended(child: Child) -> Child:
    until = time.monotonic() + 60
    while not child.has_ended:
        assert time.monotonic() < until, "it hangs"
        time.sleep(0.01)
    return child


def test_an_answer_longer_than_a_pipe_takes_is_read_whole(tmp_path: Path) -> None:
    # json.tool gives back what it is asked.
    with Child(tmp_path / "log", "json.tool", {"text": "x" * 300_000}) as child:
        answer: dict[str, Any] = ended(child).result(dict)
    assert (len(answer["text"]), answer["parent"]) == (300_000, os.getpid())


def test_one_that_fails_names_its_log_and_leaves_no_descriptor(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with (pytest.raises(TrainqError, match="exit code 1"),
          Child(tmp_path / "log", "trainq.no_such_module", {}) as child):
        ended(child).result(dict)
    assert "No module named" in (tmp_path / "log").read_text()
    assert len(os.listdir("/proc/self/fd")) == before


def test_one_that_cannot_be_started_leaves_no_descriptor_either(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(FileNotFoundError), Child(tmp_path / "nowhere" / "log", "json.tool", {}):
        pass
    assert len(os.listdir("/proc/self/fd")) == before
