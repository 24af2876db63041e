"""The journal keeps what it acknowledged, in order, chained; and its tables are the fold of its events."""

import contextlib
import itertools
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from trainq import diskfaults, jobs
from trainq.errors import DamageError, NewerFormatError, StorageError, StorageFullError, TransitionError, UsageError
from trainq.jobs import JobKind, JobState
from trainq.journal import Journal, PartialWriteError, Queries, schema
from trainq.journal.proving import prove
from trainq.journal.store import FORMAT, GENESIS, chain
from trainq.manifests import digest_bytes


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal.open(tmp_path / "journal.db")
    yield opened
    opened.close()


def submitted(number: int, **changes: object) -> jobs.JobSubmitted:
    fields: dict[str, object] = {
        "job": f"train-{number}", "prepare": f"prepare-{number}", "number": number, "name": f"{number}.jsonl",
        "request_id": f"r{number}", "request_digest": "0" * 64, "digest": f"{number:064x}", "size_bytes": 1,
        "priority": jobs.Priority.NORMAL, "origin": jobs.Origin.PEOPLE, "spec": {}, **changes}
    return jobs.JobSubmitted(**fields)  # type: ignore[arg-type]  # built from names on purpose


def write(journal: Journal, *events: jobs.AnyEvent) -> None:
    with journal.transaction():
        for event in events:
            journal.append(event, 1.0)


def granted(job: str) -> jobs.LeaseGranted:
    return jobs.LeaseGranted(job=job, worker="w", session="s", attempt=1)


def test_a_reopened_journal_goes_on(tmp_path: Path) -> None:
    first = Journal.open(tmp_path / "j")
    write(first, submitted(1), submitted(2))
    first.close()
    second = Journal.open(tmp_path / "j")
    assert second.head_seq == 2
    assert second.journal_id == first.journal_id
    write(second, submitted(3))
    assert [entry.seq for entry in second.replay(0, 10)] == [1, 2, 3]
    second.close()


def test_the_chain_covers_every_event(journal: Journal) -> None:
    write(journal, submitted(1), granted("prepare-1"))
    previous = GENESIS
    for seq, at, body, digest in journal.connection.execute("SELECT seq, at, body, hash FROM events ORDER BY seq"):
        assert chain(previous, seq, at, body) == digest
        assert chain(previous, seq, at + 1, body) != digest
        previous = digest


def test_an_error_in_a_transaction_undoes_all_of_it(journal: Journal) -> None:
    write(journal, submitted(1))
    with pytest.raises(RuntimeError), journal.transaction():
        journal.append(submitted(2), 1.0)
        raise RuntimeError
    assert journal.head_seq == 1
    write(journal, submitted(2))
    assert [entry.event.job for entry in journal.replay(0, 10) if isinstance(entry.event, jobs.JobEvent)] == [
        "train-1", "train-2"]


def half_wrong(journal: Journal, number: int = 1) -> int:
    """Three messages, of which the second fails after its first change; gives the last event's number."""
    journal.append(submitted(number), 1.0)
    with contextlib.suppress(TransitionError), journal.atomic():
        journal.append(submitted(number + 1), 1.0)
        journal.append(jobs.LeaseEnded(job="train-1", reason="it has none"), 1.0)
    return journal.append(submitted(number + 1, name="the other"), 1.0).seq


def test_a_message_that_fails_half_done_undoes_only_its_own(journal: Journal) -> None:
    assert journal.write(lambda: half_wrong(journal)) == 2
    assert journal.head_seq == 2
    assert Queries(journal).counts() == {"train": {"queued": 2}, "prepare": {"queued": 2}}
    assert Queries(journal).job("train-2").name == "the other"
    with pytest.raises(PartialWriteError), journal.transaction():
        half_wrong(journal, 3)
    assert journal.head_seq == 2
    assert Queries(journal).line().next_number == 3


