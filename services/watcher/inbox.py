"""The inbox as files: sweeping it, claiming what is settled, refusing what can never be accepted.

A claim is one rename to ``inbox/.claimed/<id>/<name>``, where ``<id>`` is the request id of its submit: a claim that a
dead watcher left is submitted again under the same id and gets the same receipt.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

from services.watcher.settling import Entry, EntryKind, is_ignored
from trainq import files
from trainq.config import Home
from trainq.ids import is_id, new_request_id

# A tree deeper than this is no way to drop files; it bounds the sweep.
MAX_DEPTH = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """A file in the watcher's hands. ``name`` is the path that it had below the inbox."""

    id: str
    name: str
    path: Path

    @property
    def shown_name(self) -> str:
        """The name for people and messages: bytes that are no UTF-8 are shown escaped."""
        return os.fsencode(self.name).decode("utf-8", "backslashreplace")

    @property
    def folder(self) -> str:
        """The inbox sub-folder that it lay in, or nothing."""
        return self.shown_name.rpartition("/")[0]


def sweep(home: Home) -> list[Entry]:
    """Everything in the inbox that is not ignored, sub-folders included; links are never followed."""
    return list(_sweep(home.inbox, "", 0))


def _sweep(folder: Path, prefix: str, depth: int) -> Iterator[Entry]:
    try:
        found = list(os.scandir(folder))
    except OSError:
        return  # it vanished, or is unreadable for now: the next sweep sees
    for item in found:
        name = prefix + item.name
        if is_ignored(name):
            continue
        with contextlib.suppress(FileNotFoundError):
            if item.is_dir(follow_symlinks=False):
                if depth < MAX_DEPTH:
                    yield from _sweep(Path(item.path), f"{name}/", depth + 1)
            else:
                yield _entry(name, item.stat(follow_symlinks=False))


def _entry(name: str, found: os.stat_result) -> Entry:
    if stat.S_ISLNK(found.st_mode):
        kind = EntryKind.SYMLINK
    else:
        kind = EntryKind.FILE if stat.S_ISREG(found.st_mode) else EntryKind.SPECIAL
    return Entry(name=name, kind=kind, size_bytes=found.st_size, mtime_ns=found.st_mtime_ns, inode=found.st_ino)


def has_writer(path: Path) -> bool:
    """Whether somebody has the file open for writing, as far as the kernel tells.

    A read lease is refused while there is a writer (fcntl(2), F_SETLEASE). Where leases are not to be had (another
    owner, some network file systems) the answer is no, and the settle time alone decides.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN
    finally:
        os.close(descriptor)
    return False


def claim(home: Home, entry: Entry) -> Claim | None:
    """Take a settled file by one rename; None when it vanished meanwhile."""
    id_ = new_request_id()
    target = home.claimed / id_ / entry.name
    files.make_directory(target.parent)
    try:
        (home.inbox / entry.name).lstat()
    except OSError:
        files.remove_tree(home.claimed / id_)
        return None
    files.move(home.inbox / entry.name, target)
    return Claim(id=id_, name=entry.name, path=target)


def leftover_claims(home: Home) -> list[Claim]:
    """The claims of a former life, oldest file first; empty claim folders are cleared away."""
    found: list[tuple[int, Claim]] = []
    files.sweep_temporaries(home.claimed)
    for folder in home.claimed.iterdir():
        inside = [path for path in folder.rglob("*") if not path.is_dir() or path.is_symlink()]
        if not is_id(folder.name) or not inside:
            files.remove_tree(folder)
            continue
        path = inside[0]
        found.append((path.lstat().st_mtime_ns, Claim(id=folder.name, name=str(path.relative_to(folder)), path=path)))
    return [claimed for _, claimed in sorted(found, key=lambda pair: (pair[0], pair[1].name))]


def discard(home: Home, claimed: Claim) -> None:
    """The content is accepted: the claim has served."""
    files.remove_tree(home.claimed / claimed.id)


def refuse(home: Home, claimed: Claim, reason: str) -> Path:
    """Move a claim to ``rejected/`` beside a report that says why; the report's path."""
    base = f"{claimed.id[:8]}-{Path(claimed.name).name}"
    # 255 bytes is the limit of a name; the report's ending must fit as well.
    kept = home.rejected / os.fsdecode(os.fsencode(base)[-200:] if len(os.fsencode(base)) > 200 else os.fsencode(base))
    report = kept.with_name(f"{claimed.id[:8]}.report.json")
    content = {"v": 1, "file": claimed.shown_name, "reason": reason, "kept_as": os.fsencode(kept.name).decode(
        "utf-8", "backslashreplace")}
    files.write_file(report, orjson.dumps(content, option=orjson.OPT_INDENT_2) + b"\n")
    files.move(claimed.path, kept)
    files.remove_tree(home.claimed / claimed.id)
    return report
