"""The journal: what happened, in order, on disk; and the tables folded from it.

``store`` owns the SQLite file, the chain of hashes and the transactions; ``projections`` folds one event into the
tables; ``queries`` reads them. Exactly one process has a journal open: the broker (or ``fsck``, under the same lock).
"""

from trainq.journal.queries import JobRow, LineRow, Queries
from trainq.journal.store import Journal, JournalFailure, Recorded

__all__ = ["JobRow", "Journal", "JournalFailure", "LineRow", "Queries", "Recorded"]