@pytest.mark.parametrize("at", range(1, 8))
def test_a_disk_that_fails_in_the_middle_is_not_written_to_again(tmp_path: Path, at: int) -> None:
    """What SQLite writes before the commit, because its memory is full: after an error there nothing is known."""
    diskfaults.count()
    try:
        journal = Journal.open(tmp_path / "j")
        journal.connection.execute("PRAGMA cache_size=4").fetchall()
        diskfaults.arm("EIO", at, for_ever=False)
        begun = []

        def work() -> None:
            begun.append(1)
            with journal.atomic():
                for number in range(1, 20):
                    journal.append(submitted(number, spec={"much": "x" * 9000}), 1.0)

        with pytest.raises(StorageError):
            journal.write(work)
        assert begun == [1]
        assert diskfaults.disarm()[1] == 1
        journal.close()
    finally:
        diskfaults.disarm()


def test_what_is_in_memory_is_undone_with_the_tables(journal: Journal) -> None:
    """A number that SQLite does not take, found when the head was already another one in memory."""
    write(journal, submitted(1), granted("train-1"))
    published = jobs.CheckpointPublished(job="train-1", generation=7, name="g", step=1, job_step=2**63, done=False,
                                         reason="r")

    def work() -> None:
        with contextlib.suppress(OverflowError), journal.atomic():
            journal.append(published, 1.0)
        journal.append(jobs.QueuePaused(reason="r"), 1.0)

    journal.write(work)
    assert Queries(journal).line().generation == 0
    assert prove(journal) == []


def test_a_message_that_fails_at_once_undoes_nothing(journal: Journal) -> None:
    with journal.transaction():
        journal.append(submitted(1), 1.0)
        with pytest.raises(TransitionError), journal.atomic():
            journal.append(jobs.LeaseEnded(job="train-1", reason="it has none"), 1.0)
    assert journal.head_seq == 1


def test_the_tables_of_an_older_format_are_folded_anew(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "old")
    write(journal, submitted(1), submitted(2))
    journal.connection.execute("ALTER TABLE jobs DROP COLUMN best_step")
    journal.connection.execute("UPDATE meta SET value='1' WHERE key='format'")
    journal.close()
    journal = Journal.open(tmp_path / "old")
    assert [row.best_step for row in Queries(journal).waiting_line(10)] == [0, 0]
    assert journal.connection.execute("SELECT value FROM meta WHERE key='format'").fetchone() == (str(FORMAT),)
    write(journal, submitted(3))
    journal.close()


def test_a_journal_of_format_4_is_opened_as_it_was_written(tmp_path: Path) -> None:
    """``journal_format_4.sql`` is a journal of that format, written by it."""
    made = sqlite3.connect(tmp_path / "old")
    made.executescript((Path(__file__).parent / "journal_format_4.sql").read_text())
    made.close()
    journal = Journal.open(tmp_path / "old")
    queries = Queries(journal)
    assert prove(journal) == []
    assert queries.counts() == {
        "prepare": {"cancelled": 1, "queued": 2, "succeeded": 1},
        "train": {"cancelled": 1, "queued": 2, "succeeded": 1}}
    assert [row.id for row in queries.waiting_line(9)] == ["train-3", "train-4"]
    line = queries.line()
    assert (line.generation, line.started, line.ageing_jobs, line.held_reason) == (2, 1, 5, "three failed")
    assert queries.request("again") == ("1" * 64, "train-1")
    assert queries.duplicate_of(f"{1:064x}") == ("train-1", JobState.SUCCEEDED)
    assert queries.damaged() == {(1, "g000001-s00000000")}
    write(journal, submitted(5))
    journal.close()


@pytest.mark.parametrize("again", ["retried", "uncovered"])
def test_what_is_trained_again_begins_with_a_clean_slate(journal: Journal, again: str) -> None:
    write(journal, submitted(1), granted("train-1"),
          jobs.CheckpointPublished(job="train-1", generation=2, name="g", step=9, job_step=9, done=True, reason="r"),
          jobs.AttemptFailed(job="train-1", reason="r", retry_at=0.0), granted("train-1"),
          jobs.LeaseEnded(job="train-1", reason="r", died=True, step=4), granted("train-1"))
    if again == "retried":
        write(journal, jobs.JobQuarantined(job="train-1", reason="r"), jobs.JobRetried(job="train-1"))
    else:
        write(journal, jobs.JobSucceeded(job="train-1", result={"generation": 2}),
              jobs.JobUncovered(job="train-1", generation=2, reason="r"))
    row = Queries(journal).job("train-1")
    assert (row.best_step, row.failures, row.deaths, row.death_step) == (0, 0, 0, None)

