"""Which files of a suite's folder hold its rows, and under which columns: for who scores them, and who guards them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from trainq import files
from trainq.config import mapping_faults
from trainq.errors import InputError
from trainq.suffixes import is_data_name

SETTINGS_NAME = "suite.toml"
_MOST_SETTINGS_BYTES = 64 * 1024


def files_of_rows(folder: Path) -> list[Path]:
    """The files of rows in a suite's folder, in the order of their names; none where there is no folder.

    Raises:
        StorageError: it cannot be looked into.
    """
    with files.reported(f"looking into {folder}"):
        try:
            return sorted(entry for entry in folder.iterdir()
                          if is_data_name(entry.name) and not entry.name.startswith(".") and entry.is_file())
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
    path = folder / SETTINGS_NAME
    try:
        found = read_table(path).get("map", {}) if path.is_file() else {}
    except InputError:
        return {}  # who scores the suite says what is wrong with it
    if not isinstance(found, dict) or not all(isinstance(column, str) for column in found.values()):
        return {}
    return {} if mapping_faults(found) else found
