"""Standing orders to one service: a file, for as long as it is there."""

import os
from pathlib import Path

import pytest

from trainq.config import Home
from trainq.service import standing


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    home.control.mkdir()
    return home


def test_a_file_is_an_order_and_what_it_holds_the_reason(home: Home) -> None:
    assert standing.pause_order(home, "preparer") == ""
    standing.pause_file(home, "preparer").write_text("for\n lunch\n")
    assert standing.pause_order(home, "preparer") == "control/.pause-preparer is there: for lunch"
    assert standing.pause_order(home, "snapshot") == ""


def test_what_cannot_be_read_is_an_order_all_the_same(home: Home) -> None:
    standing.pause_file(home, "snapshot").mkdir()
    assert standing.pause_order(home, "snapshot") == "control/.pause-snapshot is there"


def test_a_pipe_holds_nobody_up(home: Home) -> None:
    os.mkfifo(standing.pause_file(home, "snapshot"))
    assert standing.pause_order(home, "snapshot") == "control/.pause-snapshot is there"


def test_the_trainer_has_the_file_that_it_always_had(home: Home) -> None:
    assert standing.pause_file(home, "trainer") == home.control / ".pause"
