"""The SQLite file under the journal: opening, transactions, appending, replay.

Invariants:

* Events are only ever appended; ``seq`` has no gaps and starts at 1; each event's hash covers the one before it.
* An event and its effect on the projections are one transaction; after :meth:`Journal.transaction` has returned, both
  survive a power cut (``synchronous=FULL``).
* One connection, ``locking_mode=EXCLUSIVE`` set before WAL: there is no shared-memory file, so a full disk is an
  error and not a SIGBUS, and SQLite's WAL-reset bug (two connections) cannot happen.
* Nobody repairs: damage is raised with its place.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import apsw
import msgspec
from blake3 import blake3

from trainq import crashpoints
from trainq.errors import DamageError, NewerFormatError, StorageError, StorageFullError, UsageError
from trainq.jobs import AnyEvent, JobEvent, JobState
from trainq.journal import faulty, schema
from trainq.journal.events import decode_event, encode_event
from trainq.journal.projections import Fold

# What SQLite raises inside a transaction; Journal.transaction turns it into StorageError and its kin at the edge.
JournalFailure = apsw.Error
# 2: the tables know published steps, deaths, ranks and holds. 3: what set a job aside counts as a failure, and failed
# jobs have an index. 4: jobs age by a setting that is in the journal. 5: jobs lie under numbers. 6: tasks. 7: pins and
# removals. 8: lineage and schedules. 11: users' own events, which an older trainq would take for
# damage. 12: what shards are made with, and releases; scores, champions and levels. The events of older formats are
# read as they are.
FORMAT = 12
GENESIS = bytes(32)

_EVENTS = """
CREATE TABLE events (
    seq INTEGER PRIMARY KEY, at REAL NOT NULL, type TEXT NOT NULL, job TEXT, body BLOB NOT NULL, hash BLOB NOT NULL
) STRICT;
CREATE INDEX events_of_job ON events(job, seq) WHERE job IS NOT NULL;
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
"""

# EXCLUSIVE must come before WAL (see above). Each is set in a call of its own and read back, because apsw's execute()
# of several statements stops at the first that returns a row.
_PRAGMAS = (("locking_mode", "exclusive", "exclusive"), ("journal_mode", "wal", "wal"), ("synchronous", "full", 2),
            ("foreign_keys", "on", 1), ("trusted_schema", "off", 0), ("temp_store", "memory", 2),
            # 16 MiB of pages in memory: with SQLite's 2 a broker with many jobs reads back what it has just written.
            ("cache_size", "-16384", -16384))

Outcome = TypeVar("Outcome")


class PartialWriteError(Exception):
    """An error came after changes that only the whole transaction undoes; see :meth:`Journal.write`."""


class Recorded(msgspec.Struct, frozen=True):
    """An event with its place in the journal. ``at`` is wall time in seconds since 1970, for people.

    ``body`` is the event's bytes; ``state`` that of its job after it, known when it is appended only.
    """

    seq: int
    at: float
    event: AnyEvent
    hash: bytes
    body: bytes
    state: JobState | None = None


class Journal:
    """The open journal. Not thread safe: one thread of one process owns it."""

    def __init__(self, connection: apsw.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        self.journal_id = _meta(connection, path, "journal_id")
        self.fold = Fold(connection)
        row = connection.execute("SELECT seq, hash FROM events ORDER BY seq DESC LIMIT 1").fetchone()
        self.head_seq: int = row[0] if row else 0
        self._head_hash: bytes = row[1] if row else GENESIS
        self._with_savepoints = False

    @classmethod
    def open(cls, path: Path, *, fold_anew: bool = True) -> Journal:
        """Open the journal, making it if there is none. Costs the same with ten events or ten million.

        The caller holds the broker's lock. The tables of an older format are folded anew, if they may be.

        Raises:
            DamageError: the file is no journal, or is damaged.
            NewerFormatError: a newer trainq wrote it.
            UsageError: it is of an older format, and is not to be folded anew.
            StorageError: it cannot be opened or made.
        """
        with storage_errors(path):
            connection = apsw.Connection(str(path), vfs=faulty.vfs_name())
            # Otherwise SQLite plans a statement anew for each value that might make a partial index useful: 50 us.
            connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
            try:
                for name, value, expected in _PRAGMAS:
                    connection.execute(f"PRAGMA {name}={value}").fetchall()
                    found = connection.pragma(name)
                    if found != expected:
                        raise StorageError(f"{path}: SQLite did not take PRAGMA {name}={value}, it says {found!r}")
                if connection.execute("SELECT 1 FROM sqlite_master WHERE name='meta'").fetchone() is None:
                    _create(connection)
                    _sync_name(path)
                _check_format(connection, path, fold_anew=fold_anew)
                return cls(connection, path)
            except BaseException:
                connection.close()
                raise

    def close(self) -> None:
        """Close the file; SQLite folds the write-ahead log into it.

        Where the disk does not allow that, the log stays, with all that was committed, and the next opening reads it.
        """
        with contextlib.suppress(apsw.FullError, apsw.IOError):
            self._connection.close()

    @property
    def connection(self) -> apsw.Connection:
        """For the queries of this package and for ``fsck``; nobody else writes through it."""
        return self._connection

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All appends in the block become durable together when it ends; on any error none of them happened.

        Raises:
            StorageFullError: no room; the journal is as it was and may be used on.
            StorageError: the disk failed. After a failed fsync nothing is known about the pages: end the process.
        """
        before, mark = (self.head_seq, self._head_hash), self.fold.mark()
        with storage_errors(self._path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                if self.head_seq == before[0]:
                    self._connection.execute("ROLLBACK")
                    self.fold.restore(mark)
                else:
                    self.fold.flush()
                    crashpoints.reach("journal.commit")
                    self._connection.execute("COMMIT")
                    crashpoints.reach("journal.committed")
            except BaseException:
                self.head_seq, self._head_hash = before
                self.fold.restore(mark)
                # SQLite has rolled back by itself after FULL and IOERR.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def write(self, work: Callable[[], Outcome]) -> Outcome:
        """Do ``work`` in a transaction; again, with savepoints, if an error in it could not be undone otherwise.

        ``work`` begins from nothing each time. It raises what :meth:`transaction` raises.
        """
        try:
            with self.transaction():
                return work()
        except PartialWriteError:
            self._with_savepoints = True
        try:
            with self.transaction():
                return work()
        finally:
            self._with_savepoints = False

    def atomic(self) -> contextlib.AbstractContextManager[None]:
        """Inside a transaction: the appends in the block happen together or, on an error, not at all.

        Almost every error comes before its first change and leaves nothing to undo. Savepoints cost half of a submit
        (SQLite copies each page that is changed after one), so there is one only when :meth:`write` does it again.

        Raises:
            PartialWriteError: the block changed something before its error. Errors of SQLite's and of the disk are
                raised as they are: they end the transaction, and nothing is done again on what they left.
        """
        return self._savepoint() if self._with_savepoints else _Untouched(self)

    @property
    def changes(self) -> tuple[int, int]:
        """Differs after everything that is written, on disk or in memory."""
        return self.fold.changes, self._connection.total_changes()

    @contextlib.contextmanager
    def _savepoint(self) -> Iterator[None]:
        before, mark = (self.head_seq, self._head_hash), self.fold.mark()
        self._connection.execute("SAVEPOINT message")
        try:
            yield
        except BaseException:
            self.head_seq, self._head_hash = before
            self.fold.restore(mark)
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK TO message")
                self._connection.execute("RELEASE message")
            raise
        self._connection.execute("RELEASE message")

    def append(self, event: AnyEvent, at: float) -> Recorded:
        """Append one event and fold it into the projections (inside a transaction).

        Raises:
            TransitionError: the job's state does not allow this event, and nothing was changed.
            RuntimeError: there is no open transaction, so the event and its effect could be torn apart.
        """
        if not self._connection.in_transaction:
            raise RuntimeError("an event is appended inside a transaction only")
        seq = self.head_seq + 1
        body = encode_event(event)
        job = event.job if isinstance(event, JobEvent) else None
        type_ = type(event).__name__
        digest = chain(self._head_hash, seq, at, body)
        state = self.fold.apply(seq, at, event)
        self._connection.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)", (seq, at, type_, job, body, digest))
        self.head_seq, self._head_hash = seq, digest
        return Recorded(seq, at, event, digest, body, state)

    def replay(self, after_seq: int, limit: int, job: str = "") -> list[Recorded]:
        """The events after ``after_seq`` in order, at most ``limit``; only those of ``job`` if it is given."""
        if job:
            rows = self._connection.execute(
                "SELECT seq, at, body, hash FROM events WHERE job=? AND seq>? ORDER BY seq LIMIT ?",
                (job, after_seq, limit))
        else:
            rows = self._connection.execute(
                "SELECT seq, at, body, hash FROM events WHERE seq>? ORDER BY seq LIMIT ?", (after_seq, limit))
        return [Recorded(seq, at, decode_event(body, seq), hash_, body) for seq, at, body, hash_ in rows]


