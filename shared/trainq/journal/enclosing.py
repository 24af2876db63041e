"""The tables of what shards are made with besides their files, and of the jobs that a person let go from a hold."""

from __future__ import annotations

from collections.abc import Iterator

import apsw
import msgspec

from trainq.jobs import Enclosed, EnclosedRole, JobPrepared
from trainq.journal import keys

_USED = ("FROM enclosed e JOIN jobs j ON j.key=e.job WHERE j.digest NOT IN (SELECT digest FROM dropped)")


def note_prepared(connection: apsw.Connection, key: int, event: JobPrepared) -> None:
    """The job's shard is made with these now, whatever it was made with before; content that is named is not let go."""
    connection.execute("DELETE FROM enclosed WHERE job=?", (key,))
    for each in event.enclosed:
        connection.execute("INSERT OR REPLACE INTO enclosed VALUES (?, ?, ?, ?, ?)",
                           (key, each.role.value, each.digest, each.size_bytes, msgspec.json.encode(each.sources)))
        connection.execute("DELETE FROM dropped WHERE digest=?", (each.digest,))


def note_released(connection: apsw.Connection, key: int) -> None:
    """A person has let the job go from a hold: it is not held for the same again."""
    connection.execute("INSERT OR REPLACE INTO released VALUES (?)", (key,))


def enclosed_of(connection: apsw.Connection, job: str) -> tuple[Enclosed, ...]:
    """What the shard of this train job was last made with."""
    found = connection.execute("SELECT role, digest, size_bytes, sources FROM enclosed WHERE job=? "
                                       "ORDER BY role", (keys.key_of(job),))
    return tuple(Enclosed(role=EnclosedRole(role), digest=digest, size_bytes=size_bytes,
                          sources=msgspec.json.decode(sources, type=dict[str, int]))
                 for role, digest, size_bytes, sources in found)


def was_released(connection: apsw.Connection, job: str) -> bool:
    """Whether a person has ever let this train job go from a hold."""
    return connection.execute("SELECT 1 FROM released WHERE job=?", (keys.key_of(job),)).fetchone() is not None


def users_of(connection: apsw.Connection, digest: str) -> list[str]:
    """The train jobs whose shards are made with this content, and whose own files retention has not let go of."""
    return [keys.id_of(key) for key, in connection.execute(f"SELECT e.job {_USED} AND e.digest=? ORDER BY 1",
                                                                  (digest,))]


def enclosed_files(connection: apsw.Connection) -> Iterator[tuple[str, int, bool]]:
    """Digest, size and whether a job that is still to be trained needs it, of all such content. For a backup."""
    rows = connection.execute(
        f"SELECT e.digest, e.size_bytes, max(j.state IN ('held', 'queued', 'running')) {_USED} "
        "GROUP BY e.digest, e.size_bytes ORDER BY e.digest")
    for row in rows:
        yield msgspec.convert(row, tuple[str, int, bool], strict=False)
