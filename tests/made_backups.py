"""Backups for tests of their folder: a sound manifest and its content, of no journal that could be opened."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from trainq import backups, files, manifests, objects
from trainq.backups import BackupFacts


def make_backup(store: Path, seq: int, contents: dict[str, bytes], *, journal_id: str = "j", at: float = 0.0,
                made: int = 0, marks: tuple[str, ...] = ()) -> str:
    """Make one with these files; its name. ``at`` is what its facts say, ``made`` what its file system does."""
    files.make_directory(store)
    written = objects.Writer(store, lambda _: None)
    records = {name: written.keep_bytes(content) for name, content in contents.items()}
    facts = BackupFacts(journal_id=journal_id, seq=seq, checkpoint="", jobs=0, lacking=[], created_at=at,
                        created_by="test", marks=marks)
    own = manifests.digest_bytes(repr((seq, journal_id, sorted(records), made)).encode())[:8]
    path = store / f"b{seq:09d}-{own}"
    with files.publish_directory(path) as folder:
        manifests.write(folder, backups.KIND, records, msgspec.to_builtins(facts))
    os.utime(path, (made or seq, made or seq))
    return path.name


def damage(store: Path, name: str, file: str) -> None:
    """Change one byte of a file's content, wherever else it belongs."""
    path = objects.path_of(store, backups.read(store / name).manifest.files[file].blake3)
    content = path.read_bytes()
    path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
