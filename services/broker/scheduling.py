"""Scheduling: what the slot of a rule means when its time has come. Pure: ``now`` comes in as a number."""

from __future__ import annotations

from trainq.config import ScheduleRule

# The broker looks every second; it may be stopped, or its disk stall, for a while without a slot having been missed.
GRACE_SECONDS = 120.0


def words(rule: ScheduleRule) -> str:
    """When it does, for people, and to tell one rule from another."""
    if rule.cron:
        return f"cron {rule.cron}"
    return f"every {rule.every_hours:g} h" if rule.every_hours else f"after {rule.after_jobs} files"


def why_not(rule: ScheduleRule, slot: int, *, now: float, missed: str, open_job: str,
            has_model: bool = True) -> str:
    """Why the newest slot, which is not done yet, asks for nothing; empty if it asks.

    Args:
        rule: whose slot.
        slot: its number.
        now: wall seconds since 1970.
        missed: ``once`` or ``skip``, as configured.
        open_job: what the rule has asked for before and has not ended; empty if there is none.
        has_model: whether there is a generation: before the first file there is nothing to take care of.
    """
    if not has_model:
        return "there is no model yet"
    if open_job:
        return f"{open_job} has not ended yet"
    late = 0.0 if rule.after_jobs else now - slot
    if missed == "skip" and late > GRACE_SECONDS:
        return f"it was missed by {late / 3600:.1f} h"
    return ""
