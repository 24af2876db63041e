"""What may be ordered: of jobs, of the queue and the trainer, of the model's copies. Each is what the command does."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from services.web.operations import Body, Call
from trainq import orders, words
from trainq.ids import new_request_id
from trainq.messages import (
    MAX_YIELD_SECONDS,
    Accepted,
    AnyRequest,
    AskCheckpoint,
    Done,
    DrainQueue,
    PauseQueue,
    ResumeQueue,
    SnapshotTask,
    StopTrainer,
    SubmitTask,
    Task,
    Text,
)
from trainq.orders import Outcome


class EndBody(Body, frozen=True, kw_only=True):
    """``keep``: what a running job has taught stays, and it is done with that. The reason is recorded, if one is given.
    """

    reason: Text | None = None
    keep: bool = False


class PauseBody(Body, frozen=True, kw_only=True):
    """With ``seconds`` it goes on by itself after so long."""

    reason: Text = "paused by a person"
    seconds: Annotated[float, Meta(ge=0, le=MAX_YIELD_SECONDS)] = 0.0


class YieldBody(Body, frozen=True, kw_only=True):
    """For how long, like ``90s``, ``30m``, ``2h`` or ``1d``."""

    time: Annotated[str, Meta(pattern=r"^[0-9]{1,9}(\.[0-9]{1,6})?[smhd]$")]
    reason: Text = "yielded by a person"


class DrainBody(Body, frozen=True, kw_only=True):
    reason: Text = "drained by a person"


class StopBody(Body, frozen=True, kw_only=True):
    reason: Text = "stopped by a person"


class OrderBody(Body, frozen=True, kw_only=True):
    """Nothing is to be said."""


class SnapshotBody(Body, frozen=True, kw_only=True):
    """Of which generation, ``g000042-s00001200``; unset: the newest."""

    generation: Annotated[str, Meta(max_length=64)] = ""


class Ordered(msgspec.Struct, frozen=True, kw_only=True):
    """It is on disk. Not ``changed``: it was so already.

    ``held_by`` are the files in ``control/`` because of which nothing is trained all the same.
    """

    changed: bool
    held_by: list[str]


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """The task that was asked for, and its state."""

    job: str
    state: str


async def cancel(call: Call) -> Outcome:
    return await _end(call, words.job_id(call.path("job")), "cancelled by a person")


async def skip(call: Call) -> Outcome:
    """The job that is named, or the one that runs."""
    named = call.request.path_params.get("job")
    return await _end(call, None if named is None else words.job_id(named), "skipped by a person")


async def _end(call: Call, job: str | None, reason: str) -> Outcome:
    body: EndBody = call.body
    return await call.site.asker.order(lambda broker: orders.end_job(
        broker, job or orders.running_job(broker), reason if body.reason is None else body.reason, keep=body.keep))


async def retry(call: Call) -> Outcome:
    job = words.job_id(call.path("job"))
    return await call.site.asker.order(lambda broker: orders.retry_job(broker, job))


async def release(call: Call) -> Outcome:
    job = words.job_id(call.path("job"))
    return await call.site.asker.order(lambda broker: orders.release_job(broker, job))


async def pause(call: Call) -> Ordered:
    body: PauseBody = call.body
    return await _order(call, PauseQueue(request_id=new_request_id(), reason=body.reason, seconds=body.seconds))


async def yield_(call: Call) -> Ordered:
    body: YieldBody = call.body
    return await _order(call, PauseQueue(request_id=new_request_id(), reason=body.reason,
                                         seconds=words.duration(body.time)))


async def drain(call: Call) -> Ordered:
    return await _order(call, DrainQueue(request_id=new_request_id(), reason=call.body.reason))


async def stop(call: Call) -> Ordered:
    return await _order(call, StopTrainer(request_id=new_request_id(), reason=call.body.reason))


async def resume(call: Call) -> Ordered:
    return await _order(call, ResumeQueue(request_id=new_request_id()))


async def checkpoint(call: Call) -> Ordered:
    return await _order(call, AskCheckpoint(request_id=new_request_id()))


async def _order(call: Call, request: AnyRequest) -> Ordered:
    done = await call.site.asker.order(lambda broker: broker.call(request, Done))
    return Ordered(changed=done.changed, held_by=orders.holding_files(call.site.home))


async def take_snapshot(call: Call) -> Asked:
    wanted = call.body.generation
    return await ask_task(call, SnapshotTask(generation=words.generation(wanted) if wanted else ""),
                           "asked for by a person")


async def run_schedule(call: Call) -> Asked:
    name = call.path("name")
    return await ask_task(call, orders.rule_task(call.site.settings.schedule, name),
                           f"schedule {name}, run by a person")


async def ask_task(call: Call, task: Task, cause: str) -> Asked:
    accepted = await call.site.asker.order(
        lambda broker: broker.call(SubmitTask(request_id=new_request_id(), task=task, cause=cause), Accepted))
    return Asked(job=accepted.job, state=accepted.state)
