"""What is kept of attempts: begun with the lease, and bounded in number."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from trainq import config, logs
from trainq.service import Process, attempts


def test_the_oldest_go_when_there_are_too_many(tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"train-{number}.1.trainer.first.log").touch()
        os.utime(tmp_path / f"train-{number}.1.trainer.first.log", (1000 - number, 1000 - number))
    attempts.prune(tmp_path, 20)
    assert len(list(tmp_path.iterdir())) == 20
    attempts.prune(tmp_path, 12)
    assert [path.name for path in tmp_path.iterdir()] == []  # some more go at once than must
    (tmp_path / "train-1.1.trainer.first.log").touch()
    attempts.prune(tmp_path, 12)
    assert len(list(tmp_path.iterdir())) == 1


def test_an_attempt_s_lines_lie_in_the_home(tmp_path: Path) -> None:
    configuration = config.load({"TRAINQ_HOME": str(tmp_path)}, tmp_path)
    log = logs.open_log("preparer", tmp_path)
    process = cast(Process, SimpleNamespace(name="preparer", home=configuration.home, log=log))
    attempts.begin(process, "prepare-3", 2)
    log.info("lease_taken")
    log.end_attempt()
    log.close()
    assert b"lease_taken" in (tmp_path / "logs" / "jobs" / "prepare-3.2.preparer.first.log").read_bytes()


def test_a_folder_that_cannot_be_made_ends_nothing(tmp_path: Path) -> None:
    configuration = config.load({"TRAINQ_HOME": str(tmp_path)}, tmp_path)
    (tmp_path / "logs").write_text("a file")
    process = cast(Process, SimpleNamespace(name="preparer", home=configuration.home, log=logs.null_log()))
    attempts.begin(process, "prepare-3", 2)
