"""Figures of the queue that no table keeps: counted when they are asked for, up to a limit."""

from __future__ import annotations

from trainq.journal.store import Journal

# The inner query follows the index jobs_by_state, whose entries of one state and kind are in the order of the keys.
_WAITING = ("SELECT priority, count(*), min(submitted_at) FROM (SELECT priority, submitted_at FROM jobs "
            "WHERE state='queued' AND kind='train' ORDER BY key LIMIT ?) GROUP BY priority ORDER BY priority")


def waiting_by_priority(journal: Journal, limit: int) -> list[tuple[int, int, float]]:
    """(priority, how many, when the oldest was submitted) of the train jobs that wait, among the oldest ``limit``."""
    return [(int(priority), int(count), float(oldest_at))
            for priority, count, oldest_at in journal.connection.execute(_WAITING, (limit,))]
