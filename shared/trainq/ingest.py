"""Ingest: how a file becomes accepted content. The command line and the watcher share it.

The bytes are copied to ``data/<first two digits>/<digest>`` and fsynced, hashed in the same pass; only then may they
be submitted. Only file-level checks happen here (a regular file, readable, not empty, unchanged while read); rows are
judged by the preparer alone.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from blake3 import blake3

from trainq import files
from trainq.config import Home
from trainq.errors import DamageError, InputError, NotFoundError

_CHUNK_BYTES = 1 << 20


class Stored(NamedTuple):
    """Content that lies, durable, in ``data/``.

    ``mtime_ns`` and ``inode`` are those of the file that was read, 0 for a stream: with ``size_bytes`` they tell
    whether it has changed since.
    """

    digest: str
    size_bytes: int
    mtime_ns: int = 0
    inode: int = 0


def data_path(home: Home, digest: str) -> Path:
    """Where content with this digest lies."""
    return home.data / digest[:2] / digest


def is_stored(home: Home, digest: str, size_bytes: int) -> bool:
    """Whether content with this digest and size is there (its bytes were proven when it was stored)."""
    try:
        # Not through data_path: the broker asks this for each submit, and building a Path costs more than the call.
        found = os.stat(f"{home.root}/data/{digest[:2]}/{digest}")  # noqa: PTH116 (see above)
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size == size_bytes


@contextlib.contextmanager
def proven(home: Home, digest: str, job: str) -> Iterator[BinaryIO]:
    """The content that ``job`` carries, read once and found whole: damaged content is given to nobody.

    Raises:
        NotFoundError: it is no longer there.
        DamageError: it is not what its digest says.
    """
    path = data_path(home, digest)
    if not path.is_file():
        raise gone_error(job)
    with path.open("rb") as stream:
        hasher = blake3()
        while chunk := stream.read(_CHUNK_BYTES):
            hasher.update(chunk)
        if hasher.hexdigest() != digest:
            raise DamageError(str(path), f"it does not have the digest of {job}'s file")
        stream.seek(0)
        yield stream


def gone_error(job: str) -> NotFoundError:
    """What is said of content that is no longer there."""
    return NotFoundError(f"the file of {job} is no longer in data/", mend="submit it again from where it came")


class Opened(NamedTuple):
    """A regular file that is open for reading; ``found`` is what it was then."""

    path: Path
    stream: BinaryIO
    found: os.stat_result

    def check_unchanged(self, size_bytes: int) -> None:
        """Whether ``size_bytes``, read just now, are the whole file, and it still is what was opened.

        Raises:
            FileChangedError: it is not.
        """
        before, after = self.found, os.fstat(self.stream.fileno())
        if (before.st_size, before.st_mtime_ns, before.st_size) != (after.st_size, after.st_mtime_ns, size_bytes):
            raise FileChangedError("it changed while it was read", file=str(self.path),
                                   mend="submit it when it is whole")


@contextlib.contextmanager
def opened(path: Path, *, follow_links: bool = True) -> Iterator[Opened]:
    """Open a file that may be ingested. Never waits, whatever it is.

    Raises:
        InputError: it cannot be opened, or it is no regular file.
        StorageError: the machine did not let it be opened.
    """
    try:
        # O_NONBLOCK: opening a FIFO must not wait for a writer; it means nothing for a regular file.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
                             | (0 if follow_links else os.O_NOFOLLOW))
    except OSError as error:
        if files.is_machine_fault(error):
            raise files.storage_error(error, f"opening {path}") from error
        raise InputError(f"it cannot be opened: {error.strerror}", file=str(path),
                         mend="check its name and its permissions") from error
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        os.close(descriptor)
        raise InputError("it is not a regular file", file=str(path), mend="give a file of JSON lines")
    with os.fdopen(descriptor, "rb") as stream:
        yield Opened(path, stream, found)


def store_file(home: Home, path: Path, *, follow_links: bool = True,
               on_chunk: Callable[[], None] | None = None) -> Stored:
    """Copy a file's content to ``data/``; the source is only read.

    Without ``follow_links`` a symbolic link is refused. ``on_chunk`` is called before each MiB and may raise.

    Raises:
        InputError: it is no regular readable file, it is empty, or it changed while it was read.
        StorageError: the machine did not let it be read, or ``data/`` be written (:class:`StorageFullError`: no room).
            Nothing half done stays.
    """
    with opened(path, follow_links=follow_links) as source:
        stored = store_stream(home, source.stream, str(path), source.check_unchanged, on_chunk)
    return stored._replace(mtime_ns=source.found.st_mtime_ns, inode=source.found.st_ino)


class FileChangedError(InputError):
    """The file changed while it was read; nothing of it was stored. It may be whole a moment later."""


def store_stream(home: Home, stream: BinaryIO, name: str, before_publishing: Callable[[int], None] | None = None,
                 on_chunk: Callable[[], None] | None = None) -> Stored:
    """Copy a stream's content to ``data/``; ``name`` is for error messages.

    Content that is there already is not written twice: the same digest means the same bytes. It counts as new all the
    same: retention lets go of what no job names after a while.
    ``before_publishing`` is told the number of bytes read; ``on_chunk`` is called before each MiB. Both may raise;
    then nothing is stored.
    """
    spool = home.spool
    files.make_directory(spool)
    hasher, size_bytes = blake3(), 0
    spooled = files.temporary_beside(spool / "x")
    try:
        with files.publish_file(spooled) as copy:
            while True:
                if on_chunk is not None:
                    on_chunk()
                if not (chunk := _read(stream, name)):
                    break
                hasher.update(chunk)
                size_bytes += len(chunk)
                copy.write(chunk)
        if size_bytes == 0:
            raise empty_error(name)
        if before_publishing is not None:
            before_publishing(size_bytes)
        digest = hasher.hexdigest()
        destination = data_path(home, digest)
        files.make_directory(destination.parent)
        if is_stored(home, digest, size_bytes):
            _count_as_new(destination)
            # Whoever renamed it there may have been killed before its name was durable.
            files.sync_directory(destination.parent)
        else:
            files.move(spooled, destination)
        files.sync_directory(destination.parent.parent)  # the same for the maker of the folder
        return Stored(digest, size_bytes)
    finally:
        files.remove_file(spooled)


def _count_as_new(path: Path) -> None:
    try:
        os.utime(path)
    except (FileNotFoundError, PermissionError):
        pass  # gone just now, or somebody else's: the submit is told so if it goes
    except OSError as error:
        raise files.storage_error(error, f"touching {path}") from error


def empty_error(name: str) -> InputError:
    """What is said of a file or stream without a byte."""
    return InputError("it is empty", file=name, mend="give a file with at least one row")


def _read(stream: BinaryIO, name: str) -> bytes:
    try:
        return stream.read(_CHUNK_BYTES)
    except OSError as error:
        if files.is_machine_fault(error):
            raise files.storage_error(error, f"reading {name}") from error
        raise InputError(f"it cannot be read: {error.strerror}", file=name, mend="check the disk it lies on") from error
