"""Mirroring: snapshots copied to another place through fsspec, each proven by reading it back.

The place looks like ``snapshots/`` itself: ``<url>/objects/<two digits>/<digest>`` and
``<url>/g000042-s00001200/manifest.json``, which is written last; so a folder that was mirrored can be put in the place
of ``snapshots/``. What fsspec can reach depends on what is installed beside it (s3fs, gcsfs, sshfs ...).
"""

from __future__ import annotations

import contextlib
import posixpath
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from blake3 import blake3

from trainq import files, manifests, objects, snapshots
from trainq.errors import DamageError, InputError, StorageError, StorageFullError, TrainqError
from trainq.manifests import FileRecord, OnChunk
from trainq.snapshots import Snapshot

_CHUNK_BYTES = 1 << 20


class Mirrored(NamedTuple):
    """What :meth:`Mirror.copy` did: bytes written, and bytes that were there already."""

    copied_bytes: int
    there_bytes: int


class Mirror:
    """One place elsewhere.

    Args:
        url: a URL of fsspec's (``s3://bucket/folder``), or an absolute path.
        on_chunk: called again and again with what was copied, and 0 where nothing was; may raise.

    Raises:
        InputError: the URL is none that can be used here.
    """

    def __init__(self, url: str, on_chunk: OnChunk) -> None:
        # Half a tenth of a second, for those alone who copy somewhere.
        import fsspec.core  # type: ignore[import-untyped]  # it has no types

        self._url = url
        self._on_chunk = on_chunk
        try:
            self._system, self._root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise InputError(f"it cannot be reached: {error}", file=url,
                             mend="install what fsspec needs for it, or give another place") from error
        self._is_local = "file" in self._system.protocol

    def has(self, name: str) -> bool:
        """Whether a whole copy of that snapshot is there."""
        return bool(self._system.exists(self._path(name, manifests.MANIFEST_NAME)))

    def copy(self, store: Path, snapshot: Snapshot) -> Mirrored:
        """Copy one snapshot, and prove what was copied by reading it back; the manifest comes last.

        Raises:
            DamageError: the snapshot here is not what its manifest says, or what is read back is not what was written.
            TrainqError: the place refuses; nothing of the snapshot is listed there.
        """
        copied = there = 0
        try:
            for name, record in snapshot.manifest.files.items():
                target = self._path(objects.FOLDER, record.blake3[:2], record.blake3)
                self._on_chunk(0)
                if self._is_there(target, record):
                    there += record.size_bytes
                else:
                    self._put(objects.path_of(store, record.blake3), target, record, name)
                    copied += record.size_bytes
            self._put(snapshot.path / manifests.MANIFEST_NAME, self._path(snapshot.name, manifests.MANIFEST_NAME),
                      manifests.own_record(snapshot.path), manifests.MANIFEST_NAME)
        except (OSError, StorageError, StorageFullError) as error:
            # Of no place elsewhere may this worker's other tasks wait: who asks, or the next slot, tries again.
            raise TrainqError(f"{self._url} does not take {snapshot.name}: {error}",
                              mend="look at the place, its room and its rights; the next copy goes on") from error
        return Mirrored(copied, there)

    def _path(self, *parts: str) -> str:
        return posixpath.join(self._root, *parts)

    def _is_there(self, target: str, record: FileRecord) -> bool:
        """By its size: its bytes were proven when they were written."""
        return bool(self._system.exists(target)) and int(self._system.size(target)) == record.size_bytes

    def _put(self, source: Path, target: str, record: FileRecord, name: str) -> None:
        """Under a name that nobody reads until it was read back and found right; nothing is left of what failed."""
        part = f"{target}.part"
        self._make_folder(posixpath.dirname(target))
        try:
            self._write(part, manifests.proven_chunks(source, record, name, self._on_chunk))
            if self._digest(part) != record.blake3:
                raise DamageError(f"{self._url}", f"{name} was written, and comes back otherwise")
            self._rename(part, target)
        except BaseException:
            # A place that fails may not let go of it either; then the next copy writes over it.
            with contextlib.suppress(Exception):
                self._system.rm(part)
            raise

    # A disk of this machine is written as everything here is: durably, and so that a fault is told in the same words.

    def _make_folder(self, folder: str) -> None:
        if self._is_local:
            files.make_directory(Path(folder))
        else:
            self._system.makedirs(folder, exist_ok=True)

    def _write(self, part: str, chunks: Iterable[bytes]) -> None:
        if not self._is_local:
            with self._system.open(part, "wb") as stream:
                for chunk in chunks:
                    stream.write(chunk)
            return
        growing = files.open_growing(Path(part), 0)
        try:
            for chunk in chunks:
                growing.append(chunk)
            growing.sync()
        finally:
            growing.close()

    def _rename(self, part: str, target: str) -> None:
        if self._is_local:
            files.move(Path(part), Path(target))
        else:
            self._system.mv(part, target)

    def _digest(self, path: str) -> str:
        hasher = blake3()
        stream: Any
        with self._system.open(path, "rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                hasher.update(chunk)
                self._on_chunk(0)
        return hasher.hexdigest()


def copy_all(store: Path, names: list[str], mirror: Mirror) -> Mirrored:
    """Copy those of these snapshots that are not there yet, the oldest first."""
    copied = there = 0
    for name in names:
        if not mirror.has(name):
            done = mirror.copy(store, snapshots.find(store, name))
            copied, there = copied + done.copied_bytes, there + done.there_bytes
    return Mirrored(copied, there)
