"""Mirroring: snapshots copied to another place through fsspec, each proven by reading it back.

The place looks like ``snapshots/`` itself: ``<url>/objects/<two digits>/<digest>`` and
``<url>/g000042-s00001200/manifest.json``, which is written last; so a folder that was mirrored can be put in the place
of ``snapshots/``.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from trainq import manifests, objects, snapshots
from trainq.destinations import Destination
from trainq.errors import StorageError, StorageFullError
from trainq.manifests import FileRecord, OnChunk
from trainq.snapshots import Snapshot


class Mirrored(NamedTuple):
    """What :meth:`Mirror.copy` did: bytes written, and bytes that were there already."""

    copied_bytes: int
    there_bytes: int


class Mirror:
    """One place elsewhere.

    Args:
        url: a URL of fsspec's (``s3://bucket/folder``), or an absolute path.
        on_chunk: called again and again with what was copied, and 0 where nothing was; may raise.

    Raises:
        InputError: the URL is none that can be used here.
    """

    def __init__(self, url: str, on_chunk: OnChunk) -> None:
        self._place = Destination(url, on_chunk)

    def has(self, name: str) -> bool:
        """Whether a whole copy of that snapshot is there."""
        return self._place.exists(self._place.path(name, manifests.MANIFEST_NAME))

    def copy(self, store: Path, snapshot: Snapshot) -> Mirrored:
        """Copy one snapshot, and prove what was copied by reading it back; the manifest comes last.

        Raises:
            DamageError: the snapshot here is not what its manifest says, or what is read back is not what was written.
            TrainqError: the place refuses; nothing of the snapshot is listed there.
        """
        copied = there = 0
        try:
            for name, record in snapshot.manifest.files.items():
                target = self._place.path(objects.FOLDER, record.blake3[:2], record.blake3)
                self._place.on_chunk(0)
                if self._is_there(target, record):
                    there += record.size_bytes
                else:
                    self._put(objects.path_of(store, record.blake3), target, record, name)
                    copied += record.size_bytes
            self._put(snapshot.path / manifests.MANIFEST_NAME,
                      self._place.path(snapshot.name, manifests.MANIFEST_NAME),
                      manifests.own_record(snapshot.path), manifests.MANIFEST_NAME)
        except (OSError, StorageError, StorageFullError) as error:
            # Who asks, or the next slot, tries again.
            raise self._place.refused(snapshot.name, error, "look at the place, its room and its rights; the next copy "
                                      "goes on") from error
        return Mirrored(copied, there)

    def _is_there(self, target: str, record: FileRecord) -> bool:
        """By its size: its bytes were proven when they were written."""
        return self._place.exists(target) and self._place.size_bytes(target) == record.size_bytes

    def _put(self, source: Path, target: str, record: FileRecord, name: str) -> None:
        self._place.put(manifests.proven_chunks(source, record, name, self._place.on_chunk), target, record, name)


def copy_all(store: Path, names: list[str], mirror: Mirror) -> Mirrored:
    """Copy those of these snapshots that are not there yet, the oldest first."""
    copied = there = 0
    for name in names:
        if not mirror.has(name):
            done = mirror.copy(store, snapshots.find(store, name))
            copied, there = copied + done.copied_bytes, there + done.there_bytes
    return Mirrored(copied, there)
