"""Proving a journal: the chain of hashes, and that the tables are the fold of the events. Changes nothing.

The caller holds the broker's lock and has opened the journal. Events are read one after the other, so that memory is
bounded by the tables and not by the history.
"""

from __future__ import annotations

from collections.abc import Iterator

import apsw
import msgspec

from trainq.errors import TrainqError
from trainq.journal import schema
from trainq.journal.events import decode_event
from trainq.journal.projections import Fold
from trainq.journal.store import GENESIS, Journal, chain

# Of each sort; one mistake in the middle of a chain makes everything after it look wrong.
MAX_FINDINGS = 20


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is not as it must be: where, and what."""

    place: str
    what: str


def prove(journal: Journal) -> list[Finding]:
    """Everything that is wrong with the journal, at most :data:`MAX_FINDINGS` of each sort; empty if nothing is."""
    folded = apsw.Connection(":memory:")
    try:
        schema.run_statements(folded, schema.SCHEMA)
        integrity = [str(row[0]) for row in journal.connection.execute("PRAGMA integrity_check")]
        findings = [Finding(place="journal.db", what=line) for line in integrity[:MAX_FINDINGS] if line != "ok"]
        history = _history(journal, folded)
        findings += history
        # Tables folded from a history that is itself wrong would only repeat that.
        return findings if history else [*findings, *_tables(journal.connection, folded)]
    finally:
        folded.close()


def _history(journal: Journal, folded: apsw.Connection) -> list[Finding]:
    findings: list[Finding] = []
    fold = Fold(folded)
    previous, expected = GENESIS, 1
    for seq, at, type_, body, digest in journal.connection.execute(
            "SELECT seq, at, type, body, hash FROM events ORDER BY seq"):
        if len(findings) >= MAX_FINDINGS:
            break
        place = f"event {seq}"
        if seq != expected:
            findings.append(Finding(place=place, what=f"the events {expected} to {seq - 1} are missing"))
        elif chain(previous, seq, at, body) != digest:
            findings.append(Finding(place=place, what="its hash is not that of its content after the event before it"))
        previous, expected = digest, seq + 1
        try:
            event = decode_event(body, seq)
            if type(event).__name__ != type_:
                findings.append(Finding(place=place, what=f"it is listed as {type_} and is {type(event).__name__}"))
            fold.apply(seq, at, event)
        except (TrainqError, apsw.Error) as error:
            findings.append(Finding(place=place, what=str(error)))
    fold.flush()
    return findings


def _tables(kept: apsw.Connection, folded: apsw.Connection) -> list[Finding]:
    findings: list[Finding] = []
    for (table,) in folded.execute("SELECT name FROM sqlite_master WHERE type='table' ORDER BY name").fetchall():
        findings += [Finding(place=f"table {table}", what=what) for what in _differences(kept, folded, str(table))]
    return findings[:MAX_FINDINGS]


def _differences(kept: apsw.Connection, folded: apsw.Connection, table: str) -> Iterator[str]:
    columns = [str(row[1]) for row in folded.execute(f"PRAGMA table_xinfo({table})")]
    order = ", ".join(str(at + 1) for at in range(len(columns)))
    ours = kept.execute(f"SELECT * FROM {table} ORDER BY {order}")
    theirs = folded.execute(f"SELECT * FROM {table} ORDER BY {order}")
    named_by = columns.index("id") if "id" in columns else 0
    while True:
        one, other = next(ours, None), next(theirs, None)
        if one is None and other is None:
            return
        if one != other:
            yield f"the row of {(one or other or ())[named_by]} is not what the events say"
            return
