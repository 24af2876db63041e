"""Jobs ended or tried again by filter. Without ``confirm`` it only says which jobs that would be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from services.web.asking import SUBMIT_SECONDS
from services.web.operations import Body, Call
from trainq import choosing, orders, words
from trainq.choosing import CAP, JobFilter
from trainq.client import BrokerClient
from trainq.errors import UsageError
from trainq.jobs import JobKind, JobState
from trainq.messages import Name, Text
from trainq.orders import Outcome

Age = Annotated[str, Meta(pattern=r"^[0-9]{1,9}(\.[0-9]{1,6})?[smhd]$")]


class _FilterBody(Body, frozen=True, kw_only=True):
    """``name`` is a pattern of the shell, ``crawl-*.jsonl``; ``older_than`` a time like ``90s``, ``2h``, ``7d``.

    Of the jobs that match, the oldest ``limit``; only with ``confirm`` is anything changed.
    """

    name: Name | None = None
    failed: bool = False
    older_than: Age | None = None
    limit: Annotated[int, Meta(ge=1, le=CAP)] = CAP
    confirm: bool = False


class CancelManyBody(_FilterBody, frozen=True, kw_only=True):
    """Which jobs are to be ended; of no kind: train jobs, of no state: whatever has not ended."""

    state: tuple[Literal["queued", "held", "running"], ...] = ()
    kind: tuple[JobKind, ...] = ()
    keep: bool = False
    reason: Text = "cancelled by a person"


class RetryManyBody(_FilterBody, frozen=True, kw_only=True):
    """Which train jobs are to be tried again; of no state: those that were set aside or cancelled."""

    state: tuple[Literal["quarantined", "cancelled"], ...] = ()


class OneOfMany(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one job; not ``changed``: it was so already, it was refused (``error``), or nothing was done."""

    id: str
    state: str
    changed: bool
    error: str = ""


class Many(msgspec.Struct, frozen=True, kw_only=True):
    """The jobs chosen, oldest first, of the ``matched`` that the filter finds; ``confirmed``: it was done to them."""

    matched: int
    confirmed: bool
    jobs: list[OneOfMany]


async def cancel(call: Call) -> Many:
    body: CancelManyBody = call.body
    if others := [kind.value for kind in body.kind if kind not in choosing.CANCEL_KINDS]:
        raise UsageError(f"jobs of the kind {others[0]} are not cancelled by filter",
                         mend=f"possible: {', '.join(choosing.CANCEL_KINDS)}")
    kinds = body.kind or choosing.CANCEL_KINDS[:1]
    return await _do(call, body, kinds, body.state or choosing.CANCEL_STATES, bool(body.kind),
                     lambda broker, job: orders.end_job(broker, job, body.reason, keep=body.keep))


async def retry(call: Call) -> Many:
    body: RetryManyBody = call.body
    return await _do(call, body, choosing.RETRY_KINDS, body.state or choosing.RETRY_STATES, False, orders.retry_job)


async def _do(call: Call, body: CancelManyBody | RetryManyBody, kinds: tuple[JobKind, ...], states: tuple[str, ...],
              names_kind: bool, act: Callable[[BrokerClient, str], Outcome]) -> Many:
    if not (body.state or names_kind or body.name is not None or body.failed or body.older_than is not None):
        raise UsageError("it says nothing of which jobs are meant",
                         mend="name a state, a name, failed or older_than; one job: /api/v1/jobs/JOB")
    wanted = JobFilter(kinds=kinds, states=tuple(map(JobState, states)), name=body.name, failed=body.failed,
                       older_than=None if body.older_than is None else words.age(body.older_than), limit=body.limit)
    with call.site.alone("an order to many jobs"):
        return await call.site.asker.order(lambda broker: _done(broker, wanted, act if body.confirm else None),
                                           SUBMIT_SECONDS)


def _done(broker: BrokerClient, wanted: JobFilter, act: Callable[[BrokerClient, str], Outcome] | None) -> Many:
    taken, matched = choosing.matching(broker, wanted)
    if act is None:
        return Many(matched=matched, confirmed=False, jobs=[
            OneOfMany(id=job.id, state=job.state.value, changed=False) for job in taken])
    states = {job.id: job.state for job in taken}
    jobs = [OneOfMany(id=done.job, state=done.outcome.state, changed=done.outcome.changed) if done.outcome is not None
            else OneOfMany(id=done.job, state=states[done.job].value, changed=False, error=str(done.error))
            for done in choosing.each(broker, states, act)]
    return Many(matched=matched, confirmed=True, jobs=jobs)
