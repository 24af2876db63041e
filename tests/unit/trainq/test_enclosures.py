"""What the journal names is read from ``data/``, proven, and given to the preparing."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from trainq import ingest
from trainq.config import GateSettings, Home
from trainq.enclosures import inputs_of
from trainq.errors import DamageError
from trainq.jobs import Enclosed, EnclosedRole
from trainq.leaks import LeakIndex, Place
from trainq.samples import TextSample, canonical

GATE = GateSettings()
INDEX = LeakIndex({"exam": "d"}, {bytes(16): Place("exam", "test.jsonl", 1)})


def enclose(home: Home, role: EnclosedRole, content: bytes) -> Enclosed:
    stored = ingest.store_stream(home, io.BytesIO(content), "x")
    return Enclosed(role=role, digest=stored.digest, size_bytes=stored.size_bytes)


def test_both_are_read_and_proven(tmp_path: Path) -> None:
    home = Home(tmp_path)
    suites = enclose(home, EnclosedRole.SUITES, INDEX.content())
    pack = enclose(home, EnclosedRole.REPLAY, canonical(TextSample("a")) + b"\n")
    found = inputs_of(home, GATE, (pack, suites))
    assert found.pack is not None
    assert found.leaks is not None
    assert (found.gate, found.leaks_digest, found.pack.digest) == (GATE, suites.digest, pack.digest)
    assert (found.leaks.content(), [sample for _, _, sample in found.pack.rows()]) == (
        INDEX.content(), [TextSample("a")])
    assert inputs_of(home, GATE, (suites,), {suites.digest: INDEX}).leaks is INDEX
    ingest.data_path(home, pack.digest).write_bytes(b"{}\n")
    with pytest.raises(DamageError, match="gone or damaged"):
        inputs_of(home, GATE, (pack,))


def test_a_shard_of_before_is_made_with_nothing(tmp_path: Path) -> None:
    found = inputs_of(Home(tmp_path), GateSettings.none(), ())
    assert (found.leaks, found.leaks_digest, found.pack, found.gate.measures) == (None, "", None, False)
