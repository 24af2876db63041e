"""The journal: what happened, in order, on disk; and the tables folded from it.

``store`` owns the SQLite file, the chain of hashes and the transactions; ``projections`` folds one event into the
tables of ``schema``; ``queries`` reads them. Exactly one process has a journal open: the broker (or ``fsck``, under the
same lock).
"""

from trainq.journal import enclosing
from trainq.journal.lineage import Span, covers
from trainq.journal.projections import BEFORE_ALL, LineRow
from trainq.journal.queries import JobRow, Queries, ScheduleRow
from trainq.journal.store import Journal, JournalFailure, PartialWriteError, Recorded

__all__ = [
    "BEFORE_ALL",
    "JobRow",
    "Journal",
    "JournalFailure",
    "LineRow",
    "PartialWriteError",
    "Queries",
    "Recorded",
    "ScheduleRow",
    "Span",
    "covers",
    "enclosing",
]
