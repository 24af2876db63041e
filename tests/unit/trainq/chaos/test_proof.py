"""A proof that finds nothing wrong must be able to find it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from trainq import files
from trainq.chaos import proof
from trainq.chaos.installation import Installation


@pytest.mark.slow
def test_what_is_left_behind_and_a_home_without_a_journal_are_found(tmp_path: Path) -> None:
    installation = Installation(tmp_path)
    for folder in installation.home.folders():
        folder.mkdir(parents=True, exist_ok=True)
    (installation.home.cache / f"{files.TEMPORARY_PREFIX}abc").mkdir()
    (tmp_path / "receipts.jsonl").touch()
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
    assert [line.split(" exits with")[0] for line in wrong[2:]] == ["fsck", "driver", "checker"]
