"""Which files of a suite's folder hold its rows, and under which columns: for who scores them, and who guards them."""

from __future__ import annotations

import contextlib
import errno
import re
import stat
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trainq import files
from trainq.config import mapping_faults
from trainq.errors import InputError, StorageError
from trainq.suffixes import is_data_name

SETTINGS_NAME = "suite.toml"
_MOST_SETTINGS_BYTES = 64 * 1024
_NOTHING_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})


@contextlib.contextmanager
def refusing_closed(folder: Path) -> Iterator[None]:
    """Take what in the suite's ``folder`` may not be read for the suite's fault: a person has to mend that.

    All else that a disk says is the disk's, and passes: it is raised as it is.

    Raises:
        InputError: rights keep the suite, or a file of it, from being read.
    """
    try:
        yield
    except (StorageError, PermissionError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        if not isinstance(cause, PermissionError):
            raise
        raise InputError("it may not be read", file=str(cause.filename or folder), mend=(
            "give it, and its folder, to the user who runs trainq (chown), or let everybody read (chmod a+rX)")
        ) from error


def has_settings(folder: Path) -> bool:
    """Whether there is a ``suite.toml`` in it; or may be, where that cannot be seen: who reads it says why.

    Raises:
        StorageError: the disk.
    """
    with files.reported(f"looking at {folder}"):
        try:
            return _is_file(folder / SETTINGS_NAME)
        except PermissionError:
            return True


def _is_file(path: Path) -> bool:
    """Unlike ``Path.is_file``, which since Python 3.14 takes what cannot be looked at for none."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError as error:
        if error.errno in _NOTHING_THERE:
            return False
        raise


def files_of_rows(folder: Path) -> list[Path]:
    """The files of rows in a suite's folder, in the order of their names; none where there is no folder.

    Raises:
        StorageError: it cannot be looked into.
    """
    with files.reported(f"looking into {folder}"):
        try:
            return sorted(entry for entry in folder.iterdir()
                          if is_data_name(entry.name) and not entry.name.startswith(".") and _is_file(entry))
        except (FileNotFoundError, NotADirectoryError):
            return []


def read_table(path: Path) -> dict[str, Any]:
    """What stands in a ``suite.toml``.

    Raises:
        InputError: it is none; with line and column.
        StorageError: it cannot be read.
    """
    with files.reported(f"reading {path}"):
        content = path.read_bytes()
    if len(content) > _MOST_SETTINGS_BYTES:
        raise InputError("it is larger than 64 KiB", file=str(path), mend="put rows into files of their own")
    try:
        return tomllib.loads(content.decode())
    # ValueError: not UTF-8, or a number of over 4,300 digits, which Python refuses; both beside TOMLDecodeError.
    except (ValueError, RecursionError) as error:
        place = re.search(r"at line (\d+), column (\d+)", str(error))
        line, column = (int(place[1]), int(place[2])) if place else (0, 0)
        raise InputError(f"not valid TOML: {error}", file=str(path), line=line, column=column,
                         mend="correct it") from error


def mapping_of(folder: Path) -> dict[str, str]:
    """Which columns hold what, ``{field: column}``; empty where the settings say nothing of it, or cannot be used.

    Raises:
        StorageError: they cannot be read.
    """
    try:
        found = read_table(folder / SETTINGS_NAME).get("map", {}) if has_settings(folder) else {}
    except InputError:
        return {}  # who scores the suite says what is wrong with it
    if not isinstance(found, dict) or not all(isinstance(column, str) for column in found.values()):
        return {}
    return {} if mapping_faults(found) else found
