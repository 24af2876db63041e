"""The tables of what is kept and what was removed: pins and removals."""

from __future__ import annotations

import apsw

from trainq.jobs import AnyEvent, CopyPinned, CopyUnpinned, RemovalDecided, RemovalPurged, RemovalUndone


def fold(connection: apsw.Connection, seq: int, at: float, event: AnyEvent) -> None:
    """Fold one event into ``pins`` and ``removals``; those that say nothing of them change nothing."""
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
        case _:
            pass  # BrokerStarted and the like are history only
