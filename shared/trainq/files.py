"""Durable file operations: the only module that makes, renames or removes anything that must survive.

The rule behind every function: write beside the place, fsync the file, rename, fsync the directory. Nothing is
visible under its name before it is whole and on disk, and when a function returns, a power cut loses nothing of it.

It never retries an fsync (after a failed one the kernel may have dropped the pages) and never repairs: a failure is
raised as :class:`StorageFullError` or :class:`StorageError` and leaves at most a ``.tmp-`` entry, which
:func:`sweep_temporaries` removes at the next start.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from trainq import crashpoints, diskfaults
from trainq.errors import StorageError, StorageFullError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

TEMPORARY_PREFIX = ".tmp-"
PRIVATE_DIRECTORY_MODE = 0o700
PRIVATE_FILE_MODE = 0o600

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_PASSING = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
_PASSING_MEND = "raise the limit of open files (ulimit -n) or free memory; trainq goes on by itself"


def is_passing(error: BaseException | None) -> bool:
    """Whether an error says that the machine lacks something for now, and nothing about what was to be read."""
    return isinstance(error, OSError) and error.errno in _PASSING


def is_machine_fault(error: BaseException | None) -> bool:
    """Whether reading failed for the machine's sake: what was to be read is as good as it was."""
    return is_passing(error) or (isinstance(error, OSError) and error.errno == errno.EIO)


def storage_error(error: OSError, doing: str) -> StorageFullError | StorageError:
    """Turn an ``OSError`` into the class that says what the caller can do about it."""
    if error.errno in _FULL:
        return StorageFullError(f"no room left while {doing}: {error.strerror}",
                                mend="free some space (or inodes); trainq goes on by itself")
    mend = _PASSING_MEND if is_passing(error) else "look at the disk and its mount"
    return StorageError(f"{error.strerror or error} while {doing}", mend=mend)


@contextlib.contextmanager
def reported(doing: str) -> Iterator[None]:
    """Raise what an ``OSError`` in the block means, as :func:`storage_error` says it."""
    try:
        yield
    except OSError as error:
        raise storage_error(error, doing) from error


def make_directory(path: Path) -> None:
    """Make ``path`` and its missing parents, private to the user, and make their names durable."""
    if path.is_dir():
        return
    make_directory(path.parent)
    with reported(f"making the folder {path}"):
        try:
            diskfaults.reach(path)
            path.mkdir(mode=PRIVATE_DIRECTORY_MODE)
        except FileExistsError:
            return
        try:
            _sync_directory(path.parent)
        except OSError:
            # Who tries again would find it there, and take its name for durable.
            with contextlib.suppress(OSError):
                path.rmdir()
            raise


def sync_directory(path: Path) -> None:
    """Make the names in a folder durable: also those that another process put there and died."""
    with reported(f"syncing the folder {path}"):
        _sync_directory(path)


def write_file(path: Path, content: bytes) -> None:
    """Put ``content`` under ``path``, atomically and durably; an older file there is replaced as a whole."""
    with publish_file(path) as stream:
        stream.write(content)


def replace_file(path: Path, content: bytes) -> None:
    """Put ``content`` under ``path`` atomically but not durably: for pictures of the moment, written every second.

    A reader sees the old or the new content; a power cut may leave either, or nothing.
    """
    temporary = temporary_beside(path)
    with reported(f"writing {path}"):
        try:
            diskfaults.reach(temporary)
            temporary.write_bytes(content)
            diskfaults.reach(path)
            temporary.rename(path)
        except BaseException:
            with contextlib.suppress(OSError):
                _unlink(temporary)
            raise


