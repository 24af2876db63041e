"""Publishing: the champion put to where others fetch it, by digest, proven there, with a pointer that is written last.

``<destination>/<digest of the weights>/`` is a plain folder that ``transformers`` loads; an adapter is one as ``peft``
has it, with the weights under it in ``weights/`` inside. What lies in it follows from the weights alone, so it is never
changed once it is whole, and the same weights need no second one. ``<destination>/champion.json`` (:class:`Pointer`)
says which of them is champion, and what each of its files must be. Invariants:

- The pointer never names a folder of which a byte was not read back from there, and found right, before.
- On a disk of this machine a folder gets its name when it is whole. Another place may know no rename of folders: there
  each of its files gets its name when it was found right, and the folder counts once the pointer names it.
- The pointer never goes back: one that was written for a later move of the champion stays. A move is known by its
  number in the journal, and a destination belongs to one journal.
- Folders of former champions stay until a person takes them away. Where only so many are to be kept, older ones go
  when the pointer is written, and of what is there only those that it names as former ones.

Doing it again, after a kill anywhere, uses what is whole and ends in the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec
import orjson
from blake3 import blake3

from trainq import checkpoints, evaluations, files, manifests, snapshots
from trainq.checkpoints import CheckpointFacts
from trainq.destinations import Destination
from trainq.errors import DamageError, StorageError, StorageFullError, UsageError
from trainq.manifests import FileRecord

POINTER_NAME = "champion.json"
FORMAT = 1
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """A move of the champion, as the journal ``journal`` has it under the number ``seq``.

    ``at`` in wall seconds since 1970; ``how`` and ``reason`` say why it has moved.
    """

    journal: str
    seq: int
    checkpoint: str
    at: float
    how: str
    reason: str


class Pointer(msgspec.Struct, frozen=True, kw_only=True):
    """``champion.json``: the champion's ``folder`` at the destination, and what each file in it must be.

    ``weights`` is the digest of what decides the model's answers. ``moved`` is the move that made it champion.
    ``published_at`` in wall seconds since 1970. ``former`` are the folders of the champions before it that are still
    there, the latest first.
    """

    format: int
    checkpoint: str
    weights: str
    folder: str
    is_adapter: bool
    files: dict[str, FileRecord]
    moved: Move
    published_at: float
    published_by: str
    former: tuple[str, ...] = ()


class Delivered(NamedTuple):
    """What :func:`deliver` did.

    ``copied_bytes`` were written, ``there_bytes`` were there already; all of them were read back. ``is_pointed_at`` is
    false where the pointer already named a later champion, ``pointed_at``. ``removed`` are the folders of
    former champions that went; ``stays`` says why one that was to go did not.
    """

    weights: str
    copied_bytes: int
    there_bytes: int
    is_pointed_at: bool
    pointed_at: str
    removed: tuple[str, ...] = ()
    stays: str = ""


class _Piece(NamedTuple):
    """A file of the folder: what it must be, and where its bytes lie (here, or in memory)."""

    record: FileRecord
    source: Path | bytes


def deliver(source: Path, move: Move, place: Destination, *, published_at: float, published_by: str,
            keep: int = 0) -> Delivered:
    """Put the generation at ``source`` there, prove it, and point at it unless a later one is pointed at.

    Args:
        source: the generation's folder.
        move: with which it became champion.
        place: to where it is put.
        published_at: wall seconds since 1970.
        published_by: who does it.
        keep: how many folders of former champions stay there; 0: all.

    Raises:
        UsageError: the destination belongs to another journal, or to a newer trainq.
        DamageError: the generation is not whole, or what is read back is not what was written.
        TrainqError: the place refuses; the pointer is as it was.
    """
    facts = checkpoints.read_facts(source)
    weights = evaluations.weights_digest(source)
    pieces = _pieces(source, facts, place, weights)
    try:
        _refuse_others(place, move)
        copied = _put_folder(place, weights, pieces)
        place.sync()
        pointed_at = _point(place, Pointer(
            format=FORMAT, checkpoint=move.checkpoint, weights=weights, folder=weights,
            is_adapter=not facts.has_weights, files={name: piece.record for name, piece in pieces.items()}, moved=move,
            published_at=published_at, published_by=published_by))
        place.sync()
        removed, stays = _let_go(place, keep)
    except (OSError, StorageError, StorageFullError) as error:
        raise place.refused(move.checkpoint, error, "look at the place, its room and its rights; then trainq champion "
                            "--deliver") from error
    size_bytes = sum(piece.record.size_bytes for piece in pieces.values())
    return Delivered(weights, copied, size_bytes - copied, pointed_at == move.checkpoint, pointed_at, removed, stays)


def read_pointer(place: Destination) -> Pointer | None:
    """The pointer that is there; None if there is none, or nobody can read it.

    Raises:
        UsageError: a newer trainq wrote it.
        OSError, StorageError: the place.
    """
    path = place.path(POINTER_NAME)
    if not place.exists(path):
        return None
    try:
        told = orjson.loads(place.read(path))
        if isinstance(told, dict) and isinstance(format_ := told.get("format"), int) and format_ > FORMAT:
            raise UsageError(f"{place.url} was written by a newer trainq", mend="publish with that one")
        return msgspec.convert(told, Pointer)
    except (orjson.JSONDecodeError, msgspec.ValidationError):
        return None


def _refuse_others(place: Destination, move: Move) -> Pointer | None:
    there = read_pointer(place)
    if there is not None and there.moved.journal != move.journal:
        raise UsageError(f"{place.url} has the champions of another home, whose journal is {there.moved.journal}",
                         mend="give each home a folder of its own ([promotion] publish_to)")
    return there


def _point(place: Destination, pointer: Pointer) -> str:
    """Write the pointer, unless it is there already or a later one is; which checkpoint it names now."""
    there = _refuse_others(place, pointer.moved)
    if there is not None and there.moved.seq > pointer.moved.seq:
        return there.checkpoint
    if there is None or (there.moved.seq, there.files) != (pointer.moved.seq, pointer.files):
        pointer = msgspec.structs.replace(pointer, former=_former(place, there, pointer.folder))
        content = orjson.dumps(msgspec.to_builtins(pointer), option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n"
        place.put([content], place.path(POINTER_NAME), _record(content), POINTER_NAME)
    return pointer.checkpoint


def _former(place: Destination, there: Pointer | None, folder: str) -> tuple[str, ...]:
    if there is None:
        return ()
    return tuple(name for name in dict.fromkeys((there.folder, *there.former))
                 if name != folder and _DIGEST.fullmatch(name) and place.exists(place.path(name)))


def _let_go(place: Destination, keep: int) -> tuple[tuple[str, ...], str]:
    """Remove the former champions beyond ``keep`` (0: none); which have gone, and why one has not.

    The champion is there and pointed at: what keeps an old one does not undo that.
    """
    pointer = read_pointer(place) if keep else None
    if pointer is None:
        return (), ""
    gone: list[str] = []
    for name in pointer.former[keep:]:
        # Others may write there: no word of theirs leads to another folder.
        if name == pointer.folder or not _DIGEST.fullmatch(name) or not place.exists(place.path(name)):
            continue
        try:
            place.remove_folder(place.path(name))
        except (OSError, StorageError, StorageFullError) as error:
            return tuple(gone), f"{name} stays there: {error}"
        gone.append(name)
    return tuple(gone), ""


def _pieces(source: Path, facts: CheckpointFacts, place: Destination, weights: str) -> dict[str, _Piece]:
    """{name in the folder: the file}; all of it is covered by the digest of the weights."""
    if facts.has_weights:
        return _plain(source)
    prefix = f"{checkpoints.ADAPTER_FOLDER}/"
    found = _plain(source)
    for name, record in manifests.read(source, checkpoints.KIND).files.items():
        if name.startswith(prefix):
            found[name.removeprefix(prefix)] = _Piece(record, source / name)
    under = _plain(source.with_name(facts.adapter_of))
    found |= {f"{snapshots.WEIGHTS_FOLDER}/{name}": piece for name, piece in under.items()}
    # Where nobody can know to where it will be fetched, it is said from inside the folder.
    lies = place.path(weights, snapshots.WEIGHTS_FOLDER) if place.is_local else snapshots.WEIGHTS_FOLDER
    config = snapshots.adapter_config((source / prefix / snapshots.ADAPTER_CONFIG).read_bytes(), lies)
    return found | {snapshots.ADAPTER_CONFIG: _Piece(_record(config), config)}


def _plain(source: Path) -> dict[str, _Piece]:
    """Without the card, which names a generation, where two may have the same weights."""
    return {name: _Piece(record, source / name)
            for name, record in manifests.read(source, checkpoints.KIND).files.items()
            if snapshots.is_plain(name) and not name.endswith(".md")}


def _put_folder(place: Destination, folder: str, pieces: Mapping[str, _Piece]) -> int:
    """Have the folder there, every byte of it proven; how many bytes were written."""
    path = place.path(folder)
    if place.is_local and not place.exists(path):
        return _publish_folder(place, Path(path), pieces)
    copied = 0
    for name, piece in pieces.items():
        target = place.path(folder, *name.split("/"))
        if not (place.exists(target) and place.digest(target) == piece.record.blake3):
            place.put(_chunks(piece, name, place), target, piece.record, name)
            copied += piece.record.size_bytes
    return copied


def _publish_folder(place: Destination, path: Path, pieces: Mapping[str, _Piece]) -> int:
    """Make it under another name, prove it, and give it its own."""
    files.make_directory(path.parent)
    files.sweep_temporaries(path.parent)
    size_bytes = sum(piece.record.size_bytes for piece in pieces.values())
    # Before a byte: a disk that is filled to its end is one on which others fail, the trainer among them.
    place.refuse_without(size_bytes, "the champion")
    with files.publish_directory(path) as folder:
        for name, piece in pieces.items():
            files.make_directory((folder / name).parent)
            with files.publish_file(folder / name) as stream:
                for chunk in _chunks(piece, name, place):
                    stream.write(chunk)
            if place.digest(str(folder / name)) != piece.record.blake3:
                raise DamageError(place.url, f"{name} was written, and comes back otherwise")
    return size_bytes


def _chunks(piece: _Piece, name: str, place: Destination) -> Iterable[bytes]:
    if isinstance(piece.source, bytes):
        return [piece.source]
    return manifests.proven_chunks(piece.source, piece.record, name, place.on_chunk)


def _record(content: bytes) -> FileRecord:
    return FileRecord(blake3=blake3(content).hexdigest(), size_bytes=len(content))
