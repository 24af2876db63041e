"""What shards are made with besides their files: the stored content, and the replayed rows that came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from blake3 import blake3

from trainq_checker.reading import BrokenError

# Lines above it are those of the pack.
REPLAYED = 1 << 48
_DIGEST_BYTES = 32


def content_of(home: Path, enclosed: dict[str, Any]) -> bytes | None:
    """The bytes of enclosed content, proven; None if it is not there.

    Raises:
        BrokenError: it is another content.
    """
    digest: str = enclosed["digest"]
    path = home / "data" / digest[:2] / digest
    if not path.is_file():
        return None
    content: bytes = path.read_bytes()
    if len(content) != enclosed["size_bytes"] or blake3(content).hexdigest() != digest:
        raise BrokenError(f"{enclosed['role']} {digest[:12]} is not the content of that digest")
    return content


def check_replayed(shard: Path, pack: bytes, prepared: dict[str, Any], data: dict[str, Any]) -> int:
    """How many rows of the shard are replayed: each is the named row of the pack, behind the file's own, and allowed.

    Args:
        shard: proven by the check of the rows.
        pack: the content of the journalled pack; empty if there is none.
        prepared: the fields of the job's JobPrepared.
        data: the job's frozen [data].

    Raises:
        BrokenError: one is not.
    """
    lines = np.fromfile(shard / "rows.bin", dtype="<i8").tolist()
    content = (shard / "digests.bin").read_bytes()
    digests = [content[at:at + _DIGEST_BYTES] for at in range(0, len(content), _DIGEST_BYTES)]
    if len(lines) != len(digests) or lines != sorted(set(lines)):
        raise BrokenError(f"{shard.name}: its lines do not rise, or are not as many as its digests")
    packed, own = pack.splitlines(), {digest for line, digest in zip(lines, digests, strict=True) if line <= REPLAYED}
    replayed = [(line - REPLAYED, digest) for line, digest in zip(lines, digests, strict=True) if line > REPLAYED]
    held_out = data.get("held_out_fraction", 0.0) * 2**64
    for number, digest in replayed:
        if number > len(packed) or blake3(packed[number - 1]).digest() != digest:
            raise BrokenError(f"{shard.name}: replayed row {number} is not that of the pack")
        if digest in own or int.from_bytes(digest[:8], "big") < held_out:
            raise BrokenError(f"{shard.name}: replayed row {number} is one of the file, or is held out")
    told = prepared["report"].get("replayed", 0)
    if len(replayed) != told or len(replayed) > data.get("replay_fraction", 0.0) * len(own):
        raise BrokenError(f"{shard.name} has {len(replayed)} replayed rows beside {len(own)}; its report says {told}")
    return len(replayed)
