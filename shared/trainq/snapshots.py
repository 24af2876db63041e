"""Snapshots: second copies of generations, outside ``checkpoints/``, and proven like them.

A snapshot is a real copy: a hard link would be broken by the same flipped bit. Its manifest (:mod:`trainq.manifests`,
kind ``snapshot``) lies in ``snapshots/g000042-s00001200/`` and names every file of the generation by its digest, the
generation's own manifest among them; the bytes lie in ``snapshots/objects/<two digits>/<digest>``, where what several
snapshots have in common lies once. A file is copied and hashed in one pass, against the digest that its generation was
sealed with: a snapshot that exists was whole when it was made.

One process at a time writes here; it holds ``snapshots/.lock``. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import orjson

from trainq import checkpoints, files, manifests, objects
from trainq.checkpoints import CheckpointFacts
from trainq.errors import InputError, NotFoundError
from trainq.manifests import Manifest, OnChunk

KIND = "snapshot"
FORMAT = 1
JOBS_NAME = "jobs.jsonl"
ADAPTER_CONFIG = "adapter_config.json"
# Where an exported adapter has the weights under it.
WEIGHTS_FOLDER = "weights"
# Of a generation, what a plain Hugging Face folder has: transformers loads it, and no state of a training is in it.
_PLAIN_SUFFIXES = (".safetensors", ".json", ".jinja", ".model", ".txt", ".md")
_NOT_PLAIN = frozenset({manifests.MANIFEST_NAME, "optimizer.safetensors", "rng.safetensors", "state.json"})


class SnapshotFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The manifest's facts: what this is a copy of, and what is in it.

    ``checkpoint`` are the facts of the generation, ``checkpoint_digest`` its manifest's own digest. ``parent`` is the
    newest snapshot that there was. ``jobs`` counts the trained jobs that it covers, which ``jobs.jsonl`` names with the
    digests of their data. ``created_at`` is in seconds since 1970, for people: the order is by generation.
    """

    checkpoint: dict[str, Any]
    checkpoint_digest: str
    parent: str
    jobs: int
    created_at: float
    created_by: str
    format: int = FORMAT


class Snapshot(NamedTuple):
    """A snapshot whose manifest is sound; :func:`verify` proves its content."""

    path: Path
    manifest: Manifest
    facts: SnapshotFacts

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def size_bytes(self) -> int:
        """What its files take, whether others share them or not."""
        return self.manifest.size_bytes

    @property
    def marks(self) -> tuple[str, ...]:
        """What was wrong with the state of which it is a copy; none if nothing was."""
        return tuple(map(str, self.facts.checkpoint.get("marks", ())))


class Created(NamedTuple):
    """What :func:`create` did: bytes written, and bytes that were there already."""

    snapshot: Snapshot
    copied_bytes: int
    shared_bytes: int


def list_snapshots(store: Path) -> list[Path]:
    """All snapshots in ``store``, newest generation first; whether they are whole is not looked at."""
    return checkpoints.list_generations(store)


def find(store: Path, name: str) -> Snapshot:
    """The snapshot of that name.

    Raises:
        NotFoundError: there is none.
        DamageError, NewerFormatError: its manifest is damaged, or a newer trainq's.
    """
    if checkpoints.parse_name(name) is None or not (store / name).is_dir():
        raise NotFoundError(f"there is no snapshot {name}", mend="trainq snapshot list shows them")
    return read(store / name)


def checkpoint_facts(snapshot: Snapshot) -> CheckpointFacts:
    """The facts of the generation that this is a copy of.

    Raises:
        DamageError, NewerFormatError: they are not those of a checkpoint, or a newer trainq's.
    """
    sealed = msgspec.structs.replace(snapshot.manifest, facts=snapshot.facts.checkpoint, kind=checkpoints.KIND)
    return manifests.facts_of(snapshot.path, sealed, CheckpointFacts, checkpoints.FORMAT)


def read(path: Path) -> Snapshot:
    """Read and check a snapshot's manifest, not its content.

    Raises:
        DamageError: it is missing or damaged.
        NewerFormatError: a newer trainq wrote it.
    """
    manifest = manifests.read(path, KIND)
    return Snapshot(path, manifest, manifests.facts_of(path, manifest, SnapshotFacts, FORMAT))


def missing_bytes(store: Path, source: Path) -> int:
    """How many bytes :func:`create` would write for the generation at ``source``, so that room is looked for first."""
    return objects.missing_bytes(store, manifests.read(source, checkpoints.KIND).files.values())


def create(store: Path, source: Path, *, jobs: bytes, job_count: int, created_at: float, created_by: str,
           on_chunk: OnChunk) -> Created:
    """Copy the generation at ``source``, which is only read; of one that is there already what it lacks.

    Args:
        store: the folder of snapshots; the caller holds its lock.
        source: a sealed checkpoint.
        jobs: ``jobs.jsonl``, the trained jobs that it covers.
        job_count: how many those are.
        created_at: seconds since 1970.
        created_by: who asked for it.
        on_chunk: may raise; then nothing half done is listed, and what was copied whole is used the next time.

    Raises:
        DamageError: the generation is not what it was sealed as; names the file.
        StorageError, StorageFullError: the disk.
    """
    destination = store / source.name
    sealed = manifests.read(source, checkpoints.KIND)
    written = objects.Writer(store, on_chunk)
    for name, record in sealed.files.items():
        written.keep(source / name, record)
    if destination.is_dir():
        return Created(read(destination), written.copied_bytes, written.shared_bytes)
    records = {**sealed.files, JOBS_NAME: written.keep_bytes(jobs),
               manifests.MANIFEST_NAME: written.keep_bytes(_read_bytes(source / manifests.MANIFEST_NAME))}
    facts = SnapshotFacts(checkpoint=sealed.facts, checkpoint_digest=sealed.digest, jobs=job_count,
                          parent=_newest_before(store, source.name), created_at=created_at, created_by=created_by)
    with files.publish_directory(destination) as folder:
        manifest = manifests.write(folder, KIND, records, msgspec.to_builtins(facts))
    return Created(Snapshot(destination, manifest, facts), written.copied_bytes, written.shared_bytes)


