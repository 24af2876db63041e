"""The inbox as files: sweeping it, claiming what is settled, refusing what can never be accepted.

A claim is one rename to ``inbox/.claimed/<id>/<name>``, where ``<id>`` is the request id of its submit: a claim that a
dead watcher left is submitted again under the same id and gets the same receipt. A claim folder goes last of all: an
empty one with a report in ``rejected/`` is a refusal of which the broker has not heard.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

from services.watcher.settling import Entry, EntryKind, is_ignored, refusal
from trainq import files
from trainq.config import Home
from trainq.errors import StorageError, StorageFullError
from trainq.ids import new_request_id
from trainq.ingest import Stored

# A tree deeper than this is no way to drop files; it bounds the sweep.
MAX_DEPTH = 16
# NAME_MAX is 255 (limits.h); the id, a hyphen and what files.py puts in front must fit as well.
MAX_KEPT_NAME_BYTES = 180

# What new_request_id makes. Any other name in .claimed/ is not the watcher's.
_CLAIM_ID = re.compile(r"[0-9a-f]{32}\Z")

_KINDS = {stat.S_IFREG: EntryKind.FILE, stat.S_IFLNK: EntryKind.SYMLINK, stat.S_IFDIR: EntryKind.FOLDER}


class CannotClaimError(StorageError):
    """One entry cannot be taken (another file system, another owner, too long a path); it stays where it is."""


def shown(name: str) -> str:
    """A file name for people and messages: bytes that are no UTF-8 are shown escaped."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """A file in the watcher's hands. ``name`` is the path that it had below the inbox.

    ``fault`` is why it can never be accepted, where that is known without looking at it.
    """

    id: str
    name: str
    path: Path
    fault: str = ""

    @property
    def shown_name(self) -> str:
        return shown(self.name)

    @property
    def folder(self) -> str:
        """The inbox sub-folder that it lay in, or nothing."""
        return self.shown_name.rpartition("/")[0]


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """A file that was set aside; ``id`` is its claim's, ``name`` and ``reason`` are fit to be shown."""

    id: str
    name: str
    reason: str
    report: Path


def sweep(home: Home) -> list[Entry]:
    """Everything in the inbox that is not ignored, sub-folders included; links are never followed.

    Raises:
        StorageError: the inbox itself cannot be listed.
    """
    return list(_sweep(home.inbox, "", 0))


def _sweep(folder: Path, prefix: str, depth: int) -> Iterator[Entry]:
    try:
        found = list(os.scandir(folder))
    except OSError as error:
        if not prefix or files.is_passing(error):
            # Nothing would be taken, and nobody would know why.
            raise files.storage_error(error, f"listing {folder}") from error
        if error.errno != errno.ENOENT:  # it vanished
            yield Entry(name=prefix.rstrip("/"), kind=EntryKind.UNREACHABLE)
        return
    for item in found:
        name = prefix + item.name
        if is_ignored(name):
            continue
        try:
            is_folder, found_now = item.is_dir(follow_symlinks=False), item.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue  # it vanished
        except OSError:
            yield Entry(name=name, kind=EntryKind.UNREACHABLE)
            continue
        if not is_folder:
            yield _entry(name, found_now)
        elif depth < MAX_DEPTH:
            yield from _sweep(Path(item.path), f"{name}/", depth + 1)
        else:
            yield Entry(name=name, kind=EntryKind.UNREACHABLE)


def _entry(name: str, found: os.stat_result) -> Entry:
    kind = _KINDS.get(stat.S_IFMT(found.st_mode), EntryKind.SPECIAL)
    return Entry(name=name, kind=kind, size_bytes=found.st_size, mtime_ns=found.st_mtime_ns, inode=found.st_ino)


