"""``fsck``: what it says of a home, and that it changes nothing."""

from __future__ import annotations

from pathlib import Path

import apsw
import msgspec
import pytest

from stories import PREPARED, TRAINED, Story
from trainq import checkpoints, files, ingest, manifests
from trainq.checkpoints import CheckpointFacts, Cursor
from trainq.cli import main
from trainq.errors import DamageError, UsageError
from trainq.jobs import Enclosed, EnclosedRole, JobKind


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home whose only job is trained in generation 2."""
    story = Story(tmp_path)
    story.submit()
    story.prepare_next()
    lease = story.lease(JobKind.TRAIN)
    assert lease is not None
    story.complete(lease, TRAINED)
    found = story.configuration.home.root
    story.journal.close()
    monkeypatch.setenv("TRAINQ_HOME", str(found))
    return found


def publish(home: Path, **changes: object) -> Path:
    facts = CheckpointFacts(
        generation=2, step=2, cursor=Cursor(job="train-1", job_step=2, steps_planned=2, done=True), journal_seq=3,
        fingerprint={}, rows_seen=1, tokens_seen=2, model="m", created_by="test", reason="job_end")
    path = home / "checkpoints" / facts.name
    with files.publish_directory(path) as folder:
        manifests.seal(folder, checkpoints.KIND, {**msgspec.to_builtins(facts), **changes})
    return path


def test_a_sound_home_is_clean(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish(home)
    assert main(["fsck"]) == 0
    assert "clean" in capsys.readouterr().out


@pytest.mark.parametrize("fast", [[], ["--fast"]])
def test_what_shards_are_made_with_is_proven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fast: list[str],
                                             capsys: pytest.CaptureFixture[str]) -> None:
    story = Story(tmp_path)
    story.submit()
    lease, pack = story.lease(JobKind.PREPARE), story.item("rows to replay")
    assert lease is not None
    story.complete(lease, msgspec.structs.replace(PREPARED, enclosed=(
        Enclosed(role=EnclosedRole.REPLAY, digest=pack.digest, size_bytes=pack.size_bytes),)))
    story.journal.close()
    monkeypatch.setenv("TRAINQ_HOME", str(story.configuration.home.root))
    assert main(["fsck", *fast]) == 0
    path = ingest.data_path(story.configuration.home, pack.digest)
    path.write_text("shorter")
    assert main(["fsck", *fast]) == DamageError.exit_code
    path.unlink()
    assert main(["fsck", *fast]) == DamageError.exit_code
    assert f"{pack.digest}, which shards are made with, is not in data/" in capsys.readouterr().out


def test_a_home_that_was_never_started_is_proven_too(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As a backup makes it."""
    publish(home)
    files.remove_tree(home / "run")
    assert main(["fsck"]) == 0
    assert "clean" in capsys.readouterr().out


def test_tables_of_an_older_format_are_not_folded_anew(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    connection = apsw.Connection(str(home / "journal.db"))
    connection.execute("UPDATE meta SET value='2' WHERE key='format'")
    connection.close()
    assert main(["fsck"]) == UsageError.exit_code
    assert "start the broker once" in capsys.readouterr().err
    connection = apsw.Connection(str(home / "journal.db"))
    assert connection.execute("SELECT value FROM meta WHERE key='format'").fetchall() == [("2",)]
    connection.close()


@pytest.mark.parametrize("fast", [[], ["--fast"]])
def test_a_generation_of_a_newer_trainq_is_named_and_not_said_to_be_lost(
        home: Path, fast: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    path = publish(home)
    (path / "manifest.json").write_bytes(b'{"format": 99}')
    assert main(["fsck", *fast]) == DamageError.exit_code
    out = capsys.readouterr().out
    assert "format 99" in out
    assert "train it again" not in out


@pytest.mark.usefixtures("home")
def test_a_trained_job_without_its_generation_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fsck"]) == DamageError.exit_code
    assert "train-1 is trained in generation 2" in capsys.readouterr().out
