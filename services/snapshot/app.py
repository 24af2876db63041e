"""The snapshot worker's loop: lease a task, copy, prove or publish, report. At low priority, and no faster than it may.

A kill at any instruction leaves whole snapshots and whole objects; the task is leased again and uses what is there.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec
import orjson

from trainq import __version__, backups, checkpoints, files, mirroring, objects, pruning, publishing, room, snapshots
from trainq.checkpoints import parse_name
from trainq.destinations import Destination
from trainq.errors import (
    AlreadyRunningError,
    DamageError,
    NotFoundError,
    StorageError,
    StorageFullError,
    TrainqError,
    UsageError,
)
from trainq.ids import new_request_id
from trainq.jobs import JobKind
from trainq.messages import (
    BackupTask,
    Champions,
    CopyJournal,
    CopyTask,
    GetChampions,
    GetHeldJobs,
    GetOverview,
    HeldJobs,
    JournalCopied,
    Overview,
    Progress,
    PublishTask,
    SnapshotTask,
    TaskLease,
    TaskResult,
    VerifyTask,
)
from trainq.retention.rules import Buckets
from trainq.service import HeldTask, Process, Worker, take_task
from trainq.service.politeness import be_polite, paced
from trainq.snapshots import Created

KINDS = (JobKind.SNAPSHOT, JobKind.VERIFY, JobKind.BACKUP, JobKind.PUBLISH)
# Between two looks at a copy of the journal that the broker makes.
_LOOK_SECONDS = 0.1
# A generation lies there some milliseconds before the broker hears of it; one of another line it never hears of.
_HEARD_SECONDS = 30.0
# Who prunes by hand proves a whole backup under the lock.
_LOCK_SECONDS = 600.0


class Snapshotter(Worker[TaskLease]):
    """Does one task at a time. Owned by the main thread."""

    def __init__(self, process: Process) -> None:
        super().__init__(process, b"event.TaskSubmitted", lambda peer: take_task(peer, KINDS))
        self._store = process.home.snapshots
        files.make_directory(self._store)
        files.sweep_temporaries(self._store, *(self._store / objects.FOLDER).glob("*"))
        be_polite(process.settings.maintenance)

    def work(self, held: HeldTask) -> TaskResult:
        if isinstance(held.lease.task, BackupTask):
            return self._backup(held, Path(held.lease.task.destination), held.lease.task.keep_last)
        with objects.writing(self._store):
            match held.lease.task:
                case SnapshotTask() as task:
                    return self._snapshot(held, task)
                case CopyTask() as task:
                    return self._copy_elsewhere(held, task)
                case VerifyTask() as task:
                    return self._verify(held, task)
                case PublishTask() as task:
                    return self._publish(held, task)
                case task:
                    raise UsageError(f"a {type(task).__name__} is no task of the snapshot worker")

    def _snapshot(self, held: HeldTask, task: SnapshotTask) -> TaskResult:
        source = self._source(held, task)
        made = [self._copy(held, each) for each in (*self._needed(source), source)]
        copied, shared = (sum(each.copied_bytes for each in made), sum(each.shared_bytes for each in made))
        name = made[-1].snapshot.name
        return TaskResult(
            summary=f"{name}: {copied} bytes copied, {shared} shared", size_bytes=copied,
            facts={"snapshot": name, "copied_bytes": copied, "shared_bytes": shared})

    def _source(self, held: HeldTask, task: SnapshotTask) -> Path:
        """The generation that is asked for; or the newest of which the broker has heard, and can say what it holds."""
        folder = self._process.home.checkpoints
        head = self._peer.call(GetOverview(request_id=new_request_id()), Overview, held.states).checkpoint
        wanted = task.generation or head
        if wanted and (folder / wanted).is_dir():
            return folder / wanted
        newest = next(iter(checkpoints.list_generations(folder)), None)
        if task.generation or newest is None:
            raise NotFoundError(f"there is no generation {task.generation or 'yet'}",
                                mend="ls checkpoints/ shows those that there are")
        return newest

    def _needed(self, source: Path) -> list[Path]:
        """The generations without which this one is worth nothing, as far as there is no snapshot of them yet."""
        found: list[Path] = []
        for name in checkpoints.read_facts(source).needs:
            path = source.parent / name
            if path.is_dir():
                found += [each for each in self._needed(path) if each not in found]
                found += [path] if not (self._store / name).is_dir() and path not in found else []
        return found

    def _copy(self, held: HeldTask, source: Path) -> Created:
        jobs, job_count = self._jobs(held, source.name)
        total = snapshots.missing_bytes(self._store, source)
        room.refuse_without(self._store, total, f"a snapshot of {source.name}")
        return snapshots.create(
            self._store, source, jobs=jobs, job_count=job_count, created_at=self._process.clock.wall(),
            created_by=f"trainq {__version__}, {held.lease.job}", on_chunk=paced(self._peer, held, total))

    def _copy_elsewhere(self, held: HeldTask, task: CopyTask) -> TaskResult:
        names = [task.snapshot] if task.snapshot else [path.name for path in snapshots.list_snapshots(self._store)]
        done = mirroring.copy_all(self._store, names[::-1],
                                  mirroring.Mirror(task.destination, paced(self._peer, held, 0)))
        return TaskResult(
            summary=f"{len(names)} snapshots are at {task.destination}: {done.copied_bytes} bytes copied, "
            f"{done.there_bytes} were there", size_bytes=done.copied_bytes,
            facts={"snapshots": names[:1000], "copied_bytes": done.copied_bytes, "there_bytes": done.there_bytes})

    def _backup(self, held: HeldTask, store: Path, keep_last: int) -> TaskResult:
        home, lease = self._process.home, held.lease
        if store.resolve().is_relative_to(home.root.resolve()):
            raise UsageError(f"{store} is in the home itself", mend="give a folder elsewhere, best on another disk")
        try:
            files.make_directory(store)
            with contextlib.ExitStack() as stack:
                self._wait_for_lock(held, store, stack)
                files.sweep_temporaries(store, *(store / objects.FOLDER).glob("*"))
                self._copy_journal(held)
                made = backups.create(store, home, home.journal_copy, lease.job, created_at=self._process.clock.wall(),
                                      created_by=f"trainq {__version__}, {lease.job}",
                                      on_chunk=paced(self._peer, held, 0))
                pruned, freed, said = self._prune(held, store, made.backup.name, keep_last)
        except (StorageError, StorageFullError) as error:
            # Trying again at once would copy the whole journal each time: who asks, or the next slot, does.
            raise TrainqError(f"the backup could not be made: {error.message}", mend=error.mend) from error
        finally:
            files.remove_file(home.journal_copy)
        facts = made.backup.facts
        lacking = f", {len(facts.lacking)} files were gone or damaged" if facts.lacking else ""
        return TaskResult(
            summary=f"{made.backup.name}: {made.copied_bytes} bytes copied, {made.shared_bytes} shared{lacking}{said}",
            size_bytes=made.copied_bytes,
            facts={"backup": made.backup.name, "seq": facts.seq, "copied_bytes": made.copied_bytes,
                   "shared_bytes": made.shared_bytes, "pruned": pruned[:1000], "freed_bytes": freed})

    def _publish(self, held: HeldTask, task: PublishTask) -> TaskResult:
        """Deliver a champion. It may be none any more: then it is delivered, and the newer one stays pointed at."""
        source = self._process.home.checkpoints / task.checkpoint
        if not source.is_dir():
            raise NotFoundError(f"there is no {task.checkpoint} in checkpoints/ any more",
                                mend="trainq champion --deliver publishes who is champion now")
        clock, move = self._process.clock, self._move_to(held, task.checkpoint)
        began = clock.monotonic()
        done = publishing.deliver(
            source, move, Destination(task.destination, paced(self._peer, held, 0)), published_at=clock.wall(),
            published_by=f"trainq {__version__}, {held.lease.job}",
            keep=self._process.settings.promotion.publish_keep)
        seconds = clock.monotonic() - began
        pointed = "" if done.is_pointed_at else f"; {publishing.POINTER_NAME} names {done.pointed_at}, which came later"
        pointed += f"; {len(done.removed)} former champions went" if done.removed else ""
        if done.stays:
            self._process.log.warning("former_champion_stays", destination=task.destination, error=done.stays)
            pointed += f"; {done.stays}"
        size_bytes = done.copied_bytes + done.there_bytes
        return TaskResult(
            summary=f"{task.checkpoint} is at {task.destination}: {done.copied_bytes} bytes copied, {size_bytes} "
                    f"proven, in {seconds:.1f} s{pointed}",
            size_bytes=done.copied_bytes,
            facts={"destination": task.destination, "checkpoint": task.checkpoint, "weights": done.weights,
                   "copied_bytes": done.copied_bytes, "proven_bytes": size_bytes, "seconds": round(seconds, 3),
                   "pointed_at": done.pointed_at, "move": move.seq, "removed": list(done.removed)})

    def _move_to(self, held: HeldTask, checkpoint: str) -> publishing.Move:
        """The newest move with which it became champion.

        Raises:
            UsageError: it never was.
        """
        journal = self._peer.call(GetOverview(request_id=new_request_id()), Overview, held.states).journal_id
        before: int | None = None
        while page := self._peer.call(GetChampions(request_id=new_request_id(), before_seq=before), Champions,
                                      held.states).champions:
            for move in page:
                if move.checkpoint == checkpoint:
                    return publishing.Move(journal=journal, seq=move.seq, checkpoint=checkpoint, at=move.at,
                                           how=move.how.value, reason=move.reason)
            before = page[-1].seq
        raise UsageError(f"{checkpoint} was never champion", mend="trainq champion --history shows who was")

    def _wait_for_lock(self, held: HeldTask, store: Path, stack: contextlib.ExitStack) -> None:
        """Hold the lock on the folder of backups until ``stack`` ends; somebody may just be pruning there."""
        until = self._process.clock.monotonic() + _LOCK_SECONDS
        while True:
            try:
                stack.enter_context(objects.writing(store))
                return
            except AlreadyRunningError:
                if self._process.clock.monotonic() > until:
                    raise
                held.keep_or_raise(held.progress)
                self._peer.wait(_LOOK_SECONDS)

    def _copy_journal(self, held: HeldTask) -> None:
        copied = JournalCopied(done=False, seq=0, copied_pages=0, pages=0)
        while not copied.done:
            held.keep_or_raise(Progress(step=copied.copied_pages, steps=copied.pages, unit="pages"))
            copied = self._peer.call(CopyJournal(request_id=new_request_id(), job=held.lease.job,
                                                 token=held.lease.token), JournalCopied, held.states)
            self._peer.wait(0.0 if copied.done else _LOOK_SECONDS)

    def _prune(self, held: HeldTask, store: Path, made: str, keep_last: int) -> tuple[list[str], int, str]:
        """Let old backups go, of which ``keep_last`` stay; which have gone, the bytes that frees, and words for it.

        The backup is made: whatever keeps an old one there does not undo that.
        """
        if not keep_last:
            return [], 0, ""
        try:
            done = pruning.apply(store, Buckets(last=keep_last), paced(self._peer, held, 0), spare=made)
        except (OSError, StorageError, StorageFullError) as error:
            self._process.log.warning("not_pruned", store=str(store), error=str(error))
            return [], 0, f"; not all old ones could go: {error}"
        for verdict in done.verdicts:
            if verdict.fault:
                self._process.log.warning("backup_damaged", backup=verdict.backup, error=verdict.fault)
        damaged = [verdict.backup for verdict in done.verdicts if verdict.fault]
        stay = f" ({done.objects_stay})" if done.objects_stay else ""
        stay += f"; damaged: {', '.join(damaged)}, and the next backup copies that again" if damaged else ""
        return done.going, done.freed_bytes, f"; {len(done.going)} old ones went, {done.freed_bytes} bytes freed{stay}"

    def _verify(self, held: HeldTask, task: VerifyTask) -> TaskResult:
        """Prove one snapshot, or all; those that are damaged are all named."""
        names = [task.snapshot] if task.snapshot else [path.name for path in snapshots.list_snapshots(self._store)]
        total = sum(map(self._size_bytes, names))
        on_chunk = paced(self._peer, held, total)
        damaged = []
        for name in names:
            try:
                wrong = snapshots.verify(self._store, name, on_chunk)
            except DamageError as error:
                wrong = [str(error)]
            for each in wrong:
                self._process.log.warning("snapshot_damaged", snapshot=name, error=each)
                damaged.append(f"{name}: {each}")
        if damaged:
            raise DamageError("snapshots", "; ".join(damaged), mend="trainq snapshot create copies what is missing "
                              "again, if a generation still has it")
        return TaskResult(summary=f"{len(names)} snapshots are whole", size_bytes=total)

    def _size_bytes(self, name: str) -> int:
        try:
            return snapshots.find(self._store, name).size_bytes
        except DamageError:
            return 0

    def _jobs(self, held: HeldTask, name: str) -> tuple[bytes, int]:
        """``jobs.jsonl`` of the trained jobs that a generation covers, and how many they are."""
        own = parse_name(name)
        lines: list[bytes] = []
        after = 0
        while own is not None:
            page = self._held_jobs(held, own.generation, after)
            if not page.jobs:
                break
            lines += [orjson.dumps(msgspec.to_builtins(job)) + b"\n" for job in page.jobs]
            after = page.jobs[-1].generation
        return b"".join(lines), len(lines)

    def _held_jobs(self, held: HeldTask, generation: int, after: int) -> HeldJobs:
        until = self._process.clock.monotonic() + _HEARD_SECONDS
        while True:
            try:
                return self._peer.call(GetHeldJobs(request_id=new_request_id(), generation=generation, after=after),
                                       HeldJobs, held.states)
            except NotFoundError:
                if self._process.clock.monotonic() > until:
                    raise
                held.keep_or_raise(held.progress)
                self._peer.wait(_LOOK_SECONDS)


def serve(process: Process) -> None:
    """Run the snapshot worker until it is told to stop."""
    Snapshotter(process).serve()
