"""A store of content under its digest: what several copies have in common lies in it once.

``<store>/objects/<two digits>/<digest>``. A file is copied and hashed in one pass, against the digest that it must
have. One process at a time writes into a store; it holds ``<store>/.lock``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from blake3 import blake3

from trainq import files, ids, locks, manifests
from trainq.errors import DamageError
from trainq.manifests import FileRecord, OnChunk

LOCK_NAME = ".lock"
FOLDER = "objects"


@contextlib.contextmanager
def writing(store: Path) -> Iterator[None]:
    """Hold the store's lock: against a worker that has lost its lease and does not know it yet.

    Raises:
        AlreadyRunningError: another process writes here.
    """
    lock = locks.acquire_lock(store / LOCK_NAME, "writer of this store")
    try:
        yield
    finally:
        lock.release()


def path_of(store: Path, digest: str) -> Path:
    """Where content with this digest lies."""
    return store / FOLDER / digest[:2] / digest


class Writer:
    """Puts content into the store, and counts."""

    def __init__(self, store: Path, on_chunk: OnChunk) -> None:
        self._store = store
        self._on_chunk = on_chunk
        self.copied_bytes = self.shared_bytes = 0

    def keep(self, source: Path, record: FileRecord) -> None:
        """Copy one file, unless the same content is there; hashed in the same pass.

        Raises:
            DamageError: the file is missing, or is not what ``record`` says.
            StorageError, StorageFullError: the disk.
        """
        if is_kept(self._store, record):
            self.shared_bytes += record.size_bytes
            self._on_chunk(0)
            return
        hasher, size_bytes = blake3(), 0
        with _published(self._store, record.blake3) as copy:
            for chunk in manifests.chunks(source):
                hasher.update(chunk)
                copy.write(chunk)
                size_bytes += len(chunk)
                self._on_chunk(len(chunk))
            if size_bytes != record.size_bytes or hasher.hexdigest() != record.blake3:
                raise DamageError(str(source), "its content is not what its manifest says")
        self.copied_bytes += size_bytes

    def keep_bytes(self, content: bytes) -> FileRecord:
        """Keep these bytes; what they are."""
        record = FileRecord(blake3=manifests.digest_bytes(content), size_bytes=len(content))
        if not is_kept(self._store, record):
            with _published(self._store, record.blake3) as copy:
                copy.write(content)
            self.copied_bytes += len(content)
        return record


def _published(store: Path, digest: str) -> contextlib.AbstractContextManager[BinaryIO]:
    path = path_of(store, digest)
    files.make_directory(path.parent)
    return files.publish_file(path)


def is_kept(store: Path, record: FileRecord) -> bool:
    """Whether the content is there. Its bytes were proven when it was written; :func:`verify` proves them again."""
    try:
        return path_of(store, record.blake3).stat().st_size == record.size_bytes
    except FileNotFoundError:
        return False
    except OSError as error:
        raise files.storage_error(error, f"looking for {record.blake3} in {store}") from error


def missing_bytes(store: Path, records: Iterable[FileRecord], on_chunk: OnChunk = lambda _: None) -> int:
    """How many bytes of these are not there yet, so that room is looked for first."""
    missing: dict[str, int] = {}
    for record in records:
        on_chunk(0)
        if not is_kept(store, record):
            missing[record.blake3] = record.size_bytes
    return sum(missing.values())


def write_out(store: Path, name: str, record: FileRecord, folder: Path, on_chunk: OnChunk) -> None:
    """Write kept content as ``folder/name``, proven while it is copied.

    Raises:
        DamageError: it is missing, or not what ``record`` says.
    """
    manifests.write_proven(path_of(store, record.blake3), record, folder, name, on_chunk)


def fault_of(store: Path, name: str, record: FileRecord, on_chunk: OnChunk) -> str:
    """What is wrong with kept content, byte for byte, or nothing. Changes nothing.

    Raises:
        StorageError: it could not be read at all, which proves nothing.
    """
    try:
        for _ in manifests.proven_chunks(path_of(store, record.blake3), record, name, on_chunk):
            pass
    except DamageError as error:
        return f"{name}: {error}"
    return ""


def prove(store: Path, name: str, record: FileRecord, on_chunk: OnChunk) -> str:
    """Prove kept content; what is wrong with it, or nothing.

    What is damaged is renamed, so that no later copy shares it; who names it lacks it then, until the same content is
    kept again. The caller holds the store's lock.

    Raises:
        StorageError: it could not be read at all, which proves nothing.
    """
    wrong, path = fault_of(store, name, record, on_chunk), path_of(store, record.blake3)
    if wrong and path.exists():
        files.move(path, path.with_name(f"{path.name}.damaged"))
    return wrong


def unreferenced(store: Path, named: Collection[str]) -> Iterator[Path]:
    """The content whose digest is not among ``named``. The caller holds the store's lock, and nothing is being kept."""
    for fan in sorted((store / FOLDER).glob("[0-9a-f][0-9a-f]")):
        for entry in sorted(fan.iterdir()):
            if ids.is_digest(entry.name) and entry.name not in named:
                yield entry
