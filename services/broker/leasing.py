"""Leasing: who is next, why nobody is, and when a lease is over. Pure: ``now`` comes in as a number.

The order is the line's (front, people before generated, priority, number). The trainer waits for the head of the line
to be prepared, at most ``prepare_wait_seconds``; then the first prepared job overtakes it, and that is journalled.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from trainq.journal import JobRow


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """The job to grant, or the reason why there is none; ``overtaken`` heads go behind it with a record."""

    job: JobRow | None = None
    reason: str = ""
    overtaken: JobRow | None = None


def choose_train(*, standing_reason: str, held_reason: str | None, head: JobRow | None, prepared: JobRow | None,
                 waiting: JobRow | None, head_waited_seconds: float, prepare_wait_seconds: float,
                 now_wall: float, held: int = 0) -> Choice:
    """Which train job goes next.

    Args:
        standing_reason: why nothing new is begun, by a standing order; empty if there is none.
        held_reason: what is wrong with the machine, for as long as the queue is held for it.
        head: the first job of the line that waits for nobody and for no retry time.
        prepared: the first such job that is prepared.
        waiting: any queued train job, to tell an empty queue from one that waits.
        head_waited_seconds: how long the trainer has been waiting for this head.
        prepare_wait_seconds: how long it waits at most.
        now_wall: seconds since 1970, for the words about a retry time.
        held: how many jobs a person must release first.
    """
    if head is not None and head.cancel_reason is not None:
        return Choice(job=head)  # to be taken back, which neither a pause nor a preparation holds up
    if standing_reason:
        return Choice(reason=standing_reason)
    if held_reason is not None:
        return Choice(reason=f"the queue is held: {held_reason}")
    if head is None:
        return Choice(reason=_why_nobody(waiting, now_wall, held))
    if head.prepared:
        return Choice(job=head)
    if prepared is not None and head_waited_seconds >= prepare_wait_seconds:
        return Choice(job=prepared, overtaken=head)
    return Choice(reason=f"{head.id} ({head.name}) is next and is being prepared")


def _why_nobody(waiting: JobRow | None, now_wall: float, held: int) -> str:
    if waiting is None:
        of_held = f"{held} held job{'' if held == 1 else 's'}"
        return f"the queue is empty but for {of_held}, for a person to look at" if held else "the queue is empty"
    if waiting.blockers:
        return f"{waiting.id} waits for {waiting.blockers} other job{'s' if waiting.blockers > 1 else ''}"
    return f"{waiting.id} is tried again in {max(0, round(waiting.retry_at - now_wall))} s: {waiting.reason}"


@dataclass(slots=True)
class HeadWait:
    """How long the trainer has been waiting for one unprepared head. Memory only: a restarted broker waits anew."""

    job: str = ""
    since: float = 0.0

    def seconds(self, head: JobRow | None, now: float) -> float:
        """Note who is the head at ``now`` (monotonic seconds); how long it has been waited for."""
        if head is None or head.prepared:
            self.job = ""
            return 0.0
        if head.id != self.job:
            self.job, self.since = head.id, now
        return now - self.since


@dataclass(slots=True)
class Deadlines:
    """When each lease is over unless a heartbeat comes. Memory only: a restarted broker gives each a full term."""

    lease_seconds: float
    _until: dict[str, tuple[int, float]] = field(default_factory=dict)

    def start(self, job: str, token: int, now: float) -> None:
        """A lease began, or its worker was heard of."""
        self._until[job] = (token, now + self.lease_seconds)

    def renew(self, job: str, token: int, now: float) -> None:
        """A heartbeat named this lease; one with an old token renews nothing."""
        if job in self._until and self._until[job][0] == token:
            self.start(job, token, now)

    def forgive(self, now: float) -> None:
        """Nobody could be heard for a while (a slow disk, a stopped process): every lease gets a full term."""
        for job, (token, _) in list(self._until.items()):
            self.start(job, token, now)

    def stop(self, job: str) -> None:
        """The lease ended."""
        self._until.pop(job, None)

    def expired(self, now: float) -> list[tuple[str, int]]:
        """(job, token) of the leases that are over."""
        return [(job, token) for job, (token, until) in self._until.items() if now >= until]

    def next_expiry(self) -> float | None:
        """When the first of them is over, in monotonic seconds."""
        return min((until for _, until in self._until.values()), default=None)
