"""Jobs ended or tried again by filter. Without ``confirm`` it only says which jobs that would be.

What is confirmed are these jobs, each in the state in which it was shown: sent twice it is done once, and to no others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from services.web.asking import SUBMIT_SECONDS
from services.web.operations import Body, Call
from trainq import choosing, orders, words
from trainq.choosing import CAP, JobFilter
from trainq.client import BrokerClient
from trainq.errors import BrokerUnavailableError, TrainqError, UsageError
from trainq.jobs import JobKind, JobState
from trainq.messages import Name, Text
from trainq.orders import Outcome

Age = Annotated[str, Meta(pattern=r"^[0-9]{1,9}(\.[0-9]{1,6})?[smhd]$")]


_ALONE = "an order to many jobs"


class _FilterBody(Body, frozen=True, kw_only=True):
    """``name`` is a pattern of the shell, ``crawl-*.jsonl``; ``older_than`` a time like ``90s``, ``2h``, ``7d``.

    Of the jobs that match, the oldest ``limit``. Only with ``confirm`` is anything changed: the ids of the jobs meant,
    with their states, as the answer without it has them. The filter chooses none then, and need not be sent again.
    """

    name: Name | None = None
    failed: bool = False
    older_than: Age | None = None
    limit: Annotated[int, Meta(ge=1, le=CAP)] = CAP


class CancelManyBody(_FilterBody, frozen=True, kw_only=True):
    """Which jobs are to be ended; of no kind: train jobs, of no state: whatever has not ended."""

    state: tuple[Literal["queued", "held", "running"], ...] = ()
    confirm: Annotated[dict[str, Literal["queued", "held", "running"]], Meta(max_length=CAP)] | None = None
    kind: tuple[JobKind, ...] = ()
    keep: bool = False
    reason: Text = "cancelled by a person"


class RetryManyBody(_FilterBody, frozen=True, kw_only=True):
    """Which train jobs are to be tried again; of no state: those that were set aside or cancelled."""

    state: tuple[Literal["quarantined", "cancelled"], ...] = ()
    confirm: Annotated[dict[str, Literal["quarantined", "cancelled"]], Meta(max_length=CAP)] | None = None


class OneOfMany(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one job; not ``changed``: it was so already, or ``error`` says why not.

    Where the broker is lost in the middle, ``error`` says so of all that have no answer, and ``state`` is the old one.
    """

    id: str
    state: str
    changed: bool
    error: str = ""


class Many(msgspec.Struct, frozen=True, kw_only=True):
    """The jobs chosen, oldest first, of the ``matched`` that the filter finds; ``confirmed``: those that were named."""

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
    if body.confirm is not None:
        named = {words.job_id(job): JobState(state) for job, state in body.confirm.items()}
        with call.site.alone(_ALONE):
            return await call.site.asker.long(lambda broker: done(broker, named, act), SUBMIT_SECONDS)
    if not (body.state or names_kind or body.name is not None or body.failed or body.older_than is not None):
        raise UsageError("it says nothing of which jobs are meant",
                         mend="name a state, a name, failed or older_than; one job: /api/v1/jobs/JOB")
    wanted = JobFilter(kinds=kinds, states=tuple(map(JobState, states)), name=body.name, failed=body.failed,
                       older_than=None if body.older_than is None else words.age(body.older_than), limit=body.limit)
    with call.site.alone(_ALONE):
        taken, matched = await call.site.asker.long(lambda broker: choosing.matching(broker, wanted), SUBMIT_SECONDS)
    return Many(matched=matched, confirmed=False, jobs=[
        OneOfMany(id=job.id, state=job.state.value, changed=False) for job in taken])


def done(broker: BrokerClient, named: Mapping[str, JobState], act: Callable[[BrokerClient, str], Outcome]) -> Many:
    """Do it to each that is in the state named.

    Raises:
        BrokerUnavailableError: no answer for any of them.
    """
    jobs: dict[str, OneOfMany] = {}
    try:
        for each in choosing.each(broker, named, act):
            jobs[each.job] = _left(each.job, named, each.error) if each.outcome is None else OneOfMany(
                id=each.job, state=each.outcome.state, changed=each.outcome.changed)
    except BrokerUnavailableError as error:
        if not jobs:
            raise
        jobs = {job: jobs.get(job) or _left(job, named, error) for job in named}
    return Many(matched=len(named), confirmed=True, jobs=list(jobs.values()))


def _left(job: str, named: Mapping[str, JobState], error: TrainqError | None) -> OneOfMany:
    return OneOfMany(id=job, state=named[job].value, changed=False, error=str(error))
