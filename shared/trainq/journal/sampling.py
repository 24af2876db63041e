"""Trained jobs out of all the time that there were any: rows of them are replayed, and the model is scored on held-out
rows of them. It costs the same with ten million.
"""

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
    """A train job that has succeeded, the digest of its file, its shard, and whether the file was generated."""

    job: str
    digest: str
    shard: str
    generated: bool


def sample_trained(connection: apsw.Connection, limit: int) -> list[Trained]:
    """At most so many train jobs that have succeeded: of people's files, and of generated ones as many as are left.

    Of each sort half are the newest, and the others are spread over the numbers of those before, the oldest among
    them. The same journal gives the same sample; and of the old ones the same stay in it while files come, so that what
    the model scores on them can be compared: now and then every second one of them goes.
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
    for number in _grid(oldest // keys.SPACING, min(found) // keys.SPACING - 1, limit // 2):
        found.update(_at_most(connection, generated, (number + 1) * keys.SPACING - 1, 1))
    # The grid may be coarser than it need be; and where numbers are far from even, two of it may meet in one job.
    for key in ordered:
        if len(found) < limit:
            found.setdefault(key, newest[key])
    return [found[key] for key in sorted(found, reverse=True)]


def _grid(oldest: int, youngest: int, most: int) -> list[int]:
    """At most so many numbers from one to the other: the oldest, and the multiples of a power of two."""
    step = 1
    while most > 1 and (youngest - oldest) // step > most - 2:
        step *= 2
    return [oldest, *range((oldest // step + 1) * step, youngest + 1, step)][:most]


def _at_most(connection: apsw.Connection, generated: int, key: int, limit: int) -> list[tuple[int, Trained]]:
    """Those up to this key, the newest first."""
    return [(int(found), Trained(f"{JobKind.TRAIN.value}-{int(found) // keys.SPACING}", str(digest), str(shard),
                                 bool(generated)))
            for found, digest, shard in connection.execute(_TRAINED, (generated, key, limit))]
