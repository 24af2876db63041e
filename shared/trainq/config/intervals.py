"""``[services.NAME] interval_seconds``: one name for how often a service comes to its work, kept where that is set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainq.errors import ConfigurationProblem

# Where it is kept. A task is asked for by a rule of the schedule.
PLACES: Mapping[str, tuple[str, ...]] = {
    "watcher": ("watcher", "sweep_seconds"), "status": ("status", "interval_seconds"),
    "snapshot": ("schedule", "rules", "snapshot"), "retention": ("schedule", "rules", "retention"),
    "consolidator": ("schedule", "rules", "consolidation"),
}
_KEY = "interval_seconds"


def resolve(tables: dict[str, Any], origins: dict[str, str], problems: list[ConfigurationProblem]) -> None:
    """Move each interval of the tables to its place; what is wrong with one is added to ``problems``."""
    services = tables.get("services")
    if not isinstance(services, dict):
        return
    for name, table in services.items():
        if not isinstance(table, dict) or _KEY not in table:
            continue
        seconds, key = table.pop(_KEY), f"services.{name}.{_KEY}"
        if name not in PLACES:
            problems.append(ConfigurationProblem(
                key=key, problem=f"{name} has no interval: it does what it does as it comes",
                mend=f"leave it out; these have one: {', '.join(PLACES)}"))
        elif isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds > 0:
            problems.append(ConfigurationProblem(key=key, problem=f"{str(seconds)[:100]!r} is no time",
                                                 mend="write a number of seconds over 0"))
        else:
            _put(tables, name, float(seconds), origins, problems)


def _put(tables: dict[str, Any], name: str, seconds: float, origins: dict[str, str],
         problems: list[ConfigurationProblem]) -> None:
    *folders, last = PLACES[name]
    place = tables
    for folder in folders:
        place = place.setdefault(folder, {})
        if not isinstance(place, dict):
            return  # a mistake that is found by whoever reads it
    where = ".".join(PLACES[name])
    if last in place:
        problems.append(ConfigurationProblem(
            key=f"services.{name}.{_KEY}", problem=f"{where} is set as well, which is the same thing",
            mend="leave one of them out"))
        return
    place[last] = {"task": last, "every_hours": seconds / 3600} if folders[0] == "schedule" else seconds
    origins[where] = origins.get(f"services.{name}", "")