def has_writer(path: Path) -> bool:
    """Whether somebody has the file open for writing, as far as the kernel tells.

    A read lease is refused while there is a writer (fcntl(2), F_SETLEASE). Where leases are not to be had (another
    owner, some network file systems) the answer is no, and the settle time alone decides.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        # Out of descriptors nobody can tell: it is asked again, and not claimed in the middle of a write.
        return error.errno in (errno.EMFILE, errno.ENFILE)
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN
    finally:
        os.close(descriptor)
    return False


def claim(home: Home, entry: Entry) -> Claim | None:
    """Take a settled file by one rename; None when it vanished meanwhile.

    Raises:
        CannotClaimError: it cannot be renamed. Nothing of the attempt is left.
    """
    if entry.kind is EntryKind.UNREACHABLE:
        raise CannotClaimError(_why_unreachable(home.inbox / entry.name))
    id_ = new_request_id()
    source, target = home.inbox / entry.name, home.claimed / id_ / entry.name
    try:
        files.make_directory(target.parent)
        _rename(source, target)
    except (OSError, StorageError, StorageFullError) as error:
        _remove_empty(home.claimed / id_)
        if not os.path.lexists(source):
            return None
        cause = error if isinstance(error, OSError) else error.__cause__
        raise CannotClaimError((cause.strerror if isinstance(cause, OSError) else None) or str(error)) from error
    return Claim(id=id_, name=entry.name, path=target)


def _why_unreachable(path: Path) -> str:
    try:
        os.scandir(path).close()
    except OSError as error:
        return f"what is in it cannot be listed: {error.strerror}"
    return f"it lies more than {MAX_DEPTH} folders deep"


def reclaim(home: Home, claimed: Claim) -> Claim:
    """Give a claim a new id, by one rename."""
    id_ = new_request_id()
    _rename(home.claimed / claimed.id, home.claimed / id_)
    return Claim(id=id_, name=claimed.name, path=home.claimed / id_ / claimed.name)


def _rename(source: Path, target: Path) -> None:
    """Move; one that was done but may not be durable counts: a claim that a power cut undoes is made again."""
    try:
        files.move(source, target)
    except StorageError:
        if not os.path.lexists(target):
            raise


def _remove_empty(folder: Path) -> None:
    """Remove a folder and its sub-folders as far as there is nothing in them."""
    for path, _, _ in os.walk(folder, topdown=False):
        with contextlib.suppress(OSError):
            Path(path).rmdir()


def judge(claimed: Claim) -> str | None:
    """Why a claim can never be accepted, or None. What lies there now counts, not what a sweep saw.

    Raises:
        FileNotFoundError: it is gone.
    """
    found = claimed.path.lstat()
    return claimed.fault or refusal(_entry(claimed.name, found))


def is_unchanged(claimed: Claim, stored: Stored) -> bool:
    """Whether the file still is what was stored, and nobody is writing to it."""
    found = claimed.path.lstat()
    return ((found.st_size, found.st_mtime_ns, found.st_ino) == (stored.size_bytes, stored.mtime_ns, stored.inode)
            and not has_writer(claimed.path))


def leftover_claims(home: Home) -> list[Claim]:
    """The claims of a former life, oldest file first; empty claim folders are cleared away.

    What the watcher cannot have put there is a claim too, with a fault: it is refused, never deleted.
    """
    found: list[tuple[int, Claim]] = []
    for item in home.claimed.iterdir():
        inside = _inside(item)
        if inside == []:
            if reported_reason(home, item.name) is None:
                files.remove_tree(item)
            continue
        if inside is not None and len(inside) == 1 and _CLAIM_ID.match(item.name):
            path = inside[0]
            claimed = Claim(id=item.name, name=str(path.relative_to(item)), path=path,
                            fault=reported_reason(home, item.name) or "")
        else:
            path = item
            claimed = Claim(id=new_request_id(), name=item.name, path=item,
                            fault="it lay in .claimed/, which is the watcher's own; drop files in the inbox itself")
        found.append((path.lstat().st_mtime_ns, claimed))
    return [claimed for _, claimed in sorted(found, key=lambda pair: (pair[0], pair[1].name))]


def unreported_refusals(home: Home) -> list[Refusal]:
    """Files that a former life set aside without an answer from the broker."""
    found = []
    for item in home.claimed.iterdir():
        report = _read_report(home, item.name)
        if report is not None and _inside(item) == []:
            found.append(Refusal(id=item.name, name=str(report["file"]), reason=str(report["reason"]),
                                 report=_report_path(home, item.name)))
    return found


def _inside(folder: Path) -> list[Path] | None:
    """Everything below a folder that is no folder itself; None if it is no folder.

    Raises:
        StorageError: it cannot be listed. Who took it for empty would remove it with what is in it.
    """
    if folder.is_symlink() or not folder.is_dir():
        return None
    return files.list_tree(folder)


def discard(home: Home, id_: str) -> None:
    """The claim has served: its content is accepted, or its refusal is reported."""
    files.remove_tree(home.claimed / id_)


def refuse(home: Home, claimed: Claim, reason: str) -> Refusal:
    """Move a claim to ``rejected/`` beside a report that says why. Its folder stays until that is reported.

    May be called again after any failure: what is done already is not done twice.
    """
    refused = Refusal(id=claimed.id, name=claimed.shown_name, reason=shown(reason),
                      report=_report_path(home, claimed.id))
    # What was no claim has no folder, and a refusal that is not reported is known by it.
    files.make_directory(home.claimed / claimed.id)
    if os.path.lexists(claimed.path):
        kept = _free_path(home, claimed)
        content = {"v": 1, "file": refused.name, "reason": refused.reason, "kept_as": shown(kept.name)}
        files.write_file(refused.report, orjson.dumps(content, option=orjson.OPT_INDENT_2) + b"\n")
        files.move(claimed.path, kept)
    return refused


def reported_reason(home: Home, id_: str) -> str | None:
    """The reason in the report on a refused claim; None if there is none."""
    report = _read_report(home, id_)
    return None if report is None else str(report["reason"])


def _report_path(home: Home, id_: str) -> Path:
    return home.rejected / f"{id_}.report.json"


def _read_report(home: Home, id_: str) -> dict[str, object] | None:
    if not _CLAIM_ID.match(id_):
        return None
    try:
        found = orjson.loads(_report_path(home, id_).read_bytes())
    except (FileNotFoundError, orjson.JSONDecodeError):
        return None
    except OSError as error:
        raise files.storage_error(error, f"reading {_report_path(home, id_)}") from error
    return found if isinstance(found, dict) and {"file", "reason"} <= found.keys() else None


def _free_path(home: Home, claimed: Claim) -> Path:
    """Where a refused file is kept: the id, so that none overwrites another, and the end of its name."""
    name = os.fsencode(Path(claimed.name).name)
    if len(name) > MAX_KEPT_NAME_BYTES:
        name = name[-MAX_KEPT_NAME_BYTES:]
        # Not within a character: at most three bytes of one that was cut have the form 10xxxxxx (RFC 3629).
        name = name[next((at for at in range(4) if name[at] & 0xC0 != 0x80), 0):]
    path = home.rejected / f"{claimed.id}-{os.fsdecode(name)}"
    while os.path.lexists(path):
        path = home.rejected / f"{claimed.id}-{new_request_id()[-8:]}-{os.fsdecode(name)}"
    return path
