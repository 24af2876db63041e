"""Which backups go, why the others stay, and what a kill in the middle leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.made_backups import damage, make_backup
from trainq import backups, files, manifests, objects, pruning
from trainq.errors import NotFoundError, UsageError
from trainq.retention.rules import Buckets

DAY = 86_400.0
NOON = 1_800_000_000.0


def on_chunk(_size_bytes: int) -> None:
    pass


def digests(store: Path) -> set[str]:
    return {path.name for path in (store / objects.FOLDER).glob("*/*")}


def names(store: Path) -> set[str]:
    return {path.name for path in backups.list_backups(store)}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Five backups on five days; all have a file in common, and each one of its own, of 10 bytes."""
    for number in range(1, 6):
        make_backup(tmp_path / "store", number, {"shared": b"x" * 7, "own": b"%010d" % number}, at=NOON + number * DAY)
    return tmp_path / "store"


def test_rules_are_joined_and_each_verdict_has_its_reason(store: Path) -> None:
    planned = pruning.plan(store, Buckets(last=1, daily=2), on_chunk)
    assert [(verdict.seq, verdict.keep) for verdict in planned.verdicts] == [
        (5, True), (4, True), (3, False), (2, False), (1, False)]
    assert planned.verdicts[0].reasons[:2] == ("the newest that is whole", "last 1 of 1")
    assert planned.verdicts[1].reasons[0].startswith("daily 2 of 2: ")
    assert planned.verdicts[2].reasons == ("no rule keeps it",)
    assert [verdict.size_bytes for verdict in planned.verdicts] == [10] * 5
    assert planned.freed_bytes == 30


def test_a_plan_changes_nothing_and_what_is_done_is_what_it_said(store: Path) -> None:
    damage(store, sorted(names(store))[-1], "own")
    before = sorted(str(path) for path in store.rglob("*"))
    planned = pruning.plan(store, Buckets(last=2), on_chunk)
    assert sorted(str(path) for path in store.rglob("*")) == before
    done = pruning.apply(store, Buckets(last=2), on_chunk)
    assert done == planned
    assert len(names(store)) == 2
    assert len([digest for digest in digests(store) if not digest.endswith(".damaged")]) == 2


def test_the_newest_whose_model_is_not_marked_stays_though_no_rule_keeps_it(store: Path) -> None:
    for number in (6, 7):
        make_backup(store, number, {"own": b"%010d" % number}, at=NOON + number * DAY, marks=("a batch was left out",))
    damage(store, sorted(names(store))[4], "own")
    planned = pruning.plan(store, Buckets(last=1), on_chunk)
    assert [verdict.seq for verdict in planned.verdicts if verdict.keep] == [7, 4], "the fifth is not whole"
    assert planned.verdicts[0].reasons[0] == "the newest that is whole"
    assert planned.verdicts[3].reasons == ("the newest that is whole, and whose model is not marked",)


def test_what_two_backups_share_stays_with_one_of_them(store: Path) -> None:
    pruning.apply(store, Buckets(last=1), on_chunk)
    [left] = names(store)
    assert backups.verify(store, left, on_chunk) == []
    assert len(digests(store)) == 2


def test_rules_that_keep_nothing_are_refused(store: Path) -> None:
    with pytest.raises(UsageError, match="keep nothing"):
        pruning.apply(store, Buckets(), on_chunk)
    assert len(names(store)) == 5


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        pruning.plan(tmp_path / "nowhere", Buckets(last=1), on_chunk)
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("kind", ["snapshot", "checkpoint"])
def test_content_stays_where_something_else_may_need_it(store: Path, kind: str) -> None:
    """A folder to which snapshots are copied as well: their content lies among that of the backups."""
    theirs = objects.Writer(store, on_chunk).keep_bytes(b"theirs")
    (store / "g000001-s00000010").mkdir()
    manifests.write(store / "g000001-s00000010", kind, {"model": theirs}, {})
    (store / ".tmp-mine").mkdir()
    done = pruning.apply(store, Buckets(last=1), on_chunk)
    assert (len(done.going), done.freed_bytes) == (4, 0)
    assert done.objects_stay.startswith("g000001-s00000010 is no backup")
    assert theirs.blake3 in digests(store)
    assert (store / ".tmp-mine").is_dir()


def test_a_folder_without_a_backup_is_left_alone(tmp_path: Path) -> None:
    objects.Writer(tmp_path, on_chunk).keep_bytes(b"theirs")
    (tmp_path / ".tmp-mine").mkdir()
    with pytest.raises(NotFoundError, match="no backup"):
        pruning.apply(tmp_path, Buckets(last=1), on_chunk)
    assert len(digests(tmp_path)) == 1
    assert (tmp_path / ".tmp-mine").is_dir()


