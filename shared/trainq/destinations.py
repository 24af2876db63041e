"""Places elsewhere, reached through fsspec, to which something is copied: each file proven there by reading it back.

What fsspec can reach depends on what is installed beside it (s3fs, gcsfs, sshfs ...). A disk of this machine is written
as everything here is: durably, and so that a fault is told in the same words.
"""

from __future__ import annotations

import contextlib
import posixpath
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from blake3 import blake3

from trainq import files, room
from trainq.errors import DamageError, InputError, TrainqError
from trainq.manifests import FileRecord, OnChunk

_CHUNK_BYTES = 1 << 20


def is_on_this_machine(url: str) -> bool:
    """Whether a place is a folder here, by how it is written alone: nothing is imported or asked for that."""
    return url.startswith("/") or url.partition("://")[0] in ("file", "local")


class Destination:
    """One place elsewhere. A path in it is what :meth:`path` makes.

    Args:
        url: a URL of fsspec's (``s3://bucket/folder``), or an absolute path.
        on_chunk: called again and again with what was copied, and 0 where nothing was; may raise.

    Raises:
        InputError: the URL is none that can be used here.
    """

    def __init__(self, url: str, on_chunk: OnChunk) -> None:
        # Half a tenth of a second, for those alone who copy somewhere.
        import fsspec.core  # type: ignore[import-untyped]  # it has no types

        self.url = url
        self.on_chunk = on_chunk
        try:
            self._system, self._root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise InputError(f"it cannot be reached: {error}", file=url,
                             mend="install what fsspec needs for it, or give another place") from error
        self.is_local = "file" in self._system.protocol

    def path(self, *parts: str) -> str:
        return posixpath.join(self._root, *parts)

    def exists(self, path: str) -> bool:
        return bool(self._system.exists(path))

    def size_bytes(self, path: str) -> int:
        return int(self._system.size(path))

    def read(self, path: str) -> bytes:
        """The whole of a small file."""
        return bytes(self._system.cat_file(path))

    def digest(self, path: str) -> str:
        """BLAKE3 of a file there, read to its end."""
        hasher = blake3()
        stream: Any
        with self._system.open(path, "rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                hasher.update(chunk)
                self.on_chunk(0)
        return hasher.hexdigest()

    def put(self, chunks: Iterable[bytes], target: str, record: FileRecord, name: str) -> None:
        """Write a file, under a name that nobody reads until it was read back and found right.

        Nothing is left of what failed. ``name`` is what it is called in errors.

        Raises:
            DamageError: what is read back is not what was to be written.
        """
        part = f"{target}.part"
        self._make_folder(posixpath.dirname(target))
        try:
            self._write(part, chunks)
            if self.digest(part) != record.blake3:
                raise DamageError(f"{self.url}", f"{name} was written, and comes back otherwise")
            self._rename(part, target)
        except BaseException:
            # A place that fails may not let go of it either; then the next copy writes over it.
            with contextlib.suppress(Exception):
                self._system.rm(part)
            raise

    def refused(self, what: str, error: OSError | TrainqError, mend: str) -> TrainqError:
        """The error of a task that puts ``what`` there. It is the task's own: of no place elsewhere others may wait.

        The mend of ``error`` is left out: where a disk of this machine is full, that says it goes on by itself.
        """
        said = error.message if isinstance(error, TrainqError) else error
        return TrainqError(f"{self.url} does not take {what}: {said}", mend=mend)

    def remove_folder(self, path: str) -> None:
        """Remove a folder there and all in it; that it is gone already is no error."""
        if self.is_local:
            files.remove_tree(Path(path))
        elif self._system.exists(path):
            self._system.rm(path, recursive=True)

    def refuse_without(self, needed_bytes: int, what: str) -> None:
        """Raise if so many bytes more do not fit there; of a place that is no disk of this machine nobody knows.

        Raises:
            StorageFullError: says what is needed and what there is.
        """
        if self.is_local and needed_bytes:
            there = next(path for path in (Path(self._root), *Path(self._root).parents) if path.is_dir())
            room.refuse_without(there, needed_bytes, what)

    def sync(self) -> None:
        """Make the names at its top durable: whoever gave them may have ended before they were."""
        if self.is_local:
            files.sync_directory(Path(self._root))

    def _make_folder(self, folder: str) -> None:
        if self.is_local:
            files.make_directory(Path(folder))
        else:
            self._system.makedirs(folder, exist_ok=True)

    def _write(self, part: str, chunks: Iterable[bytes]) -> None:
        if not self.is_local:
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
        if self.is_local:
            files.move(Path(part), Path(target))
        else:
            self._system.mv(part, target)
