"""Verified directories: a manifest with a BLAKE3 digest for every file, and one for itself.

A directory with a manifest is either proven whole by :func:`verify` or it is damaged; names, times and markers prove
nothing. The manifest's own digest makes the directory addressable: it covers every byte in it and the facts that the
writer recorded. (safetensors and ``torch.load`` both accept a flipped bit in silence; this does not.)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import orjson
from blake3 import blake3

from trainq import files
from trainq.errors import DamageError, NewerFormatError

MANIFEST_NAME = "manifest.json"
FORMAT = 1
_CHUNK_BYTES = 1 << 20

Facts = TypeVar("Facts", bound=msgspec.Struct)

OnChunk = Callable[[int], None]
"""Called with the number of bytes just read, after each MiB: for progress and the rate limit; it may raise."""


def _go_on(_size_bytes: int) -> None:
    pass



class FileRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What one file must be: its BLAKE3 digest in hexadecimal and its size."""

    blake3: str
    size_bytes: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The content of ``manifest.json``. ``facts`` belong to the writer and depend on ``kind``."""

    format: int
    kind: str
    files: dict[str, FileRecord]
    facts: dict[str, Any]
    digest: str

    @property
    def size_bytes(self) -> int:
        """What the files take, without the manifest."""
        return sum(record.size_bytes for record in self.files.values())


class _Format(msgspec.Struct, frozen=True, kw_only=True):
    """What every format of a manifest has."""

    format: int


def digest_bytes(content: bytes) -> str:
    """BLAKE3 of ``content`` as 64 hexadecimal digits."""
    return blake3(content).hexdigest()


def digest_file(path: Path, on_chunk: OnChunk = _go_on) -> str:
    """BLAKE3 of a file's bytes, read in pieces (bounded memory; no mmap, which a truncation would turn into SIGBUS)."""
    hasher = blake3()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            hasher.update(chunk)
            on_chunk(len(chunk))
    return hasher.hexdigest()


def seal(folder: Path, kind: str, facts: dict[str, Any]) -> Manifest:
    """Write ``manifest.json`` over all files that now lie in ``folder`` (call it inside ``publish_directory``)."""
    records = {
        entry.relative_to(folder).as_posix(): FileRecord(blake3=digest_file(entry), size_bytes=entry.stat().st_size)
        for entry in sorted(files.list_tree(folder))
        if entry.is_file()
    }
    return write(folder, kind, records, facts)


def write(folder: Path, kind: str, records: dict[str, FileRecord], facts: dict[str, Any]) -> Manifest:
    """Write ``manifest.json`` over files that lie elsewhere, or whose digests are known already."""
    manifest = Manifest(format=FORMAT, kind=kind, files=records, facts=facts,
                        digest=_own_digest(FORMAT, kind, records, facts))
    content = orjson.dumps(msgspec.to_builtins(manifest), option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)
    files.write_file(folder / MANIFEST_NAME, content + b"\n")
    return manifest


def read(folder: Path, kind: str) -> Manifest:
    """Read and check the manifest itself, not the files that it names.

    Raises:
        DamageError: it is missing, no valid manifest, of another kind, or its own digest is wrong.
        NewerFormatError: a newer trainq wrote it.
    """
    path = folder / MANIFEST_NAME
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DamageError(str(folder), f"it has no {MANIFEST_NAME}") from None
    except OSError as error:
        # A disk that cannot be read now is no proof of damage; falling back would throw away what is there.
        raise files.storage_error(error, f"reading {path}") from error
    try:
        format_ = msgspec.json.decode(content, type=_Format).format
        # Before anything else is judged: another layout, or another way to the digest, is what a format is raised for.
        if format_ > FORMAT and not _is_flipped(content):
            raise NewerFormatError(str(path), format_, FORMAT)
        manifest = msgspec.json.decode(content, type=Manifest)
        digest = _own_digest(manifest.format, manifest.kind, manifest.files, manifest.facts)
    # TypeError: orjson writes no number above 64 bits and nothing nested 255 deep, which msgspec reads.
    except (msgspec.MsgspecError, RecursionError, ValueError, TypeError) as error:
        raise DamageError(str(path), f"not a manifest: {error}") from error
    if manifest.digest != digest:
        raise DamageError(str(path), "its own digest is wrong")
    for name in manifest.files:
        # Whoever writes its files out would write there.
        if name.startswith("/") or ".." in name.split("/"):
            raise DamageError(str(path), f"it names a file outside of its folder: {name[:200]!r}")
    if manifest.kind != kind:
        raise DamageError(str(path), f"it is a {manifest.kind!r}, not a {kind!r}")
    return manifest


