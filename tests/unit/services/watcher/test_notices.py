"""Notices go on whatever the names in the folder are."""

import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.watcher.notices import Notices
from trainq import logs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "inbox"
    made.mkdir()
    (tmp_path / "logs").mkdir()
    return made


@pytest.fixture
def notices(folder: Path) -> Iterator[Notices]:
    log = logs.open_log("watcher", folder.parent / "logs")
    made = Notices((folder,), log)
    yield made
    made.close()
    log.close()


def notice_after(notices: Notices, path: bytes) -> bool:
    """Write to a file until there is a notice (watching begins at some time after the start); whether it came."""
    notices.drain()
    for _ in range(100):
        with open(path, "ab") as stream:  # noqa: PTH123  # a name in bytes
            stream.write(b"x")
        if select.select([notices.descriptor], [], [], 0.2)[0]:
            return True
    return False


def test_a_change_is_noticed(notices: Notices, folder: Path) -> None:
    assert notice_after(notices, os.fsencode(folder / "a.jsonl"))


def test_a_name_that_is_no_utf8_does_not_end_the_notices(notices: Notices, folder: Path) -> None:
    assert notice_after(notices, os.fsencode(folder) + b"/caf\xe9.jsonl")
    log = folder.parent / "logs" / "watcher.log"
    assert notice_after(notices, os.fsencode(folder) + b"/caf\xe9.jsonl")
    assert "watching_failed" in log.read_text()
    (folder / os.fsdecode(b"caf\xe9.jsonl")).unlink()
    assert notice_after(notices, os.fsencode(folder / "later.jsonl"))
    assert notices._thread.is_alive()
