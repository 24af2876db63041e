"""The datagen: what it reports of a file, and of none; and that nobody is asked while there is no champion."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from services.datagen.app import Datagen, Made, _result
from tests.faults.learning import Killed
from tests.faults.workshops import Workshop, in_a_fork
from trainq import logs
from trainq.ingest import Stored
from trainq.jobs import AnyEvent, JobState, SuiteLocked, SuiteScored
from trainq.messages import WAITING_SHOWN, GenerateTask
from trainq.service.child import ChildKilledError

CHAMPION, WEIGHTS = "g000002-s00000020", "ab" * 32


def task(generator: str = "selfplay") -> GenerateTask:
    return GenerateTask(generator=generator, name=f"my-{generator}", count=24, level=3, seed=255)


def made(**changes: Any) -> Made:
    return Made(**{"rows": 12, "left_out": 0, "size_bytes": 99, "generator_version": "1", **changes})


def test_a_file_is_reported_with_all_that_says_where_it_comes_from() -> None:
    stored = Stored(digest="d" * 64, size_bytes=99)
    plain = _result(task("arithmetic"), "", made(left_out=2), stored)
    file = {"name": "my-arithmetic-l03-ff.jsonl", "digest": "d" * 64, "size_bytes": 99}
    assert plain.facts == {"file": file, "generator": "my-arithmetic", "rows": 12, "level": 3, "seed": 255,
                           "generator_version": "1"}
    assert plain.summary == ("my-arithmetic-l03-ff.jsonl: 12 rows of arithmetic, level 3, seed 255; 2 that stand in a "
                             "suite are left out")
    played = _result(task(), CHAMPION, made(asked=24, right=12, lucky=3, unfit=1, weights_digest=WEIGHTS,
                                            source="arithmetic", source_version="2"), stored)
    assert played.facts == {**plain.facts, "file": {**file, "name": "my-selfplay-l03-ff.jsonl"},
                            "generator": "my-selfplay", "champion": CHAMPION, "weights": WEIGHTS,
                            "source": "arithmetic", "source_version": "2", "asked": 24, "right": 12, "lucky": 3,
                            "unfit": 1}


def test_no_file_is_no_failure_and_says_why() -> None:
    vain = _result(task(), CHAMPION, made(rows=0, asked=24, right=3, source="arithmetic", reason="only 3 of 24 ..."),
                   None)
    assert vain.summary == (f"no file of selfplay, level 3, seed 255: {CHAMPION} was asked 24 puzzles of arithmetic; "
                            "only 3 of 24 ...")
    assert ("file" in vain.facts, vain.facts["rows"]) == (False, 0)


@pytest.mark.slow
def test_without_a_champion_nobody_is_asked(tmp_path: Path) -> None:
    def life() -> list[str]:
        shop = Workshop(tmp_path)
        job = shop.submit_task(task())
        state = shop.work_until_ended(shop.worker(Datagen, "datagen"), job)
        return [state.value, shop.look_at(job).reason]

    # A process's sockets go with it.
    status, (state, reason) = in_a_fork(life)
    assert (status, state) == (0, "failed")
    assert "there is no champion yet that could answer" in reason


TASK = GenerateTask(generator="arithmetic", name="arithmetic", count=8, level=1, seed=7)


def shop_of(folder: Path, **settings: str) -> tuple[Workshop, Any]:
    shop = Workshop(folder, **settings)
    return shop, shop.worker(Datagen, "datagen")


def test_a_child_that_somebody_kills_each_time_ends_the_task_and_not_the_queue(tmp_path: Path) -> None:
    shop, datagen = shop_of(tmp_path)
    job = shop.submit_task(TASK)
    with mock.patch("services.datagen.app.Child", Killed):
        for _ in range(2):
            with pytest.raises(ChildKilledError):
                datagen.turn()
            assert shop.look_at(job).state is JobState.QUEUED
        datagen.turn()
    assert shop.look_at(job).state is JobState.FAILED
    assert "after 3 attempts: somebody was ended by signal 9" in shop.look_at(job).reason
    shop.close()


def test_what_it_waits_for_is_shown_and_stays_so(tmp_path: Path) -> None:
    shop, datagen = shop_of(tmp_path, TRAINQ_DATAGEN_QUEUE_FILES="1")
    shop.submit("waiting")
    for _ in range(3):
        datagen.turn()
        assert datagen._process.detail == "1 file waits"
        shop.clock.now += 10
    shop.close()


def test_a_checkpoint_that_was_scored_on_one_suite_alone_hides_no_other_score(tmp_path: Path) -> None:
    shop, datagen = shop_of(tmp_path)

    def scored(checkpoint: str, suite: str, mean: float) -> SuiteScored:
        return SuiteScored(checkpoint=checkpoint, weights="w", suite=suite, suite_digest="d", kind="generate",
                           scorer="", n=100, mean=mean, low=mean, high=mean, confidence=0.95, seed=0, evaluation="e",
                           by="evaluate-1")

    def record(*events: AnyEvent) -> None:
        with shop.journal.transaction():
            entries = [shop.journal.append(event, shop.clock.now) for event in events]
        shop.desk.committed(entries)

    def chosen() -> str:
        task = datagen._decide()
        assert isinstance(task, GenerateTask)
        return task.name

    assert chosen() == "arithmetic"
    record(*(SuiteLocked(suite=suite, digest="d", reason="") for suite in ("arithmetic-l01", "syllo-l01", "mine")),
           scored("g000002-s00000020", "arithmetic-l01", 0.95), scored("g000002-s00000020", "syllo-l01", 0.1))
    assert chosen() == "syllo", "it has more to be learned"
    record(scored("g000003-s00000030", "mine", 0.5))
    assert chosen() == "syllo"
    record(SuiteLocked(suite="arithmetic-l01", digest="other", reason="meant"))
    assert chosen() == "arithmetic", "of these problems nothing is known"
    shop.close()


def test_more_files_than_an_overview_shows_are_enough_too(tmp_path: Path) -> None:
    shop, datagen = shop_of(tmp_path, TRAINQ_DATAGEN_QUEUE_FILES=f"{WAITING_SHOWN + 2}")
    shop.submit_items(*(shop.item(f"row {number}") for number in range(WAITING_SHOWN + 2)))
    datagen.turn()
    assert datagen._process.detail == f"{WAITING_SHOWN + 2} files wait"
    shop.close()


CHATTY = """import os, sys, time
os.write(2, b"x" * 50_000)
until = time.monotonic() + 60
while os.fstat(2).st_size and time.monotonic() < until:
    time.sleep(0.01)
print('{"text": "cut"}' if time.monotonic() < until else "it grows")
"""


@pytest.mark.slow
def test_the_log_of_a_program_that_says_much_is_cut_while_it_runs(tmp_path: Path,
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MAX_FILE_BYTES", 20_000)
    shop, datagen = shop_of(tmp_path)
    job = shop.submit_task(GenerateTask(generator="command", name="mine", count=1,
                                        options={"argv": [sys.executable, "-c", CHATTY]}))
    assert shop.work_until_ended(datagen, job) is JobState.SUCCEEDED, shop.look_at(job).reason
    shop.close()
