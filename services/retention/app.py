"""The retention worker's loop: lease a task, remove what may go or bring it back, report. At low priority.

Each removal is asked of the broker and is in the journal before anything moves; the broker looks once more. A removed
copy lies in the trash until its time is over. Killed anywhere, the next task makes the disk what the journal says
(:func:`trainq.retention.trash.settle`) before it plans anew.
"""

from __future__ import annotations

from services.retention.dropping import Dropper
from trainq import checkpoints, files, objects, snapshots
from trainq.errors import DamageError, NewerFormatError, NotFoundError, UsageError
from trainq.ids import new_request_id
from trainq.jobs import JobKind, RemovalView, Store
from trainq.messages import (
    Done,
    GetKept,
    Kept,
    Progress,
    PurgeRemoval,
    Remove,
    TaskLease,
    TaskResult,
    UndeleteTask,
    UndoRemoval,
)
from trainq.retention import rules, stock, trash
from trainq.retention.rules import Verdict
from trainq.service import HeldTask, Process, Worker, take_task
from trainq.service.politeness import be_polite, paced

_HOUR_SECONDS = 3600.0


class Retention(Worker[TaskLease]):
    """Does one task at a time. Owned by the main thread."""

    def __init__(self, process: Process) -> None:
        super().__init__(process, b"event.TaskSubmitted", lambda peer: take_task(peer, (JobKind.RETENTION,)))
        self._home = process.home
        # Whether the newest generations were proven in this task; None: not looked at.
        self._proven: bool | None = None
        files.make_directory(process.home.snapshots)
        files.make_directory(process.home.trash)
        files.sweep_temporaries(process.home.trash, process.home.cache)
        be_polite(process.settings.maintenance)

    def work(self, held: HeldTask) -> TaskResult:
        self._proven = None
        with objects.writing(self._home.snapshots):
            self._settle(held)
            task = held.lease.task
            return self._undelete(held, task.removal) if isinstance(task, UndeleteTask) else self._retain(held)

    def _kept(self, held: HeldTask) -> Kept:
        return self._peer.call(GetKept(request_id=new_request_id()), Kept, held.states)

    def _settle(self, held: HeldTask) -> None:
        kept = self._kept(held)
        self._dropper(held).settle(kept)
        unsettled = trash.settle(self._home, kept.removals)
        for removal in unsettled.never_moved:
            gone = not trash.place_of(self._home, removal.store, removal.name).exists()
            self._undo(held, removal, "it is nowhere any more" if gone else "it was not moved before a kill")
        for path in unsettled.unknown:
            self._process.log.warning("unknown_in_trash", path=str(path))

    def _undo(self, held: HeldTask, removal: RemovalView, reason: str) -> None:
        self._peer.call(UndoRemoval(request_id=new_request_id(), job=held.lease.job, token=held.lease.token,
                                    removal=removal.removal, reason=reason), Done, held.states)

    def _undelete(self, held: HeldTask, number: int) -> TaskResult:
        removal = next((each for each in self._kept(held).removals if each.removal == number), None)
        # What an attempt before this one had decided and could not end, settling has just brought back.
        if removal is None or not self._is_brought_back(held, removal):
            if removal is None or removal.state != "trash":
                state = removal.state if removal else "not known"
                raise NotFoundError(f"removal {number} is {state}: it is not in the trash",
                                    mend="trainq retention trash shows what is")
            self._undo(held, removal, "a person wants it back")
            trash.put_back(self._home, removal)
        return TaskResult(summary=f"{removal.name} is back in {removal.store.value}/", size_bytes=removal.size_bytes,
                          facts={"name": removal.name, "store": removal.store.value})

    def _is_brought_back(self, held: HeldTask, removal: RemovalView) -> bool:
        return (held.lease.attempt > 1 and removal.state == "undone"
                and trash.place_of(self._home, removal.store, removal.name).is_dir())

    def _retain(self, held: HeldTask) -> TaskResult:
        settings = self._process.settings.retention
        before = stock.total_bytes(self._home)
        purged, freed = self._empty_trash(held)
        dropper = self._dropper(held)
        data = dropper.drop_data()
        shards = dropper.drop_shards(stock.excess_bytes(self._home, settings))
        freed += data.freed_bytes + shards.freed_bytes
        planned = rules.plan(stock.read(self._home, self._kept(held), settings.best_metric), settings)
        verdicts = rules.fit(planned, stock.excess_bytes(self._home, settings))
        going = [verdict for verdict in verdicts if not verdict.keep]
        # The oldest first: whatever ends this in the middle, the newest are there.
        going.sort(key=lambda verdict: (verdict.item.store, verdict.item.generation))
        removed = self._remove_all(held, going)
        return TaskResult(
            summary=f"deleted {purged + data.files + shards.files}, freed {freed / 1e9:.1f} GB; {len(removed)} to the "
                    f"trash, {len(verdicts) - len(removed)} kept",
            size_bytes=freed,
            facts={"purged": purged, "dropped_files": data.files, "dropped_shards": shards.files, "freed_bytes": freed,
                   "removed": removed[:1000], "used_bytes": before})

    def _remove_all(self, held: HeldTask, going: list[Verdict]) -> list[str]:
        removed = []
        for at, verdict in enumerate(going, start=1):
            held.keep_or_raise(Progress(step=at, steps=len(going), unit="copies"))
            item = verdict.item
            if item.store is Store.CHECKPOINTS and not self._newest_are_proven(held):
                continue
            if self._remove(held, verdict):
                removed.append(f"{item.store.value}/{item.name}")
        if self._proven is False:
            raise DamageError("checkpoints/", "the newest generations do not verify, so no older one is removed",
                              mend="trainq fsck names the damage; the trainer sets aside what it cannot go on from")
        return removed

    def _dropper(self, held: HeldTask) -> Dropper:
        return Dropper(self._peer, held, self._home, self._process.settings.retention,
                       lambda: self._older_proven(held))

    def _older_proven(self, held: HeldTask) -> str:
        """The generation that proves what is trained for good, if it and the newer ones that must stay are whole."""
        proving = stock.proving(self._home.checkpoints)
        return proving if proving and self._newest_are_proven(held) else ""

    def _newest_are_proven(self, held: HeldTask) -> bool:
        """Whether as many as must stay, the newest ones, and the newest that is not marked, are whole to the last byte;
        looked at once in a task.

        Only then may an older one go, or the content that they hold.
        """
        if self._proven is None:
            self._proven = self._prove_newest(held)
        return self._proven

    def _prove_newest(self, held: HeldTask) -> bool:
        on_chunk = paced(self._peer, held)
        wanted = stock.to_be_proven(self._home.checkpoints)
        for path in wanted:
            try:
                found = checkpoints.verify_alone(path, on_chunk)
                # Each once, however many adapters lie on it.
                wanted += [found.weights_path] if found.weights_path not in wanted else []
            except (DamageError, NewerFormatError) as error:
                self._process.log.error("not_proven", checkpoint=path.name, error=str(error))
                return False
        return True

    def _remove(self, held: HeldTask, verdict: Verdict) -> bool:
        item, reason = verdict.item, "; ".join(verdict.reasons)
        try:
            decided = self._peer.call(Remove(
                request_id=new_request_id(), job=held.lease.job, token=held.lease.token, store=item.store,
                name=item.name, size_bytes=item.size_bytes, reason=reason), Done, held.states)
        except UsageError as error:
            self._process.log.warning("removal_refused", store=item.store.value, name=item.name, error=str(error))
            return False
        trash.put(self._home, decided.seq, item.store, item.name)
        self._process.log.info("removed", store=item.store.value, name=item.name, removal=decided.seq, reason=reason)
        return True

    def _empty_trash(self, held: HeldTask) -> tuple[int, int]:
        """Delete for good what has lain there long enough, or what there is no room for; how many, and their bytes."""
        settings, kept = self._process.settings.retention, self._kept(held)
        there = {entry.removal for entry in trash.entries(self._home)}
        left = sorted((each for each in kept.removals if each.state == "trash" and each.removal in there),
                      key=lambda each: each.removal)
        before = stock.used_bytes(self._home.trash, self._home.snapshots)
        # A clock that was set back makes nothing old.
        long_ago = self._process.clock.wall() - settings.trash_hours * _HOUR_SECONDS
        old = [removal for removal in left if removal.at <= long_ago]
        for removal in old:
            self._purge(held, removal)
        self._collect()
        purged = len(old)
        for removal in (removal for removal in left if removal.at > long_ago):
            if not stock.excess_bytes(self._home, settings, with_trash=True):
                break
            self._purge(held, removal)
            self._collect()
            purged += 1
        return purged, before - stock.used_bytes(self._home.trash, self._home.snapshots)

    def _purge(self, held: HeldTask, removal: RemovalView) -> None:
        held.keep_or_raise(held.progress)
        self._peer.call(PurgeRemoval(request_id=new_request_id(), job=held.lease.job, token=held.lease.token,
                                     removal=removal.removal), Done, held.states)
        files.remove_tree(trash.place_in_trash(self._home, removal))

    def _collect(self) -> None:
        """Delete the objects that no snapshot names, neither one in its place nor one in the trash."""
        trashed = [entry.path for entry in trash.entries(self._home) if f"-{Store.SNAPSHOTS.value}-" in entry.path.name]
        try:
            unreferenced = list(snapshots.unreferenced(self._home.snapshots, trashed))
        except (DamageError, NewerFormatError) as error:
            self._process.log.warning("objects_kept", error=str(error))
            return
        for path in unreferenced:
            files.remove_file(path)


def serve(process: Process) -> None:
    """Run the retention worker until it is told to stop."""
    Retention(process).serve()