# After these nobody goes on in the same transaction.
_FINAL = (apsw.Error, StorageError, StorageFullError, PartialWriteError)


class _Untouched:
    """See :meth:`Journal.atomic`. A class, because a generator would cost a tenth of a submit."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._changes = journal.changes

    def __enter__(self) -> None:
        pass

    def __exit__(self, _type: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if error is None or not isinstance(error, Exception) or isinstance(error, _FINAL):
            return
        if self._journal.changes != self._changes:
            raise PartialWriteError from error


def chain(previous: bytes, seq: int, at: float, body: bytes) -> bytes:
    """The hash of an event: BLAKE3 over the previous hash, the number, the time's repr, and the body's bytes."""
    return blake3(b"%b|%d|%b|%b" % (previous, seq, repr(at).encode(), body)).digest()


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into the classes that say what can be done."""
    try:
        yield
    except apsw.FullError as error:
        raise StorageFullError(f"no room left for the journal {path}: {error}",
                               mend="free some space; trainq goes on by itself") from error
    except (apsw.CorruptError, apsw.NotADBError) as error:
        raise DamageError(str(path), str(error), mend="stop trainq and restore a backup of the home") from error
    except apsw.Error as error:
        raise StorageError(f"the journal {path} failed: {error}", mend="look at the disk and its mount") from error


