"""Whose rows are replayed and scored: people's files before generated ones, and the oldest as well as the newest."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import apsw
import pytest

from trainq.journal import Journal, keys, sampling

COLUMNS = ("kind", "state", "name", "front", "generated", "priority", "rank", "started_before", "digest", "content",
           "size_bytes", "blockers", "submitted_seq", "submitted_at", "prepared", "shard", "shard_digest", "rows",
           "tokens", "attempts", "failures", "best_step", "generation", "deaths", "worker", "session", "token",
           "retry_at", "reason")


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[apsw.Connection]:
    journal = Journal.open(tmp_path / "journal.db")
    yield journal.connection
    journal.close()


def write(connection: apsw.Connection, numbers: range, *, generated: bool = False, state: str = "succeeded") -> None:
    for number in numbers:
        given = {"kind": "train", "state": state, "generated": int(generated), "digest": f"d{number}",
                 "shard": f"s{number}", "name": "", "worker": "", "session": "", "reason": "", "shard_digest": ""}
        connection.execute(f"INSERT INTO jobs (key, {', '.join(COLUMNS)}) VALUES (?{', ?' * len(COLUMNS)})",
                           (keys.key_of(f"train-{number}"), *(given.get(column, 0) for column in COLUMNS)))


def numbers(connection: apsw.Connection, limit: int) -> list[int]:
    found = sampling.sample_trained(connection, limit)
    assert found == sampling.sample_trained(connection, limit)
    assert len(set(found)) == len(found) <= limit
    assert all((each.digest, each.shard) == (f"d{each.job[6:]}", f"s{each.job[6:]}") for each in found)
    return [int(each.job.removeprefix("train-")) for each in found]


def test_few_are_all_of_them(connection: apsw.Connection) -> None:
    assert numbers(connection, 8) == []
    write(connection, range(1, 4))
    write(connection, range(4, 9), state="failed")
    write(connection, range(9, 11), generated=True)
    assert numbers(connection, 8) == [3, 2, 1, 10, 9]
    assert [each.generated for each in sampling.sample_trained(connection, 8)] == [False] * 3 + [True] * 2
    assert numbers(connection, 4) == [3, 2, 1, 10]


def test_people_s_files_are_replayed_however_many_were_generated_since(connection: apsw.Connection) -> None:
    write(connection, range(1, 6))
    write(connection, range(6, 306), generated=True)
    found = numbers(connection, 64)
    assert found[:5] == [5, 4, 3, 2, 1]
    assert found[5:35] == list(range(305, 275, -1)), "the newest of the generated ones"
    assert found[-1] == 6
    older = found[35:]
    assert max(first - second for first, second in pairwise(older)) <= 16, "spread over the others"


def test_of_many_the_oldest_stay_and_the_newest_are_half(connection: apsw.Connection) -> None:
    write(connection, range(1, 201))
    write(connection, range(201, 205), generated=True)
    assert numbers(connection, 10) == [200, 199, 198, 197, 196, 195, 192, 128, 64, 1]
    assert numbers(connection, 1) == [200]
    assert numbers(connection, 2) == [200, 1]


def test_the_old_ones_in_the_sample_stay_while_others_come(connection: apsw.Connection) -> None:
    write(connection, range(1, 101))
    before, gone = set(numbers(connection, 20)), []
    for number in range(101, 401):
        write(connection, range(number, number + 1))
        now = set(numbers(connection, 20))
        old = {each for each in before if each < number - 20}  # behind whatever the newest are
        if not old <= now:
            gone.append(len(old - now) / len(old))
        assert len(now) == 20
        assert 1 in now
        before = now
    assert len(gone) == 2, "they are thinned out where the numbers have doubled"
    assert all(share <= 0.5 for share in gone)


def test_numbers_far_from_even_leave_no_gap_in_the_sample(connection: apsw.Connection) -> None:
    write(connection, range(1, 2))
    write(connection, range(10_000, 10_040))
    assert len(numbers(connection, 20)) == 20


def test_every_question_is_answered_by_an_index(connection: apsw.Connection) -> None:
    write(connection, range(1, 30))
    seen: list[tuple[str, tuple[object, ...]]] = []
    connection.exec_trace = lambda _, statement, values: seen.append((statement, values)) or True  # type: ignore
    try:
        numbers(connection, 8)
    finally:
        connection.exec_trace = None
    for statement, values in seen:
        plan = [str(row[3]) for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)]
        assert all("INDEX jobs_trained" in step and "SEARCH" in step for step in plan), (statement, plan)