def test_a_line_that_was_left_does_not_push_out_the_living_one_when_the_folder_was_copied(tmp_path: Path) -> None:
    """Copied in the order of names, the folders' own times say nothing any more; what the backups say does."""
    store = tmp_path / "store"
    for at, seq in enumerate((100, 200, 300, 110, 120), start=1):
        make_backup(store, seq, {"own": b"%d" % seq}, at=NOON + at * DAY, made=seq)
    pruning.apply(store, Buckets(last=2), on_chunk)
    assert {backups.read(store / name).facts.seq for name in names(store)} == {200, 300, 110, 120}


def test_the_newest_that_is_whole_stays_though_no_rule_keeps_it(store: Path) -> None:
    *_, third, fourth, fifth = sorted(names(store))
    damage(store, fifth, "own")
    damage(store, fourth, "own")
    done = pruning.apply(store, Buckets(last=1), on_chunk)
    assert names(store) == {third, fifth}
    assert next(verdict for verdict in done.verdicts if verdict.backup == third).reasons == (
        "the newest that is whole",)
    assert [verdict.fault.partition(":")[0] for verdict in done.verdicts] == ["own", "own", "", "", ""]
    assert backups.verify(store, third, on_chunk) == []


def test_where_none_is_whole_none_goes(store: Path) -> None:
    damage(store, sorted(names(store))[0], "shared")
    done = pruning.apply(store, Buckets(last=1), on_chunk)
    assert done.going == []
    assert done.verdicts[-1].reasons[0] == "none of this home is whole"
    assert len(names(store)) == 5


def test_one_that_cannot_be_read_stays_and_all_content_with_it(store: Path) -> None:
    first, *_ = sorted(names(store))
    (store / first / "manifest.json").write_bytes(b"{}")
    before = digests(store)
    done = pruning.apply(store, Buckets(last=1), on_chunk)
    assert names(store) == {first, sorted(names(store))[-1]}
    assert done.verdicts[-1].reasons[0].startswith("its manifest cannot be read: ")
    assert (done.freed_bytes, digests(store)) == (0, before)
    assert first in done.objects_stay
    files.remove_tree(store / first)
    assert pruning.apply(store, Buckets(last=1), on_chunk).freed_bytes == 40


def test_backups_of_another_home_do_not_count(store: Path) -> None:
    other = make_backup(store, 99, {"shared": b"x" * 7}, journal_id="other")
    pruning.apply(store, Buckets(last=2), on_chunk)
    assert len(names(store)) == 3
    assert other in names(store)


def test_a_clock_that_was_set_back_makes_none_old(tmp_path: Path) -> None:
    store = tmp_path / "store"
    made = [make_backup(store, number, {"own": b"%d" % number}, made=100 - number, at=NOON - number)
            for number in range(1, 5)]
    pruning.apply(store, Buckets(last=1), on_chunk)
    assert made[-1] in names(store)


def test_a_line_that_was_restored_from_an_old_one_keeps_its_own(tmp_path: Path) -> None:
    """Its numbers are below those of the line that was left."""
    store = tmp_path / "store"
    left = [make_backup(store, number, {"own": b"%d" % number}, made=number) for number in (100, 200, 300)]
    again = [make_backup(store, number, {"own": b"%d" % number}, made=1000 + number) for number in (110, 120, 130)]
    done = pruning.apply(store, Buckets(last=2), on_chunk)
    assert names(store) == {*left[1:], *again[1:]}
    assert "last 1 of 2, by when it was made" in done.verdicts[0].reasons


def test_the_one_that_was_made_just_now_is_spared(store: Path) -> None:
    first, *_, last = sorted(names(store))
    pruning.apply(store, Buckets(last=1), on_chunk, spare=first)
    assert names(store) == {first, last}


class Killed(BaseException):
    """What a kill is to a test."""


@pytest.mark.parametrize("after", range(12))
def test_killed_anywhere_what_is_listed_is_whole_and_the_next_one_collects_the_rest(
        store: Path, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    steps = 0

    def reach(_point: str) -> None:
        nonlocal steps
        steps += 1
        if steps > after:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("trainq.crashpoints.reach", reach)
        with pytest.raises(Killed):
            pruning.apply(store, Buckets(last=2), on_chunk)
    assert {verdict.seq for verdict in pruning.plan(store, Buckets(last=5), on_chunk).verdicts} >= {4, 5}
    for name in names(store):
        assert backups.faults_of(store, name, on_chunk) == []
    # As the next life would: the killed one's pid is nobody's.
    monkeypatch.setattr("trainq.files._has_writer", lambda _name: False)
    pruning.apply(store, Buckets(last=2), on_chunk)
    assert len(names(store)) == 2
    assert len(digests(store)) == 3
    assert not list(store.rglob(".tmp-*"))
