"""The copy of the journal that a backup asks for: made a piece a turn, between the requests of others."""

from __future__ import annotations

from services.broker import endings
from services.broker.blaming import not_the_journals
from trainq import files, room
from trainq.config import Home
from trainq.errors import TrainqError
from trainq.jobs import JobKind
from trainq.journal import Journal, Queries
from trainq.journal.copying import JournalCopy
from trainq.messages import CopyJournal, JournalCopied


class Copier:
    """At most one copy. It belongs to a lease; another lease's request begins anew."""

    def __init__(self, journal: Journal, queries: Queries, home: Home) -> None:
        self._journal = journal
        self._queries = queries
        self._home = home
        self._token = 0
        self._copy: JournalCopy | None = None
        self._failure: TrainqError | None = None

    @property
    def is_copying(self) -> bool:
        """Whether there is a piece to be copied."""
        return self._copy is not None and not self._copy.is_done

    def answer(self, request: CopyJournal) -> JournalCopied:
        """Begin the copy, or say how far it is.

        Raises:
            StaleLeaseError, UsageError: it is not the lease of a backup.
            TrainqError: the copy could not be made; the next request begins anew.
        """
        endings.check_task_lease(self._queries.job(request.job), request.token, JobKind.BACKUP, "no backup")
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        if self._copy is None or self._token != request.token:
            self._begin(request.token)
        copy = self._copy
        assert copy is not None
        done, of = copy.pages if not copy.is_done else (0, 0)
        return JournalCopied(done=copy.is_done, seq=copy.seq, copied_pages=done, pages=of)

    def step(self) -> None:
        """Copy one more piece."""
        if self._copy is None or self._copy.is_done:
            return
        try:
            with not_the_journals("copying the journal"):
                self._copy.step()
        except TrainqError as error:
            self._failure = error
            self._leave()

    def _begin(self, token: int) -> None:
        self._leave()
        path = self._home.journal_copy
        with not_the_journals("copying the journal"):
            room.refuse_without(path.parent, self._home.journal.stat().st_size, "a copy of the journal")
            self._token, self._copy = token, JournalCopy(self._journal, path)

    def sweep(self) -> None:
        """Remove what a former life, or a copy that was left, has put there."""
        path = self._home.journal_copy
        for suffix in ("", "-wal", "-journal"):
            files.remove_file(path.with_name(path.name + suffix))

    def _leave(self) -> None:
        if self._copy is not None and not self._copy.is_done:
            self._copy.close()
        self._copy = None
        with not_the_journals("removing a copy of the journal"):
            self.sweep()
