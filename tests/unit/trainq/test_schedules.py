"""When the slots of a rule are, and what a schedule may say."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from trainq import config
from trainq.config import ScheduleRule, ScheduleSettings
from trainq.config.schedules import following, latest, zone
from trainq.errors import ConfigurationError
from trainq.messages import BackupTask, scheduled_task

BERLIN = ZoneInfo("Europe/Berlin")
DAILY = ScheduleRule(task="snapshot", cron="0 3 * * *")


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def test_a_cron_slot_is_in_the_zone_of_the_schedule() -> None:
    now = at("2026-07-01T02:00:00+00:00")
    assert latest(DAILY, BERLIN, now, 0) == at("2026-07-01T03:00:00+02:00")
    assert following(DAILY, BERLIN, now, 0) == at("2026-07-02T03:00:00+02:00")
    assert latest(DAILY, UTC, now, 0) == at("2026-06-30T03:00:00+00:00")


def test_a_slot_begins_with_its_second() -> None:
    slot = at("2026-07-01T03:00:00+00:00")
    assert latest(DAILY, UTC, slot - 0.5, 0) == slot - 86_400
    assert latest(DAILY, UTC, slot, 0) == slot
    assert following(DAILY, UTC, slot - 0.5, 0) == slot
    assert following(DAILY, UTC, slot, 0) == slot + 86_400


def test_a_day_on_which_the_hour_comes_twice_has_one_slot_and_one_without_it_too() -> None:
    rule = ScheduleRule(task="snapshot", cron="30 2 * * *")
    for day, hours in (("2026-10-25", 25), ("2026-03-29", 23)):
        begin = at(f"{day}T00:00:00{'+02:00' if hours == 25 else '+01:00'}")
        slots = {latest(rule, BERLIN, begin + minute * 60, 0) for minute in range(3 * 60, hours * 60)}
        assert len([slot for slot in slots if slot is not None and slot >= begin]) == 1


@pytest.mark.parametrize("line", ["*/30 * * * *", "* * * * *", "15 * * * *", "0 2,3 * * *"])
@pytest.mark.parametrize("name", ["Europe/Berlin", "America/New_York"])
def test_no_slot_is_in_the_future_and_none_is_passed_over_when_an_hour_comes_twice(line: str, name: str) -> None:
    there, rule = ZoneInfo(name), ScheduleRule(task="snapshot", cron=line)
    day = at("2025-10-26T00:00:00+02:00") if name.startswith("Europe") else at("2025-11-02T00:00:00-04:00")
    before = latest(rule, there, day, 0)
    seen = {before}
    for minute in range(6 * 60):
        now = day + minute * 60
        coming, slot = following(rule, there, now - 30, 0), latest(rule, there, now, 0)
        assert slot is not None
        assert slot <= now
        assert coming is not None
        assert coming > now - 30
        if slot not in seen:
            assert slot == now, "it comes in its minute"
        seen.add(slot)
    if line != "0 2,3 * * *":
        assert len(seen) >= 6 * 60 // {"*/30 * * * *": 30, "* * * * *": 1, "15 * * * *": 60}[line]


def test_hours_count_from_the_epoch_whatever_the_zone() -> None:
    rule = ScheduleRule(task="retention", every_hours=6)
    assert latest(rule, BERLIN, 6 * 3600 * 4 + 1.0, 0) == 6 * 3600 * 4
    assert following(rule, BERLIN, 6 * 3600 * 4 + 1.0, 0) == 6 * 3600 * 5


def test_files_count_in_whole_lots() -> None:
    rule = ScheduleRule(task="snapshot", after_jobs=10)
    assert [latest(rule, UTC, 0.0, trained) for trained in (0, 9, 10, 19, 20)] == [None, None, 10, 10, 20]
    assert following(rule, UTC, 0.0, 19) == 20


def test_the_zone_may_be_the_machine_s_or_any_that_has_a_name() -> None:
    assert zone(ScheduleSettings(time_zone="Europe/Berlin")) == BERLIN
    moment = datetime(2026, 7, 1, tzinfo=UTC)
    assert moment.astimezone(zone(ScheduleSettings())).utcoffset() == moment.astimezone().utcoffset()


@pytest.mark.parametrize(("text", "key", "words"), [
    ('[schedule]\ntime_zone = "Mars"', "schedule.time_zone", "no time zone"),
    ('[schedule.rules.Nightly]\ntask = "snapshot"\ncron = "0 3 * * *"', "schedule.rules.Nightly", "no name"),
    ('[schedule.rules.n]\ncron = "0 3 * * *"', "schedule.rules.n.task", "missing"),
    ('[schedule.rules.n]\ntask = "snapshot"', "schedule.rules.n", "does not say when"),
    ('[schedule.rules.n]\ntask = "snapshot"\ncron = "0 3 * * *"\nevery_hours = 6', "schedule.rules.n", "says it twice"),
    ('[schedule.rules.n]\ntask = "snapshot"\ncron = "61 3 * * *"', "schedule.rules.n.cron", "Bad minute"),
    ('[schedule.rules.n]\ntask = "snapshot"\ncron = "0 0 30 2 *"', "schedule.rules.n.cron", "day-of-month"),
    ('[schedule.rules.n]\ntask = "snapshot"\nevery_hours = 0.0001', "schedule.rules.n.every_hours", "too often"),
    ('[schedule.rules.n]\ntask = "copy"\nafter_jobs = 1', "schedule.rules.n.destination", "needs a destination"),
    ('[schedule.rules.n]\ntask = "verify"\ndestination = "/x"\nafter_jobs = 1', "schedule.rules.n.destination",
     "takes no destination"),
    ('[schedule.rules.n]\ntask = "backup"\ndestination = "x"\nafter_jobs = 1', "schedule.rules.n.destination",
     "into a folder"),
    ('[schedule.rules.n]\ntask = "copy"\ndestination = "/x"\nkeep_last = 3\nafter_jobs = 1',
     "schedule.rules.n.keep_last", "lets nothing go"),
    ('[schedule.rules.n]\ntask = "dance"\ncron = "0 3 * * *"', "schedule.rules.n.task", "dance"),
])
def test_every_mistake_is_named(tmp_path: Path, text: str, key: str, words: str) -> None:
    (tmp_path / "trainq.toml").write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        config.load({"TRAINQ_HOME": str(tmp_path / "h")}, tmp_path)
    assert any(problem.key == key and words in problem.problem for problem in caught.value.problems)


def test_a_backup_s_rule_says_how_many_stay(tmp_path: Path) -> None:
    (tmp_path / "trainq.toml").write_text('[schedule.rules.n]\ntask = "backup"\ndestination = "/x"\nkeep_last = 3\n'
                                          'after_jobs = 1\n')
    rules = config.load({"TRAINQ_HOME": str(tmp_path / "h")}, tmp_path).settings.schedule.all_rules
    assert scheduled_task(rules["n"]) == BackupTask(destination="/x", keep_last=3)
    assert scheduled_task(ScheduleRule(task="backup", destination="/x")) == BackupTask(destination="/x", keep_last=0)


def test_a_default_rule_can_be_replaced_or_turned_off(tmp_path: Path) -> None:
    (tmp_path / "trainq.toml").write_text('[schedule.rules.retention]\nenabled = false\n[schedule.rules.snapshot]\n'
                                          'task = "snapshot"\nafter_jobs = 5\n')
    rules = config.load({"TRAINQ_HOME": str(tmp_path / "h")}, tmp_path).settings.schedule.all_rules
    assert (rules["retention"].enabled, rules["snapshot"].after_jobs, rules["snapshot-daily"].cron) == (
        False, 5, "0 3 * * *")
