"""The tables of what is kept and what was removed, and of the schedules: pins, removals, dropped, schedules, slots."""

from __future__ import annotations

import apsw

from trainq.jobs import (
    AnyEvent,
    CopyPinned,
    CopyUnpinned,
    DataDropped,
    DataGone,
    RemovalDecided,
    RemovalPurged,
    RemovalUndone,
    ScheduleFired,
    ScheduleSet,
    ScheduleSkipped,
)


def fold(connection: apsw.Connection, seq: int, at: float, event: AnyEvent) -> None:
    """Fold one event into these tables; those that say nothing of them change nothing."""
    match event:
        case CopyPinned():
            connection.execute("INSERT OR REPLACE INTO pins VALUES (?, ?, ?, ?)",
                               (event.store.value, event.name, event.reason, at))
        case CopyUnpinned():
            connection.execute("DELETE FROM pins WHERE store=? AND name=?", (event.store.value, event.name))
        case RemovalDecided():
            connection.execute("INSERT INTO removals VALUES (?, ?, ?, 'trash', ?, ?, ?)",
                               (seq, event.store.value, event.name, event.size_bytes, event.reason, at))
        case RemovalUndone() | RemovalPurged():
            state = "undone" if isinstance(event, RemovalUndone) else "purged"
            connection.execute("UPDATE removals SET state=? WHERE removal=? AND state='trash'", (state, event.removal))
        case DataDropped() | DataGone():
            connection.executemany("INSERT OR REPLACE INTO dropped VALUES (?, ?)",
                                   [(digest, int(isinstance(event, DataGone))) for digest in event.digests])
        case ScheduleSet():
            connection.execute("INSERT OR REPLACE INTO schedules VALUES (?, ?, ?, '', '', ?)",
                               (event.name, event.rule, event.slot, at))
            connection.execute("INSERT OR IGNORE INTO slots VALUES (?, ?)", (event.name, event.slot))
        case ScheduleFired() | ScheduleSkipped():
            if isinstance(event, ScheduleFired):
                connection.execute("UPDATE schedules SET slot=?, job=?, reason='', at=? WHERE name=?",
                                   (event.slot, event.job, at, event.name))
            else:
                connection.execute("UPDATE schedules SET slot=?, reason=?, at=? WHERE name=?",
                                   (event.slot, event.reason, at, event.name))
            connection.execute("INSERT OR IGNORE INTO slots VALUES (?, ?)", (event.name, event.slot))
        case _:
            pass  # BrokerStarted and the like are history only