def test_only_acknowledged_work_survives_kill_9(tmp_path: Path) -> None:
    code = f"""
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_journal import submitted
from trainq.journal import Journal
journal = Journal.open(Path({str(tmp_path / "j")!r}))
for number in range(1, 51):
    with journal.transaction():
        journal.append(submitted(number), 1.0)
    os.write(1, b"%d\\n" % number)
    if number == 50:
        transaction = journal.transaction()
        transaction.__enter__()
        journal.append(submitted(51), 1.0)
        os.kill(os.getpid(), signal.SIGKILL)
"""
    ended = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=False,
                           env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    assert ended.returncode == -9
    acknowledged = [int(line) for line in ended.stdout.split()]
    journal = Journal.open(tmp_path / "j")
    assert journal.head_seq == len(acknowledged) == 50
    journal.close()


def test_a_second_opener_is_refused_by_sqlite_itself(journal: Journal, tmp_path: Path) -> None:
    write(journal, submitted(1))
    with pytest.raises(apsw.BusyError):
        apsw.Connection(str(tmp_path / "journal.db")).execute("SELECT * FROM events").fetchall()


def test_there_is_no_shared_memory_file(journal: Journal, tmp_path: Path) -> None:
    write(journal, submitted(1))
    assert not (tmp_path / "journal.db-shm").exists()


def test_a_full_disk_is_an_error_that_passes(journal: Journal) -> None:
    pages = journal.connection.execute("PRAGMA page_count").fetchone()
    assert pages is not None
    journal.connection.execute(f"PRAGMA max_page_count={pages[0]}").fetchall()
    with pytest.raises(StorageFullError), journal.transaction():
        for number in itertools.count(1):
            journal.append(submitted(number, spec={"x": "y" * 2000}), 1.0)
    assert journal.head_seq == 0
    assert Queries(journal).counts() == {}
    journal.connection.execute("PRAGMA max_page_count=1000000").fetchall()
    write(journal, submitted(1))
    assert journal.head_seq == 1


def test_garbage_is_no_journal(tmp_path: Path) -> None:
    (tmp_path / "j").write_bytes(b"garbage" * 1000)
    with pytest.raises(DamageError):
        Journal.open(tmp_path / "j")


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "j")
    journal.connection.execute("UPDATE meta SET value='99' WHERE key='format'")
    journal.close()
    with pytest.raises(NewerFormatError, match="format 99"):
        Journal.open(tmp_path / "j")


def test_an_older_format_is_not_folded_anew_by_one_who_changes_nothing(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "j")
    journal.connection.execute("UPDATE meta SET value='1' WHERE key='format'")
    journal.close()
    with pytest.raises(UsageError, match="start the broker once"):
        Journal.open(tmp_path / "j", fold_anew=False)
    Journal.open(tmp_path / "j").close()
    Journal.open(tmp_path / "j", fold_anew=False).close()


