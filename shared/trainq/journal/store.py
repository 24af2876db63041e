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
from collections.abc import Iterator
from pathlib import Path

import apsw
import msgspec
from blake3 import blake3

from trainq import crashpoints
from trainq.errors import DamageError, NewerFormatError, StorageError, StorageFullError, UsageError
from trainq.jobs import AnyEvent, JobEvent
from trainq.journal import faulty, projections
from trainq.journal.events import decode_event, encode_event

# What SQLite raises inside a transaction; Journal.transaction turns it into StorageError and its kin at the edge.
JournalFailure = apsw.Error
# 2: the tables know published steps, deaths, ranks and holds. 3: what set a job aside counts as a failure, and failed
# jobs have an index. 4: jobs age by a setting that is in the journal. The events of older formats are read as they are.
FORMAT = 4
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
            ("foreign_keys", "on", 1), ("trusted_schema", "off", 0))


class Recorded(msgspec.Struct, frozen=True):
    """An event with its place in the journal. ``at`` is wall time in seconds since 1970, for people."""

    seq: int
    at: float
    event: AnyEvent
    hash: bytes


class Journal:
    """The open journal. Not thread safe: one thread of one process owns it."""

    def __init__(self, connection: apsw.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        self.journal_id = self._meta("journal_id")
        row = connection.execute("SELECT seq, hash FROM events ORDER BY seq DESC LIMIT 1").fetchone()
        self.head_seq: int = row[0] if row else 0
        self._head_hash: bytes = row[1] if row else GENESIS

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
            try:
                for name, value, expected in _PRAGMAS:
                    connection.execute(f"PRAGMA {name}={value}").fetchall()
                    found = connection.pragma(name)
                    if found != expected:
                        raise StorageError(f"{path}: SQLite did not take PRAGMA {name}={value}, it says {found!r}")
                if connection.execute("SELECT 1 FROM sqlite_master WHERE name='meta'").fetchone() is None:
                    _create(connection)
                    _sync_name(path)
                journal = cls(connection, path)
            except BaseException:
                connection.close()
                raise
        format_ = int(journal._meta("format"))
        if format_ > FORMAT:
            connection.close()
            raise NewerFormatError(str(path), format_, FORMAT)
        if format_ < FORMAT and not fold_anew:
            connection.close()
            raise UsageError(f"the tables of {path} are those of format {format_}, and {FORMAT} is known here", mend=(
                "start the broker once, which folds them anew from the events"))
        if format_ < FORMAT:
            with storage_errors(path):
                _fold_anew(connection)
        return journal

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
        before = self.head_seq, self._head_hash
        with storage_errors(self._path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                if self.head_seq == before[0]:
                    self._connection.execute("ROLLBACK")
                else:
                    crashpoints.reach("journal.commit")
                    self._connection.execute("COMMIT")
                    crashpoints.reach("journal.committed")
            except BaseException:
                self.head_seq, self._head_hash = before
                # SQLite has rolled back by itself after FULL and IOERR.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def savepoint(self) -> Iterator[None]:
        """Inside a transaction: the appends in the block happen together or, on an error, not at all."""
        before = self.head_seq, self._head_hash
        self._connection.execute("SAVEPOINT message")
        try:
            yield
        except BaseException:
            self.head_seq, self._head_hash = before
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK TO message")
                self._connection.execute("RELEASE message")
            raise
        self._connection.execute("RELEASE message")

    def append(self, event: AnyEvent, at: float) -> Recorded:
        """Append one event and fold it into the projections (inside a transaction).

        Raises:
            TransitionError: the job's state does not allow this event; undo the savepoint.
            RuntimeError: there is no open transaction, so the event and its effect could be torn apart.
        """
        if not self._connection.in_transaction:
            raise RuntimeError("an event is appended inside a transaction only")
        seq = self.head_seq + 1
        body = encode_event(event)
        job = event.job if isinstance(event, JobEvent) else None
        type_ = type(event).__name__
        digest = chain(self._head_hash, seq, at, body)
        projections.apply(self._connection, seq, at, event)
        self._connection.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)", (seq, at, type_, job, body, digest))
        self.head_seq, self._head_hash = seq, digest
        return Recorded(seq, at, event, digest)

    def replay(self, after_seq: int, limit: int, job: str = "") -> list[Recorded]:
        """The events after ``after_seq`` in order, at most ``limit``; only those of ``job`` if it is given."""
        if job:
            rows = self._connection.execute(
                "SELECT seq, at, body, hash FROM events WHERE job=? AND seq>? ORDER BY seq LIMIT ?",
                (job, after_seq, limit))
        else:
            rows = self._connection.execute(
                "SELECT seq, at, body, hash FROM events WHERE seq>? ORDER BY seq LIMIT ?", (after_seq, limit))
        return [Recorded(seq, at, decode_event(body, seq), hash_) for seq, at, body, hash_ in rows]

    def _meta(self, key: str) -> str:
        row = self._connection.execute("SELECT value FROM meta WHERE key=?", (key,)).fetchone()
        if row is None:
            raise DamageError(str(self._path), f"the journal lacks its {key}")
        return str(row[0])


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


def _create(connection: apsw.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    for statement in (_EVENTS + projections.SCHEMA).split(";\n"):
        if statement.strip():
            connection.execute(statement)
    connection.execute("INSERT INTO meta VALUES ('format', ?)", (str(FORMAT),))
    connection.execute("INSERT INTO meta VALUES ('journal_id', ?)", (uuid.uuid4().hex,))
    connection.execute("COMMIT")


def _fold_anew(connection: apsw.Connection) -> None:
    """Make the tables of an older format again from the events, in one transaction."""
    connection.execute("BEGIN IMMEDIATE")
    for (table,) in connection.execute(
            "SELECT name FROM sqlite_master WHERE type='table' AND name NOT IN ('events', 'meta')").fetchall():
        connection.execute(f"DROP TABLE {table}")
    for statement in projections.SCHEMA.split(";\n"):
        if statement.strip():
            connection.execute(statement)
    for seq, at, body in connection.execute("SELECT seq, at, body FROM events ORDER BY seq"):
        projections.apply(connection, seq, at, decode_event(body, seq))
    connection.execute("UPDATE meta SET value=? WHERE key='format'", (str(FORMAT),))
    connection.execute("COMMIT")


def _sync_name(path: Path) -> None:
    """Make the new file's name durable; SQLite does so only for its rollback journals."""
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
