"""What a schedule may say, and when its slots are. Pure but for the time zones, which are files of the system.

A slot is a moment for which a rule asks for its task, and has a number: seconds since 1970, or for ``after_jobs`` how
many files were trained. cronsim is imported only where a cron line is looked at.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from trainq.config.timing import ScheduleRule, ScheduleSettings
from trainq.errors import ConfigurationProblem

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
# Each slot is an event of the journal, for ever.
_LEAST_HOURS = 0.001
_LOCAL = Path("/etc/localtime")
# 2001-01-01: any moment does, to see whether a line ever comes true.
_SOME_TIME = datetime(2001, 1, 1, tzinfo=UTC)


def validate(settings: ScheduleSettings, problems: list[ConfigurationProblem]) -> None:
    """Add every mistake in the rules and the time zone to ``problems``."""
    try:
        zone(settings)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        problems.append(ConfigurationProblem(
            key="schedule.time_zone", problem=f"{settings.time_zone!r} is no time zone that this system knows",
            mend='write a name like "Europe/Berlin" or "UTC", or "local"'))
    copied_to = {rule.destination for rule in settings.rules.values() if rule.task == "copy"}
    for name, rule in settings.rules.items():
        _validate_rule(name, rule, copied_to, problems)


def _validate_rule(name: str, rule: ScheduleRule, copied_to: set[str], problems: list[ConfigurationProblem]) -> None:
    key = f"schedule.rules.{name}"
    if rule.task == "backup" and rule.destination in copied_to:
        problems.append(ConfigurationProblem(key=f"{key}.destination", problem="snapshots are copied there, too",
                                             mend="give each a folder of its own"))
    if not _NAME.fullmatch(name):
        problems.append(ConfigurationProblem(key=key, problem="no name for a rule",
                                             mend="use a-z, 0-9 and -, at most 32"))
    if not rule.enabled and rule == ScheduleRule(enabled=False):
        return  # a default one is turned off
    if not rule.task:
        problems.append(ConfigurationProblem(key=f"{key}.task", problem="it is missing",
                                             mend='write "snapshot", "verify", "retention", "copy", "backup" or '
                                             '"consolidation"'))
    if bool(rule.destination) != (rule.task in ("copy", "backup")):
        verb = "takes no" if rule.destination else "needs a"
        problems.append(ConfigurationProblem(
            key=f"{key}.destination", problem=f"{rule.task or 'it'} {verb} destination",
            mend="copy and backup have one, the others none"))
    elif rule.task == "backup" and not rule.destination.startswith("/"):
        problems.append(ConfigurationProblem(key=f"{key}.destination", problem="a backup goes into a folder",
                                             mend="write an absolute path"))
    if rule.keep_last and rule.task != "backup":
        problems.append(ConfigurationProblem(
            key=f"{key}.keep_last", problem=f"{rule.task or 'it'} lets nothing go",
            mend="only backup has it; snapshots and checkpoints go by [retention]"))
    if 0 < rule.every_hours < _LEAST_HOURS:
        problems.append(ConfigurationProblem(key=f"{key}.every_hours", problem=f"{rule.every_hours:g} is too often",
                                             mend=f"make it {_LEAST_HOURS} at least"))
    if sum((bool(rule.cron), rule.every_hours > 0, rule.after_jobs > 0)) != 1:
        problems.append(ConfigurationProblem(key=key, problem="it does not say when, or says it twice",
                                             mend="give one of cron, every_hours and after_jobs"))
    elif rule.cron and (wrong := _fault_of(rule.cron)):
        problems.append(ConfigurationProblem(key=f"{key}.cron", problem=f"{rule.cron[:100]!r}: {wrong}",
                                             mend='write minute hour day month weekday, like "0 3 * * *"'))


def zone(settings: ScheduleSettings) -> tzinfo:
    """The time zone of the cron lines.

    Raises:
        ZoneInfoNotFoundError, ValueError, OSError: there is no such zone.
    """
    if settings.time_zone != "local":
        return ZoneInfo(settings.time_zone)
    if not _LOCAL.exists():
        return UTC
    with _LOCAL.open("rb") as stream:
        return ZoneInfo.from_file(stream, "local")


def latest(rule: ScheduleRule, zone: tzinfo, now: float, trained: int) -> int | None:
    """The newest slot that is not in the future; None if there never was one.

    Args:
        rule: whose.
        zone: for a cron line.
        now: wall seconds since 1970.
        trained: how many files were ever trained.
    """
    if rule.after_jobs:
        return trained // rule.after_jobs * rule.after_jobs or None
    if rule.every_hours:
        seconds = rule.every_hours * 3600
        return int(now // seconds * seconds)
    # cronsim gives what lies strictly before; its smallest step is a minute. Where an hour comes twice it may give what
    # is still to come.
    following_minute = datetime.fromtimestamp((now // 60 + 1) * 60, zone)
    return _first(_cron(rule.cron, following_minute, reverse=True), lambda moment: moment <= now)


def following(rule: ScheduleRule, zone: tzinfo, now: float, trained: int) -> int | None:
    """The first slot in the future; None if there never is one. The arguments are those of :func:`latest`."""
    if rule.after_jobs:
        return (trained // rule.after_jobs + 1) * rule.after_jobs
    if rule.every_hours:
        seconds = rule.every_hours * 3600
        return math.ceil((now // seconds + 1) * seconds)
    return _first(_cron(rule.cron, datetime.fromtimestamp(now, zone), reverse=False), lambda moment: moment > now)


def _cron(line: str, at: datetime, *, reverse: bool) -> Iterator[datetime]:
    from cronsim import CronSim

    return CronSim(line, at, reverse)


def _first(moments: Iterator[datetime], fits: Callable[[float], bool]) -> int | None:
    return next((int(moment.timestamp()) for moment in moments if fits(moment.timestamp())), None)


def _fault_of(line: str) -> str:
    from cronsim import CronSimError

    try:
        return "" if next(_cron(line, _SOME_TIME, reverse=False), None) else "no such day ever comes"
    except CronSimError as error:
        return str(error)
