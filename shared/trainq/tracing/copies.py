"""Every copy of a generation that a home has: in ``checkpoints/``, in ``snapshots/``, in the trash. Reads manifests."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from trainq import checkpoints, objects, snapshots
from trainq.checkpoints import CheckpointFacts
from trainq.config import Home
from trainq.errors import DamageError, NewerFormatError
from trainq.jobs import Store
from trainq.retention import trash

TRASH = "trash"
_LEDGER = "ledger.bin"


class Generation(NamedTuple):
    """A generation of which there is a copy; ``ledger`` is where one of them has its ledger, if there is any."""

    facts: CheckpointFacts
    stores: tuple[str, ...]
    ledger: Path | None

    @property
    def number(self) -> int:
        return self.facts.generation

    @property
    def name(self) -> str:
        return self.facts.name

    @property
    def half(self) -> str:
        """The job in the middle of which it is; empty if it is in none."""
        cursor = self.facts.cursor
        return cursor.job if cursor.job_step and not cursor.done else ""


class Stock(NamedTuple):
    """The generations by number, newest first; and what cannot be read, with the reason."""

    generations: dict[int, Generation]
    unreadable: list[str]


def read(home: Home) -> Stock:
    """What there is, by its manifests alone: no file's content is proven."""
    found: dict[int, Generation] = {}
    unreadable: list[str] = []
    places = [*((Store.CHECKPOINTS.value, path) for path in checkpoints.list_generations(home.checkpoints)),
              *((Store.SNAPSHOTS.value, path) for path in snapshots.list_snapshots(home.snapshots)),
              *((TRASH, entry.path) for entry in trash.entries(home))]
    for store, path in places:
        try:
            copy = _snapshot(home, path, store) if _is_snapshot(store, path) else _checkpoint(path, store)
        except (DamageError, NewerFormatError) as error:
            unreadable.append(f"{store}/{path.name}: {error.args[0]}")
            continue
        before = found.get(copy.number)
        found[copy.number] = copy if before is None else before._replace(
            stores=(*before.stores, store), ledger=before.ledger or copy.ledger)
    return Stock(dict(sorted(found.items(), reverse=True)), unreadable)


def _is_snapshot(store: str, path: Path) -> bool:
    return store == Store.SNAPSHOTS.value or (store == TRASH and f"-{Store.SNAPSHOTS.value}-" in path.name)


def _checkpoint(path: Path, store: str) -> Generation:
    ledger = path / _LEDGER
    return Generation(checkpoints.read_facts(path), (store,), ledger if ledger.is_file() else None)


def _snapshot(home: Home, path: Path, store: str) -> Generation:
    found = snapshots.read(path)
    record = found.manifest.files.get(_LEDGER)
    return Generation(snapshots.checkpoint_facts(found), (store,),
                      objects.path_of(home.snapshots, record.blake3) if record else None)