def verify(store: Path, name: str, on_chunk: OnChunk) -> list[str]:
    """Prove every byte of a snapshot; says what is wrong with each file that is not what the manifest says.

    An object that is damaged is renamed, so that no later snapshot shares it. The snapshots that name it lack it then,
    until a generation with the same content is copied again. The caller holds the lock.

    Raises:
        NotFoundError: there is none of that name.
        DamageError, NewerFormatError: its manifest is damaged, or a newer trainq's.
        StorageError: something could not be read at all, which proves nothing.
    """
    records = find(store, name).manifest.files
    return [wrong for file, record in records.items() if (wrong := objects.prove(store, file, record, on_chunk))]


def faults_of(store: Path, name: str, on_chunk: OnChunk) -> list[str]:
    """What :func:`verify` finds, with nothing put aside; needs no lock."""
    records = find(store, name).manifest.files
    return [wrong for file, record in records.items() if (wrong := objects.fault_of(store, file, record, on_chunk))]


def materialize(store: Path, snapshot: Snapshot, folder: Path, on_chunk: OnChunk, *, plain: bool = False) -> int:
    """Write a snapshot's files into an existing ``folder``, each proven while it is copied; gives the bytes written.

    The files are the generation as it was sealed, manifest and all; with ``plain`` only those that a Hugging Face
    folder has.

    Raises:
        DamageError: an object is not what the manifest says; what was written until then is the caller's to remove.
    """
    written = 0
    for name, record in snapshot.manifest.files.items():
        if name == JOBS_NAME or (plain and not is_plain(name)):
            continue
        objects.write_out(store, name, record, folder, on_chunk)
        written += record.size_bytes
    return written


def export(store: Path, snapshot: Snapshot, destination: Path, on_chunk: OnChunk) -> int:
    """Make a plain Hugging Face folder of it at ``destination``, which must not exist; gives the bytes written.

    An adapter becomes a folder as ``peft`` has it, with the weights under it in ``weights/`` inside. It names them by
    their whole path, as ``peft`` wants it: whoever moves the folder says the new one in ``adapter_config.json``.

    Raises:
        InputError: something is there already.
        NotFoundError: there is no snapshot of the weights under the adapter.
        DamageError: an object is not what the manifest says; nothing stays.
    """
    if destination.exists():
        raise InputError("it exists already", file=str(destination), mend="give a folder that does not exist")
    facts = checkpoint_facts(snapshot)
    with files.publish_directory(destination) as folder:
        written = materialize(store, snapshot, folder, on_chunk, plain=True)
        if not facts.has_weights:
            files.make_directory(folder / WEIGHTS_FOLDER)
            written += materialize(store, find(store, facts.adapter_of), folder / WEIGHTS_FOLDER, on_chunk, plain=True)
            written += _export_adapter(store, snapshot, folder, destination.absolute() / WEIGHTS_FOLDER, on_chunk)
    return written


def _export_adapter(store: Path, snapshot: Snapshot, folder: Path, weights: Path, on_chunk: OnChunk) -> int:
    prefix, written = f"{checkpoints.ADAPTER_FOLDER}/", 0
    for name, record in snapshot.manifest.files.items():
        if name.startswith(prefix):
            objects.write_out(store, name.removeprefix(prefix), record, folder, on_chunk)
            written += record.size_bytes
    config = folder / ADAPTER_CONFIG
    files.write_file(config, adapter_config(config.read_bytes(), str(weights)))
    return written


def adapter_config(content: bytes, weights: str) -> bytes:
    """An adapter's configuration with the place of the weights under it, as ``peft`` wants it."""
    told = orjson.loads(content) | {"base_model_name_or_path": weights}
    return orjson.dumps(told, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n"


def needed(found: Iterable[Snapshot]) -> dict[str, str]:
    """{name of a generation: a snapshot that is worth nothing without it}."""
    return {name: each.name for each in found for name in checkpoint_facts(each).needs}


def unreferenced(store: Path, others: Iterable[Path] = ()) -> Iterator[Path]:
    """The objects that neither a snapshot in ``store`` names nor one of ``others`` (those in the trash).

    The caller holds the lock, and no snapshot is being made.

    Raises:
        DamageError, NewerFormatError: a manifest cannot be read: then nobody knows what it names, and nothing goes.
    """
    named = {record.blake3 for path in (*list_snapshots(store), *others)
             for record in read(path).manifest.files.values()}
    yield from objects.unreferenced(store, named)


def _newest_before(store: Path, name: str) -> str:
    """The newest snapshot of an older generation; empty if there is none."""
    own = checkpoints.parse_name(name)
    older = (path.name for path in list_snapshots(store) if own and (checkpoints.parse_name(path.name) or own) < own)
    return next(older, "")


def is_plain(name: str) -> bool:
    """Whether a plain Hugging Face folder has this file of a generation."""
    return name.endswith(_PLAIN_SUFFIXES) and name not in _NOT_PLAIN and "/" not in name


def _read_bytes(path: Path) -> bytes:
    return b"".join(manifests.chunks(path))
