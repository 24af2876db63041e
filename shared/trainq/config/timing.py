"""The sections ``[schedule]`` and ``[schedule.rules.NAME]``, and the rules that hold where nothing else is said."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from trainq.config.section import Section


class ScheduleRule(Section, frozen=True, kw_only=True):
    """[schedule.rules.NAME]: when one task is asked for.

    ``copy`` (of all snapshots that are not there yet) and ``backup`` have a ``destination``. After a ``backup`` all but
    the ``keep_last`` newest go from there (0: none goes). One of three says when:
    ``cron`` is a line of crontab(5) in the schedule's time zone, ``every_hours`` counts from 1970-01-01
    UTC (every 6: at 0, 6, 12 and 18 o'clock UTC), ``after_jobs`` is after so many trained files.
    """

    task: Literal["", "snapshot", "verify", "retention", "copy", "backup", "consolidation"] = ""
    destination: str = ""
    keep_last: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    cron: str = ""
    every_hours: Annotated[float, Meta(ge=0, le=87_600)] = 0.0
    after_jobs: Annotated[int, Meta(ge=0, le=1_000_000_000)] = 0
    enabled: bool = True


class ScheduleSettings(Section, frozen=True, kw_only=True):
    """[schedule]: what the broker asks for by itself.

    ``time_zone`` is a name of the IANA database, or ``local``. A slot that passed while nothing ran, or in a jump of
    the clock, is ``missed``: ``once`` makes up for the last one of them, ``skip`` for none. A rule of the name of a
    default one replaces it. With ``enabled = false`` it is cron's or systemd's business.
    """

    enabled: bool = True
    time_zone: str = "local"
    missed: Literal["once", "skip"] = "once"
    rules: dict[str, ScheduleRule] = field(default_factory=dict)

    @property
    def all_rules(self) -> dict[str, ScheduleRule]:
        """The rules by name, with those of the defaults that were not replaced."""
        return {**DEFAULT_RULES, **self.rules}


DEFAULT_RULES = {
    "retention": ScheduleRule(task="retention", every_hours=6),
    "snapshot": ScheduleRule(task="snapshot", every_hours=6),
    "snapshot-daily": ScheduleRule(task="snapshot", cron="0 3 * * *"),
    "consolidation": ScheduleRule(task="consolidation", cron="0 4 * * 0"),
}