class TestLine:
    """The order in which jobs go."""

    def test_high_normal_low_then_generated_then_fifo(self, journal: Journal) -> None:
        generated, high, low = jobs.Origin.GENERATED, jobs.Priority.HIGH, jobs.Priority.LOW
        write(journal, submitted(1, priority=high, origin=generated), submitted(2, priority=low), submitted(3),
              submitted(4), submitted(5, priority=high))
        line = [row.id for row in Queries(journal).waiting_line(10)]
        assert line == ["train-5", "train-3", "train-4", "train-2", "train-1"]

    def test_a_job_given_back_goes_before_everything(self, journal: Journal) -> None:
        write(journal, submitted(1), submitted(2, priority=jobs.Priority.HIGH), granted("train-1"),
              jobs.LeaseEnded(job="train-1", reason="worker restarted"))
        head = Queries(journal).head(JobKind.TRAIN, 1.0)
        assert head is not None
        assert head.id == "train-1"

    def test_a_retry_waits_and_goes_behind(self, journal: Journal) -> None:
        queries = Queries(journal)
        write(journal, submitted(1), submitted(2), granted("train-1"),
              jobs.AttemptFailed(job="train-1", reason="r", retry_at=100.0))
        assert [queries.head(JobKind.TRAIN, now).id for now in (50.0, 200.0)] == ["train-2", "train-2"]  # type: ignore[union-attr]
        assert [row.id for row in queries.waiting_line(9)] == ["train-2", "train-1"]

    def test_after_waits_for_success(self, journal: Journal) -> None:
        queries = Queries(journal)
        write(journal, submitted(1), submitted(2, after=("train-1",)), submitted(3, after=("train-1",), after_any=True))
        assert [row.id for row in queries.waiting_line(9)] == ["train-1"]
        assert queries.waits_for("train-2") == ["train-1"]
        write(journal, granted("train-1"), jobs.JobSucceeded(job="train-1", result={}))
        assert [row.id for row in queries.waiting_line(9)] == ["train-2", "train-3"]

    def test_after_any_is_let_go_by_any_end(self, journal: Journal) -> None:
        queries = Queries(journal)
        write(journal, submitted(1), submitted(2, after=("train-1",)), submitted(3, after=("train-1",), after_any=True),
              jobs.JobCancelled(job="train-1", reason="r"))
        assert [row.id for row in queries.waiting_line(9)] == ["train-3"]
        assert queries.cancelled_by_end_of("train-1") == ["train-2"]

    def test_waiting_for_what_failed_is_refused(self, journal: Journal) -> None:
        write(journal, submitted(1), jobs.JobCancelled(job="train-1", reason="r"))
        with pytest.raises(TransitionError):
            write(journal, submitted(2, after=("train-1",)))

    def test_duplicates_count_only_living_or_trained_jobs(self, journal: Journal) -> None:
        queries = Queries(journal)
        write(journal, submitted(1))
        assert queries.duplicate_of(f"{1:064x}") == ("train-1", JobState.QUEUED)
        write(journal, jobs.JobCancelled(job="train-1", reason="r"))
        assert queries.duplicate_of(f"{1:064x}") is None


def asked(queries: Queries, journal: Journal) -> list[tuple[str, tuple[object, ...]]]:
    """Every statement that the broker reads jobs with, as it is executed."""
    seen: list[tuple[str, tuple[object, ...]]] = []

    def trace(_: apsw.Cursor, statement: str, values: tuple[object, ...]) -> bool:
        seen.append((statement, values))
        return True

    journal.connection.exec_trace = trace  # type: ignore[assignment]  # apsw's stub wants any bindings
    try:
        for kind in JobKind:
            queries.head(kind, 1.0)
            queries.first_waiting(kind)
            queries.listing(kinds=[kind], states=[], before_number=9, limit=3)
            queries.listing(kinds=[kind], states=[JobState.CANCELLED], before_number=9, limit=3)
            queries.listing(kinds=[kind], states=[], before_number=None, limit=3, failed_only=True)
        queries.first_prepared(1.0)
        queries.running()
        queries.running("w")
        queries.uncovered(3)
        queries.waiting_line(3)
        queries.duplicate_of("0" * 64)
        queries.waits_for("train-1")
        queries.cancelled_by_end_of("train-1")
        queries.request("r1")
        queries.job("train-1")
    finally:
        journal.connection.exec_trace = None
    return seen


def test_every_question_is_answered_by_an_index(journal: Journal) -> None:
    write(journal, submitted(1))
    for statement, values in asked(Queries(journal), journal):
        plan = [str(row[3]) for row in journal.connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)]
        assert not any("TEMP B-TREE" in step for step in plan), (statement, plan)
        # Of forks there are as many as the line ever went back: they are all read.
        assert all("SEARCH" in step or "USING INDEX jobs_ready" in step or step == "SCAN forks" for step in plan), (
            statement, plan)


def test_states_are_counted(journal: Journal) -> None:
    write(journal, submitted(1), submitted(2), granted("train-1"))
    assert Queries(journal).counts()["train"] == {"queued": 1, "running": 1}
    assert Queries(journal).job("train-1").state is JobState.RUNNING


def test_the_tables_change_only_with_the_format() -> None:
    """A home whose tables are others than the code believes cannot be opened: raise FORMAT, and note the new digest."""
    assert (FORMAT, digest_bytes(schema.SCHEMA.encode())[:16]) == (12, "0dfb0bf474a4fd30")
