"""Proving a journal: each sort of damage is named, and a sound one is found sound."""

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from trainq import jobs
from trainq.journal import Journal
from trainq.journal.proving import prove


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    journal = Journal.open(tmp_path / "j")
    with journal.transaction():
        for number in (1, 2, 3):
            journal.append(jobs.JobSubmitted(
                job=f"train-{number}", prepare=f"prepare-{number}", number=number, name="n", request_id=f"r{number}",
                request_digest="d", digest="d", size_bytes=1, priority=jobs.Priority.NORMAL,
                origin=jobs.Origin.PEOPLE, spec={}), 1.0)
        journal.append(jobs.LeaseGranted(job="prepare-1", worker="w", session="s", attempt=1), 2.0)
    journal.close()
    return tmp_path / "j"


def proven(path: Path) -> list[str]:
    journal = Journal.open(path)
    try:
        return [f"{finding.place}: {finding.what}" for finding in prove(journal)]
    finally:
        journal.close()


def test_a_sound_journal_has_no_findings_and_is_not_changed(closed: Path) -> None:
    assert proven(closed) == []
    before = closed.read_bytes()
    assert proven(closed) == []
    assert closed.read_bytes() == before


def flip_body(path: Path) -> None:
    connection = sqlite3.connect(path)
    (body,) = connection.execute("SELECT body FROM events WHERE seq=2").fetchone()
    connection.execute("UPDATE events SET body=? WHERE seq=2", (body.replace(b"r2", b"r9"),))
    connection.commit()
    connection.close()


def change(statement: str) -> Callable[[Path], None]:
    def changed(path: Path) -> None:
        connection = sqlite3.connect(path)
        connection.execute(statement)
        connection.commit()
        connection.close()

    return changed


@pytest.mark.parametrize(("damage", "words"), [
    (flip_body, "event 2: its hash"),
    (change("UPDATE events SET at=9.0 WHERE seq=3"), "event 3: its hash"),
    (change("DELETE FROM events WHERE seq=2"), "event 3: the events 2 to 2 are missing"),
    (change("UPDATE events SET type='JobFailed' WHERE seq=4"), "event 4: it is listed as JobFailed"),
    (change("UPDATE jobs SET attempts=7 WHERE id='prepare-1'"), "table jobs: the row of prepare-1"),
    (change("DELETE FROM requests WHERE id='r3'"), "table requests: the row of r3"),
    (change("UPDATE line SET next_number=2"), "table line: the row of 1"),
])
def test_damage_is_named(closed: Path, tmp_path: Path, damage: Callable[[Path], None], words: str) -> None:
    shutil.copy(closed, tmp_path / "damaged")
    damage(tmp_path / "damaged")
    assert any(found.startswith(words) for found in proven(tmp_path / "damaged")), proven(tmp_path / "damaged")
