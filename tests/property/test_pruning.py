"""Whatever the rules, the clocks and the damage: the newest readable backup stays, and what stays loses nothing."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.made_backups import damage, make_backup
from trainq import backups, objects, pruning
from trainq.retention.rules import Buckets

COUNTS = st.integers(0, 3)
RULES = st.builds(Buckets, last=COUNTS, daily=COUNTS, weekly=COUNTS, monthly=COUNTS).filter(
    lambda rules: any((rules.last, rules.daily, rules.weekly, rules.monthly)))
FILES = st.dictionaries(st.sampled_from("abc"), st.sampled_from([b"one", b"two", b"three", b"four", b"five"]),
                        min_size=1)
# Also what no clock should ever say.
TIMES = st.floats(-1e12, 1e12) | st.floats(1.7e9, 1.7e9 + 40 * 86_400)
BACKUPS = st.lists(st.tuples(st.integers(1, 30), st.sampled_from(["j", "k"]), FILES, TIMES, st.integers(1, 10_000)),
                   min_size=1, max_size=8, unique_by=lambda made: (made[0], made[1]))


def whole(store: Path) -> set[str]:
    return {path.name for path in backups.list_backups(store)
            if (path / "manifest.json").read_bytes() != b"gone"
            and backups.faults_of(store, path.name, lambda _: None) == []}


@settings(max_examples=40, deadline=None)
@given(data=st.data(), rules=RULES, wanted=BACKUPS)
def test_what_stays_is_as_whole_as_it_was_and_the_newest_readable_one_stays(
        data: st.DataObject, rules: Buckets, wanted: list[tuple[int, str, dict[str, bytes], float, int]]) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        store = folder / "store"
        made = {make_backup(store, seq, contents, journal_id=journal, at=at, made=when): (journal, seq)
                for seq, journal, contents, at, when in wanted}
        for name in data.draw(st.lists(st.sampled_from(sorted(made)), unique=True, max_size=2)):
            for file in list(backups.read(store / name).manifest.files)[:1]:
                damage(store, name, file)
        unreadable = set(data.draw(st.lists(st.sampled_from(sorted(made)), unique=True, max_size=1)))
        for name in unreadable:
            (store / name / "manifest.json").write_bytes(b"gone")
        before = whole(store)
        planned = pruning.plan(store, rules, lambda _: None)
        assert whole(store) == before
        done = pruning.apply(store, rules, lambda _: None)
        assert done.going == planned.going
        # Content that is found to be damaged is set aside, which a plan does not do.
        assert done.freed_bytes <= planned.freed_bytes
        left = {path.name for path in backups.list_backups(store)}
        assert left == set(made) - set(done.going)
        assert whole(store) == before & left, "what stays is as whole as it was"
        assert unreadable <= left
        for journal in {journal for journal, _ in made.values()}:
            own = [name for name, (of, _) in made.items() if of == journal]
            readable = sorted((made[name][1], name) for name in own if name not in unreadable)
            if readable and rules.last:
                assert readable[-1][1] in left
            good = [name for _, name in readable if name in before]
            assert not good or good[-1] in left, "the newest that is whole"
        named = {record.blake3 for name in left - unreadable
                 for record in backups.read(store / name).manifest.files.values()}
        kept = {path.name for path in (store / objects.FOLDER).glob("*/*") if not path.name.endswith(".damaged")}
        assert unreadable or kept <= named
    finally:
        shutil.rmtree(folder)


@settings(max_examples=30, deadline=None)
@given(rules=RULES, count=st.integers(1, 6))
def test_the_same_rules_again_let_nothing_more_go(rules: Buckets, count: int) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        for seq in range(1, count + 1):
            make_backup(folder / "store", seq, {"own": b"%d" % seq}, at=seq * 86_400.0)
        pruning.apply(folder / "store", rules, lambda _: None)
        assert pruning.apply(folder / "store", rules, lambda _: None).going == []
    finally:
        shutil.rmtree(folder)
