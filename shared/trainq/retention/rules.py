"""The rules: copies in, verdicts with reasons out. Pure: no I/O, no clock.

The order is by generation, never by time: a clock that jumped cannot make an old copy the newest. Times only say which
hour, day, week or month a copy belongs to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Protocol

import msgspec

from trainq.config import RetentionSettings
from trainq.jobs import Store


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """A copy of the model. ``must_stay`` says why no rule may take it; empty if none forbids it.

    ``at`` is when it was made, in wall seconds since 1970; ``size_bytes`` what its removal would free; ``metric`` what
    the rule of the best goes by, the smaller the better, where there is one. ``marks`` say what was wrong with its
    state: the rule of the best passes over it then.
    """

    store: Store
    name: str
    generation: int
    at: float
    size_bytes: int
    must_stay: str = ""
    metric: float | None = None
    marks: tuple[str, ...] = ()


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What is to become of an item, and the reasons: every rule that keeps it, or why it goes."""

    item: Item
    keep: bool
    reasons: tuple[str, ...]


class Dated(Protocol):
    """What rules look at: the name of a copy, and when it was made, in wall seconds since 1970."""

    @property
    def name(self) -> str: ...

    @property
    def at(self) -> float: ...


class Buckets(msgspec.Struct, frozen=True, kw_only=True):
    """How many of the newest are kept, how many of those whose metric is the smallest, and of how many different hours,
    days, weeks and months the newest one.
    """

    last: int = 0
    best: int = 0
    hourly: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0


# The name of the hour, day, week (ISO 8601) or month of a moment, in UTC: time zones would move the borders.
_PERIODS: dict[str, Callable[[datetime], str]] = {
    "hourly": lambda moment: moment.strftime("%Y-%m-%d %H"), "daily": lambda moment: moment.strftime("%Y-%m-%d"),
    "weekly": lambda moment: moment.strftime("%G week %V"), "monthly": lambda moment: moment.strftime("%Y-%m")}


def buckets_of(settings: RetentionSettings) -> dict[Store, Buckets]:
    """The rules of each store. That they keep something is seen to when the configuration is read."""
    return {
        Store.CHECKPOINTS: Buckets(last=settings.checkpoints_last, best=settings.checkpoints_best),
        Store.SNAPSHOTS: Buckets(last=settings.snapshots_last, best=settings.snapshots_best,
                                 hourly=settings.snapshots_hourly, daily=settings.snapshots_daily,
                                 weekly=settings.snapshots_weekly, monthly=settings.snapshots_monthly)}


def plan(items: Sequence[Item], settings: RetentionSettings) -> list[Verdict]:
    """The verdict over each item, newest generation first within each store."""
    verdicts: list[Verdict] = []
    for store, rules in buckets_of(settings).items():
        own = sorted((item for item in items if item.store is store), key=lambda item: -item.generation)
        kept = kept_by(rules, own)
        for item in own:
            reasons = ((item.must_stay,) if item.must_stay else ()) + tuple(kept.get(item.name, ()))
            verdicts.append(Verdict(item=item, keep=bool(reasons), reasons=reasons or ("no rule keeps it",)))
    return verdicts


def fit(verdicts: Sequence[Verdict], excess_bytes: int) -> list[Verdict]:
    """Let go also of what rules alone keep, the oldest generation first, until ``excess_bytes`` are freed.

    Args:
        verdicts: of :func:`plan`.
        excess_bytes: how much too much there is, with all of ``verdicts`` still in place.
    """
    excess = excess_bytes - sum(verdict.item.size_bytes for verdict in verdicts if not verdict.keep)
    given_up: set[tuple[Store, str]] = set()
    for verdict in sorted(verdicts, key=lambda verdict: verdict.item.generation):
        item = verdict.item
        if excess > 0 and verdict.keep and not item.must_stay:
            given_up.add((item.store, item.name))
            excess -= item.size_bytes
    return [_given_up(verdict) if (verdict.item.store, verdict.item.name) in given_up else verdict
            for verdict in verdicts]


def _given_up(verdict: Verdict) -> Verdict:
    kept_by = ", ".join(verdict.reasons)
    return msgspec.structs.replace(verdict, keep=False, reasons=(f"there is no room for it (kept by: {kept_by})",))


def kept_by(rules: Buckets, newest_first: Sequence[Dated]) -> dict[str, list[str]]:
    """Which rules keep which copies, by name."""
    kept: dict[str, list[str]] = {}
    for place, item in enumerate(newest_first[:rules.last], start=1):
        kept.setdefault(item.name, []).append(f"last {place} of {rules.last}")
    # Of two that are equally good the newer one.
    measured = sorted(((metric, place) for place, item in enumerate(newest_first)
                       if (metric := getattr(item, "metric", None)) is not None and not getattr(item, "marks", ())))
    for rank, (metric, place) in enumerate(measured[:rules.best], start=1):
        kept.setdefault(newest_first[place].name, []).append(f"best {rank} of {rules.best}: {metric:.4g}")
    for rule, period_of in _PERIODS.items():
        limit, seen = getattr(rules, rule), set[str]()
        for item in newest_first:
            period = period_of(_moment(item.at))
            if len(seen) >= limit or period in seen:
                continue
            seen.add(period)
            kept.setdefault(item.name, []).append(f"{rule} {len(seen)} of {limit}: {period}")
    return kept


def _moment(at: float) -> datetime:
    try:
        return datetime.fromtimestamp(at, UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(0, UTC)  # a clock that was anywhere
