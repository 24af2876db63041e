"""Fixtures of the tests that need a broker and no more."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from places import Place, Worker


@pytest.fixture
def place() -> Iterator[Place]:
    # Not tmp_path: a socket's path is at most 107 bytes.
    root = Path(tempfile.mkdtemp(prefix="tq", dir="/tmp"))
    place = Place(root)
    try:
        yield place
    finally:
        place.stop_all()
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def broker(place: Place) -> Place:
    for folder in place.home.folders():
        folder.mkdir(mode=0o700, exist_ok=True)
    place.start("broker")
    return place


@pytest.fixture
def worker(broker: Place) -> Iterator[Worker]:
    worker = Worker(broker.home)
    yield worker
    worker.client.close()


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "hello"}\n')
    return path
