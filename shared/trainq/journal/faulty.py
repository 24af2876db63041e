"""SQLite's way to the disk with the faults of :mod:`trainq.diskfaults`; registered only while one is armed."""

from __future__ import annotations

import errno
from typing import Any

import apsw

from trainq import diskfaults

NAME = "trainq-faulty"
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_registered: list[apsw.VFS] = []


def vfs_name() -> str | None:
    """The VFS that the journal is opened with: SQLite's own (None) unless a fault is armed."""
    if not diskfaults.is_armed():
        return None
    if not _registered:
        _registered.append(_Vfs())
    return NAME


def _reach(path: str) -> None:
    """As the unix VFS reports it: no room is FULL, all else is IOERR."""
    try:
        diskfaults.reach(path)
    except OSError as error:
        raise (apsw.FullError if error.errno in _FULL else apsw.IOError)(str(error)) from error


class _Vfs(apsw.VFS):
    def __init__(self) -> None:
        super().__init__(NAME, "")

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802  # SQLite's name
        path = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        try:
            diskfaults.reach(path)
        except OSError as error:
            raise apsw.CantOpenError(str(error)) from error
        return _File(path, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        _reach(filename)
        super().xDelete(filename, syncdir)


class _File(apsw.VFSFile):
    def __init__(self, path: str, name: Any, flags: list[int]) -> None:
        super().__init__("", name, flags)
        self._shown = path

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        _reach(self._shown)
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802
        _reach(self._shown)
        super().xSync(flags)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        _reach(self._shown)
        super().xTruncate(newsize)
