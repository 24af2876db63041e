"""The snapshot worker's loop: lease a task, copy or prove, report. At low priority, and no faster than it may.

A kill at any instruction leaves whole snapshots and whole objects; the task is leased again and uses what is there.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import orjson

from trainq import __version__, backups, checkpoints, files, objects, room, snapshots
from trainq.checkpoints import parse_name
from trainq.errors import DamageError, NotFoundError, UsageError
from trainq.ids import new_request_id
from trainq.jobs import JobKind
from trainq.messages import (
    BackupTask,
    CopyJournal,
    GetHeldJobs,
    HeldJobs,
    JournalCopied,
    Progress,
    SnapshotTask,
    TaskLease,
    TaskResult,
    VerifyTask,
)
from trainq.service import HeldTask, Process, Worker, take_task
from trainq.service.politeness import be_polite, paced

KINDS = (JobKind.SNAPSHOT, JobKind.VERIFY, JobKind.BACKUP)
# Between two looks at a copy of the journal that the broker makes.
_LOOK_SECONDS = 0.1


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
            return self._backup(held, Path(held.lease.task.destination))
        with objects.writing(self._store):
            match held.lease.task:
                case SnapshotTask() as task:
                    return self._snapshot(held, task)
                case VerifyTask() as task:
                    return self._verify(held, task)
                case task:
                    raise UsageError(f"a {type(task).__name__} is no task of the snapshot worker")

    def _snapshot(self, held: HeldTask, task: SnapshotTask) -> TaskResult:
        home = self._process.home
        generations = checkpoints.list_generations(home.checkpoints)
        if task.generation:
            generations = [path for path in generations if path.name == task.generation]
        if not generations:
            raise NotFoundError(f"there is no generation {task.generation or 'yet'}",
                                mend="ls checkpoints/ shows those that there are")
        source = generations[0]
        jobs, job_count = self._jobs(held, source.name)
        total = snapshots.missing_bytes(self._store, source)
        room.refuse_without(self._store, total, f"a snapshot of {source.name}")
        made = snapshots.create(
            self._store, source, jobs=jobs, job_count=job_count, created_at=self._process.clock.wall(),
            created_by=f"trainq {__version__}, {held.lease.job}", on_chunk=paced(self._peer, held, total))
        return TaskResult(
            summary=f"{made.snapshot.name}: {made.copied_bytes} bytes copied, {made.shared_bytes} shared",
            size_bytes=made.copied_bytes,
            facts={"snapshot": made.snapshot.name, "copied_bytes": made.copied_bytes,
                   "shared_bytes": made.shared_bytes})

    def _backup(self, held: HeldTask, store: Path) -> TaskResult:
        process, lease = self._process, held.lease
        files.make_directory(store)
        files.sweep_temporaries(store, *(store / objects.FOLDER).glob("*"))
        copied = JournalCopied(done=False, seq=0, copied_pages=0, pages=0)
        while not copied.done:
            held.keep_or_raise(Progress(step=copied.copied_pages, steps=copied.pages, unit="pages"))
            copied = self._peer.call(CopyJournal(request_id=new_request_id(), job=lease.job, token=lease.token),
                                     JournalCopied, held.states)
            self._peer.wait(0.0 if copied.done else _LOOK_SECONDS)
        copy = process.home.journal_copy
        try:
            with objects.writing(store):
                made = backups.create(store, process.home, copy, created_at=process.clock.wall(),
                                      created_by=f"trainq {__version__}, {lease.job}",
                                      on_chunk=paced(self._peer, held, 0))
        finally:
            files.remove_file(copy)
        lacking = f", {len(made.backup.facts.lacking)} files were gone" if made.backup.facts.lacking else ""
        return TaskResult(
            summary=f"{made.backup.name}: {made.copied_bytes} bytes copied, {made.shared_bytes} shared{lacking}",
            size_bytes=made.copied_bytes,
            facts={"backup": made.backup.name, "seq": made.backup.facts.seq, "copied_bytes": made.copied_bytes,
                   "shared_bytes": made.shared_bytes})

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
            page = self._peer.call(GetHeldJobs(request_id=new_request_id(), generation=own.generation, after=after),
                                   HeldJobs, held.states)
            if not page.jobs:
                break
            lines += [orjson.dumps(msgspec.to_builtins(job)) + b"\n" for job in page.jobs]
            after = page.jobs[-1].generation
        return b"".join(lines), len(lines)


def serve(process: Process) -> None:
    """Run the snapshot worker until it is told to stop."""
    Snapshotter(process).serve()
