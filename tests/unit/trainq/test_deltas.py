"""Following the status: whatever is lost on the way, a follower knows it and gets to the same picture."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import msgspec
import orjson
from hypothesis import given
from hypothesis import strategies as st

from tests.pictures import RUNNING, fold, job, overview
from trainq import config, deltas, messages
from trainq.deltas import Beat, Delta, Follower
from trainq.figures import Ages
from trainq.picture import StatusPicture

SCHEMA = config.project_root() / "docs" / "status.schema.json"


def picture(session: str = "s1", n: int = 0, **changes: Any) -> StatusPicture:
    return msgspec.structs.replace(fold(overview()), session=session, n=n, **changes)


def test_the_passing_of_time_is_no_change() -> None:
    before, after = fold(overview(), age=0.5), fold(overview(), age=1.5)
    assert before != after
    assert deltas.changes(before, after) == {}
    assert deltas.changes(None, after) == {}


def test_what_has_happened_is() -> None:
    after = fold(overview(seq=8, running=[RUNNING], waiting_reason=""))
    assert set(deltas.changes(fold(overview()), after)) == {"seq", "running", "running_job", "training", "why"}
    assert set(deltas.changes(fold(overview()), fold(overview(), dead="watcher"))) == {"services", "alarms"}


def test_a_beat_makes_the_figures_older() -> None:
    shown = picture(n=7, ages=Ages(broker=1.0, gpu=None))
    beat = deltas.beat(shown, shown.at + 2.5)
    assert (beat.session, beat.n, beat.seq, beat.ages) == ("s1", 7, 7, Ages(broker=3.5))


def test_a_follower_applies_what_comes_next_and_passes_over_what_it_has() -> None:
    follower = Follower()
    assert follower.is_behind
    follower.whole(picture(n=3))
    follower.delta(Delta(v=2, session="s1", n=3, at=1.0, changed={"why": "old"}))
    follower.delta(Delta(v=2, session="s1", n=4, at=2000.0, changed={"why": "new"}))
    follower.whole(picture(n=3))
    assert follower.picture is not None
    assert (follower.picture.why, follower.picture.n, follower.picture.at) == ("new", 4, 2000.0)
    follower.beat(Beat(v=2, session="s1", n=4, at=2001.0, seq=7, ages=Ages(broker=9.0)))
    assert not follower.is_behind
    assert follower.picture.broker_age_seconds == 9.0


def test_a_gap_a_beat_and_another_life_show_what_was_missed() -> None:
    for missed in (lambda each: each.delta(Delta(v=2, session="s1", n=5, at=1.0, changed={})),
                   lambda each: each.delta(Delta(v=2, session="s2", n=4, at=1.0, changed={})),
                   lambda each: each.beat(Beat(v=2, session="s1", n=4, at=1.0, seq=1, ages=Ages())),
                   lambda each: each.beat(Beat(v=2, session="s2", n=3, at=1.0, seq=1, ages=Ages()))):
        follower = Follower()
        follower.whole(picture(n=3))
        missed(follower)
        assert follower.is_behind
        follower.whole(picture("s2", n=9))
        assert not follower.is_behind


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.booleans()), max_size=30))
def test_whatever_is_lost_it_gets_there(moves: list[tuple[int, bool, bool]]) -> None:
    """(the journal's number, whether the delta gets lost, whether the status process is begun anew)."""
    follower, shown, lives = Follower(), picture("life 0"), 0
    follower.whole(shown)
    for seq, is_lost, is_restarted in moves:
        if is_restarted:
            lives += 1
            shown = picture(f"life {lives}", seq=seq)
            continue
        after = msgspec.structs.replace(shown, seq=seq)
        if changed := deltas.changes(shown, after):
            shown = msgspec.structs.replace(after, n=shown.n + 1)
            sent = messages.encode(Delta(v=2, session=shown.session, n=shown.n, at=shown.at, changed=changed))
            if not is_lost:
                follower.delta(msgspec.msgpack.decode(sent, type=Delta))
    follower.beat(deltas.beat(shown, shown.at))
    if follower.is_behind:
        follower.whole(shown)
    assert follower.picture == shown


def test_the_schema_in_the_docs_is_that_of_the_types() -> None:
    assert SCHEMA.read_bytes() == deltas.schema(), "scripts/status_schema writes it anew"


def test_a_picture_is_what_the_schema_says() -> None:
    schema = orjson.loads(SCHEMA.read_bytes())
    of = overview(running=[RUNNING], waiting=[job(id="train-2", number=2)], planned_tokens={"train-2": 9})
    for shown in (fold(of), fold(None, age=None), picture()):
        jsonschema_rs.validate(schema, msgspec.to_builtins(shown))
    beat = {**schema, "$ref": "#/$defs/Beat"}
    jsonschema_rs.validate(beat, msgspec.to_builtins(deltas.beat(picture(), 1.0)))
    assert not jsonschema_rs.is_valid(schema, {**msgspec.to_builtins(picture()), "why": None})
