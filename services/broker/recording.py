"""Recording: events go into the journal with whatever they bring with them, and are kept until they are on disk."""

from __future__ import annotations

from services.broker import endings
from trainq.clock import Clock
from trainq.jobs import ENDED, TASKS, AnyEvent, DuplicateSubmitted, JobEvent, JobKind
from trainq.journal import Journal, Queries, Recorded
from trainq.messages import Done


class Recorder:
    """Appends inside the open transaction, and remembers what was appended in it."""

    def __init__(self, journal: Journal, queries: Queries, clock: Clock) -> None:
        self._journal = journal
        self._queries = queries
        self._clock = clock
        self._recorded: list[Recorded] = []

    def take(self) -> list[Recorded]:
        """The events appended since the last call, in order."""
        recorded, self._recorded = self._recorded, []
        return recorded

    def forget_undone(self) -> None:
        """Forget what an error has just undone."""
        while self._recorded and self._recorded[-1].seq > self._journal.head_seq:
            self._recorded.pop()

    def record(self, *events: AnyEvent) -> Done:
        """Append them; the reply that says so."""
        for event in events:
            self.append(event)
        return Done(changed=bool(events), seq=self._journal.head_seq)

    def append(self, event: AnyEvent) -> None:
        """Append one event, and whatever the end of its job brings with it."""
        recorded = self._journal.append(event, self._clock.wall())
        self._recorded.append(recorded)
        if recorded.state not in ENDED or not isinstance(event, JobEvent) or isinstance(event, DuplicateSubmitted):
            return
        row = self._queries.job(event.job)
        if row.kind in TASKS:
            return
        other = self._queries.job(f"{'prepare' if row.kind is JobKind.TRAIN else 'train'}-{row.number}")
        for consequence in endings.follow_end(row, self._queries.cancelled_by_end_of(row.id), other):
            self.append(consequence)
