"""Backups: the journal and what it needs to go on, in a folder elsewhere; each a whole, and proven.

A backup holds the journal as it was at one event, every file that a job of it carries or that its shard is made with,
and the head of the model line with the generations that it may have to go back to. Shards are not in it: they are made
again from the files, and must come out the same. Its manifest (:mod:`trainq.manifests`, kind ``backup``) lies in
``<folder>/b000000123-0a1b2c3d/``, under the journal's number and the beginning of its digest (two lines may reach one
number); the bytes lie in ``<folder>/objects/`` (:mod:`trainq.objects`), where what several backups have in common lies
once. So the next one copies only what is new.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from trainq import checkpoints, files, ingest, manifests, objects, room
from trainq.config import Home
from trainq.errors import DamageError, InputError, NotFoundError
from trainq.jobs import JobState, JobSucceeded, is_of_files
from trainq.journal import Journal, Queries, enclosing, learning
from trainq.manifests import FileRecord, Manifest, OnChunk
from trainq.messages import TaskResult

KIND = "backup"
FORMAT = 1
_NAME = re.compile(r"b\d{9,}-[0-9a-f]{8}")


class BackupFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The manifest's facts. ``created_at`` is in seconds since 1970.

    ``lacking`` names files that were gone, or damaged. Those were carried by jobs that have ended: nothing that is
    still to be trained is ever lacking.
    """

    journal_id: str
    seq: int
    checkpoint: str
    jobs: int
    lacking: list[str]
    created_at: float
    created_by: str
    format: int = FORMAT
    # Those of the head in it; a backup of before there were any has none.
    marks: tuple[str, ...] = ()


class Backup(NamedTuple):
    """A backup whose manifest is sound; :func:`verify` proves its content."""

    path: Path
    manifest: Manifest
    facts: BackupFacts

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def size_bytes(self) -> int:
        """What its files take, whether others share them or not."""
        return self.manifest.size_bytes


class Created(NamedTuple):
    """What :func:`create` did: bytes written, and bytes that were there already."""

    backup: Backup
    copied_bytes: int
    shared_bytes: int


def list_backups(store: Path) -> list[Path]:
    """All backups in ``store``, the last made first; whether they are whole is not looked at.

    By when each was made, as its file system has it: a line that was restored from an older one begins below numbers
    that were reached before.
    """
    found = []
    for path in store.iterdir() if store.is_dir() else ():
        if _NAME.fullmatch(path.name):
            with contextlib.suppress(FileNotFoundError):  # pruned just now
                found.append((path.stat().st_mtime_ns, path.name, path))
    return [path for _, _, path in sorted(found, reverse=True)]


def find(store: Path, name: str = "") -> Backup:
    """The backup of that name, or the newest.

    Raises:
        NotFoundError: there is none.
        DamageError, NewerFormatError: its manifest is damaged, or a newer trainq's.
    """
    for path in list_backups(store):
        if path.name == name or not name:
            return read(path)
    raise NotFoundError(f"there is no backup {name or 'yet'} in {store}", mend="trainq backup list FOLDER shows them")


def read(path: Path) -> Backup:
    """Read and check a backup's manifest, not its content.

    Raises:
        DamageError, NewerFormatError: it is damaged, or a newer trainq's.
        StorageError: it could not be read.
    """
    manifest = manifests.read(path, KIND)
    return Backup(path, manifest, manifests.facts_of(path, manifest, BackupFacts, FORMAT))


def create(store: Path, home: Home, journal_copy: Path, task: str, *, created_at: float, created_by: str,
           on_chunk: OnChunk) -> Created:
    """Make a backup of ``home`` around a finished copy of its journal; the caller holds the store's lock.

    Args:
        store: where to; made if it is not there.
        home: only read. Nothing may be removed from it meanwhile.
        journal_copy: opened, changed and closed here, and not removed.
        task: whose backup it is. In the copy it has succeeded: else what is made of it would begin with another backup.
        created_at: seconds since 1970.
        created_by: who asked for it.
        on_chunk: called again and again, with 0 where nothing was copied; may raise. Then nothing half done is listed,
            and what was copied whole is used the next time.

    Raises:
        DamageError: a file that is still to be trained, or the head, is not what it must be.
        StorageError, StorageFullError: the disk.
    """
    wanted, facts = _wanted(home, journal_copy, task, created_at, created_by, on_chunk)
    room.refuse_without(store, objects.missing_bytes(store, (each.record for each in wanted.values()), on_chunk),
                        "the backup")
    written = objects.Writer(store, on_chunk)
    for name, each in list(wanted.items()):
        try:
            written.keep(each.path, each.record)
        except DamageError:
            if each.is_needed:
                raise
            del wanted[name]
            facts.lacking.append(each.record.blake3)
    path = store / f"b{facts.seq:09d}-{wanted[home.journal.name].record.blake3[:8]}"
    records = {name: each.record for name, each in wanted.items()}
    if not path.is_dir() or find(store, path.name).manifest.files != records:
        with files.publish_directory(path) as folder:
            manifests.write(folder, KIND, records, msgspec.to_builtins(facts))
    return Created(find(store, path.name), written.copied_bytes, written.shared_bytes)


