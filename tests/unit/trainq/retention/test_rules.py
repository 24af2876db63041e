"""What keeps a copy is said in words, by the rule and its place."""

from __future__ import annotations

from datetime import UTC, datetime

from trainq.config import RetentionSettings
from trainq.jobs import Store
from trainq.retention import rules
from trainq.retention.rules import Item


def item(generation: int, when: str, **changes: object) -> Item:
    at = datetime.fromisoformat(when).replace(tzinfo=UTC).timestamp()
    fields = {"store": Store.SNAPSHOTS, "name": f"g{generation}", "generation": generation, "at": at, "size_bytes": 10,
              **changes}
    return Item(**fields)  # type: ignore[arg-type]  # built from names on purpose


def test_the_reasons_name_rule_place_and_period() -> None:
    items = [item(900, "2026-01-01 10:00"), item(2600, "2026-01-02 09:00"), item(2599, "2026-01-02 08:00")]
    settings = RetentionSettings(snapshots_last=1, snapshots_daily=2, snapshots_weekly=0)
    verdicts = {each.item.name: (each.keep, each.reasons) for each in rules.plan(items, settings)}
    assert verdicts == {
        "g2600": (True, ("last 1 of 1", "daily 1 of 2: 2026-01-02")), "g2599": (False, ("no rule keeps it",)),
        "g900": (True, ("daily 2 of 2: 2026-01-01",))}, "by number, never by string"


def test_the_best_stay_by_their_metric_and_of_equals_the_newer() -> None:
    items = [item(number, f"2026-01-0{number} 10:00", metric=metric)
             for number, metric in ((1, 0.5), (2, 0.25), (3, None), (4, 0.25), (5, 0.75))]
    settings = RetentionSettings(snapshots_last=0, snapshots_best=2, snapshots_daily=0, snapshots_weekly=0)
    kept = {each.item.name: each.reasons for each in rules.plan(items, settings) if each.keep}
    assert kept == {"g4": ("best 1 of 2: 0.25",), "g2": ("best 2 of 2: 0.25",)}


def test_the_best_are_none_of_those_that_are_marked() -> None:
    items = [item(number, f"2026-01-0{number} 10:00", metric=number / 10, marks=("bad",) if number == 1 else ())
             for number in (1, 2, 3)]
    settings = RetentionSettings(snapshots_last=0, snapshots_best=1, snapshots_daily=0, snapshots_weekly=0)
    assert [each.item.name for each in rules.plan(items, settings) if each.keep] == ["g2"]


def test_what_must_stay_says_why_and_there_is_no_room_for_the_rest() -> None:
    items = [item(1, "2026-01-01 10:00", must_stay="pinned: mine"), item(2, "2026-01-02 10:00"),
             item(3, "2026-01-03 10:00")]
    verdicts = rules.fit(rules.plan(items, RetentionSettings(snapshots_last=3)), 15)
    assert [(each.item.name, each.keep) for each in verdicts] == [("g3", False), ("g2", False), ("g1", True)]
    assert verdicts[1].reasons[0].startswith("there is no room for it (kept by: last 2 of 3")
    assert verdicts[2].reasons[0] == "pinned: mine"
