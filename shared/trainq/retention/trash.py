"""The trash: ``trash/<number of the removal>-<store>-<name>``. One move there, one back; only what the journal names.

The journal decides first, and a kill may come before the move. :func:`settle` makes the disk follow at the start of
the next task: what was decided and never moved is called off, what was undone goes back, what was purged goes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from trainq import files
from trainq.config import Home
from trainq.jobs import RemovalView, Store

_NAME = re.compile(rf"(\d+)-({'|'.join(store.value for store in Store)})-(g\d+-s\d+)")


class Entry(NamedTuple):
    """Something in the trash."""

    removal: int
    path: Path


class Unsettled(NamedTuple):
    """What the disk and the journal do not agree on.

    ``never_moved`` are to be called off; ``put_back`` were brought back just now; ``unknown`` lie in the trash and no
    removal names them, so they stay.
    """

    never_moved: list[RemovalView]
    put_back: list[RemovalView]
    unknown: list[Path]


def place_of(home: Home, store: Store, name: str) -> Path:
    """Where a copy belongs."""
    return home.root / store.value / name


def place_in_trash(home: Home, removal: RemovalView) -> Path:
    """Where a removed copy lies."""
    return home.trash / name_in_trash(removal.removal, removal.store, removal.name)


def name_in_trash(removal: int, store: Store, name: str) -> str:
    """What it is called there."""
    return f"{removal}-{store.value}-{name}"


def entries(home: Home) -> list[Entry]:
    """Everything in the trash that looks like something of ours, oldest removal first."""
    found = ((_NAME.fullmatch(path.name), path) for path in home.trash.iterdir()) if home.trash.is_dir() else ()
    return sorted(Entry(int(match[1]), path) for match, path in found if match)


def put(home: Home, removal: int, store: Store, name: str) -> None:
    """Move a copy to the trash; the journal has the removal of that number."""
    files.make_directory(home.trash)
    files.move(place_of(home, store, name), home.trash / name_in_trash(removal, store, name))


def put_back(home: Home, removal: RemovalView) -> None:
    """Move it back; where there is the same again by now, that stays and this goes."""
    source, destination = place_in_trash(home, removal), place_of(home, removal.store, removal.name)
    if destination.exists():
        files.remove_tree(source)
    else:
        files.move(source, destination)


def settle(home: Home, removals: Iterable[RemovalView]) -> Unsettled:
    """Make the disk what the journal says, as far as that destroys nothing but what was purged."""
    known = {removal.removal: removal for removal in removals}
    there = entries(home)
    put_back_now, unknown = [], []
    for entry in there:
        removal = known.get(entry.removal)
        if removal is None or place_in_trash(home, removal) != entry.path:
            unknown.append(entry.path)
        elif removal.state == "purged":
            files.remove_tree(entry.path)
        elif removal.state == "undone":
            put_back(home, removal)
            put_back_now.append(removal)
    moved = {entry.removal for entry in there}
    never_moved = [removal for removal in known.values() if removal.state == "trash" and removal.removal not in moved]
    return Unsettled(never_moved, put_back_now, unknown)