def verify(store: Path, name: str, on_chunk: OnChunk) -> list[str]:
    """Prove every byte of a backup; says what is wrong with each file. Damage is put aside (:func:`objects.prove`).

    Raises:
        NotFoundError, DamageError, NewerFormatError: as :func:`find`.
    """
    records = find(store, name).manifest.files
    return [wrong for file, record in records.items() if (wrong := objects.prove(store, file, record, on_chunk))]


def faults_of(store: Path, name: str, on_chunk: OnChunk) -> list[str]:
    """What :func:`verify` finds, with nothing put aside; needs no lock."""
    records = find(store, name).manifest.files
    return [wrong for file, record in records.items() if (wrong := objects.fault_of(store, file, record, on_chunk))]


def restore(store: Path, backup: Backup, root: Path, on_chunk: OnChunk) -> int:
    """Make a home of a backup at ``root``, which must not exist; gives the bytes written.

    Raises:
        InputError: there is something at ``root``.
        DamageError: the backup is not what its manifest says. Nothing was made.
        StorageError, StorageFullError: the disk; nothing was made.
    """
    if root.exists():
        raise InputError("it exists already", file=str(root), mend="give a folder that does not exist")
    files.make_directory(root.parent)
    room.refuse_without(root.parent, backup.size_bytes, f"what {backup.name} holds")
    with files.publish_directory(root) as folder:
        for name, record in backup.manifest.files.items():
            objects.write_out(store, name, record, folder, on_chunk)
    return backup.size_bytes


class _Wanted(NamedTuple):
    """Where a file lies, what it must be, and whether there is no backup without it."""

    path: Path
    record: FileRecord
    is_needed: bool = True


def _wanted(home: Home, journal_copy: Path, task: str, created_at: float, created_by: str,
            on_chunk: OnChunk) -> tuple[dict[str, _Wanted], BackupFacts]:
    """Each file of the backup by its name in the home; and the facts."""
    journal = Journal.open(journal_copy, fold_anew=False)
    try:
        queries = Queries(journal)
        if queries.job(task).state is JobState.RUNNING:
            with journal.transaction():
                journal.append(JobSucceeded(job=task, result=msgspec.to_builtins(
                    TaskResult(summary="this home was made of it"))), created_at)
        line = queries.line()
        carried = [*queries.carried_files(), *enclosing.enclosed_files(journal.connection)]
        known = learning.known(journal.connection)
        journal_id, seq = journal.journal_id, journal.head_seq
    finally:
        journal.close()
    wanted: dict[str, _Wanted] = {}
    for digest, size_bytes, is_needed in carried:
        path = ingest.data_path(home, digest)
        wanted[path.relative_to(home.root).as_posix()] = _Wanted(
            path, FileRecord(blake3=digest, size_bytes=size_bytes), is_needed)
    # People go back to a champion, and compare with it.
    for folder in _generations(home, line.checkpoint, *known.wanted):
        wanted |= {f"{home.checkpoints.name}/{folder.name}/{name}": _Wanted(folder / name, record)
                   for name, record in _sealed(folder)}
    wanted |= {path.relative_to(home.root).as_posix(): _Wanted(path, record, is_needed=False)
               for path, record in _suites(home, on_chunk)}
    wanted[home.journal.name] = _Wanted(journal_copy, FileRecord(
        blake3=manifests.digest_file(journal_copy, on_chunk), size_bytes=journal_copy.stat().st_size))
    marks = checkpoints.read_facts(home.checkpoints / line.checkpoint).marks if line.checkpoint else ()
    return wanted, BackupFacts(journal_id=journal_id, seq=seq, checkpoint=line.checkpoint, jobs=line.next_number - 1,
                               lacking=[], marks=marks, created_at=created_at, created_by=created_by)


def _suites(home: Home, on_chunk: OnChunk) -> Iterator[tuple[Path, FileRecord]]:
    """The files of what the model is scored on; what is made of files' held-out rows is made again."""
    for folder in sorted(home.suites.iterdir()) if home.suites.is_dir() else ():
        if not folder.is_dir() or folder.name.startswith(".") or is_of_files(folder.name):
            continue
        for path in files.list_tree(folder):
            yield path, FileRecord(blake3=manifests.digest_file(path, on_chunk), size_bytes=path.stat().st_size)


def _generations(home: Home, head: str, *others: str) -> Iterator[Path]:
    """The head, what it was published after or its job may be taken back to, what others are wanted, and what all those
    need; as far as there.
    """
    if not head:
        return
    path = home.checkpoints / head
    if not path.is_dir():
        raise DamageError(str(path), "the journal says that it is the head, and it is not there",
                          mend="ask for the backup again; if that does not help, trainq fsck")
    yield path
    facts = checkpoints.read_facts(path)
    wanted, seen = [facts.base, facts.parent, *facts.needs, *others], {"", head}
    while wanted:
        name = wanted.pop()
        if name not in seen and (home.checkpoints / name).is_dir():
            yield home.checkpoints / name
            wanted += checkpoints.read_facts(home.checkpoints / name).needs
        seen.add(name)


def _sealed(folder: Path) -> Iterator[tuple[str, FileRecord]]:
    """The files of a sealed directory, its manifest among them."""
    yield from manifests.read(folder, checkpoints.KIND).files.items()
    yield manifests.MANIFEST_NAME, manifests.own_record(folder)
