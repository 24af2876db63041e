"""Trained jobs out of all the time that there were any, whose rows are replayed; it costs the same with ten million."""

from __future__ import annotations

from typing import NamedTuple

import apsw

from trainq.jobs import JobKind
from trainq.journal import keys

# An index of the tables is there for exactly this.
_TRAINED = ("SELECT key, digest, shard FROM jobs WHERE kind='train' AND state='succeeded' AND generated=? AND key<=? "
            "ORDER BY key DESC LIMIT ?")
_OLDEST = "SELECT min(key) FROM jobs WHERE kind='train' AND state='succeeded' AND generated=?"
_MOST_KEY = keys.MAX_NUMBER * keys.SPACING


class Trained(NamedTuple):
    """A train job that has succeeded, the digest of its file, and its shard."""

    job: str
    digest: str
    shard: str


def sample_trained(connection: apsw.Connection, limit: int) -> list[Trained]:
    """At most so many train jobs that have succeeded: of people's files, and of generated ones as many as are left.

    Of each sort half are the newest, and the others are spread evenly over the numbers of those before, the oldest
    among them. The same journal gives the same sample.
    """
    found = _spread(connection, 0, limit)
    return found + _spread(connection, 1, limit - len(found))


def _spread(connection: apsw.Connection, generated: int, limit: int) -> list[Trained]:
    if limit <= 0:
        return []
    newest = dict(_at_most(connection, generated, _MOST_KEY, limit + 1))
    if len(newest) <= limit:
        return list(newest.values())
    ordered = list(newest)
    found = {key: newest[key] for key in ordered[:limit - limit // 2]}
    ((oldest,),) = connection.execute(_OLDEST, (generated,)).fetchall()
    assert isinstance(oldest, int)
    youngest = min(found) - 1
    steps = limit // 2
    for step in range(steps):
        bound = oldest + (youngest - oldest) * step // max(1, steps - 1)
        found.update(_at_most(connection, generated, bound, 1))
    # Where numbers are far from even, two steps may meet in one job.
    for key in ordered:
        if len(found) < limit:
            found.setdefault(key, newest[key])
    return [found[key] for key in sorted(found, reverse=True)]


def _at_most(connection: apsw.Connection, generated: int, key: int, limit: int) -> list[tuple[int, Trained]]:
    """Those up to this key, the newest first."""
    return [(int(found), Trained(f"{JobKind.TRAIN.value}-{int(found) // keys.SPACING}", str(digest), str(shard)))
            for found, digest, shard in connection.execute(_TRAINED, (generated, key, limit))]