@contextlib.contextmanager
def publish_file(path: Path) -> Iterator[BinaryIO]:
    """Give a stream whose bytes appear under ``path`` when the block ends without an error, and never otherwise."""
    temporary = temporary_beside(path)
    with reported(f"writing {path}"):
        try:
            diskfaults.reach(temporary)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE_MODE)
            with io.BufferedWriter(_RawFile(descriptor, "wb")) as stream:
                yield stream
                stream.flush()
                _sync_file(stream.fileno())
            _rename(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                _unlink(temporary)
            raise


@contextlib.contextmanager
def publish_directory(path: Path) -> Iterator[Path]:
    """Give an empty folder that appears under ``path`` when the block ends without an error, and never otherwise.

    Every file put in it is fsynced first. ``path`` must not exist: a published directory is never changed.
    """
    temporary = temporary_beside(path)
    with reported(f"publishing {path}"):
        try:
            diskfaults.reach(temporary)
            temporary.mkdir(mode=PRIVATE_DIRECTORY_MODE)
            yield temporary
            _sync_tree(temporary)
            if path.exists():
                raise FileExistsError(errno.EEXIST, "it exists already", str(path))
            _rename(temporary, path)
        except BaseException:
            _remove_tree(temporary, ignore_errors=True)
            raise


def allocate(path: Path, size_bytes: int) -> None:
    """Make a file of so many bytes, which take their room and mean nothing (posix_fallocate(3)); it must not exist."""
    with reported(f"laying by {path}"):
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, PRIVATE_FILE_MODE)
        try:
            os.posix_fallocate(descriptor, 0, size_bytes)
        except OSError:
            _unlink(path)
            raise
        finally:
            os.close(descriptor)


def move(source: Path, destination: Path) -> None:
    """Rename ``source`` to ``destination`` (same file system) and make both folders durable."""
    with reported(f"moving {source} to {destination}"):
        _rename(source, destination)
        if source.parent != destination.parent:
            _sync_directory(source.parent)


def set_aside_large(path: Path, most_bytes: int) -> None:
    """Move a file that is larger than ``most_bytes`` to its name with ``.1``: for output that nothing else rotates."""
    if path.exists() and path.stat().st_size > most_bytes:
        move(path, path.with_name(path.name + ".1"))


def cut_large(path: Path, most_bytes: int) -> None:
    """Empty a file that is larger than ``most_bytes``; the last of them are put under its name with ``.1``.

    For output that somebody goes on appending (O_APPEND: what comes is at the start then) and that nothing else
    rotates. What comes meanwhile is lost.
    """
    with reported(f"cutting {path}"), path.open("r+b") as stream:
        if stream.seek(0, os.SEEK_END) <= most_bytes:
            return
        diskfaults.reach(path)
        stream.seek(-most_bytes, os.SEEK_END)
        newest = stream.read(most_bytes)
        stream.truncate(0)
    replace_file(path.with_name(path.name + ".1"), newest)


def remove_file(path: Path) -> None:
    """Unlink ``path`` durably; that it is gone already is no error."""
    with reported(f"removing {path}"):
        crashpoints.reach("files.remove")
        try:
            _unlink(path)
        except FileNotFoundError:
            return
        _sync_directory(path.parent)


def remove_tree(path: Path) -> None:
    """Remove a folder and all in it; that it is gone already is no error."""
    with reported(f"removing {path}"):
        crashpoints.reach("files.remove")
        if not path.exists():
            return
        doomed = temporary_beside(path)
        _rename(path, doomed)
        diskfaults.reach(doomed)
        _remove_tree(doomed)


def replace_link(link: Path, target: str) -> None:
    """Make ``link`` a symbolic link to ``target`` (relative to the link's folder), replacing the old one at once."""
    temporary = temporary_beside(link)
    with reported(f"setting the link {link}"):
        try:
            diskfaults.reach(temporary)
            temporary.symlink_to(target)
            _rename(temporary, link)
        except OSError:
            with contextlib.suppress(OSError):
                _unlink(temporary)
            raise


def temporary_beside(path: Path) -> Path:
    """A fresh name in the same folder that every reader ignores; it says which process writes it."""
    writer = os.getpid()
    with reported(f"naming a file beside {path}"):
        return path.parent / f"{TEMPORARY_PREFIX}{writer}-{_born(writer)}-{os.urandom(8).hex()}"


