"""Restoring: an earlier state of the model line is published again, as its newest generation.

The files are copied byte for byte, each proven while it is copied; only the facts are new (number, parent, what it is a
copy of), and the card that says them. So no model is loaded, and a line of which nothing verifies any more can be
brought back.

Only the process that holds the lock on the checkpoints' folder calls this. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from trainq import cards, checkpoints, crashpoints, files, manifests, objects, room, snapshots
from trainq.checkpoints import CheckpointFacts
from trainq.config import Home
from trainq.errors import DamageError, NotFoundError
from trainq.jobs import Store
from trainq.manifests import FileRecord, OnChunk
from trainq.snapshots import Snapshot


class Source(NamedTuple):
    """A copy of a generation: its facts, and where each of its files lies with what that must be."""

    name: str
    facts: CheckpointFacts
    files: Mapping[str, tuple[Path, FileRecord]]

    @property
    def size_bytes(self) -> int:
        """What its files take."""
        return sum(record.size_bytes for _, record in self.files.values())


def find(home: Home, store: Store, name: str) -> Source:
    """The copy of that name; only its manifest is read.

    Raises:
        NotFoundError: there is none.
        DamageError, NewerFormatError: its manifest is damaged, or a newer trainq's.
    """
    if store is Store.SNAPSHOTS:
        snapshot = snapshots.find(home.snapshots, name)
        located = {file: (objects.path_of(home.snapshots, record.blake3), record)
                   for file, record in snapshot.manifest.files.items()
                   if file not in (snapshots.JOBS_NAME, manifests.MANIFEST_NAME)}
        return Source(name, snapshots.checkpoint_facts(snapshot), located)
    folder = home.checkpoints / name
    if not folder.is_dir():
        raise NotFoundError(f"there is no {name} in checkpoints/", mend="trainq retention plan shows what there is")
    manifest = manifests.read(folder, checkpoints.KIND)
    facts = manifests.facts_of(folder, manifest, CheckpointFacts, checkpoints.FORMAT)
    return Source(name, facts, {file: (folder / file, record) for file, record in manifest.files.items()})


def publish_again(home: Home, source: Source, *, by: str, above: int, journal_seq: int,
                  on_chunk: OnChunk) -> CheckpointFacts:
    """Publish the copy as the newest generation; gives its facts.

    Args:
        home: whose line.
        source: what :func:`find` has found.
        by: the task that asks for it.
        above: the newest generation that the journal knows; the new one is above it.
        journal_seq: the journal's newest event that the caller knows.
        on_chunk: may raise; then nothing of it stays.

    Raises:
        NotFoundError: another generation that it needs (:attr:`~trainq.checkpoints.CheckpointFacts.needs`) is in no
            copy any more.
        DamageError: the copy is not what its manifest says; names the file. Nothing was published.
        StorageError, StorageFullError: the disk; nothing was published.
    """
    names = [path.name for path in checkpoints.list_generations(home.checkpoints)]
    lacking = _lacking(home, source.facts, on_chunk)
    room.refuse_without(home.checkpoints, source.size_bytes + sum(each.size_bytes for each in lacking),
                        f"another {source.name}")
    for snapshot in lacking:
        _bring_back(home, snapshot, on_chunk)
    facts = msgspec.structs.replace(
        source.facts, generation=checkpoints.next_generation(home.checkpoints, above), journal_seq=journal_seq,
        reason="restore", parent=names[0] if names else "", made_by=by, restored_from=source.facts.generation)
    if source.facts.adapter_of and source.facts.has_weights:
        facts = msgspec.structs.replace(facts, adapter_of=facts.name)
    with files.publish_directory(home.checkpoints / facts.name) as folder:
        for name, (path, record) in source.files.items():
            manifests.write_proven(path, record, folder, name, on_chunk)
        # The copy's own card, proven like the rest, speaks of another generation.
        card = cards.text(facts)
        files.write_file(folder / cards.NAME, card)
        records = {name: record for name, (_, record) in source.files.items()}
        records[cards.NAME] = FileRecord(blake3=manifests.digest_bytes(card), size_bytes=len(card))
        manifests.write(folder, checkpoints.KIND, records, msgspec.to_builtins(facts))
    crashpoints.reach("checkpoint.published")
    return facts


def _lacking(home: Home, facts: CheckpointFacts, on_chunk: OnChunk) -> list[Snapshot]:
    """The snapshots of what it needs and is not there, or not whole; what those need themselves comes first."""
    found: list[Snapshot] = []
    for name in facts.needs:
        try:
            needed = checkpoints.verify_alone(home.checkpoints / name, on_chunk).facts
        except DamageError:  # which a missing one is, too
            found.append(snapshots.find(home.snapshots, name))
            needed = snapshots.checkpoint_facts(found[-1])
        found = [*_lacking(home, needed, on_chunk), *found]
    return list({snapshot.name: snapshot for snapshot in found}.values())


def _bring_back(home: Home, snapshot: Snapshot, on_chunk: OnChunk) -> None:
    """Put a generation back where it was, as it was sealed, under its own number, which is below every newer one."""
    path = home.checkpoints / snapshot.name
    if path.is_dir():
        checkpoints.set_aside(path)
    with files.publish_directory(path) as folder:
        snapshots.materialize(home.snapshots, snapshot, folder, on_chunk)