def facts_of(folder: Path, manifest: Manifest, facts: type[Facts], newest_format: int) -> Facts:
    """The facts of a manifest as what their writer made of them; their own ``format`` is judged first.

    A newer format may lack some of them, or have others.

    Raises:
        NewerFormatError: a newer trainq wrote them.
        DamageError: they are not those of this kind.
    """
    format_ = manifest.facts.get("format", newest_format)
    if isinstance(format_, int) and format_ > newest_format:
        raise NewerFormatError(str(folder), format_, newest_format)
    try:
        return msgspec.convert(manifest.facts, facts)
    except msgspec.ValidationError as error:
        raise DamageError(str(folder), f"the manifest's facts are not those of a {manifest.kind}: {error}") from error


def proven_chunks(path: Path, record: FileRecord, name: str, on_chunk: OnChunk) -> Iterator[bytes]:
    """The bytes of a file piece by piece, each told to ``on_chunk``; an error at the end if they are not ``record``'s.

    Args:
        path: where the bytes lie.
        record: what they must be.
        name: what the manifest calls the file.
        on_chunk: what it raises ends this.

    Raises:
        DamageError: the file is missing, or its content is not what it must be.
        StorageError: it could not be read, which proves nothing.
    """
    hasher, size_bytes = blake3(), 0
    for chunk in chunks(path):
        hasher.update(chunk)
        size_bytes += len(chunk)
        yield chunk
        on_chunk(len(chunk))
    if size_bytes != record.size_bytes or hasher.hexdigest() != record.blake3:
        raise DamageError(str(path), f"its content is not that of {name}, as the manifest says")


def write_proven(source: Path, record: FileRecord, folder: Path, name: str, on_chunk: OnChunk) -> None:
    """Copy a file to ``folder/name``, proven while it is copied: it is there whole, or not at all.

    Raises:
        DamageError, StorageError: as :func:`proven_chunks`.
        StorageFullError: there is no room.
    """
    files.make_directory((folder / name).parent)
    with files.publish_file(folder / name) as stream:
        for chunk in proven_chunks(source, record, name, on_chunk):
            stream.write(chunk)


def own_record(folder: Path) -> FileRecord:
    """What the manifest file of a sealed directory is itself, for those who copy it along."""
    content = b"".join(chunks(folder / MANIFEST_NAME))
    return FileRecord(blake3=digest_bytes(content), size_bytes=len(content))


def chunks(path: Path) -> Iterator[bytes]:
    """The bytes of a file piece by piece, which the page cache does not keep: it is for those who train.

    Raises:
        DamageError: it is missing.
        StorageError: it could not be read.
    """
    try:
        with path.open("rb", buffering=0) as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                yield chunk
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    except FileNotFoundError as error:
        raise DamageError(str(path), "it is missing") from error
    except OSError as error:
        raise files.storage_error(error, f"reading {path}") from error


def verify(folder: Path, kind: str, on_chunk: OnChunk = _go_on) -> Manifest:
    """Prove every byte: the manifest, each file's size and digest, and that no file is missing or too many.

    ``on_chunk`` is called after each MiB that was read; what it raises ends this.

    Raises:
        DamageError: naming the first file that is not what the manifest says.
        StorageError: something could not be read at all, which proves nothing.
    """
    manifest = read(folder, kind)
    present = {entry.relative_to(folder).as_posix() for entry in files.list_tree(folder) if entry.is_file()}
    for extra in sorted(present - manifest.files.keys() - {MANIFEST_NAME}):
        raise DamageError(str(folder / extra), "the manifest does not name it")
    for name, record in manifest.files.items():
        path = folder / name
        try:
            size_bytes = path.stat().st_size
            if size_bytes != record.size_bytes:
                raise DamageError(str(path), f"it has {size_bytes} bytes, the manifest says {record.size_bytes}")
            if digest_file(path, on_chunk) != record.blake3:
                raise DamageError(str(path), "its content is not what the manifest says")
        except FileNotFoundError as error:
            raise DamageError(str(path), "it is missing") from error
        except OSError as error:
            raise files.storage_error(error, f"reading {path}") from error
    return manifest


def _is_flipped(content: bytes) -> bool:
    """Whether a manifest that says to be of a newer format is one of this format in all but that number."""
    try:
        manifest = msgspec.json.decode(content, type=Manifest)
    except msgspec.ValidationError:
        return False
    return manifest.digest == _own_digest(FORMAT, manifest.kind, manifest.files, manifest.facts)


def _own_digest(format_: int, kind: str, records: dict[str, FileRecord], facts: dict[str, Any]) -> str:
    covered = {"format": format_, "kind": kind, "files": msgspec.to_builtins(records), "facts": facts}
    return digest_bytes(orjson.dumps(covered, option=orjson.OPT_SORT_KEYS))
