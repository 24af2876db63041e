"""Bytes on disk, read and proven without trainq: journal, sealed directories, shards, ledgers, receipts."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import sqlite3
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgpack
import numpy as np
from blake3 import blake3

RECORD = np.dtype([("step", "<u4"), ("digest", "V16")])
ROW_DIGEST_BYTES = 16
_NAME = re.compile(r"(damaged-)?g(\d+)-s(\d+)(?:-\d+)?")
_CHUNK_BYTES = 1 << 20
# What damaged bytes may raise while they are read.
DAMAGE = (KeyError, IndexError, TypeError, ValueError, AttributeError, OSError, sqlite3.Error,
          msgpack.exceptions.UnpackException)


class BrokenError(Exception):
    """Something is not what it must be; says what and where."""


class Event(NamedTuple):
    """One event: its number, its columns, and its body as it was written."""

    seq: int
    at: float
    type: str
    job: str | None
    body: bytes
    hash: bytes

    @property
    def fields(self) -> dict[str, Any]:
        """The body, decoded."""
        decoded: dict[str, Any] = msgpack.unpackb(self.body, strict_map_key=False)
        return decoded


@dataclass(frozen=True, kw_only=True, slots=True)
class JournalCopy:
    """All events, and the state that the journal's own table gives each job."""

    events: list[Event]
    states: dict[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Generation:
    """A directory of ``checkpoints/``: what its name says, and whether it was set aside as damaged."""

    path: Path
    number: int
    step: int
    damaged: bool


def read_journal(home: Path) -> JournalCopy:
    """Read a copy: SQLite changes what it opens, and the home is only read."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "journal.db"
        for suffix in ("", "-wal"):
            source = home / f"journal.db{suffix}"
            if source.exists():
                shutil.copyfile(source, f"{copy}{suffix}")
        connection = sqlite3.connect(copy)
        try:
            events = [Event(*row) for row in
                      connection.execute("SELECT seq, at, type, job, body, hash FROM events ORDER BY seq")]
            return JournalCopy(events=events, states=dict(connection.execute("SELECT id, state FROM jobs")))
        finally:
            connection.close()


def chained(previous: bytes, event: Event) -> bytes:
    """The hash that an event must have: it covers the one before, the number, the time, and the body."""
    hasher = blake3(previous)
    hasher.update(b"|%d|%b|" % (event.seq, repr(event.at).encode()))
    hasher.update(event.body)
    return hasher.digest()


def prove(folder: Path, kind: str) -> dict[str, Any]:
    """The manifest of a sealed directory, with every byte of it proven.

    Raises:
        BrokenError: naming the first file that is not what the manifest says.
    """
    try:
        manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_bytes())
        covered = {key: manifest[key] for key in ("format", "kind", "files", "facts")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BrokenError(f"{folder.name}: its manifest cannot be read ({error!r})") from error
    canonical = json.dumps(covered, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    if manifest.get("kind") != kind or manifest.get("digest") != blake3(canonical).hexdigest():
        raise BrokenError(f"{folder.name}: its manifest is not one of a {kind}, or its own digest is wrong")
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {"manifest.json"}
    if present != manifest["files"].keys():
        raise BrokenError(f"{folder.name}: missing or too many are {sorted(present ^ manifest['files'].keys())[:3]}")
    for name, record in manifest["files"].items():
        if (folder / name).stat().st_size != record["size_bytes"] or digest_of(folder / name) != record["blake3"]:
            raise BrokenError(f"{folder.name}/{name} is not what the manifest says")
    return manifest


def digest_of(path: Path) -> str:
    """BLAKE3 of a file, in hexadecimal."""
    hasher = blake3()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            hasher.update(chunk)
    return hasher.hexdigest()


def row_digests(shard: Path) -> list[tuple[bytes, int]]:
    """(digest as the ledger has it, line in the source file) of each row of a shard, from its arrays."""
    offsets = np.fromfile(shard / "offsets.bin", dtype="<i8").tolist()
    lines = np.fromfile(shard / "rows.bin", dtype="<i8").tolist()
    tokens, trained = (shard / "tokens.bin").read_bytes(), (shard / "trained.bin").read_bytes()
    if not offsets or len(lines) != len(offsets) - 1 or len(tokens) != 4 * offsets[-1] or len(trained) != offsets[-1]:
        raise BrokenError(f"{shard.name}: its arrays contradict each other")
    return [(blake3(tokens[4 * start:4 * end] + trained[start:end]).digest()[:ROW_DIGEST_BYTES], line)
            for (start, end), line in zip(itertools.pairwise(offsets), lines, strict=True)]


def has_whole_ledger(path: Path) -> bool:
    """Whether it is there, and begins with its job's first step."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return int.from_bytes(stream.read(RECORD["step"].itemsize), "little") == 0 and path.stat().st_size > 0


def read_ledger(path: Path) -> tuple[list[int], Counter[bytes]]:
    """The step of each record in order, and how often each row's digest is in it."""
    content = path.read_bytes()
    if len(content) % RECORD.itemsize:
        raise BrokenError(f"{path.parent.name}/{path.name} has {len(content)} bytes, no whole number of records")
    records = np.frombuffer(content, dtype=RECORD)
    return records["step"].tolist(), Counter(bytes(digest) for digest in records["digest"])


def list_generations(folder: Path) -> list[Generation]:
    """All generations, newest first, those set aside too."""
    found = [Generation(path=path, number=int(match[2]), step=int(match[3]), damaged=bool(match[1]))
             for path in (folder.iterdir() if folder.is_dir() else ())
             if (match := _NAME.fullmatch(path.name)) and (match[1] or path.name.count("-") == 1)]
    return sorted(found, key=lambda generation: generation.number, reverse=True)


def number_of(name: str) -> int:
    """The generation in a name.

    Raises:
        BrokenError: it is no generation's.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise BrokenError(f"{name!r} is no generation's name")
    return int(match[2])


def read_receipts(path: Path) -> list[dict[str, str]]:
    """What was acknowledged: one JSON object a line with request_id, digest, job."""
    try:
        return [{key: line[key] for key in ("request_id", "digest", "job")}
                for line in map(json.loads, path.read_text().splitlines())]
    except (KeyError, TypeError, ValueError) as error:
        raise BrokenError(f"{path}: no receipts: {error!r}") from error
