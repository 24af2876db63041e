"""Who hangs: a process that lives and has given no sign for too long. Pure: it is told what was seen, and when.

Only what is seen counts. Where nobody looked for a while (the machine slept, the one who looks was stopped itself) no
more than a moment of it is held against anybody. Who hangs is first to write down where its threads are, which SIGABRT
makes it do and die of; who still lives a little later (it is stopped, or waits for a disk) is killed. Each further
restart within an hour takes twice as long to come to, and after the third there is none until that hour is over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

# However long nobody looked.
_MOST_UNSEEN_SECONDS = 10.0
# Between the order to dump and the kill.
_DUMP_SECONDS = 3.0
_MOST_RESTARTS = 3
_HOUR_SECONDS = 3600.0


class Step(StrEnum):
    """What is to be done with one who hangs."""

    DUMP = "dump"
    KILL = "kill"
    # It is to be left alone until the hour is over: that is an alarm of its own.
    LEAVE = "leave"


@dataclass(frozen=True, kw_only=True, slots=True)
class Sign:
    """What is seen of one service: the process that is it (0: none), and its last sign of life, in any unit."""

    pid: int
    at: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Hung:
    """One that hangs, and what is to be done."""

    name: str
    pid: int
    silent_seconds: float
    step: Step


@dataclass(slots=True)
class _Watched:
    sign: Sign = Sign(pid=0, at=0)
    # Whether this very process was ever seen to go on.
    has_begun: bool = False
    # Since its last sign, and since what was done last.
    silent_seconds: float = 0.0
    waited_seconds: float = 0.0
    done: Step | None = None
    restarts: deque[float] = field(default_factory=deque)


class Vigil:
    """Watches some services.

    Args:
        silent_seconds: without a sign for so long one counts as hung.
        start_seconds: the same for one that was never seen to give a sign: it may still be beginning.
    """

    def __init__(self, *, silent_seconds: float, start_seconds: float) -> None:
        self._silent_seconds, self._start_seconds = silent_seconds, max(start_seconds, silent_seconds)
        self._watched: dict[str, _Watched] = {}
        self._looked_at: float | None = None

    def look(self, seen: Mapping[str, Sign], now: float) -> list[Hung]:
        """Take in what is seen ``now`` (monotonic seconds); those that hang and something is to be done about."""
        unseen = 0.0 if self._looked_at is None else min(now - self._looked_at, _MOST_UNSEEN_SECONDS)
        self._looked_at = now
        found: list[Hung] = []
        for name, sign in seen.items():
            one = self._watched.setdefault(name, _Watched())
            step = self._judge(one, sign, unseen, now)
            if step is not None:
                found.append(Hung(name=name, pid=sign.pid, silent_seconds=one.silent_seconds, step=step))
        return found

    def spare(self, name: str) -> None:
        """Nothing was done about it, rightly (it is about to end, or somebody looks into it): it counts anew."""
        one = self._watched[name]
        if one.done is Step.DUMP:
            one.restarts.pop()
        one.silent_seconds, one.done = 0.0, None

    def _judge(self, one: _Watched, sign: Sign, unseen: float, now: float) -> Step | None:
        if sign != one.sign:
            one.has_begun = sign.pid == one.sign.pid
            one.sign, one.silent_seconds, one.done = sign, 0.0, None
            return None
        if not sign.pid:
            return None
        one.silent_seconds += unseen
        one.waited_seconds += unseen
        while one.restarts and now - one.restarts[0] > _HOUR_SECONDS:
            one.restarts.popleft()
        step = self._next(one)
        if step is not None:
            one.done, one.waited_seconds = step, 0.0
            if step is Step.DUMP:
                one.restarts.append(now)
        return step

    def _next(self, one: _Watched) -> Step | None:
        if one.done is Step.DUMP:
            return Step.KILL if one.waited_seconds >= _DUMP_SECONDS else None
        if one.done is Step.KILL:
            return None  # it is on its way, and comes when the kernel lets it
        limit = self._silent_seconds if one.has_begun else self._start_seconds
        if one.silent_seconds < limit * 2 ** len(one.restarts):
            return None
        if len(one.restarts) < _MOST_RESTARTS:
            return Step.DUMP
        return None if one.done is Step.LEAVE else Step.LEAVE
