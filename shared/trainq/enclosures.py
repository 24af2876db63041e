"""From what the journal says that a shard is made with to what the preparing takes: stored content, read and proven."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from trainq import ingest, rehearsal
from trainq.config import GateSettings, Home
from trainq.jobs import Enclosed, EnclosedRole
from trainq.leaks import LeakIndex
from trainq.rehearsal import Pack
from trainq.rowjudging import Inputs

_NONE: Mapping[str, LeakIndex] = MappingProxyType({})


def inputs_of(home: Home, gate: GateSettings, enclosed: Iterable[Enclosed],
              known: Mapping[str, LeakIndex] = _NONE) -> Inputs:
    """The inputs of a shard that is made with these.

    Args:
        home: in whose ``data/`` they lie; only read.
        gate: as it was frozen into the job.
        enclosed: at most one of each role.
        known: indices of suites that need not be read again, by their digests.

    Raises:
        DamageError: something is gone or damaged.
        StorageError: the machine did not let it be read.
    """
    by_role = {each.role: each for each in enclosed}
    suites, replay = by_role.get(EnclosedRole.SUITES), by_role.get(EnclosedRole.REPLAY)
    leaks = pack = None
    if suites is not None:
        path = ingest.data_path(home, suites.digest)
        leaks = known.get(suites.digest) or LeakIndex.of_content(rehearsal.read_stored(path, suites.digest), str(path))
    if replay is not None:
        pack = Pack.read(ingest.data_path(home, replay.digest), replay.digest)
    return Inputs(gate=gate, leaks=leaks, leaks_digest=suites.digest if suites is not None else "", pack=pack)