def sweep_temporaries(*folders: Path) -> list[Path]:
    """Remove what killed writers left in ``folders``; what a living process may still be writing stays.

    So several processes may write, and sweep, in one folder. Each sweeps at its start where it writes.
    """
    with reported(f"sweeping {', '.join(map(str, folders))}"):
        swept = [entry for folder in folders if folder.is_dir() for entry in folder.iterdir()
                 if entry.name.startswith(TEMPORARY_PREFIX) and not _has_writer(entry.name)]
        for entry in swept:
            if entry.is_dir() and not entry.is_symlink():
                _remove_tree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)
    return swept


def list_tree(folder: Path) -> list[Path]:
    """Everything below ``folder`` that is no folder itself, links included; none is followed.

    Unlike ``Path.rglob``, which takes a folder that cannot be listed for an empty one: without permission, and since
    Python 3.13 whatever the error (no descriptor, a failing disk).
    """
    with reported(f"listing {folder}"):
        return _listed(folder)


def _listed(folder: Path) -> list[Path]:
    found: list[Path] = []
    with os.scandir(folder) as entries:
        inside = list(entries)
    for entry in inside:
        path = Path(entry.path)
        found += _listed(path) if entry.is_dir(follow_symlinks=False) else [path]
    return found


def _has_writer(name: str) -> bool:
    pid, _, rest = name.removeprefix(TEMPORARY_PREFIX).partition("-")
    return pid.isdecimal() and _born(int(pid)) == rest.partition("-")[0] != ""


def _born(pid: int) -> str:
    """When a process was started, in clock ticks since boot: tells it from a later one with its pid. Empty if none.

    Field 22 of /proc/PID/stat (man 5 proc); the second one, the command in brackets, may hold anything.
    """
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (FileNotFoundError, ProcessLookupError):
        return ""


class GrowingFile(NamedTuple):
    """A file to which lines are added; what :meth:`sync` has returned for survives a power cut."""

    path: Path
    descriptor: int

    def append(self, content: bytes) -> None:
        """Add ``content`` at the end. A kill may leave a torn last line, never a torn earlier one."""
        with reported(f"writing {self.path}"):
            while content:
                diskfaults.reach(self.path)
                content = content[os.write(self.descriptor, content):]

    def sync(self) -> None:
        """Make all that was appended durable."""
        with reported(f"writing {self.path}"):
            _sync_file(self.descriptor)

    def close(self) -> None:
        os.close(self.descriptor)


def open_growing(path: Path, keep_bytes: int) -> GrowingFile:
    """Open ``path`` for appending, cut to its first ``keep_bytes`` bytes; it is made if it is not there."""
    with reported(f"opening {path}"):
        is_new = not path.exists()
        diskfaults.reach(path)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, PRIVATE_FILE_MODE)
        try:
            os.ftruncate(descriptor, min(keep_bytes, os.fstat(descriptor).st_size))
            if is_new:
                _sync_directory(path.parent)
        except BaseException:
            os.close(descriptor)
            raise
    return GrowingFile(path, descriptor)


def _remove_tree(folder: Path, *, ignore_errors: bool = False) -> None:
    # Here, because shutil brings three compression libraries, and a command that removes no folder starts without.
    import shutil

    shutil.rmtree(folder, ignore_errors=ignore_errors)


class _RawFile(io.FileIO):
    """What a publisher's buffer is written to, so that an armed fault meets each write."""

    def write(self, content: ReadableBuffer, /) -> int:
        diskfaults.reach("a write")
        return super().write(content)


def _unlink(path: Path) -> None:
    diskfaults.reach(path)
    path.unlink()


def _sync_file(descriptor: int) -> None:
    crashpoints.reach("files.fsync")
    diskfaults.reach("an fsync")
    os.fsync(descriptor)


def _sync_directory(path: Path) -> None:
    crashpoints.reach("files.fsync_directory")
    diskfaults.reach(path)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_tree(folder: Path) -> None:
    for entry in sorted(folder.iterdir()):
        if entry.is_dir():
            _sync_tree(entry)
            continue
        descriptor = os.open(entry, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _sync_file(descriptor)
        finally:
            os.close(descriptor)
    _sync_directory(folder)


def _rename(source: Path, destination: Path) -> None:
    crashpoints.reach("files.rename")
    diskfaults.reach(destination)
    source.rename(destination)
    crashpoints.reach("files.renamed")
    _sync_directory(destination.parent)
