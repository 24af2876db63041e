"""A proof that finds nothing wrong must be able to find it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.generations import publish
from tests.made_backups import damage, make_backup
from trainq import files, snapshots
from trainq.chaos import proof
from trainq.chaos.installation import Installation
from trainq.config import Home


@pytest.mark.slow
def test_what_is_left_behind_and_a_home_without_a_journal_are_found(tmp_path: Path) -> None:
    installation = Installation(tmp_path)
    for folder in installation.home.folders():
        folder.mkdir(parents=True, exist_ok=True)
    (installation.home.cache / f"{files.TEMPORARY_PREFIX}abc").mkdir()
    (tmp_path / "receipts.jsonl").touch()
    store = tmp_path / proof.BACKUPS
    damage(store, make_backup(store, 1, {"journal.db": b"journal"}), "journal.db")
    (store / f"{files.TEMPORARY_PREFIX}def").mkdir()
    (installation.home.snapshots / "g000001-s00000010").mkdir(parents=True)
    left = subprocess.Popen([sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"],
                            env=dict(installation.environment), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert left.stdout is not None
    left.stdout.readline()
    try:
        wrong = proof.prove(installation, tmp_path, lambda _: None)
    finally:
        installation.end()
        left.communicate()
    assert wrong[0] == f"process {left.pid} (other) still lives"
    assert wrong[1] == f"cache/{files.TEMPORARY_PREFIX}abc was left behind"
    assert wrong[2] == f"{files.TEMPORARY_PREFIX}def was left behind"
    assert [line.split(" exits with")[0] for line in wrong[3:6]] == ["fsck", "driver", "checker"]
    assert wrong[6].startswith("snapshots/g000001-s00000010: ")
    assert re.match(r"backups/b000000001-[0-9a-f]{8}: journal.db: ", wrong[7])
    assert re.match(r"backups: .*journal", wrong[8])
    assert len(wrong) == 9


def test_a_snapshot_that_lost_its_weights_is_found(tmp_path: Path) -> None:
    home = Home(tmp_path)
    weights = publish(home.checkpoints, 1, {"w": b"weights"}, adapter_of="self")
    adapter = publish(home.checkpoints, 2, {"a": b"adapter"}, adapter_of=weights)
    snapshots.create(home.snapshots, home.checkpoints / adapter, jobs=b"", job_count=0, created_at=1.0,
                     created_by="test", on_chunk=lambda _: None)
    assert list(proof.copies(home, tmp_path / "backups", lambda _: None)) == []
    files.remove_tree(home.checkpoints / weights)
    assert list(proof.copies(home, tmp_path / "backups", lambda _: None)) == [
        f"snapshots/{adapter}: {weights}, without which it is worth nothing, is in no copy"]
