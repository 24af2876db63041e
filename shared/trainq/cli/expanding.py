"""From what was written behind ``submit`` to the files meant: folders, patterns, ``-``. Reads names, never contents."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from trainq.errors import InputError
from trainq.suffixes import DATA_SUFFIXES, is_data_name

STDIN = "-"
MAX_NAME = 1024  # characters, as the protocol has it


class Source(NamedTuple):
    """A file to submit and the name that its job gets; ``path`` None is stdin."""

    path: Path | None
    name: str


def expand(words: Sequence[str]) -> Iterator[Source | InputError]:
    """The files that the words mean, in the order written, those of a folder or a pattern sorted.

    A word that is the name of something there is taken as it is; only others are patterns. What cannot be used comes
    as an error in its place, so that the rest goes on.
    """
    for word in words:
        if word == STDIN:
            yield Source(None, "stdin")
        elif not word:
            # An unset variable in quotes; as a path it would mean the folder one happens to be in.
            yield InputError("an empty name", mend="name a file")
        elif _is_folder(Path(word)):
            yield from _in_folder(Path(word))
        elif glob.has_magic(word) and not os.path.lexists(word):
            yield from _matching(word)
        else:
            yield _file(Path(word))


def _matching(pattern: str) -> Iterator[Source | InputError]:
    found = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 (Path.glob refuses absolute patterns)
    if not found:
        yield InputError("no file matches", file=pattern, mend="check the pattern")
    for match in found:
        # "**" also gives the folders, whose files it gives as well.
        if not _is_folder(Path(match)):
            yield _file(Path(match))
        elif "**" not in pattern:
            yield from _in_folder(Path(match))


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False  # too long a name, a folder above it that one may not enter: who opens it says so


def _in_folder(folder: Path) -> Iterator[Source | InputError]:
    """Every data file below ``folder``; hidden ones and linked folders (they could be loops) are left out."""
    unreadable: list[OSError] = []
    found: list[Path] = []
    for place, folders, names in os.walk(folder, onerror=unreadable.append):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place, name) for name in names if is_data_name(name) and not name.startswith(".")]
    for error in unreadable:
        yield InputError(f"the folder cannot be read: {error.strerror}", file=str(error.filename or folder),
                         mend="check its permissions")
    if not found and not unreadable:
        yield InputError(f"no file in it ends in {', '.join(DATA_SUFFIXES)}", file=str(folder),
                         mend="name other files themselves")
    for path in sorted(found):
        yield Source(path, job_name(path.relative_to(folder).as_posix()))


def _file(path: Path) -> Source:
    return Source(path, job_name(path.name))


def job_name(name: str) -> str:
    """A name that the protocol takes: valid UTF-8, not too long (its end says more than its beginning)."""
    # A name that is no UTF-8 comes from Python with lone surrogates, which no message can carry.
    return name.encode("utf-8", "backslashreplace").decode()[-MAX_NAME:]
