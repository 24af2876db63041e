"""Keeping: pins, and whether a copy of the model may be removed. The last look, in the transaction that decides.

The retention worker has planned by what it saw; here it is looked at again, with the journal at rest: what the line
needs, what is pinned, what is in use. Only small manifests are read.
"""

from __future__ import annotations

import contextlib

from services.broker import endings, tasks
from services.broker.blaming import not_the_journals
from services.broker.recording import Recorder
from trainq import messages, snapshots
from trainq.checkpoints import parse_name
from trainq.config import Home
from trainq.errors import DamageError, NewerFormatError, NotFoundError, UsageError
from trainq.jobs import CopyPinned, CopyUnpinned, JobKind, RemovalDecided, RemovalPurged, RemovalUndone, Store
from trainq.journal import Journal, Queries, learning
from trainq.messages import Done, Kept
from trainq.retention import stock, trash

REQUESTS = (messages.Pin, messages.Unpin, messages.Remove, messages.UndoRemoval, messages.PurgeRemoval)
# More than retention decides between two of its tasks.
REMOVALS_SHOWN = 1000


class Keeper:
    """Answers :data:`REQUESTS`. Runs inside the desk's transaction."""

    def __init__(self, journal: Journal, queries: Queries, recorder: Recorder, home: Home) -> None:
        self._journal = journal
        self._queries = queries
        self._recorder = recorder
        self._home = home

    def answer(self, request: messages.AnyRequest) -> Done:
        """The reply to one of :data:`REQUESTS`."""
        match request:
            case messages.Pin():
                return self._pin(request)
            case messages.Unpin():
                pinned = self._queries.pin(request.store, request.name) is not None
                unpinned = [CopyUnpinned(store=request.store, name=request.name)] if pinned else []
                return self._recorder.record(*unpinned)
            case messages.Remove():
                return self._remove(request)
            case messages.UndoRemoval() | messages.PurgeRemoval():
                return self._end_removal(request)
            case _:
                raise UsageError(f"{type(request).__name__} is not known here")

    def _pin(self, request: messages.Pin) -> Done:
        if not (self._home.root / request.store.value / request.name).is_dir():
            raise NotFoundError(f"there is no {request.name} in {request.store.value}/",
                                mend="trainq retention plan shows what there is")
        pin = self._queries.pin(request.store, request.name)
        if pin is not None and pin.reason == request.reason:
            return Done(changed=False, seq=self._journal.head_seq)
        return self._recorder.record(CopyPinned(store=request.store, name=request.name, reason=request.reason))

    def _check_lease(self, request: messages.LeaseRequest) -> None:
        endings.check_task_lease(self._queries.job(request.job), request.token, JobKind.RETENTION,
                                 "no retention task: it removes nothing")

    def _remove(self, request: messages.Remove) -> Done:
        self._check_lease(request)
        with not_the_journals(f"looking at {request.name}"):
            why = self._why_it_stays(request)
        decided = self._queries.removal_in_trash(request.store, request.name)
        # A snapshot may have been taken again while the one before lies in the trash: that is another removal.
        if decided is not None and not (
                self._home.trash / trash.name_in_trash(decided, request.store, request.name)).exists():
            return Done(changed=False, seq=decided)  # the reply was lost
        if why:
            raise UsageError(f"{request.name} stays in {request.store.value}/: {why}")
        return self._recorder.record(RemovalDecided(store=request.store, name=request.name,
                                                    size_bytes=request.size_bytes, reason=request.reason))

    def _why_it_stays(self, request: messages.Remove) -> str:
        """Why the copy may not go; empty if it may."""
        folder = self._home.root / request.store.value
        if not (folder / request.name).is_dir():
            return "it is not there"
        pin = self._queries.pin(request.store, request.name)
        if pin is not None:
            return f"it is pinned: {pin.reason}"
        for row in self._queries.open_tasks(JobKind.RESTORE):
            task = tasks.task_of(self._queries.task(row))
            if isinstance(task, messages.RestoreTask) and (task.store, task.name) == (request.store, request.name):
                return f"{row.id} goes back to it"
        if used := self._why_used(request):
            return used
        return self._why_checkpoint(request.name) if request.store is Store.CHECKPOINTS else self._why_snapshot(
            request.name)

    def _why_used(self, request: messages.Remove) -> str:
        for kind in tasks.KEEPS_OWN_COPY:
            for row in self._queries.open_tasks(kind):
                task = tasks.task_of(self._queries.task(row))
                if request.store is Store.CHECKPOINTS and getattr(task, "checkpoint", "") == request.name:
                    return f"{row.id} needs it"
        others = [row.id for row in self._queries.running_tasks()
                  if row.id != request.job and row.kind not in tasks.KEEPS_OWN_COPY]
        return f"{others[0]} may use it" if others else ""

    def _why_checkpoint(self, name: str) -> str:
        line, own = self._queries.line(), parse_name(name)
        if own is None or own.generation >= line.generation:
            return f"the line stands at generation {line.generation}"
        if name in champions(self._journal):
            return "it is the champion, was it before, or is proposed"
        head = self._home.checkpoints / line.checkpoint
        if stock.read_facts(head) is None:
            return f"the head {line.checkpoint or '(none)'} cannot be read"
        return stock.protected_checkpoints(self._home.checkpoints, line.checkpoint).get(name, "")

    def _why_snapshot(self, name: str) -> str:
        readable = []
        for path in snapshots.list_snapshots(self._home.snapshots):
            with contextlib.suppress(DamageError, NewerFormatError):
                readable.append(snapshots.read(path))
        if not any(each.name != name for each in readable):
            return "it is the only one that can be read"
        if readable[0].name == name:
            return "it is the newest snapshot that can be read"
        if next((each.name for each in readable if not each.marks), "") == name:
            return "it is the newest snapshot whose state is not marked"
        other = snapshots.needed(readable).get(name, "")
        return f"{other} needs it" if other else ""

    def _end_removal(self, request: messages.UndoRemoval | messages.PurgeRemoval) -> Done:
        self._check_lease(request)
        removal = self._queries.removal(request.removal)
        end: RemovalUndone | RemovalPurged
        if isinstance(request, messages.UndoRemoval):
            state, end = "undone", RemovalUndone(removal=request.removal, reason=request.reason)
        else:
            state, end = "purged", RemovalPurged(removal=request.removal)
        if removal.state == "trash":
            return self._recorder.record(end)
        if removal.state != state:
            raise UsageError(f"removal {removal.removal} ({removal.name}) is {removal.state} already")
        return Done(changed=False, seq=self._journal.head_seq)


def champions(journal: Journal) -> tuple[str, ...]:
    """The champion; who was it before, to whom a person can go back; and who is proposed."""
    return learning.known(journal.connection).wanted


def kept(journal: Journal, queries: Queries) -> Kept:
    """What the retention worker and the command line are told."""
    return Kept(pins=queries.pins(), removals=queries.removals(REMOVALS_SHOWN), checkpoint=queries.line().checkpoint,
                dropping=queries.dropping(messages.MAX_DIGESTS), champions=champions(journal))
