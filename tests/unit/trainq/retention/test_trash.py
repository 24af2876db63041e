"""The trash follows the journal, and touches nothing that the journal does not name."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.generations import publish
from trainq import checkpoints
from trainq.config import Home
from trainq.jobs import RemovalView, Store
from trainq.retention import trash

NAME = "g000001-s00000010"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    publish(tmp_path / "checkpoints", 1, {"w": b"w"})
    return Home(tmp_path)


def removal(state: str = "trash", number: int = 5) -> RemovalView:
    return RemovalView(removal=number, store=Store.CHECKPOINTS, name=NAME, state=state, size_bytes=1, reason="r",
                       at=0.0)


def test_there_and_back(home: Home) -> None:
    trash.put(home, 5, Store.CHECKPOINTS, NAME)
    assert not (home.checkpoints / NAME).exists()
    assert [entry.removal for entry in trash.entries(home)] == [5]
    assert trash.settle(home, [removal()]) == ([], [], [])
    trash.put_back(home, removal())
    checkpoints.verify(home.checkpoints / NAME)
    assert trash.entries(home) == []


def test_what_was_decided_and_not_moved_is_called_off(home: Home) -> None:
    assert trash.settle(home, [removal()]).never_moved == [removal()]
    assert (home.checkpoints / NAME).is_dir()


def test_what_was_undone_goes_back_and_what_was_purged_goes(home: Home) -> None:
    trash.put(home, 5, Store.CHECKPOINTS, NAME)
    assert trash.settle(home, [removal("undone")]).put_back == [removal("undone")]
    assert (home.checkpoints / NAME).is_dir()
    trash.put(home, 5, Store.CHECKPOINTS, NAME)
    trash.settle(home, [removal("purged")])
    assert list(home.trash.iterdir()) == []


def test_where_the_same_is_there_again_it_stays(home: Home) -> None:
    trash.put(home, 5, Store.CHECKPOINTS, NAME)
    publish(home.checkpoints, 1, {"w": b"newer"})
    trash.put_back(home, removal())
    assert (home.checkpoints / NAME / "w").read_bytes() == b"newer"
    assert trash.entries(home) == []


def test_nothing_is_touched_that_the_journal_does_not_name(home: Home) -> None:
    home.trash.mkdir()
    for name in ("mine", f"7-checkpoints-{NAME}", f"5-snapshots-{NAME}"):
        (home.trash / name).mkdir()
    unsettled = trash.settle(home, [removal("purged")])
    assert sorted(path.name for path in unsettled.unknown) == [f"5-snapshots-{NAME}", f"7-checkpoints-{NAME}"]
    assert len(list(home.trash.iterdir())) == 3