def _meta(connection: apsw.Connection, path: Path, key: str) -> str:
    row = connection.execute("SELECT value FROM meta WHERE key=?", (key,)).fetchone()
    if row is None:
        raise DamageError(str(path), f"the journal lacks its {key}")
    return str(row[0])


def _check_format(connection: apsw.Connection, path: Path, *, fold_anew: bool) -> None:
    format_ = int(_meta(connection, path, "format"))
    if format_ > FORMAT:
        raise NewerFormatError(str(path), format_, FORMAT)
    if format_ < FORMAT and not fold_anew:
        raise UsageError(f"the tables of {path} are those of format {format_}, and {FORMAT} is known here",
                         mend="start the broker once, which folds them anew from the events")
    if format_ < FORMAT:
        _fold_anew(connection)


def _create(connection: apsw.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    schema.run_statements(connection, _EVENTS + schema.SCHEMA)
    connection.execute("INSERT INTO meta VALUES ('format', ?)", (str(FORMAT),))
    connection.execute("INSERT INTO meta VALUES ('journal_id', ?)", (uuid.uuid4().hex,))
    connection.execute("COMMIT")


def _fold_anew(connection: apsw.Connection) -> None:
    """Make the tables of an older format again from the events, in one transaction."""
    connection.execute("BEGIN IMMEDIATE")
    for (table,) in connection.execute(
            "SELECT name FROM sqlite_master WHERE type='table' AND name NOT IN ('events', 'meta')").fetchall():
        connection.execute(f"DROP TABLE {table}")
    schema.run_statements(connection, schema.SCHEMA)
    fold = Fold(connection)
    for seq, at, body in connection.execute("SELECT seq, at, body FROM events ORDER BY seq"):
        fold.apply(seq, at, decode_event(body, seq))
    fold.flush()
    connection.execute("UPDATE meta SET value=? WHERE key='format'", (str(FORMAT),))
    connection.execute("COMMIT")


def _sync_name(path: Path) -> None:
    """Make the new file's name durable; SQLite does so only for its rollback journals."""
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
