"""The journal's reserve."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.broker.reserve import NAME, Reserve
from trainq import room

MIB = 1 << 20


def test_it_is_laid_by_once_and_given_up_once(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path, MIB)
    assert reserve.lay_by()
    assert not reserve.lay_by()
    assert (tmp_path / NAME).stat().st_blocks * 512 >= MIB, "blocks, and not a hole"
    assert reserve.give_up()
    assert not reserve.give_up()
    assert reserve.lay_by()


def test_none_is_laid_by_where_there_is_little_room_or_none_is_wanted(tmp_path: Path,
                                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    assert not Reserve(tmp_path, 0).lay_by()
    monkeypatch.setattr(room, "usage", lambda _folder: room.Usage(100 * MIB, 3 * MIB))
    assert not Reserve(tmp_path, MIB).lay_by()
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_will_not_is_no_error(tmp_path: Path) -> None:
    assert not Reserve(tmp_path / "missing", MIB).lay_by()
    assert not Reserve(tmp_path / "missing", MIB).give_up()
