"""A tiny model in a folder, shards of a few rows, and a home."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.unit.trainq.ml.tiny import MakeShard, save_model
from trainq import files
from trainq.config import Home
from trainq.ml import determinism, model
from trainq.shards import ShardWriter


@pytest.fixture(scope="session", autouse=True)
def _deterministic() -> None:
    model.silence_libraries()
    determinism.enforce()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten thousand parameters, with dropout, so that a lost generator state would show."""
    folder = tmp_path_factory.mktemp("tiny-model")
    save_model(folder)
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    for folder in made.folders():
        files.make_directory(folder)
    return made


@pytest.fixture
def make_shard(home: Home) -> MakeShard:
    """Write a shard whose rows have the given numbers of tokens."""

    def make(lengths: Sequence[int], name: str = "shard") -> Path:
        path = home.cache / name
        with files.publish_directory(path) as folder, \
                ShardWriter(folder, key=name, context_tokens=1024) as writer:
            for index, length in enumerate(lengths):
                tokens = [(index * 31 + at * at * 7 + len(name)) % 262 for at in range(length)]
                writer.append(tokens, [at >= length // 3 for at in range(length)], bytes([index]) * 32, index + 1)
            writer.seal(b"{}")
        return path

    return make
